//! Bytes of a request as they arrive: staged in a file of their own and hashed on the way.
//!
//! Called by `pull` with the chunks of what was offered. Trusts nothing: what is staged can neither run nor take
//! a file's place before `verify` has compared it, and it never takes more than the length that was offered.
//! What a lost connection left half goes on where it was, with the hash it had; nothing is read twice.
//!
//! - `place` where it is staged, and what is removed when a request is over

mod place;

pub(crate) use place::{Part, Target, hidden};
pub use place::{clear, sweep};

use crate::journal::file::errno_of;
use crate::state::StateDir;
use doorbell_archive::sparse;
use doorbell_wire::ids::{Digest, GuestPath, RequestId, ShortText};
use doorbell_wire::message::Offer;
use doorbell_wire::message::action::{Action, Executable, Form, Payload, RunReboot};
use doorbell_wire::message::outcome::NotReceived;
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io;

/// Bytes on their way. Dropping it removes the file.
#[derive(Debug)]
pub struct Staging {
    request: RequestId,
    sequence: u64,
    payload: Payload,
    purpose: Purpose,
    part: Part,
    file: File,
    hash: Sha256,
    got: u64,
}

/// What the bytes are to become.
#[derive(Clone, Debug)]
pub(crate) enum Purpose {
    /// A program of this name.
    Program(ShortText),
    /// A file at this path.
    File(GuestPath),
    /// A tree at this path; whether it replaces another.
    Archive(GuestPath, bool),
}

/// All bytes are there and nothing was compared yet.
#[derive(Debug)]
pub struct Staged {
    pub(crate) request: RequestId,
    pub(crate) payload: Payload,
    pub(crate) purpose: Purpose,
    pub(crate) part: Part,
    pub(crate) file: File,
    pub(crate) got: Digest,
    pub(crate) len: u64,
}

/// What lost connections left half.
#[derive(Debug, Default)]
pub struct Fetches(Vec<Staging>);

impl Fetches {
    /// Begins to stage what an offer has to fetch, or goes on with what is there of it; `None` where there is
    /// nothing to fetch.
    ///
    /// # Errors
    /// [`NotReceived::Unstageable`] with the kernel's reason.
    pub fn begin(&mut self, state: &StateDir, offer: &Offer) -> Result<Option<Staging>, NotReceived> {
        let Some(payload) = offer.action.payload() else { return Ok(None) };
        let kept = self.0.iter().position(|kept| kept.request == offer.request);
        if let Some(staging) = kept.map(|at| self.0.swap_remove(at)).filter(|kept| kept.payload == payload) {
            return Ok(Some(staging));
        }
        let Some(purpose) = Purpose::of(&offer.action) else { return Ok(None) };
        let sequence = offer.sequence.map_or(0, u64::from);
        Staging::begin(state, offer.request, sequence, payload, purpose).map(Some)
    }

    /// Keeps what a lost connection left half.
    pub fn keep(&mut self, staging: Staging) {
        self.0.push(staging);
    }

    /// Keeps no more bytes than this: the oldest halves go, and are fetched anew if they are ever offered again.
    pub fn shorten(&mut self, most: u64) {
        let mut left = self.0.iter().fold(0_u64, |sum, kept| sum.saturating_add(kept.got));
        self.0.retain(|kept| {
            let stays = left <= most;
            left = if stays { left } else { left.saturating_sub(kept.got) };
            stays
        });
    }

    /// Every sequence below `floor` is settled: what is kept of those is not offered again.
    pub fn settle(&mut self, floor: u64) {
        self.0.retain(|kept| kept.sequence >= floor);
    }
}

impl Purpose {
    fn of(action: &Action) -> Option<Self> {
        match action {
            Action::Run(run) | Action::RunReboot(RunReboot { run, .. }) => match &run.parts().executable {
                Executable::Program(program) => Some(Self::Program(program.name.clone())),
                Executable::InGuest(_) => None,
            },
            Action::Put(put) => Some(match put.form {
                Form::File => Self::File(put.path.clone()),
                Form::Archive => Self::Archive(put.path.clone(), put.replace),
            }),
            Action::LinkList | Action::LinkSet(_) | Action::Get(_) | Action::Can(_) => None,
        }
    }
}

impl Staging {
    fn begin(
        state: &StateDir,
        request: RequestId,
        sequence: u64,
        payload: Payload,
        purpose: Purpose,
    ) -> Result<Self, NotReceived> {
        let begun = Part::create(state, request, &purpose);
        let (part, file) = begun.map_err(|error| unstageable(&error))?;
        Ok(Self { request, sequence, payload, purpose, part, file, hash: Sha256::new(), got: 0 })
    }

    /// Bytes that are there: from here on it is to be fetched.
    #[must_use]
    pub const fn offset(&self) -> u64 {
        self.got
    }

    /// Adds bytes.
    ///
    /// # Errors
    /// [`NotReceived`] when they do not fit the disk or the length that was offered.
    pub fn add(&mut self, bytes: &[u8]) -> Result<(), NotReceived> {
        let got = self.got.saturating_add(bytes.len() as u64);
        if got > self.payload.len {
            return Err(NotReceived::Length { expected: self.payload.len, got });
        }
        sparse::write(&self.file, self.got, bytes).map_err(|error| unstageable(&error))?;
        self.hash.update(bytes);
        self.got = got;
        Ok(())
    }

    /// Whether all bytes are there.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.got == self.payload.len
    }

    /// Ends the staging.
    ///
    /// # Errors
    /// [`NotReceived`] when bytes are missing, or the file cannot be looked at.
    pub fn finish(self) -> Result<Staged, NotReceived> {
        if !self.is_whole() {
            return Err(NotReceived::Length { expected: self.payload.len, got: self.got });
        }
        // Zeros at the end were not written.
        self.file.set_len(self.got).map_err(|error| unstageable(&error))?;
        let len = self.file.metadata().map_err(|error| unstageable(&error))?.len();
        let got = Digest::new(self.hash.finalize().into());
        let Self { request, payload, purpose, part, file, .. } = self;
        Ok(Staged { request, payload, purpose, part, file, got, len })
    }
}

fn unstageable(error: &io::Error) -> NotReceived {
    NotReceived::Unstageable(errno_of(error) as i32)
}

#[cfg(test)]
pub(crate) mod tests;
