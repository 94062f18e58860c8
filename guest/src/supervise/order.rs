//! What a supervisor is to run, and within which bounds.
//!
//! Put together by `apply`, read in the supervisor. An order never crosses a wire: the supervisor is a fork and
//! has it in its memory.

use crate::apply::program::Prepared;
use crate::spool::Space;
use doorbell_wire::codec::encode;
use doorbell_wire::ids::RequestId;
use doorbell_wire::limits::OUTPUT_BEHIND;
use doorbell_wire::message::action::{Input, Limits};
use doorbell_wire::message::outcome::{FileEvidence, Outcome};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// One thing to run.
#[derive(Debug)]
pub struct Order {
    /// For which request.
    pub request: RequestId,
    /// What.
    pub job: Job,
    /// How much it may take.
    pub limits: Limits,
    /// What it reads.
    pub input: Input,
    /// Milliseconds it may run.
    pub timeout_ms: Option<u64>,
}

/// What is run.
#[derive(Debug)]
pub enum Job {
    /// A program.
    Program(Prepared),
    /// Something that the agent does itself, as a process of its own.
    Own(OwnJob),
}

/// Something that the agent does itself: it runs with a program's three descriptors, and its value is an exit
/// status. It must not hold a descriptor of the agent: all but the three are closed.
pub struct OwnJob(Box<dyn FnOnce(&mut OwnPlace) -> u8>);

impl OwnJob {
    /// A job.
    #[must_use]
    pub fn new(job: impl FnOnce(&mut OwnPlace) -> u8 + 'static) -> Self {
        Self(Box::new(job))
    }

    pub(super) fn run(self, place: &mut OwnPlace) -> u8 {
        (self.0)(place)
    }
}

impl fmt::Debug for OwnJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OwnJob")
    }
}

/// Where a job of the agent says what its exit status cannot.
#[derive(Debug)]
pub struct OwnPlace {
    dir: PathBuf,
}

impl OwnPlace {
    pub(super) const fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// The request's directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Says what was put or read.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn evidence(&mut self, evidence: &FileEvidence) -> io::Result<()> {
        let bytes = encode("evidence", evidence).map_err(io::Error::other)?;
        std::fs::write(self.dir.join(EVIDENCE), bytes)
    }

    /// Says how it ended, in the place of the exit status. A job that is cancelled or takes too long has ended so
    /// whatever it says.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn outcome(&mut self, outcome: &Outcome) -> io::Result<()> {
        let bytes = encode("outcome", outcome).map_err(io::Error::other)?;
        std::fs::write(self.dir.join(WORD), bytes)
    }
}

/// How long each part of an end may take, and how much output lies on the disk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Margins {
    /// Milliseconds between the polite signal and the other one.
    pub(super) grace_ms: u64,
    /// Milliseconds that processes a program left behind may hold its output.
    pub(super) drain_ms: u64,
    /// Milliseconds that a program waits for space for its output while no manager takes any.
    pub(super) absent_ms: u64,
    /// Milliseconds for the agent to take the outcome before it is made durable here.
    pub(super) taken_ms: u64,
    /// Output on the disk, per stream.
    pub(super) space: Space,
}

impl Margins {
    pub(super) const USUAL: Self = Self {
        grace_ms: 2_000,
        drain_ms: 2_000,
        absent_ms: 30_000,
        taken_ms: 1_000,
        space: Space { len: 64 * 1024 * 1024, behind: OUTPUT_BEHIND },
    };
}

/// The file of a job's evidence, in the request's directory.
pub(super) const EVIDENCE: &str = "evidence";
/// The file of a job's own outcome.
pub(super) const WORD: &str = "word";
