//! What came of a request, with the evidence.
//!
//! Made by the agent's `apply`, kept in its journal, read by the manager's `receipt`. The manager trusts
//! none of it beyond its form: a guest can lie about itself, never about another guest.

mod evidence;
mod ran;
mod signature;

pub use evidence::{
    Effect, Evidence, FileEvidence, FileKind, LinkChange, LinkState, Links, Rebooted, Verdict,
};
pub use ran::{OutputTotals, Ran, StreamTotal, Usage};
pub use signature::SignatureFault;

use crate::ids::{Digest, InvalidId, RequestId, ShortText};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::num::NonZeroU8;

/// The agent's last word on a request.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Acknowledgement {
    /// The request.
    pub request: RequestId,
    /// How it ended.
    pub outcome: Outcome,
    /// What was read back from the guest's kernel.
    pub evidence: Evidence,
    /// What it printed.
    pub output: OutputTotals,
    /// When it ran and what it took; `None` when nothing was started.
    pub ran: Option<Ran>,
}

/// How a request ended in the guest. Exit status, signal and could-not-start are three things.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum Outcome {
    /// Done; a program exited with 0.
    Succeeded,
    /// A program exited with this status, which is not 0.
    Failed(NonZeroU8),
    /// A program was ended by this signal.
    Killed(Signal),
    /// The request's own time limit ended it.
    TimedOut,
    /// A cancel ended it, or came before it had started.
    Cancelled,
    /// The agent would not do it.
    Refused(Refusal),
    /// It had started and the guest or the agent went down before an outcome was on disk.
    Interrupted,
    /// The program did not arrive whole.
    NotReceived(NotReceived),
    /// The program that arrived is not the one that was named.
    NotVerified(NotVerified),
    /// The effect could not be begun.
    NotStarted(NotStarted),
    /// The program asked for a reboot, the guest has rebooted, and this step may be started; since version 1.
    Continues(NonZeroU8),
    /// The guest was to reboot and did not; since version 1.
    NotRebooted,
}

/// Why an effect could not be begun.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct NotStarted {
    /// What it was.
    pub fault: StartFault,
    /// The kernel's error number.
    pub errno: i32,
}

/// What kept a program from starting. The kernel's number alone does not tell a missing program from a
/// missing interpreter.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum StartFault {
    /// No such file.
    NotFound,
    /// The file is there and must not be executed.
    NotExecutable,
    /// The file is there; the interpreter it names is not.
    BadInterpreter,
    /// The file is for another machine.
    WrongArchitecture,
    /// The file is no program: neither a format of the kernel nor a script with a first line.
    NotAProgram,
    /// The file is on a file system from which nothing is executed.
    NoExecMount,
    /// The directory to start in cannot be entered.
    NoDirectory,
    /// The guest has no such user.
    NoUser,
    /// The kernel refused for another reason: its number says which.
    Kernel,
}

/// The number of a signal: 1 to 64, so that the usual `128 + n` is a status of its own and never 0.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct Signal(u8);

impl TryFrom<u8> for Signal {
    type Error = InvalidId;
    fn try_from(number: u8) -> Result<Self, InvalidId> {
        match number {
            1..=64 => Ok(Self(number)),
            _ => Err(InvalidId { what: "signal", got: number.to_string(), expected: "1 to 64" }),
        }
    }
}

impl From<Signal> for u8 {
    fn from(signal: Signal) -> u8 {
        signal.0
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why the agent would not do it.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum Refusal {
    /// This guest cannot do that; what is missing.
    Unsupported(ShortText),
    /// The sequence is settled already and the journal has no record of it.
    StaleSequence(u64),
    /// The agent cannot write its state; the kernel's error number. Nothing is started without a record.
    StateUnwritable(i32),
    /// No link has that name or address.
    NoSuchLink,
    /// Several links have that address.
    AmbiguousLink(u32),
    /// The link did not take the state; the kernel's error number.
    LinkRefused(i32),
    /// The kernel took the change and the state read back is another one.
    NotInEffect,
    /// Its signature is not good here, or it has none where one is demanded; since version 1.
    Signature(SignatureFault),
    /// The guest's policy does not allow it: the text of the rule that says so; since version 1.
    Policy(ShortText),
}

/// Why a program did not arrive.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum NotReceived {
    /// It could not be staged; the kernel's error number.
    Unstageable(i32),
    /// The file that was staged has another length.
    Length {
        /// The length that was offered.
        expected: u64,
        /// The length that is there.
        got: u64,
    },
}

/// A digest that does not match.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct NotVerified {
    /// The digest that was offered.
    pub expected: Digest,
    /// The digest of what arrived.
    pub got: Digest,
}
