//! Measured values and what is told of them.
//!
//! Filled by the measuring modules, told by `report` and `plot`.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// One thing that was measured, again and again.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Row {
    /// Which of the three it is.
    pub(crate) kind: Kind,
    /// A name that the budgets know it by.
    pub(crate) id: String,
    /// What it is, for people.
    pub(crate) what: String,
    /// The unit of all its values.
    pub(crate) unit: String,
    /// The values, in the order of their measuring.
    pub(crate) values: Vec<f64>,
}

/// Whose figure it is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// The least that this guest can do it in.
    Floor,
    /// Doorbell.
    Doorbell,
    /// Another program that does the same.
    Peer,
}

/// What is told of a row.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Summary {
    pub(crate) n: usize,
    pub(crate) min: f64,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

/// All rows of a run, and those that could not be had.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Rows {
    pub(crate) rows: Vec<Row>,
    /// What is missing, and why.
    pub(crate) absent: Vec<(String, String)>,
}

impl Rows {
    /// Adds values to a row, that is made when it is not there.
    pub(crate) fn add(
        &mut self,
        kind: Kind,
        id: &str,
        what: &str,
        unit: &str,
        values: impl IntoIterator<Item = f64>,
    ) {
        if let Some(row) = self.rows.iter_mut().find(|row| row.id == id) {
            row.values.extend(values);
        } else {
            let values = values.into_iter().collect();
            self.rows.push(Row { kind, id: id.into(), what: what.into(), unit: unit.into(), values });
        }
    }

    /// Adds times, as milliseconds.
    pub(crate) fn add_times(&mut self, kind: Kind, id: &str, what: &str, times: &[Duration]) {
        self.add(kind, id, what, "ms", times.iter().map(|time| time.as_secs_f64() * 1e3));
    }

    /// Adds how fast so many bytes went, as MiB/s.
    pub(crate) fn add_rate(&mut self, kind: Kind, id: &str, what: &str, bytes: u64, time: Duration) {
        self.add(kind, id, what, "MiB/s", [bytes as f64 / MIB / time.as_secs_f64()]);
    }

    /// Says once that a row is missing.
    pub(crate) fn miss(&mut self, what: &str, why: impl std::fmt::Display) {
        if !self.absent.iter().any(|(known, _)| known == what) {
            self.absent.push((what.into(), why.to_string()));
        }
    }

    /// What is told of the row with this id.
    pub(crate) fn summary(&self, id: &str) -> Option<Summary> {
        self.rows.iter().find(|row| row.id == id).and_then(Row::summary)
    }

    /// The middle of the row with this id.
    pub(crate) fn p50(&self, id: &str) -> Option<f64> {
        self.summary(id).map(|summary| summary.p50)
    }
}

impl Row {
    /// What is told of it; nothing of a row without values.
    pub(crate) fn summary(&self) -> Option<Summary> {
        let mut sorted = self.values.clone();
        sorted.sort_by(f64::total_cmp);
        let n = sorted.len();
        // The nearest rank: a percentile is always a value that was measured.
        let rank =
            |percent: usize| sorted.get(n.saturating_mul(percent).div_ceil(100).saturating_sub(1)).copied();
        Some(Summary { n, min: *sorted.first()?, p50: rank(50)?, p99: rank(99)?, max: *sorted.last()? })
    }
}

pub(crate) const MIB: f64 = 1_048_576.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let mut rows = Rows::default();
        rows.add(Kind::Floor, "a", "", "ms", (1..=200).rev().map(f64::from));
        let told = rows.summary("a").unwrap();
        assert_eq!((told.n, told.min, told.p50, told.p99, told.max), (200, 1.0, 100.0, 198.0, 200.0));
        rows.add(Kind::Floor, "b", "", "ms", [3.0]);
        let told = rows.summary("b").unwrap();
        assert_eq!((told.min, told.p50, told.p99, told.max), (3.0, 3.0, 3.0, 3.0));
        rows.add(Kind::Floor, "c", "", "ms", []);
        assert!(rows.summary("c").is_none());
    }
}
