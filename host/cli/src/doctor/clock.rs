//! The clock: expiries, receipts and the audit trail are told in its time.

use super::finding::Finding;
use super::manager::Manager;
use super::surroundings::Surroundings;
use crate::text::moment;

pub(super) fn look(here: &Surroundings, manager: &Manager) -> Vec<Finding> {
    vec![clock(here, manager)]
}

fn clock(here: &Surroundings, manager: &Manager) -> Finding {
    const WHAT: &str = "clock";
    const ADVICE: &str = "`timedatectl set-ntp true`, or set it by hand";
    let shown = moment(here.now_ms);
    if here.now_ms < EARLIEST_MS {
        return Finding::problem(WHAT, format!("{shown} is before this program was written"), ADVICE);
    }
    let heard = manager.guests.iter().filter_map(|guest| guest.last_seen_ms);
    let started = manager.info.as_ref().ok().map(|info| info.started_at_ms);
    let latest = heard.chain(started).max().unwrap_or(0);
    if latest > here.now_ms.saturating_add(SLACK_MS) {
        let found = format!("{shown}, but doorbelld has already seen {}: it was set back", moment(latest));
        return Finding::warning(WHAT, found, ADVICE);
    }
    Finding::ok(WHAT, shown)
}

/// 2026-01-01: no host that runs this can truly be earlier.
const EARLIEST_MS: u64 = 1_767_225_600_000;
/// Answers take a moment; that is no clock set back.
const SLACK_MS: u64 = 2_000;
