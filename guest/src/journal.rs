//! The journal: what was started here, how it ended, and what the manager has stored of it.
//!
//! Called by `pull` before an effect, after it, and after its receipt; read by `decide`. A start is on disk
//! before the call returns, or it does not count. An outcome counts in any case: where the disk refuses it, it is
//! owed to the file, which gets it as soon as it can be written again. A file that failed is never trusted
//! again: the history is written anew from memory. What is settled outlives every compaction, so that a manager
//! that was restored from a backup cannot have a request run twice.
//!
//! - [`mod@record`] one record and its bytes
//! - [`mod@file`] appending, durably
//! - [`mod@recover`] what a file says after a crash or damage
//! - [`mod@history`] what the records add up to, with the sequences that are settled in `settled` and the
//!   names of the last ones in `recent`

pub mod file;
pub mod history;
mod recent;
pub mod record;
pub mod recover;
mod settled;

use crate::state::{StateDir, StateError, io_at};
use doorbell_wire::ids::{BootId, RequestId, Sequence, Tick};
use doorbell_wire::message::outcome::Acknowledgement;
use file::{JournalFile, errno_of};
use history::History;
use nix::errno::Errno;
use record::{Record, Started, Terms};
use recover::{End, Recovered, recover};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use tracing::{error, info, warn};

/// Why there is no journal to work with.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The kernel refused.
    #[error(transparent)]
    State(#[from] StateError),
    /// The file is something else. Without its history a request could run twice.
    #[error("{} does not begin as a journal of this version does; put the right file back, or move it away to give up the guest's history", .0.display())]
    Foreign(PathBuf),
    /// Nothing can be read behind its beginning.
    #[error("{} is damaged: of {lost} bytes none can be read; put the right file back, or move it away to give up the guest's history", path.display())]
    Lost {
        /// The file.
        path: PathBuf,
        /// Bytes that cannot be read.
        lost: usize,
    },
}

/// The journal of this agent.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    history: History,
    file: Result<JournalFile, Errno>,
    /// What the history has and the file lacks.
    owed: Vec<Record>,
    /// When the file is tried again by itself.
    try_at: Tick,
}

impl Journal {
    /// Opens the journal in the state directory, or makes it. Where it can be read and not be written, it
    /// opens too, and every start is refused with the kernel's reason until it can.
    ///
    /// # Errors
    /// [`JournalError`] when its history cannot be known.
    pub fn open(state: &StateDir) -> Result<Self, JournalError> {
        let path = state.root().join("journal");
        let Some(bytes) = io_at("read", &path, read(&path))? else {
            let file = JournalFile::create(&path, &[]);
            return Ok(Self::new(path, History::default(), file));
        };
        let Some(Recovered { history, end, form }) = recover(&bytes) else {
            return Err(JournalError::Foreign(path));
        };
        let file = match end {
            End::Whole => JournalFile::open(&path, form, bytes.len() as u64),
            End::Torn { good, cut } => {
                warn!(bytes = cut, kept = good, "the journal had a torn end; it was cut away");
                JournalFile::open(&path, form, good as u64)
            }
            End::Damaged { lost, kept: 0 } => return Err(JournalError::Lost { path, lost }),
            End::Damaged { lost, kept } => {
                error!(
                    path = %path.display(), lost, kept, settled = history.sequence_max(),
                    "the journal is damaged; what it lost may have run, so every request up to `settled` that is \
                     not on record is refused as stale. The damaged file is kept beside it"
                );
                keep_aside(&path);
                JournalFile::create(&path, &history.records())
            }
        };
        Ok(Self::new(path, history, file))
    }

    fn new(path: PathBuf, history: History, file: io::Result<JournalFile>) -> Self {
        let file = file.map_err(|error| {
            warn!(path = %path.display(), %error, "the journal cannot be written; requests with an effect are refused");
            errno_of(&error)
        });
        Self { path, history, file, owed: Vec::new(), try_at: Tick::default() }
    }

    /// What the journal says.
    #[must_use]
    pub const fn history(&self) -> &History {
        &self.history
    }

    /// Has the file take all that it is owed, where it failed anew.
    ///
    /// # Errors
    /// The kernel's error number: no effect may begin.
    pub fn ready(&mut self) -> Result<(), Errno> {
        self.whole().map(drop)
    }

    /// Tries a file again that the disk has refused, once in a while.
    pub fn tend(&mut self, now: Tick) {
        let failed = self.file.as_ref().map_or(true, |file| file.broken().is_some());
        if now >= self.try_at && (failed || !self.owed.is_empty()) {
            self.try_at = now.after(TRY_MS);
            // Whoever needs it is told why it cannot be written.
            let _ = self.ready();
        }
    }

    /// Notes that an effect is about to begin.
    ///
    /// # Errors
    /// The kernel's error number; the effect must not begin then.
    pub fn started(&mut self, started: Started, terms: Option<Terms>) -> Result<(), Errno> {
        self.append(match terms {
            Some(terms) => Record::StartedReboot { started, terms },
            None => Record::Started(started),
        })
    }

