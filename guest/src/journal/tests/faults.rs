//! Damaged journals and failing disks: nothing that was started starts a second time.
//!
//! Disks fail for real: a test runs itself again under strace, which has the kernel answer with an error.

use super::*;
use crate::decide::{Decision, decide};
use doorbell_wire::message::Offer;
use doorbell_wire::message::action::Action;
use proptest::prelude::*;
use std::process::Command;

fn offer(number: u8) -> Offer {
    let (request, sequence) = (request(number), Some(sequence(number)));
    Offer {
        request,
        sequence,
        floor: 1,
        action: Action::LinkList,
        timeout_ms: None,
        idempotent: false,
        signed: None,
    }
}

/// Whether a request that is offered now would begin.
fn begins(history: &History, number: u8) -> bool {
    matches!(decide(&offer(number), history), Decision::Begin(_))
}

/// Starts that were on disk in front of byte `end`: only behind them an effect can have begun.
fn confirmed(records: &[Record], end: usize) -> Vec<u8> {
    let ends = (0..records.len()).map(|count| bytes_of(&records[..=count]).len());
    let before = records.iter().zip(ends).filter(|(_, at)| *at <= end);
    let started = before.filter_map(|(record, _)| match record {
        Record::Started(started) => u8::try_from(u64::from(started.sequence)).ok(),
        Record::Outcome { .. }
        | Record::Forgotten { .. }
        | Record::Settled(_)
        | Record::StartedReboot { .. }
        | Record::GoesDown { .. }
        | Record::Continued { .. } => None,
    });
    started.collect()
}

/// Records as they are after a compaction, with a request that runs and one that overtook it.
fn compacted() -> Vec<Record> {
    let settled = record::Settled { floor: 3, ranges: vec![(5, 6)] };
    let mut records = vec![Record::Settled(settled), Record::Started(started(3))];
    records.extend([Record::Started(started(9)), Record::Started(started(7))]);
    records
}

proptest! {
    #[test]
    fn a_journal_that_is_cut_anywhere_starts_nothing_twice(at in 0_usize..4_000, compact in any::<bool>()) {
        let records = if compact { compacted() } else { script() };
        let whole = bytes_of(&records);
        let at = at % (whole.len() + 1);
        let Some(recovered) = recover(&whole[..at]) else { return Ok(()) };
        for number in confirmed(&records, at) {
            prop_assert!(!begins(&recovered.history, number), "{number} begins again, cut at {at}");
        }
        prop_assert!(begins(&recovered.history, 200), "what never began does");
    }

    #[test]
    fn a_journal_that_is_altered_anywhere_starts_nothing_twice(
        at in 0_usize..4_000, bytes in proptest::collection::vec(1_u8.., 1..5), compact in any::<bool>(),
    ) {
        let records = if compact { compacted() } else { script() };
        let mut damaged = bytes_of(&records);
        let (len, at) = (damaged.len(), at % damaged.len());
        damaged.iter_mut().skip(at).zip(&bytes).for_each(|(byte, with)| *byte ^= with);
        let Some(Recovered { history, end, .. }) = recover(&damaged) else {
            prop_assert!(at < header(1).len());
            return Ok(());
        };
        prop_assert!(matches!(end, End::Damaged { .. }), "{end:?} at {at} of {len}");
        for number in confirmed(&records, len) {
            prop_assert!(!begins(&history, number), "{number} begins again, altered at {at} of {len}");
        }
        prop_assert!(!begins(&history, 200), "what may have been lost begins");
        prop_assert!(history.sequence_max() > 1 << 32, "the manager is not told where to go on");
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(tail in proptest::collection::vec(any::<u8>(), 0..4_096)) {
        let mut bytes = header(1).to_vec();
        bytes.extend(tail);
        let recovered = recover(&bytes);
        prop_assert!(recovered.is_some());
    }
}

#[test]
fn a_damaged_journal_keeps_what_it_can_and_is_kept_aside() {
    let (_dir, state) = state();
    let path = state.root().join("journal");
    let mut bytes = bytes_of(&script());
    // In the middle of the first outcome.
    let at = bytes_of(&script()[..1]).len() + 12;
    bytes[at] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let mut journal = Journal::open(&state).unwrap();
    assert_eq!(std::fs::read(path.with_extension("damaged")).unwrap(), bytes);
    let repeated = decide(&offer(2), journal.history());
    assert!(matches!(repeated, Decision::Repeat(_)), "an outcome behind the damage is kept: {repeated:?}");
    assert!((1..=200).all(|number| !begins(journal.history(), number)));
    let next = Sequence::try_from(journal.history().sequence_max() + 1).unwrap();
    let later = Started { request: request(77), sequence: next, ..started(1) };
    assert!(matches!(
        decide(&Offer { request: request(77), sequence: Some(next), ..offer(1) }, journal.history()),
        Decision::Begin(_)
    ));
    journal.started(later, None).unwrap();
    let before = journal.history().clone();
    drop(journal);
    let bytes = std::fs::read(&path).unwrap();
    let Some(Recovered { history, end: End::Whole, .. }) = recover(&bytes) else {
        panic!("it is not whole again")
    };
    assert_eq!(history, before);
}

#[test]
fn a_journal_of_which_nothing_is_left_is_not_taken_for_an_empty_one() {
    let (_dir, state) = state();
    let path = state.root().join("journal");
    let mut bytes = bytes_of(&script()[..1]);
    *bytes.last_mut().unwrap() ^= 0x10;
    std::fs::write(&path, &bytes).unwrap();
    assert!(matches!(Journal::open(&state), Err(JournalError::Lost { .. })));
    assert_eq!(std::fs::read(&path).unwrap(), bytes, "it is left to whoever decides");
}

#[test]
fn an_outcome_that_the_disk_refuses_is_known_and_written_later() {
    let (_dir, state) = state();
    let mut journal = Journal::open(&state).unwrap();
    journal.started(started(1), None).unwrap();
    let obstacle = state.root().join("journal.new");
    std::fs::create_dir(&obstacle).unwrap();
    journal.break_it(Errno::EIO);
    assert_eq!(journal.outcome(sequence(1), &acknowledgement(1)), Err(Errno::EISDIR));
    assert!(matches!(decide(&offer(1), journal.history()), Decision::Repeat(_)), "it is acknowledged again");
    assert!(journal.started(started(2), None).is_err() && begins(journal.history(), 2));
    std::fs::remove_dir(&obstacle).unwrap();
    journal.tend(Tick(u64::MAX));
    drop(journal);
    let journal = Journal::open(&state).unwrap();
    assert!(matches!(decide(&offer(1), journal.history()), Decision::Repeat(_)), "it is on disk");
}

#[test]
fn a_disk_that_is_full_for_long_costs_bounded_memory() {
    let (_dir, state) = state();
    let mut journal = Journal::open(&state).unwrap();
    std::fs::create_dir(state.root().join("journal.new")).unwrap();
    journal.break_it(Errno::ENOSPC);
    for number in 1..1_000_u64 {
        let gone = Sequence::try_from(number).unwrap();
        assert!(journal.forgotten(RequestId::new([3; 16]), gone).is_err());
    }
    assert!(journal.owed.len() <= OWED_MAX + 1);
    std::fs::remove_dir(state.root().join("journal.new")).unwrap();
    journal.ready().unwrap();
    drop(journal);
    assert!(Journal::open(&state).unwrap().history().is_settled(Sequence::try_from(999).unwrap()));
}

/// What a crash leaves at each step of a compaction, and of a file that is written anew.
#[test]
fn a_crash_at_each_step_of_a_compaction_leaves_the_whole_history() {
    let (_dir, state) = state();
    let path = state.root().join("journal");
    let old = bytes_of(&script());
    let history = recover(&old).unwrap().history;
    let new = bytes_of(&history.records());
    for written in [0, 1, header(1).len(), new.len() / 2, new.len()] {
        std::fs::write(&path, &old).unwrap();
        std::fs::write(path.with_extension("new"), &new[..written]).unwrap();
        let mut journal = Journal::open(&state).unwrap();
        assert_eq!(journal.history(), &history, "{written} bytes beside it");
        journal.break_it(Errno::EIO);
        journal.ready().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), new, "and the next try goes through");
        assert!(!path.with_extension("new").exists());
    }
    std::fs::write(&path, &new).unwrap();
    assert_eq!(Journal::open(&state).unwrap().history(), &history, "renamed, and not synced by name");
}

