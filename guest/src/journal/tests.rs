//! The journal over real files: what is noted is there after a restart, and a file that grows long is written
//! anew. What damage and failing disks do is in `faults`.

use super::history::Entry;
use super::recover::header;
use super::*;
use doorbell_wire::ids::BootId;
use doorbell_wire::message::action::Reboot;
use doorbell_wire::message::outcome::{Evidence, NotStarted, Outcome, OutputTotals, StartFault};
use std::num::NonZeroU8;

fn request(number: u8) -> RequestId {
    RequestId::new([number; 16])
}

fn sequence(number: u8) -> Sequence {
    Sequence::try_from(u64::from(number)).unwrap()
}

fn started(number: u8) -> Started {
    let boot_id = BootId::new([7; 16]);
    Started { request: request(number), sequence: sequence(number), floor: 1, idempotent: false, boot_id }
}

fn acknowledgement(number: u8) -> Acknowledgement {
    Acknowledgement {
        request: request(number),
        outcome: Outcome::NotStarted(NotStarted { fault: StartFault::Kernel, errno: number.into() }),
        evidence: Evidence::None,
        output: OutputTotals::default(),
        ran: None,
    }
}

fn script() -> Vec<Record> {
    let mut records = Vec::new();
    for number in 1..=4 {
        records.push(Record::Started(started(number)));
        records.push(Record::Outcome {
            sequence: sequence(number),
            acknowledgement: Box::new(acknowledgement(number)),
        });
        if number != 2 {
            records.push(Record::Forgotten { request: request(number), sequence: sequence(number) });
        }
    }
    records
}

fn bytes_of(records: &[Record]) -> Vec<u8> {
    records.iter().fold(header(1).to_vec(), |mut bytes, record| {
        bytes.extend(record.to_bytes().unwrap());
        bytes
    })
}

fn prefixes(records: &[Record]) -> Vec<History> {
    let mut history = History::default();
    let mut all = vec![history.clone()];
    for record in records {
        history.note(record.clone());
        all.push(history.clone());
    }
    all
}

fn state() -> (tempfile::TempDir, StateDir) {
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::open(&dir.path().join("state")).unwrap();
    (dir, state)
}

#[test]
fn what_was_noted_is_there_after_a_restart() {
    let (_dir, state) = state();
    let mut journal = Journal::open(&state).unwrap();
    journal.started(started(1), None).unwrap();
    journal.outcome(sequence(1), &acknowledgement(1)).unwrap();
    journal.forgotten(request(1), sequence(1)).unwrap();
    journal.started(started(2), None).unwrap();
    let before = journal.history().clone();
    drop(journal);
    let journal = Journal::open(&state).unwrap();
    assert_eq!(journal.history(), &before);
    assert_eq!(journal.history().sequence_max(), 2);
    assert!(journal.history().is_settled(sequence(1)) && !journal.history().is_settled(sequence(2)));
    let open = Entry {
        sequence: sequence(2),
        started: Some(started(2)),
        outcome: None,
        terms: None,
        down: None,
        continued: false,
    };
    assert_eq!(journal.history().entry(request(2)), Some(&open));
}

#[test]
fn a_cut_at_every_byte_leaves_a_prefix() {
    let records = script();
    let whole = bytes_of(&records);
    let prefixes = prefixes(&records);
    for end in 0..=whole.len() {
        match recover(&whole[..end]) {
            Some(Recovered { history, end: ends, .. }) => {
                assert!(prefixes.contains(&history), "cut at {end}");
                match ends {
                    End::Whole => {}
                    End::Torn { good, cut } => assert_eq!(good + cut, end),
                    End::Damaged { .. } => panic!("a cut at {end} is taken for damage"),
                }
            }
            None => assert!(end < header(1).len(), "cut at {end}"),
        }
    }
}

#[test]
fn a_torn_end_is_cut_from_the_file_and_appending_goes_on() {
    let (_dir, state) = state();
    let path = state.root().join("journal");
    let whole = bytes_of(&script());
    std::fs::write(&path, &whole[..whole.len() - 3]).unwrap();
    let mut journal = Journal::open(&state).unwrap();
    journal.forgotten(request(4), sequence(4)).unwrap();
    drop(journal);
    assert_eq!(std::fs::read(&path).unwrap(), whole);
}

#[test]
fn an_append_of_which_a_power_cut_left_the_length_alone_is_torn() {
    let bytes = bytes_of(&script());
    let whole = recover(&bytes).unwrap();
    // A record that was never synced, a byte of it, several of them, and one whose first sector was written.
    let record = Record::Started(started(200)).to_bytes().unwrap();
    for zeros in [1, 26, record.len(), 300] {
        let found = recover(&[bytes.clone(), vec![0; zeros]].concat()).unwrap();
        assert_eq!(found.end, End::Torn { good: bytes.len(), cut: zeros });
        assert_eq!(found.history, whole.history);
    }
    let mut filled = bytes.clone();
    let mut number = 100;
    while filled.len() % 512 < 512 - record.len() || filled.len() % 512 > 500 {
        filled.extend(Record::Started(started(number)).to_bytes().unwrap());
        number += 1;
    }
    let good = filled.len();
    let first = 512 - good % 512;
    filled
        .extend([&record[..first.min(record.len())], &vec![0; record.len().saturating_sub(first)]].concat());
    if first < record.len() {
        assert_eq!(recover(&filled).unwrap().end, End::Torn { good, cut: record.len() });
    }
}

#[test]
fn a_file_that_is_no_journal_is_not_overwritten() {
    let (_dir, state) = state();
    let path = state.root().join("journal");
    std::fs::write(&path, b"something else").unwrap();
    assert!(matches!(Journal::open(&state), Err(JournalError::Foreign(_))));
    assert_eq!(std::fs::read(&path).unwrap(), b"something else");
}

