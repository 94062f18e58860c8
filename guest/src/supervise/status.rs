//! The file by which a supervisor says how far its program is: fixed fields, and the record of the outcome.
//!
//! Written by the supervisor alone, read by the agent. The record's room is taken before the program starts, so
//! that a disk that fills up later does not keep an outcome from the manager; a checksum tells a whole one.

use super::outcome::Over;
use super::wanted::field;
use doorbell_wire::codec::{decode, encode};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// What the file says.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Status {
    /// When the program started; 0 before.
    pub(super) started_us: u64,
    /// Input bytes that it has taken.
    pub(super) taken: u64,
    /// How it ended, once it has.
    pub(super) over: Option<Box<Over>>,
}

impl Status {
    /// Reads it; a file that cannot be read says nothing.
    pub(super) fn read(file: &File) -> Self {
        let mut head = [0; HEAD_LEN];
        if file.read_exact_at(&mut head, 0).is_err() {
            return Self::default();
        }
        let len = u32::from_le_bytes(field(&head, RECORD));
        let crc = u32::from_le_bytes(field(&head, RECORD + 4));
        Self {
            started_us: u64::from_le_bytes(field(&head, STARTED)),
            taken: u64::from_le_bytes(field(&head, TAKEN)),
            over: over(file, len, crc).map(Box::new),
        }
    }
}

/// Takes the file's room on the disk.
pub(super) fn prepare(file: &File) -> io::Result<()> {
    file.write_all_at(&[0; ROOM], 0)
}

/// The program has started.
pub(super) fn started(file: &File, at_us: u64) {
    write(file, &at_us.to_le_bytes(), STARTED);
}

/// The program has taken this much input.
pub(super) fn taken(file: &File, bytes: u64) {
    write(file, &bytes.to_le_bytes(), TAKEN);
}

/// It is over.
///
/// # Errors
/// The kernel's refusal, or an outcome that is longer than any.
pub(super) fn finish(file: &File, over: &Over) -> io::Result<()> {
    let record = encode("outcome", over).map_err(io::Error::other)?;
    let len = u32::try_from(record.len()).map_err(io::Error::other)?;
    let mut bytes = Vec::with_capacity(record.len().saturating_add(8));
    bytes.extend(len.to_le_bytes());
    bytes.extend(crc32c::crc32c(&record).to_le_bytes());
    bytes.extend(record);
    file.write_all_at(&bytes, RECORD as u64)
}

fn over(file: &File, len: u32, crc: u32) -> Option<Over> {
    if len == 0 || len as usize > ROOM {
        return None;
    }
    let mut record = vec![0; len as usize];
    file.read_exact_at(&mut record, HEAD_LEN as u64).ok()?;
    (crc32c::crc32c(&record) == crc).then(|| decode("outcome", &record).ok()).flatten()
}

/// These fields have their room; a disk that fails loses a time, and the outcome says what is so.
fn write(file: &File, bytes: &[u8], at: usize) {
    let _ = file.write_all_at(bytes, at as u64);
}

const STARTED: usize = 0;
const TAKEN: usize = 8;
const RECORD: usize = 16;
const HEAD_LEN: usize = RECORD + 8;
/// More than the longest record: a path of 4095 bytes, a text of 256, and numbers.
const ROOM: usize = 8 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use doorbell_wire::ids::{GuestPath, ShortText};
    use doorbell_wire::message::outcome::{Evidence, FileEvidence, FileKind, Outcome, OutputTotals, Refusal};

    fn longest() -> Over {
        let path = GuestPath::try_from(format!("/{}", "p".repeat(4094))).unwrap();
        let evidence = FileEvidence {
            path,
            kind: FileKind::Tree,
            len: u64::MAX,
            digest: None,
            mode: 0o7777.try_into().unwrap(),
            uid: u32::MAX,
            gid: u32::MAX,
            entries: u64::MAX,
        };
        let text = ShortText::try_from("t".repeat(256)).unwrap();
        Over {
            outcome: Outcome::Refused(Refusal::Unsupported(text)),
            evidence: Evidence::File(evidence),
            output: OutputTotals::default(),
            ran: None,
        }
    }

    #[test]
    fn the_fields_and_the_longest_outcome_are_read_back_from_their_room() {
        let file = tempfile::tempfile().unwrap();
        prepare(&file).unwrap();
        assert_eq!(Status::read(&file), Status::default());
        started(&file, 5);
        taken(&file, 6);
        finish(&file, &longest()).unwrap();
        let status = Status::read(&file);
        assert_eq!((status.started_us, status.taken), (5, 6));
        assert_eq!(status.over.as_deref(), Some(&longest()));
        assert_eq!(file.metadata().unwrap().len(), ROOM as u64);
    }

    #[test]
    fn an_outcome_that_is_torn_or_changed_is_none() {
        let file = tempfile::tempfile().unwrap();
        prepare(&file).unwrap();
        finish(&file, &longest()).unwrap();
        file.write_all_at(b"x", 100).unwrap();
        assert_eq!(Status::read(&file).over, None);
        file.set_len(60).unwrap();
        assert_eq!(Status::read(&file).over, None);
        file.set_len(0).unwrap();
        assert_eq!(Status::read(&file), Status::default());
    }
}