/// Runs a test of this file that is ignored otherwise, while the kernel fails a call of it in this way.
fn under(fault: &str, test: &str) {
    let program = std::env::current_exe().unwrap();
    let ended = Command::new("strace")
        .args(["-f", "--seccomp-bpf", "-qq", "-o", "/dev/null", "-e", "trace=fsync,fdatasync,rename"])
        .args(["-e", &format!("inject={fault}"), "--"])
        .arg(program)
        .args(["--ignored", "--exact", "--test-threads=1", test])
        .output();
    let Ok(ended) = ended else {
        println!("skipped: there is no strace to make a disk fail with");
        return;
    };
    let said = String::from_utf8_lossy(&ended.stdout).into_owned() + &String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success() && said.contains("1 passed"), "{fault}: {said}");
}

#[test]
fn a_sync_that_fails_refuses_the_start_and_the_next_one_finds_another_file() {
    // The second fdatasync is the second append's.
    under("fdatasync:error=EIO:when=2", "journal::tests::faults::a_failed_sync");
}

#[test]
#[ignore = "runs under a fault"]
fn a_failed_sync() {
    let (_dir, state) = state();
    let mut journal = Journal::open(&state).unwrap();
    let path = state.root().join("journal");
    let inode = || std::os::unix::fs::MetadataExt::ino(&path.metadata().unwrap());
    journal.started(started(1), None).unwrap();
    let first = inode();
    assert_eq!(journal.started(started(2), None), Err(Errno::EIO));
    journal.started(started(3), None).unwrap();
    assert_ne!(inode(), first, "what failed once is not trusted again");
    drop(journal);
    let journal = Journal::open(&state).unwrap();
    assert!(begins(journal.history(), 2), "it never began");
    assert!(!begins(journal.history(), 1) && !begins(journal.history(), 3));
}

#[test]
fn whichever_sync_or_rename_of_a_compaction_fails_nothing_is_lost() {
    // Three directories are made, then the journal: a file, its directory's name of it. The next two are compaction's.
    for fault in ["fsync:error=EIO:when=6", "fsync:error=EIO:when=7", "rename:error=EIO:when=2"] {
        under(fault, "journal::tests::faults::a_failed_compaction");
    }
}

#[test]
#[ignore = "runs under a fault"]
fn a_failed_compaction() {
    let (_dir, state) = state();
    let mut journal = Journal::open(&state).unwrap();
    journal.started(started(1), None).unwrap();
    for number in 0..45_000_u64 {
        journal.forgotten(RequestId::new([9; 16]), Sequence::try_from(number + 10).unwrap()).unwrap();
    }
    // Either a file of the whole length or a failed one is left, and both are written anew.
    journal.started(started(2), None).unwrap();
    let before = journal.history().clone();
    drop(journal);
    let journal = Journal::open(&state).unwrap();
    assert_eq!(journal.history(), &before);
    assert!(!begins(journal.history(), 1) && !begins(journal.history(), 2));
}
