//! What the records of a journal add up to.
//!
//! Called by `recover` with the records on disk and by the journal with those it has just made durable. Pure.

use super::recent::Recent;
use super::record::{Record, Settled, Started, Terms};
use super::settled::Ranges;
use doorbell_wire::ids::{BootId, RequestId, Sequence};
use doorbell_wire::message::outcome::Acknowledgement;
use std::collections::BTreeMap;

/// Requests the manager may still ask about, and the sequences it may not.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct History {
    entries: BTreeMap<RequestId, Entry>,
    /// Below it the manager has said that everything is settled.
    floor: u64,
    /// What is forgotten at the floor and above: requests overtake each other.
    forgotten: Ranges,
    /// What was finished last, by name.
    recent: Recent,
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
    /// When the guest is to reboot for it.
    pub terms: Option<Terms>,
    /// What is to be told behind the reboot that it waits for, and the run of the kernel before that.
    pub down: Option<(Acknowledgement, BootId)>,
    /// Whether the manager knows that it waits for its next step.
    pub continued: bool,
}

impl Entry {
    const fn new(sequence: Sequence) -> Self {
        Self { sequence, started: None, outcome: None, terms: None, down: None, continued: false }
    }
}

impl Entry {
    /// Whether it has started, nobody saw its end, and another start is as good as one.
    #[must_use]
    pub fn may_start_again(&self) -> bool {
        self.outcome.is_none() && self.started.as_ref().is_some_and(|started| started.idempotent)
    }
}

impl History {
    /// Adds a record.
    pub fn note(&mut self, record: Record) {
        match record {
            Record::Started(started) => self.start(started, None),
            Record::StartedReboot { started, terms } => self.start(started, Some(terms)),
            Record::GoesDown { sequence, acknowledgement, boot_id } => {
                let entry =
                    self.entries.entry(acknowledgement.request).or_insert_with(|| Entry::new(sequence));
                entry.down = Some((*acknowledgement, boot_id));
            }
            Record::Continued { request } => {
                if let Some(entry) = self.entries.get_mut(&request) {
                    entry.continued = true;
                }
            }
            Record::Outcome { sequence, acknowledgement } => {
                let entry =
                    self.entries.entry(acknowledgement.request).or_insert_with(|| Entry::new(sequence));
                entry.outcome = Some(*acknowledgement);
            }
            Record::Forgotten { request, sequence } => {
                self.entries.remove(&request);
                self.recent.add(request, sequence);
                self.settle(sequence.into(), sequence.into());
            }
            Record::Settled(Settled { floor, ranges }) => {
                self.raise(floor);
                for (first, last) in ranges {
                    self.settle(first, last);
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

    /// Whether a request of this name has been finished here not long ago, whatever its sequence is now.
    #[must_use]
    pub fn is_recent(&self, request: RequestId) -> bool {
        self.recent.contains(request)
    }

    /// Whether a request of this sequence must have been here before.
    #[must_use]
    pub fn is_settled(&self, sequence: Sequence) -> bool {
        let sequence = sequence.into();
        sequence < self.floor || self.forgotten.contains(sequence)
    }

    /// The highest sequence that left any trace; 0 when none did.
    #[must_use]
    pub fn sequence_max(&self) -> u64 {
        let open = self.entries.values().map(|entry| entry.sequence.into()).max().unwrap_or(0);
        open.max(self.forgotten.max()).max(self.floor.saturating_sub(1))
    }

    /// Records of this history are lost. Whatever they spoke of must not start again: all that the manager can
    /// have given out until now counts as settled. It goes on above, for it is told the highest sequence.
    pub fn settle_unknown(&mut self) {
        let last = self.sequence_max().saturating_add(UNKNOWN_MAX).min(SEQUENCE_MAX);
        self.raise(last.saturating_add(1));
    }

    /// The fewest records that add up to this history.
    #[must_use]
    pub fn records(&self) -> Vec<Record> {
        let settled = Settled { floor: self.floor, ranges: self.forgotten.list().collect() };
        let recent = self.recent.list().map(|(request, sequence)| Record::Forgotten { request, sequence });
        let open = self.open().into_iter().flat_map(|(request, entry)| records_of(request, entry));
        std::iter::once(Record::Settled(settled)).chain(recent).chain(open.flatten()).collect()
    }

    fn start(&mut self, started: Started, terms: Option<Terms>) {
        let Started { request, sequence, floor, .. } = started;
        self.raise(floor);
        self.entries.insert(request, Entry { started: Some(started), terms, ..Entry::new(sequence) });
    }

    fn settle(&mut self, first: u64, last: u64) {
        if last >= self.floor {
            self.forgotten.add(first.max(self.floor), last);
        }
        if let Some(floor) = self.forgotten.shorten() {
            self.floor = self.floor.max(floor);
        }
    }

    fn raise(&mut self, floor: u64) {
        self.floor = self.floor.max(floor);
        self.forgotten.cut_below(self.floor);
    }
}

fn records_of(request: RequestId, entry: Entry) -> [Option<Record>; 4] {
    let Entry { sequence, started, outcome, terms, down, continued } = entry;
    let start = started.map(|started| match terms {
        Some(terms) => Record::StartedReboot { started, terms },
        None => Record::Started(started),
    });
    let down = down.map(|(acknowledgement, boot_id)| Record::GoesDown {
        sequence,
        acknowledgement: Box::new(acknowledgement),
        boot_id,
    });
    let outcome = outcome.map(|outcome| Record::Outcome { sequence, acknowledgement: Box::new(outcome) });
    [start, down, outcome, continued.then_some(Record::Continued { request })]
}

/// Sequences above the highest one on record that a lost record can have spoken of: requests overtake each
/// other, though never so many.
const UNKNOWN_MAX: u64 = 1 << 32;
/// What the wire carries.
const SEQUENCE_MAX: u64 = i64::MAX as u64;
