//! Program bytes as they arrive: staged in a file of their own and hashed on the way.
//!
//! Called by `pull` with the chunks of the offered program. Trusts nothing: a staged program cannot run
//! before `verify` has compared it, and it never takes more than the length that was offered.

use crate::journal::file::errno_of;
use crate::spool::remove;
use doorbell_wire::ids::Digest;
use doorbell_wire::message::action::Program;
use doorbell_wire::message::outcome::NotReceived;
use sha2::{Digest as _, Sha256};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A program on its way. Dropping it removes the file.
#[derive(Debug)]
pub struct Staging {
    program: Program,
    part: Part,
    file: File,
    hash: Sha256,
    got: u64,
}

/// A program that has all its bytes, not yet compared with anything.
#[derive(Debug)]
pub struct Staged {
    pub(crate) program: Program,
    pub(crate) part: Part,
    pub(crate) got: Digest,
    pub(crate) len: u64,
}

/// A staged file; removed on drop.
#[derive(Debug)]
pub(crate) struct Part(pub(crate) PathBuf);

impl Drop for Part {
    fn drop(&mut self) {
        remove(&self.0);
    }
}

impl Staging {
    /// Begins to stage `program` in `dir`.
    ///
    /// # Errors
    /// [`NotReceived::Unstageable`] with the kernel's reason.
    pub fn begin(dir: &Path, program: &Program) -> Result<Self, NotReceived> {
        let part = Part(dir.join(format!("{}.part", program.digest)));
        remove(&part.0);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part.0);
        let file = file.map_err(|error| unstageable(&error))?;
        Ok(Self { program: program.clone(), part, file, hash: Sha256::new(), got: 0 })
    }

    /// Adds bytes.
    ///
    /// # Errors
    /// [`NotReceived`] when they do not fit the disk or the program's length.
    pub fn add(&mut self, bytes: &[u8]) -> Result<(), NotReceived> {
        let got = self.got.saturating_add(bytes.len() as u64);
        if got > self.program.len {
            return Err(NotReceived::Length { expected: self.program.len, got });
        }
        self.file.write_all(bytes).map_err(|error| unstageable(&error))?;
        self.hash.update(bytes);
        self.got = got;
        Ok(())
    }

    /// Whether all bytes are there.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.got == self.program.len
    }

    /// Ends the staging; the file is closed for writing, so that it can be started.
    ///
    /// # Errors
    /// [`NotReceived`] when the file has another length than what was written, or cannot be looked at.
    pub fn finish(self) -> Result<Staged, NotReceived> {
        let len = self.file.metadata().map_err(|error| unstageable(&error))?.len();
        if len != self.program.len {
            return Err(NotReceived::Length { expected: self.program.len, got: len });
        }
        let got = Digest::new(self.hash.finalize().into());
        Ok(Staged { program: self.program, part: self.part, got, len })
    }
}

/// Removes what an earlier run of the agent left in `dir`.
pub fn sweep(dir: &Path) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        remove(&entry.path());
    }
}

fn unstageable(error: &io::Error) -> NotReceived {
    NotReceived::Unstageable(errno_of(error) as i32)
}
