//! What the records of a journal add up to.
//!
//! Called by `recover` with the records on disk and by the journal with those it has just made durable. Pure.

use super::record::{Record, Started};
use doorbell_wire::ids::{RequestId, Sequence};
use doorbell_wire::message::outcome::Acknowledgement;
use std::collections::BTreeMap;

/// Requests the manager may still ask about, and the mark below which it may not.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct History {
    entries: BTreeMap<RequestId, Entry>,
    forgotten: Option<(RequestId, Sequence)>,
}

/// What is known of one request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    /// Its place in the order.
    pub sequence: Sequence,
    /// Its start, unless it ended without one.
    pub started: Option<Started>,
    /// Its end, unless it has none yet.
    pub outcome: Option<Acknowledgement>,
}

impl History {
    /// Adds a record.
    pub fn note(&mut self, record: Record) {
        match record {
            Record::Started(started) => {
                let entry =
                    Entry { sequence: started.sequence, started: Some(started.clone()), outcome: None };
                self.entries.insert(started.request, entry);
            }
            Record::Outcome { sequence, acknowledgement } => {
                let fresh = || Entry { sequence, started: None, outcome: None };
                let entry = self.entries.entry(acknowledgement.request).or_insert_with(fresh);
                entry.outcome = Some(acknowledgement);
            }
            Record::Forgotten { request, sequence } => {
                self.entries.remove(&request);
                if self.low_water() < u64::from(sequence) {
                    self.forgotten = Some((request, sequence));
                }
            }
        }
    }

    /// What is known of a request.
    #[must_use]
    pub fn entry(&self, request: RequestId) -> Option<&Entry> {
        self.entries.get(&request)
    }

    /// All that is not forgotten, in the order of the sequence.
    #[must_use]
    pub fn open(&self) -> Vec<(RequestId, Entry)> {
        let mut open: Vec<_> =
            self.entries.iter().map(|(request, entry)| (*request, entry.clone())).collect();
        open.sort_by_key(|(_, entry)| entry.sequence);
        open
    }

    /// The highest sequence that is finished and forgotten; 0 when none is.
    #[must_use]
    pub fn low_water(&self) -> u64 {
        self.forgotten.map_or(0, |(_, sequence)| sequence.into())
    }

    /// The fewest records that add up to this history.
    #[must_use]
    pub fn records(&self) -> Vec<Record> {
        let mark = self.forgotten.map(|(request, sequence)| Record::Forgotten { request, sequence });
        let open = self.open().into_iter().flat_map(|(_, Entry { sequence, started, outcome })| {
            let outcome = outcome.map(|acknowledgement| Record::Outcome { sequence, acknowledgement });
            [started.map(Record::Started), outcome]
        });
        mark.into_iter().chain(open.flatten()).collect()
    }
}
