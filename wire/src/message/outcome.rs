//! What came of a request, with the evidence.
//!
//! Made by the agent's `apply`, kept in its journal, read by the manager's `receipt`. The manager trusts
//! none of it beyond its form: a guest can lie about itself, never about another guest.

use super::list::at_most;
use crate::ids::{Digest, InvalidId, LinkName, MacAddress, RequestId, ShortText};
use crate::limits::LINKS_MAX;
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
    /// When it ran; `None` when nothing was started.
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
    /// The effect could not be begun; the kernel's error number.
    NotStarted(i32),
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
    /// The sequence is at or below the low-water mark and the journal has no record of it.
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

/// What was read back from the kernel.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum Evidence {
    /// Nothing beyond the outcome.
    None,
    /// All links, for a list.
    Links(Links),
    /// One link before and after a change.
    LinkChange(LinkChange),
}

/// Links, at most [`LINKS_MAX`].
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "LinksParts", into = "LinksParts")]
pub struct Links {
    list: Vec<LinkState>,
    cut: u32,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct LinksParts {
    #[serde(deserialize_with = "at_most::<_, _, LINKS_MAX>")]
    list: Vec<LinkState>,
    cut: u32,
}

impl Links {
    /// The first [`LINKS_MAX`] of `all`, and how many more there were.
    #[must_use]
    pub fn cut(mut all: Vec<LinkState>) -> Self {
        let cut = u32::try_from(all.len().saturating_sub(LINKS_MAX)).unwrap_or(u32::MAX);
        all.truncate(LINKS_MAX);
        Self { list: all, cut }
    }
    /// The links.
    #[must_use]
    pub fn list(&self) -> &[LinkState] {
        &self.list
    }
    /// How many links were left out.
    #[must_use]
    pub const fn left_out(&self) -> u32 {
        self.cut
    }
}

impl TryFrom<LinksParts> for Links {
    type Error = InvalidId;
    fn try_from(LinksParts { list, cut }: LinksParts) -> Result<Self, InvalidId> {
        if cut > 0 && list.len() < LINKS_MAX {
            let got = format!("{} links, {cut} left out", list.len());
            return Err(InvalidId { what: "link list", got, expected: "256 links where any was left out" });
        }
        Ok(Self { list, cut })
    }
}

impl From<Links> for LinksParts {
    fn from(Links { list, cut }: Links) -> Self {
        Self { list, cut }
    }
}

/// One link, twice.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct LinkChange {
    /// Before the change.
    pub before: LinkState,
    /// After it, read back.
    pub after: LinkState,
}

/// One link as the kernel shows it.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct LinkState {
    /// The kernel's number of it.
    pub index: u32,
    /// Its name.
    pub name: LinkName,
    /// Its hardware address, if it has one of six bytes.
    pub mac: Option<MacAddress>,
    /// `IFF_*` flags, all of them.
    pub flags: u32,
    /// Whether a carrier is seen, where the link can tell.
    pub carrier: Option<bool>,
    /// Its largest packet, in bytes.
    pub mtu: u32,
}

impl LinkState {
    /// Whether the link is administratively up.
    #[must_use]
    pub const fn is_up(&self) -> bool {
        self.flags & IFF_UP != 0
    }
}

/// What a request printed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct OutputTotals {
    /// Standard output.
    pub stdout: StreamTotal,
    /// Standard error.
    pub stderr: StreamTotal,
}

/// One stream of it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct StreamTotal {
    /// Bytes kept, and sent unless the channel was lost.
    pub kept: u64,
    /// Bytes beyond the limit, which were read and dropped.
    pub dropped: u64,
}

/// When a request ran, by the guest's clock since boot, in milliseconds, suspended time included.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Ran {
    /// The start.
    pub started_ms: u64,
    /// The end.
    pub ended_ms: u64,
}

const IFF_UP: u32 = 1;
