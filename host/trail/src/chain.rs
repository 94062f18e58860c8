//! The audit trail as a chain of hashes: how a record is sealed, and how a trail is checked. Pure.
//!
//! Called by the store, which writes a record in the transaction of the effect it tells of. The check trusts
//! no record; against whoever can rewrite the whole trail only a head that was kept elsewhere helps.

use doorbell_api::audit::{AuditCheck, AuditRecord};
use sha2::{Digest as _, Sha256};

/// What a decision says before it has its place in the trail.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    /// When, milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Who.
    pub actor: String,
    /// What was decided.
    pub event: String,
    /// The guest it is about.
    pub guest: Option<String>,
    /// The request it is about.
    pub request: Option<String>,
    /// The particulars, without secrets.
    pub detail: String,
    /// Why, as whoever asked for it said.
    pub reason: Option<String>,
    /// The ticket it belongs to, as whoever asked for it said.
    pub ticket: Option<String>,
}

/// Where a trail ends: what its next record has to continue.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Head {
    /// The number of the newest record; 0 when there is none.
    pub number: u64,
    /// Its hash; zeros when there is none.
    pub hash: [u8; 32],
}

impl Head {
    /// The record that continues the trail with `entry`, and the head behind it.
    #[must_use]
    pub fn seal(self, entry: Entry) -> (AuditRecord, Self) {
        let number = self.number.saturating_add(1);
        let Entry { at_ms, actor, event, guest, request, detail, reason, ticket } = entry;
        let previous = hex::encode(self.hash);
        let mut record = AuditRecord {
            number,
            at_ms,
            actor,
            event,
            guest,
            request,
            detail,
            reason,
            ticket,
            previous,
            hash: String::new(),
        };
        let hash = hash_of(&record);
        record.hash = hex::encode(hash);
        (record, Self { number, hash })
    }
}

/// The hash over all of a record but the hash itself: fields in order, each text behind its length, so that
/// no two records have the same form. A record that has neither a reason nor a ticket is hashed as it was before
/// there were any, so that older trails stay whole.
#[must_use]
pub fn hash_of(record: &AuditRecord) -> [u8; 32] {
    let AuditRecord {
        number,
        at_ms,
        actor,
        event,
        guest,
        request,
        detail,
        reason,
        ticket,
        previous,
        hash: _,
    } = record;
    let has_cause = reason.is_some() || ticket.is_some();
    let mut sum = Sha256::new();
    sum.update(if has_cause { DOMAIN_WITH_CAUSE } else { DOMAIN });
    sum.update(number.to_le_bytes());
    sum.update(at_ms.to_le_bytes());
    for text in [Some(actor), Some(event), guest.as_ref(), request.as_ref(), Some(detail), Some(previous)] {
        add_text(&mut sum, text.map(String::as_str));
    }
    if has_cause {
        add_text(&mut sum, reason.as_deref());
        add_text(&mut sum, ticket.as_deref());
    }
    sum.finalize().into()
}

/// A check of a trail, record by record.
#[derive(Clone, Debug, Default)]
pub struct Verifier {
    head: Head,
    broken: Option<String>,
}

impl Verifier {
    /// A check of what stands behind `head`.
    #[must_use]
    pub const fn behind(head: Head) -> Self {
        Self { head, broken: None }
    }

    /// Looks at the next record. What is wrong first is kept; records behind it are counted only.
    pub fn check(&mut self, record: &AuditRecord) {
        if self.broken.is_none() {
            self.broken = self.fault(record);
        }
        self.head.number = self.head.number.saturating_add(1);
        self.head.hash = hash_of(record);
    }

    /// What was found. With `expected`, the trail has to end exactly there.
    #[must_use]
    pub fn finish(self, expected: Option<Head>) -> AuditCheck {
        let cut = expected.filter(|expected| *expected != self.head).map(|expected| {
            format!(
                "the trail ends at record {} with hash {}, expected record {} with hash {}: its tail was cut off or rewritten",
                self.head.number,
                hex::encode(self.head.hash),
                expected.number,
                hex::encode(expected.hash)
            )
        });
        let broken = self.broken.or(cut);
        AuditCheck {
            intact: broken.is_none(),
            records: self.head.number,
            head: hex::encode(self.head.hash),
            broken,
        }
    }

    fn fault(&self, record: &AuditRecord) -> Option<String> {
        let (number, expected) = (record.number, self.head.number.saturating_add(1));
        if number != expected {
            return Some(format!("record {number} stands where record {expected} belongs"));
        }
        if record.previous != hex::encode(self.head.hash) {
            return Some(format!("record {number} does not continue the record before it"));
        }
        let hash = hex::encode(hash_of(record));
        (record.hash != hash).then(|| {
            format!("record {number} was altered: its content hashes to {hash}, it says {}", record.hash)
        })
    }
}

/// Checks a whole trail, oldest record first.
#[must_use]
pub fn verify<'a>(records: impl IntoIterator<Item = &'a AuditRecord>, expected: Option<Head>) -> AuditCheck {
    let mut verifier = Verifier::default();
    records.into_iter().for_each(|record| verifier.check(record));
    verifier.finish(expected)
}