#[test]
fn compaction_keeps_the_history_and_what_is_settled() {
    let (_dir, state) = state();
    let mut journal = Journal::open(&state).unwrap();
    for record in script() {
        journal.history.note(record.clone());
        journal.owed.push(record);
        journal.ready().unwrap();
    }
    let before = journal.history().clone();
    let path = state.root().join("journal");
    let long = path.metadata().unwrap().len();
    journal.file = Ok(JournalFile::create(&path, &before.records()).unwrap());
    assert!(path.metadata().unwrap().len() < long);
    journal.started(started(9), None).unwrap();
    drop(journal);
    let journal = Journal::open(&state).unwrap();
    for number in [1, 3, 4] {
        assert!(journal.history().is_settled(sequence(number)), "{number}");
        assert!(journal.history().is_recent(request(number)), "{number}");
    }
    assert!(!journal.history().is_settled(sequence(2)) && !journal.history().is_settled(sequence(5)));
    assert!(journal.history().entry(request(2)).is_some() && journal.history().entry(request(9)).is_some());
    assert_eq!(journal.history().records().len(), before.records().len() + 1);
}

#[test]
fn the_file_stays_short_over_many_requests() {
    let (_dir, state) = state();
    let path = state.root().join("journal");
    let padding = vec![Record::Forgotten { request: request(1), sequence: sequence(1) }; 50_000];
    std::fs::write(&path, bytes_of(&padding)).unwrap();
    assert!(path.metadata().unwrap().len() > COMPACT_LEN);
    let mut journal = Journal::open(&state).unwrap();
    journal.forgotten(request(2), sequence(2)).unwrap();
    assert!(path.metadata().unwrap().len() < 1024);
    drop(journal);
    assert!(Journal::open(&state).unwrap().history().is_settled(sequence(2)));
}

#[test]
fn the_file_is_bounded_and_knows_the_last_ones_by_name_over_any_number_of_requests() {
    let (_dir, state) = state();
    let path = state.root().join("journal");
    let id = |number: u64| RequestId::new(u128::from(number).to_be_bytes());
    let forgotten =
        |number: u64| Record::Forgotten { request: id(number), sequence: number.try_into().unwrap() };
    let before: Vec<_> = (1..=35_000).map(forgotten).collect();
    std::fs::write(&path, bytes_of(&before)).unwrap();
    let mut journal = Journal::open(&state).unwrap();
    for number in 35_001..=45_000 {
        journal.forgotten(id(number), number.try_into().unwrap()).unwrap();
        assert!(path.metadata().unwrap().len() <= COMPACT_LEN + 1024);
    }
    drop(journal);
    let journal = Journal::open(&state).unwrap();
    let history = journal.history();
    assert!(history.is_recent(id(45_000)) && history.is_recent(id(41_000)) && !history.is_recent(id(40_000)));
    assert!((1..=45_000).all(|number: u64| history.is_settled(number.try_into().unwrap())));
}

#[test]
fn a_full_disk_refuses_the_record_and_keeps_the_history() {
    let (_dir, state) = state();
    let path = state.root().join("journal");
    std::fs::write(&path, bytes_of(&[])).unwrap();
    let mut journal = Journal::open(&state).unwrap();
    let mut full = JournalFile::open(Path::new("/dev/full"), 1, 0).unwrap();
    assert_eq!(full.append(&[Record::Started(started(1))]), Err(Errno::ENOSPC));
    journal.file = Ok(full);
    // As when the space of the directory is used up too.
    let obstacle = state.root().join("journal.new");
    std::fs::create_dir(&obstacle).unwrap();
    assert!(journal.started(started(1), None).is_err());
    assert_eq!(journal.history(), &History::default());
    std::fs::remove_dir(&obstacle).unwrap();
    journal.started(started(2), None).unwrap();
    drop(journal);
    let again = Journal::open(&state).unwrap();
    assert!(again.history().entry(request(2)).is_some() && again.history().entry(request(1)).is_none());
}

mod faults;

#[test]
fn a_journal_takes_a_newer_form_with_its_first_record_of_that_and_goes_back_when_none_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::open(dir.path().join("state").as_path()).unwrap();
    let form = || std::fs::read(state.root().join("journal")).unwrap()[19];
    let terms = Terms { reboot: Reboot::AfterSuccess, step: NonZeroU8::MIN };
    let mut journal = Journal::open(&state).unwrap();
    journal.started(started(1), None).unwrap();
    assert_eq!(form(), 1, "an agent of before can read it");
    journal.started(started(2), Some(terms)).unwrap();
    assert_eq!(form(), 2, "an agent of before leaves it alone");
    let (told, boot_id) = (acknowledgement(2), BootId::new([7; 16]));
    journal.goes_down(sequence(2), &told, boot_id).unwrap();
    let before = journal.history().clone();
    let mut journal = Journal::open(&state).unwrap();
    assert_eq!(*journal.history(), before);
    assert_eq!(journal.history().entry(request(2)).unwrap().down, Some((told.clone(), boot_id)));
    assert_eq!(journal.history().entry(request(2)).unwrap().terms, Some(terms));
    journal.outcome(sequence(2), &told).unwrap();
    journal.continued(request(2)).unwrap();
    let again = Journal::open(&state).unwrap();
    assert!(again.history().entry(request(2)).unwrap().continued, "it is not told again");
    assert!(again.history().entry(request(1)).unwrap().started.is_some());
    journal.forgotten(request(2), sequence(2)).unwrap();
    journal.break_it(Errno::EIO);
    journal.ready().unwrap();
    assert_eq!(form(), 1, "written anew, it holds nothing that an agent of before does not know");
    assert!(Journal::open(&state).unwrap().history().is_settled(sequence(2)));
}