    /// Notes that the guest is about to reboot for a request, and what is to be told behind that.
    ///
    /// # Errors
    /// The kernel's error number; the guest must not go down for it then.
    pub fn goes_down(
        &mut self,
        sequence: Sequence,
        acknowledgement: &Acknowledgement,
        boot_id: BootId,
    ) -> Result<(), Errno> {
        let acknowledgement = Box::new(acknowledgement.clone());
        self.append(Record::GoesDown { sequence, acknowledgement, boot_id })
    }

    /// Notes that the manager knows that a request waits for its next step.
    ///
    /// # Errors
    /// The kernel's error number; it will be told once more.
    pub fn continued(&mut self, request: RequestId) -> Result<(), Errno> {
        self.append(Record::Continued { request })
    }

    fn append(&mut self, record: Record) -> Result<(), Errno> {
        let file = self.whole()?;
        if file.holds(&record) {
            file.append(std::slice::from_ref(&record))?;
            self.history.note(record);
            return Ok(());
        }
        // The file is of a form before that: it is written anew, with the record in it.
        let mut history = self.history.clone();
        history.note(record);
        self.file = JournalFile::create(&self.path, &history.records()).map_err(|error| errno_of(&error));
        self.file.as_ref().map_err(|errno| *errno)?;
        self.history = history;
        Ok(())
    }

    /// Notes how a request ended.
    ///
    /// # Errors
    /// The kernel's error number; it is noted in memory and owed to the file then.
    pub fn outcome(&mut self, sequence: Sequence, acknowledgement: &Acknowledgement) -> Result<(), Errno> {
        let record = Record::Outcome { sequence, acknowledgement: Box::new(acknowledgement.clone()) };
        self.history.note(record.clone());
        self.owed.push(record);
        self.ready()
    }

    /// Notes that the manager has stored an outcome. It is on disk with the next record: an agent that went
    /// down before would only present the outcome once more.
    ///
    /// # Errors
    /// The kernel's error number; it is noted in memory and owed to the file then.
    pub fn forgotten(&mut self, request: RequestId, sequence: Sequence) -> Result<(), Errno> {
        let record = Record::Forgotten { request, sequence };
        self.history.note(record.clone());
        let appended = self.whole().and_then(|file| file.append_lazily(&record));
        if appended.is_err() {
            self.owed.push(record);
        }
        self.compact();
        appended
    }

    /// The file, with all that the history has.
    fn whole(&mut self) -> Result<&mut JournalFile, Errno> {
        // What a request leaves is little, and a disk that is full for long sees many.
        if self.owed.len() > OWED_MAX {
            self.owed.clear();
            self.file = Err(Errno::ENOSPC);
        }
        if self.file.as_ref().is_ok_and(|file| file.broken().is_none()) {
            let file = self.file.as_mut().map_err(|errno| *errno)?;
            if !self.owed.is_empty() {
                file.append(&self.owed)?;
                self.owed.clear();
            }
            return Ok(file);
        }
        let fresh = JournalFile::create(&self.path, &self.history.records());
        self.file = fresh.map_err(|error| errno_of(&error));
        if self.file.is_ok() {
            self.owed.clear();
            info!(path = %self.path.display(), "the journal could not be written; it was written anew and goes on");
        }
        self.file.as_mut().map_err(|errno| *errno)
    }

    /// Writes the history anew when its file has grown long; keeps the old file where there is no room for it.
    fn compact(&mut self) {
        if !self.owed.is_empty() || self.file.as_ref().map_or(0, JournalFile::size) <= COMPACT_LEN {
            return;
        }
        match JournalFile::prepare(&self.path, &self.history.records()) {
            // Which of the two is the journal is not known where the last step fails: then it is written anew.
            Ok(fresh) => self.file = fresh.take_place().map_err(|error| errno_of(&error)),
            Err(error) => warn!(%error, "the journal could not be compacted"),
        }
    }
}

#[cfg(test)]
impl Journal {
    /// As if its disk had refused it.
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

/// A second name for a damaged file, for whoever looks into it; the first stays until a whole one has its place.
fn keep_aside(path: &Path) {
    let aside = path.with_extension("damaged");
    let linked = match std::fs::remove_file(&aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => std::fs::hard_link(path, &aside),
    };
    if let Err(error) = linked {
        warn!(path = %aside.display(), %error, "the damaged journal is not kept");
    }
}

/// Above this many bytes the journal is written anew after a receipt.
const COMPACT_LEN: u64 = 1024 * 1024;
/// More than compaction ever leaves; what stands behind it is no journal of ours.
const READ_LEN_MAX: u64 = 64 * 1024 * 1024;
/// Records that are owed one by one; with more, the whole history is.
const OWED_MAX: usize = 256;
/// Milliseconds between tries of a file that was refused.
const TRY_MS: u64 = 5_000;

#[cfg(test)]
mod tests;