fn add_text(sum: &mut Sha256, text: Option<&str>) {
    sum.update([u8::from(text.is_some())]);
    let text = text.unwrap_or_default();
    sum.update((text.len() as u64).to_le_bytes());
    sum.update(text.as_bytes());
}

const DOMAIN: &[u8] = b"doorbell audit record, form 0\0";
const DOMAIN_WITH_CAUSE: &[u8] = b"doorbell audit record, form 1\0";

#[cfg(test)]
mod tests {
    use super::*;

    fn trail(count: u64) -> (Vec<AuditRecord>, Head) {
        let mut head = Head::default();
        let records = (1..=count)
            .map(|number| {
                let entry = Entry {
                    at_ms: 1_000 + number,
                    actor: "uid 0 (root)".into(),
                    event: "request-accepted".into(),
                    guest: (number % 2 == 0).then(|| "web-3".into()),
                    request: (number % 3 == 0).then(|| format!("{number:032x}")),
                    detail: format!("number {number}"),
                    reason: (number % 2 == 1).then(|| "a patch".into()).filter(|_| number > 1),
                    ticket: (number == 4).then(|| "OPS-4".into()),
                };
                let (record, next) = head.seal(entry);
                head = next;
                record
            })
            .collect();
        (records, head)
    }

    type Alteration = fn(&mut AuditRecord);

    fn alterations() -> Vec<(&'static str, Alteration)> {
        vec![
            ("number", |r| r.number += 1),
            ("at_ms", |r| r.at_ms ^= 1),
            ("actor", |r| r.actor.push('x')),
            ("event", |r| r.event = "request-cancelled".into()),
            ("guest", |r| r.guest = r.guest.is_none().then(String::new)),
            ("guest name", |r| r.guest = Some("web-4".into())),
            ("request", |r| r.request = r.request.is_none().then(String::new)),
            ("request id", |r| r.request = Some("f".repeat(32))),
            ("detail", |r| r.detail.clear()),
            ("reason", |r| r.reason = r.reason.is_none().then(String::new)),
            ("reason's text", |r| r.reason = Some("another patch".into())),
            ("ticket", |r| r.ticket = r.ticket.is_none().then(String::new)),
            ("reason and ticket", |r| std::mem::swap(&mut r.reason, &mut r.ticket)),
            ("text moved between fields", |r| {
                let last = r.actor.pop().unwrap();
                r.event.insert(0, last);
            }),
            ("previous", |r| r.previous = "1".repeat(64)),
            ("hash", |r| r.hash = "2".repeat(64)),
        ]
    }

    #[test]
    fn an_untouched_trail_is_intact_and_ends_at_its_head() {
        for count in [0, 1, 9] {
            let (records, head) = trail(count);
            let check = verify(&records, Some(head));
            assert!(check.intact, "{check:?}");
            assert_eq!((check.records, check.head), (count, hex::encode(head.hash)));
        }
    }

    #[test]
    fn an_alteration_of_any_field_of_any_record_is_found_and_placed() {
        let (records, head) = trail(6);
        for index in 0..records.len() {
            for (field, alter) in alterations() {
                let mut records = records.clone();
                let before = records[index].clone();
                alter(&mut records[index]);
                if records[index] == before {
                    continue;
                }
                let check = verify(&records, Some(head));
                assert!(!check.intact, "{field} of record {}", index + 1);
                let expected = if field == "number" { index + 2 } else { index + 1 };
                let line = check.broken.unwrap();
                assert!(line.starts_with(&format!("record {expected} ")), "{field}: {line}");
            }
        }
    }

    #[test]
    fn an_altered_record_with_a_hash_made_anew_is_found_at_the_next_one() {
        let (mut records, head) = trail(4);
        records[1].detail = "nothing to see".into();
        records[1].hash = hex::encode(hash_of(&records[1]));
        let line = verify(&records, Some(head)).broken.unwrap();
        assert_eq!(line, "record 3 does not continue the record before it");
    }

    #[test]
    fn a_deleted_record_is_found() {
        let (records, head) = trail(5);
        for index in 0..records.len() {
            let mut records = records.clone();
            records.remove(index);
            assert!(!verify(&records, Some(head)).intact, "record {}", index + 1);
        }
    }

    #[test]
    fn two_swapped_records_are_found() {
        let (records, head) = trail(5);
        for first in 0..records.len() {
            for second in first + 1..records.len() {
                let mut records = records.clone();
                records.swap(first, second);
                assert!(!verify(&records, Some(head)).intact, "{first} and {second}");
            }
        }
    }

    #[test]
    fn a_cut_tail_is_found_against_a_head_kept_elsewhere_and_only_so() {
        let (records, head) = trail(5);
        for left in 0..records.len() {
            assert!(verify(&records[..left], None).intact);
            let line = verify(&records[..left], Some(head)).broken.unwrap();
            assert!(line.starts_with(&format!("the trail ends at record {left} ")), "{line}");
        }
    }

    #[test]
    fn the_form_of_a_record_is_frozen() {
        let (records, _) = trail(4);
        assert_eq!(records[0].hash, "9837d445423eecd17f416ddf0f21a9fd9fb193dba24796386b585ce01b3f6239");
        assert_eq!(
            records[3].hash, "64dbad094fb02c008dc8d2946b914343bffac1222a300c0003aeee2873bf1320",
            "with a ticket"
        );
    }
}
