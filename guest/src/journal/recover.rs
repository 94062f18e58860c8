//! What the journal on disk says after any crash.
//!
//! Called when the journal is opened. Trusts nothing on the disk: the history ends at the first record that
//! is not whole, and what stands behind it is cut away, for an order with a hole in it is no order.

use super::history::History;
use super::record::Record;

/// The readable part of a journal.
#[derive(Debug)]
pub struct Recovered {
    /// What it says.
    pub history: History,
    /// Bytes of the file that belong to it, its header included.
    pub good: usize,
    /// Bytes behind it.
    pub cut: usize,
}

/// Reads a journal; `None` when it does not begin as one of this format does.
#[must_use]
pub fn recover(bytes: &[u8]) -> Option<Recovered> {
    let mut rest = bytes.strip_prefix(HEADER)?;
    let mut history = History::default();
    while let Some(record) = Record::take(&mut rest) {
        history.note(record);
    }
    let cut = rest.len();
    Some(Recovered { history, good: bytes.len().saturating_sub(cut), cut })
}

/// The first bytes of every journal: a name of our own and the format's version.
pub const HEADER: &[u8] = b"doorbell-journal\x00\x00\x00\x01";
