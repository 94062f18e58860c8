//! The journal: what was started here, how it ended, and what the manager has stored of it.
//!
//! Called by `pull` before an effect, after it, and after its receipt; read by `decide`. Each record is on
//! disk before the call returns. What is settled outlives every compaction, so that a manager that was
//! restored from a backup cannot have a request run twice.
//!
//! - [`mod@record`] one record and its bytes
//! - [`mod@file`] appending, durably
//! - [`mod@recover`] what a file says after a crash
//! - [`mod@history`] what the records add up to, with the sequences that are settled in `settled`

pub mod file;
pub mod history;
pub mod record;
pub mod recover;
mod settled;

use crate::state::{StateDir, StateError, io_at};
use doorbell_wire::ids::{RequestId, Sequence};
use doorbell_wire::message::outcome::Acknowledgement;
use file::{JournalFile, errno_of};
use history::History;
use nix::errno::Errno;
use record::{Record, Started};
use recover::{Recovered, recover};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use tracing::warn;

/// Why there is no journal to work with.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The kernel refused.
    #[error(transparent)]
    State(#[from] StateError),
    /// The file is something else. Without its history a request could run twice.
    #[error("{} does not begin as a journal of this version does; put the right file back, or move it away to give up the guest's history", .0.display())]
    Foreign(PathBuf),
}

/// The journal of this agent.
#[derive(Debug)]
pub struct Journal {
    history: History,
    file: Result<JournalFile, Errno>,
}

impl Journal {
    /// Opens the journal in the state directory, or makes it. Where it can be read and not be written, it
    /// opens too, and every new record is refused with the kernel's reason.
    ///
    /// # Errors
    /// [`JournalError`] when its history cannot be known.
    pub fn open(state: &StateDir) -> Result<Self, JournalError> {
        let path = state.root().join("journal");
        let Some(bytes) = io_at("read", &path, read(&path))? else {
            let file = writable(&path, JournalFile::create(&path, &[]));
            return Ok(Self { history: History::default(), file });
        };
        let Some(Recovered { history, good, cut }) = recover(&bytes) else {
            return Err(JournalError::Foreign(path));
        };
        if cut > 0 {
            warn!(bytes = cut, kept = good, "the journal had a torn end; it was cut away");
        }
        let file = writable(&path, JournalFile::open(&path, good as u64));
        Ok(Self { history, file })
    }

    /// What the journal says.
    #[must_use]
    pub const fn history(&self) -> &History {
        &self.history
    }

    /// Why no record can be written, if so.
    #[must_use]
    pub fn unwritable(&self) -> Option<Errno> {
        match &self.file {
            Ok(file) => file.broken(),
            Err(errno) => Some(*errno),
        }
    }

    /// Notes that an effect is about to begin.
    ///
    /// # Errors
    /// The kernel's error number; the effect must not begin then.
    pub fn started(&mut self, started: Started) -> Result<(), Errno> {
        self.append(Record::Started(started))
    }

    /// Notes how a request ended.
    ///
    /// # Errors
    /// The kernel's error number.
    pub fn outcome(&mut self, sequence: Sequence, acknowledgement: &Acknowledgement) -> Result<(), Errno> {
        self.append(Record::Outcome { sequence, acknowledgement: Box::new(acknowledgement.clone()) })
    }

    /// Notes that the manager has stored an outcome. It is on disk with the next record: an agent that went
    /// down before would only present the outcome once more.
    ///
    /// # Errors
    /// The kernel's error number.
    pub fn forgotten(&mut self, request: RequestId, sequence: Sequence) -> Result<(), Errno> {
        let record = Record::Forgotten { request, sequence };
        self.file.as_mut().map_err(|errno| *errno)?.append_lazily(&record)?;
        self.history.note(record);
        self.compact();
        Ok(())
    }

    fn append(&mut self, record: Record) -> Result<(), Errno> {
        self.file.as_mut().map_err(|errno| *errno)?.append(&record)?;
        self.history.note(record);
        Ok(())
    }

    /// Writes the history anew when its file has grown long; keeps the old file where that does not work.
    fn compact(&mut self) {
        let Some(file) = self.file.as_ref().ok().filter(|file| file.size() > COMPACT_LEN) else { return };
        match JournalFile::create(file.path(), &self.history.records()) {
            Ok(file) => self.file = Ok(file),
            Err(error) => self.reopen(&error),
        }
    }

    /// A rename may have happened before what failed, so which file is the journal is found out anew.
    fn reopen(&mut self, error: &io::Error) {
        warn!(%error, "the journal could not be compacted");
        let Ok(file) = &self.file else { return };
        let path = file.path().to_owned();
        let reopened = read(&path).and_then(|bytes| {
            let good = bytes.as_deref().and_then(recover).map(|recovered| recovered.good);
            JournalFile::open(&path, good.ok_or(io::ErrorKind::InvalidData)? as u64)
        });
        self.file = writable(&path, reopened);
    }
}

#[cfg(test)]
impl Journal {
    pub(crate) fn break_it(&mut self, errno: Errno) {
        self.file = Err(errno);
    }
}

/// The whole file; `None` when there is none.
fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(READ_LEN_MAX).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

fn writable(path: &Path, file: io::Result<JournalFile>) -> Result<JournalFile, Errno> {
    file.map_err(|error| {
        warn!(path = %path.display(), %error, "the journal cannot be written; requests with an effect are refused");
        errno_of(&error)
    })
}

/// Above this many bytes the journal is written anew after a receipt.
const COMPACT_LEN: u64 = 1024 * 1024;
/// More than compaction ever leaves; what stands behind it is no journal of ours.
const READ_LEN_MAX: u64 = 64 * 1024 * 1024;

#[cfg(test)]
mod tests;
