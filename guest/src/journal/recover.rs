//! What the journal on disk says after any crash, and after damage.
//!
//! Called when the journal is opened. Trusts nothing on the disk. A last record that is shorter than it says, or an
//! end of zeros, is one whose append a crash cut: nothing had begun by it, and it is cut away. Anything else that cannot be read
//! is damage, and may have been a start: what can be read in front of it and behind it is kept, and every
//! sequence that a lost record can have spoken of is settled, so that nothing of it starts a second time.

use super::history::History;
use super::record::{Record, Shape};

/// The readable part of a journal.
#[derive(Debug)]
pub struct Recovered {
    /// What it says.
    pub history: History,
    /// How the file ends.
    pub end: End,
    /// The form its header tells.
    pub form: u8,
}

/// How a journal ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    /// With a whole record.
    Whole,
    /// With a record whose append was cut.
    Torn {
        /// Bytes in front of it, the header included.
        good: usize,
        /// Bytes of it.
        cut: usize,
    },
    /// It cannot be read everywhere.
    Damaged {
        /// Bytes that cannot be read.
        lost: usize,
        /// Records that can.
        kept: usize,
    },
}

/// Reads a journal; `None` when it does not begin as one of this format does.
#[must_use]
pub fn recover(bytes: &[u8]) -> Option<Recovered> {
    let (form, mut rest) =
        FORMS.into_iter().find_map(|form| Some((form, bytes.strip_prefix(&header(form))?)))?;
    let mut history = History::default();
    let (mut lost, mut kept) = (0_usize, 0_usize);
    loop {
        while let Some(record) = Record::take(&mut rest) {
            history.note(record);
            kept = kept.saturating_add(1);
        }
        if rest.is_empty() {
            break;
        }
        let Some(at) = next_record(rest) else {
            let (good, cut) = (bytes.len().saturating_sub(rest.len()), rest.len());
            if lost == 0 && Record::shape(written(rest, good)) == Shape::Cut {
                return Some(Recovered { history, end: End::Torn { good, cut }, form });
            }
            lost = lost.saturating_add(rest.len());
            break;
        };
        lost = lost.saturating_add(at);
        rest = rest.get(at..).unwrap_or_default();
    }
    if lost == 0 {
        return Some(Recovered { history, end: End::Whole, form });
    }
    history.settle_unknown();
    Some(Recovered { history, end: End::Damaged { lost, kept }, form })
}

/// What of a file's end was written. A power cut can leave a file the length of its last appends and not their bytes,
/// which then read as zeros, to the beginning of a sector: those were not synced, so nothing had begun by them.
fn written(rest: &[u8], at: usize) -> &[u8] {
    let end = rest.iter().rposition(|&byte| byte != 0).map_or(0, |last| last.saturating_add(1));
    let sector = at.saturating_add(end).next_multiple_of(SECTOR_LEN).saturating_sub(at);
    if end == 0 { &[] } else { rest.get(..sector).unwrap_or(rest) }
}

/// Where the next record begins that can be read.
fn next_record(bytes: &[u8]) -> Option<usize> {
    (1..bytes.len()).find(|&at| bytes.get(at..).is_some_and(|mut rest| Record::take(&mut rest).is_some()))
}

/// The first bytes of every journal: a name of our own and the form.
#[must_use]
pub fn header(form: u8) -> [u8; 20] {
    let mut header = *b"doorbell-journal\x00\x00\x00\x00";
    if let Some(last) = header.last_mut() {
        *last = form;
    }
    header
}

/// Bytes that a disk writes whole or not at all.
const SECTOR_LEN: usize = 512;
/// The forms that are read. The lowest one that holds all records is written.
const FORMS: [u8; 2] = [1, 2];
