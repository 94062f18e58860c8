//! Where the time went: `doorbell request show --trace` for one request, `doorbell stations` for all of them.

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::table::{Cell, Table};
use crate::text::word;
use doorbell_client::api::trace::{Bucket, Histogram, Passed, Stations, Trace};

pub(crate) async fn show(context: &Context, id: &str) -> Result<(), Failure> {
    context.show(&context.client.trace(id).await?, timeline)
}

pub(crate) async fn stations(context: &Context) -> Result<Exit, Failure> {
    context.show(&context.client.stations().await?, histograms)?;
    Ok(Exit::Done)
}

/// One line for each station: when it was passed, how long the way to it took, and a bar of that.
fn timeline(trace: &Trace) -> String {
    let first = trace.passed.first().map_or(0, |passed| passed.at_us);
    let last = trace.passed.last().map_or(first, |passed| passed.at_us);
    let whole = last.saturating_sub(first);
    let mut table = Table::new(&["STATION", "AT", "TOOK", "CLOCK", ""]);
    let mut before = first;
    for Passed { station, at_us, guest_us } in &trace.passed {
        let (from, to) = (before.saturating_sub(first), at_us.saturating_sub(first));
        table.row(vec![
            word(station).into(),
            format!("+{}", ms(to)).into(),
            ms(at_us.saturating_sub(before)).into(),
            if guest_us.is_some() { "guest" } else { "host" }.into(),
            bar(from, to, whole).into(),
        ]);
        before = *at_us;
    }
    let mut text = table.render("no station was passed yet");
    if let Some(error) = trace.clock_error_us {
        text.push_str(&format!("the guest's times can be off by {} either way\n", ms(error)));
    }
    text
}

/// A bar from one time to another, on a line that is the whole.
fn bar(from: u64, to: u64, whole: u64) -> String {
    let place = |time: u64| {
        let place = u128::from(time).saturating_mul(BAR as u128).checked_div(u128::from(whole)).unwrap_or(0);
        usize::try_from(place).unwrap_or(BAR).min(BAR)
    };
    let begin = place(from).min(BAR.saturating_sub(1));
    let len = place(to).saturating_sub(begin).max(1);
    Cell::from(format!("{}{}", " ".repeat(begin), "#".repeat(len))).paint()
}

fn histograms(stations: &Stations) -> String {
    let mut table = Table::new(&["STATION", "PASSED", "MEAN", "P50", "P99"]);
    for histogram in &stations.stations {
        let Histogram { station, count, sum_us, buckets } = histogram;
        table.row(vec![
            word(station).into(),
            count.to_string().into(),
            sum_us.checked_div(*count).map_or_else(|| "-".to_owned(), ms).into(),
            estimate(buckets, 50).into(),
            estimate(buckets, 99).into(),
        ]);
    }
    let text = table.render("no request has passed a station since doorbelld started");
    if stations.stations.is_empty() {
        return text;
    }
    format!("{text}each from the station before it, since doorbelld started; P50 and P99 are estimates\n")
}

/// The time that so many of a hundred did not exceed: somewhere between two bounds, on a straight line.
fn estimate(buckets: &[Bucket], percent: u64) -> String {
    let total = buckets.last().map_or(0, |bucket| bucket.count);
    // Rounded up: of a single one, that one.
    let wanted = u128::from(total).saturating_mul(u128::from(percent)).div_ceil(100);
    if wanted == 0 {
        return "-".to_owned();
    }
    let (mut below, mut passed) = (0_u64, 0_u64);
    for Bucket { le_us, count } in buckets {
        if u128::from(*count) >= wanted {
            let Some(bound) = le_us else { break };
            let inside = u128::from(count.saturating_sub(passed));
            let into = wanted.saturating_sub(u128::from(passed));
            let width = u128::from(bound.saturating_sub(below));
            let further = width.saturating_mul(into).checked_div(inside).unwrap_or(width);
            return ms(below.saturating_add(u64::try_from(further).unwrap_or(u64::MAX)));
        }
        (below, passed) = (le_us.unwrap_or(below), *count);
    }
    format!("> {}", ms(below))
}

/// Microseconds as milliseconds.
fn ms(us: u64) -> String {
    let whole = us.checked_div(1000).unwrap_or(0);
    let rest = us.checked_rem(1000).unwrap_or(0);
    format!("{whole}.{rest:03} ms")
}

/// Columns of a bar.
const BAR: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;
    use doorbell_client::api::trace::Station;

    #[test]
    fn a_timeline_shows_when_how_long_and_by_whose_clock() {
        let passed = |station, at_us, guest_us| Passed { station, at_us, guest_us };
        let trace = Trace {
            passed: vec![
                passed(Station::Accepted, 1_000_000, None),
                passed(Station::Durable, 1_001_000, None),
                passed(Station::Started, 1_002_500, Some(77)),
                passed(Station::Stored, 1_004_000, None),
            ],
            clock_error_us: Some(42),
        };
        let text = console::strip_ansi_codes(&timeline(&trace)).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines,
            [
                "STATION   AT         TOOK      CLOCK",
                "accepted  +0.000 ms  0.000 ms  host   #",
                "durable   +1.000 ms  1.000 ms  host   ##########",
                "started   +2.500 ms  1.500 ms  guest            ###############",
                "stored    +4.000 ms  1.500 ms  host                            ###############",
                "the guest's times can be off by 0.042 ms either way",
            ]
        );
        let none = Trace { passed: Vec::new(), clock_error_us: None };
        assert_eq!(timeline(&none), "no station was passed yet\n");
    }

    #[test]
    fn an_estimate_lies_between_the_bounds_around_it() {
        let bucket = |le_us, count| Bucket { le_us, count };
        let buckets =
            [bucket(Some(100), 10), bucket(Some(200), 90), bucket(Some(400), 99), bucket(None, 100)];
        assert_eq!(estimate(&buckets, 50), "0.150 ms");
        assert_eq!(estimate(&buckets, 99), "0.400 ms");
        assert_eq!(estimate(&buckets, 100), "> 0.400 ms");
        assert_eq!(estimate(&[bucket(Some(100), 1), bucket(None, 1)], 50), "0.100 ms");
        assert_eq!(estimate(&[bucket(None, 0)], 50), "-");
        assert_eq!(estimate(&[], 50), "-");
    }
}
