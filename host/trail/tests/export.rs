//! What an export shows of itself and of a trail: no single change of it goes unseen, and each thing that can be done to
//! a trail has a line of its own.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed step is a failed test")]

use doorbell_api::audit::AuditRecord;
use doorbell_trail::chain::{Entry, Head};
use doorbell_trail::compare::Comparison;
use doorbell_trail::export::{End, Kept, line, read};
use doorbell_trail::head::{sign, word};
use ed25519_dalek::SigningKey;
use proptest::prelude::*;

fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

/// A trail of `count` records; those behind `fork` are of another one.
fn trail(count: u64, fork: u64) -> (Vec<AuditRecord>, Head) {
    let mut head = Head::default();
    let mut records = Vec::new();
    for number in 1..=count {
        let (record, next) = head.seal(Entry {
            at_ms: 1_000 + number,
            actor: "uid 0 (root)".into(),
            event: if number > fork { "guest-removed".into() } else { "guest-added".into() },
            guest: (number % 2 == 0).then(|| "web-3".into()),
            request: None,
            detail: "näther \"quoted\" \\ detail".into(),
            reason: (number % 3 == 0).then(|| "a patch".into()),
            ticket: None,
        });
        records.push(record);
        head = next;
    }
    (records, head)
}

fn written(records: &[AuditRecord], since: u64, head: Head, key: &SigningKey) -> String {
    let records = records.iter().filter(|record| record.number > since);
    let lines: String = records.map(|record| line(record).unwrap()).collect();
    lines + &line(&End { since, head: sign(key, head, 5_000) }).unwrap()
}

fn whole(count: u64, fork: u64) -> String {
    let (records, head) = trail(count, fork);
    written(&records, 0, head, &key())
}

/// Whether a file is an export that nothing is wrong with.
fn is_whole(bytes: &[u8]) -> bool {
    read(bytes).is_ok_and(|kept| kept.check.intact)
}

fn kept(text: &str) -> Kept {
    read(text.as_bytes()).unwrap()
}

fn compared(trail: &str, with: &str) -> Option<String> {
    let (trail, with) = (kept(trail), kept(with));
    let mut comparison = match Comparison::with(&with, &trail.head.key) {
        Ok(comparison) => comparison,
        Err(line) => return Some(line),
    };
    trail.show(&mut comparison);
    comparison.finish()
}

#[test]
fn an_export_is_whole_wherever_it_begins() {
    let (records, head) = trail(6, 9);
    for since in 0..=6 {
        let export = written(&records, since, head, &key());
        let found = kept(&export).check;
        assert!(found.intact, "{since}: {found:?}");
        assert_eq!(found.records, 6 - since);
    }
    assert!(is_whole(written(&[], 0, Head::default(), &key()).as_bytes()), "an empty trail");
}

#[test]
fn a_line_that_is_gone_twice_there_or_elsewhere_is_found() {
    let export = whole(6, 9);
    let lines: Vec<&str> = export.split_inclusive('\n').collect();
    for index in 0..lines.len() {
        let mut gone = lines.clone();
        gone.remove(index);
        assert!(!is_whole(gone.concat().as_bytes()), "line {} gone", index + 1);
        let mut twice = lines.clone();
        twice.insert(index, lines[index]);
        assert!(!is_whole(twice.concat().as_bytes()), "line {} twice", index + 1);
        for other in index + 1..lines.len() {
            let mut swapped = lines.clone();
            swapped.swap(index, other);
            assert!(!is_whole(swapped.concat().as_bytes()), "lines {} and {}", index + 1, other + 1);
        }
    }
    for end in 0..export.len() {
        assert!(!is_whole(&export.as_bytes()[..end]), "cut at byte {end}");
    }
    assert!(!is_whole((export + "\n").as_bytes()));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn any_changed_byte_of_an_export_is_found(at in 0_usize..4_000, to in any::<u8>()) {
        let mut bytes = whole(5, 9).into_bytes();
        let at = at % bytes.len();
        prop_assume!(bytes[at] != to);
        bytes[at] = to;
        prop_assert!(!is_whole(&bytes), "byte {at} is {to}");
    }

    #[test]
    fn any_inserted_or_removed_byte_of_an_export_is_found(at in 0_usize..4_000, add in any::<Option<u8>>()) {
        let before = whole(5, 9).into_bytes();
        let mut bytes = before.clone();
        let at = at % bytes.len();
        match add {
            Some(byte) => bytes.insert(at, byte),
            None => drop(bytes.remove(at)),
        }
        prop_assume!(bytes != before);
        prop_assert!(!is_whole(&bytes), "at byte {at}: {add:?}");
    }
}

#[test]
fn a_trail_that_goes_on_from_what_was_kept_is_in_order() {
    assert_eq!(compared(&whole(6, 9), &whole(4, 9)), None);
    assert_eq!(compared(&whole(6, 9), &whole(6, 9)), None);
    let (records, head) = trail(6, 9);
    assert_eq!(compared(&written(&records, 3, head, &key()), &whole(5, 9)), None);
    assert_eq!(compared(&whole(6, 9), &written(&[], 0, Head::default(), &key())), None);
}

#[test]
fn a_rolled_back_trail_and_a_forked_one_are_told_apart() {
    let line = compared(&whole(4, 9), &whole(6, 9)).unwrap();
    assert_eq!(
        line,
        "the trail was rolled back: it ends whole at record 4, what was kept of it goes on to record 6"
    );
    let line = compared(&whole(8, 4), &whole(6, 9)).unwrap();
    assert_eq!(
        line,
        "the trail was forked: its record 5 is not the one that was kept; up to record 4 they are the same"
    );
    let line = compared(&whole(5, 4), &whole(6, 9)).unwrap();
    assert!(line.starts_with("the trail was forked: its record 5 "), "{line}");
}

#[test]
fn a_head_alone_tells_the_same_as_far_as_it_goes() {
    let (_, head) = trail(6, 9);
    let signed = sign(&key(), head, 5_000);
    let log = format!("Nov 24 doorbelld[1]: INFO audit head {}\n", word(&signed));
    for with in [line(&signed).unwrap(), serde_json::to_string_pretty(&signed).unwrap(), log] {
        assert_eq!(compared(&whole(8, 9), &with), None, "{with}");
        let line = compared(&whole(4, 9), &with).unwrap();
        assert!(line.starts_with("the trail was rolled back: it ends whole at record 4,"), "{line}");
        let line = compared(&whole(8, 4), &with).unwrap();
        assert!(line.starts_with("the trail was forked: its record 6 "), "{line}");
    }
}

#[test]
fn what_another_key_signed_or_nobody_is_refused() {
    let (records, head) = trail(6, 9);
    let other = SigningKey::from_bytes(&[8; 32]);
    let line = compared(&whole(6, 9), &written(&records, 0, head, &other)).unwrap();
    assert!(line.starts_with("what was kept is signed by another key, SHA256:"), "{line}");
    let mut forged = sign(&key(), head, 5_000);
    forged.number = 4;
    let line = compared(&whole(6, 9), &doorbell_trail::export::line(&forged).unwrap()).unwrap();
    assert_eq!(line, "what was kept shows nothing: the signature of head 4 is not valid: it was altered");
    for text in ["", "nothing", "{}", "{\"since\":0}\n"] {
        assert!(read(text.as_bytes()).is_err(), "{text}");
    }
}

#[test]
fn what_has_nothing_in_common_is_not_called_the_same() {
    let (records, head) = trail(6, 9);
    let line = compared(&written(&records, 5, head, &key()), &whole(2, 9)).unwrap();
    assert!(line.ends_with("they cannot be compared"), "{line}");
}
