//! What can go wrong on the channel, sorted by whose fault it is, and the one table of what the peer is told.
//!
//! Used by every module here and by both drivers. The peer sees a [`Reason`] code and never a text of ours.

use crate::ids::InvalidId;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The bytes themselves are wrong. Nothing of the frame was used.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Malformed {
    /// The checksum over header and payload does not match.
    #[error("frame of kind {kind:#04x} has checksum {got:#010x} where its bytes give {expected:#010x}")]
    Checksum {
        /// Kind byte of the frame.
        kind: u8,
        /// The checksum the frame carried.
        got: u32,
        /// The checksum of the bytes that arrived.
        expected: u32,
    },
    /// A reserved flag is set.
    #[error("frame of kind {kind:#04x} has flags {flags:#04x} where version 0 knows none")]
    Flags {
        /// Kind byte of the frame.
        kind: u8,
        /// The flags byte.
        flags: u8,
    },
    /// Bytes remain behind a complete body.
    #[error("{what} is followed by {count} bytes that belong to nothing")]
    Leftover {
        /// The message that was read.
        what: &'static str,
        /// Bytes that remain.
        count: usize,
    },
    /// A payload or a list is longer than its kind allows.
    #[error("{what} has length {got} where {max} is the most")]
    TooLong {
        /// The frame or field.
        what: &'static str,
        /// The length that was claimed or built.
        got: u64,
        /// The limit.
        max: u64,
    },
    /// No frame of this kind exists and it is not marked as one to be ignored.
    #[error("frame kind {kind:#04x} is unknown to this version")]
    UnknownKind {
        /// Kind byte of the frame.
        kind: u8,
    },
    /// The body is not what its kind says, or a value in it is out of bounds.
    #[error("body of {what} cannot be read as one")]
    Unreadable {
        /// The message that was expected.
        what: &'static str,
    },
    /// The frame belongs to the other direction.
    #[error("{what} came from the side that receives it")]
    WrongDirection {
        /// The frame.
        what: &'static str,
    },
    /// A body of ours could not be written; a type let a value through that it must not.
    #[error("body of {what} cannot be written")]
    Unwritable {
        /// The message.
        what: &'static str,
    },
}

/// The bytes were fine and the peer broke a rule of the session.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Misbehaved {
    /// More bulk arrived than credit was given for.
    #[error("peer sent {got} bulk bytes where it had credit for {credit}")]
    CreditExceeded {
        /// Bytes in the frame.
        got: u64,
        /// Credit the peer had.
        credit: u32,
    },
    /// Credit was granted beyond the window.
    #[error("peer granted {got} bytes of credit where {room} were outstanding")]
    CreditOverflow {
        /// The grant.
        got: u32,
        /// What could be granted at most.
        room: u32,
    },
    /// A chunk of no bytes, or with more than a chunk may have.
    #[error("chunk has {got} bytes where 1 to {max} are allowed")]
    ChunkLength {
        /// Bytes in the chunk.
        got: usize,
        /// The limit.
        max: usize,
    },
    /// A chunk does not continue where the last one ended.
    #[error("chunk starts at offset {got} where {expected} was awaited")]
    ChunkOffset {
        /// The offset that came.
        got: u64,
        /// The offset that was awaited.
        expected: u64,
    },
    /// A chunk goes beyond the end of the program.
    #[error("chunk ends at {got} where the program has {len} bytes")]
    ChunkBeyondEnd {
        /// Where the chunk would end.
        got: u64,
        /// The length that was offered.
        len: u64,
    },
    /// The frame is not allowed in this state.
    #[error("{frame} arrived while {state}")]
    Unexpected {
        /// The frame.
        frame: &'static str,
        /// The state that was waiting for something else.
        state: &'static str,
    },
    /// A frame speaks of another request than the one in hand.
    #[error("{frame} names another request than the one in hand")]
    WrongRequest {
        /// The frame.
        frame: &'static str,
    },
}

/// Both sides are well-formed and share no protocol version.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "peer speaks protocol versions {peer_min} to {peer_max}, this side {ours_min} to {ours_max}; upgrade the older side"
)]
pub struct Incompatible {
    /// The peer's oldest version.
    pub peer_min: u16,
    /// The peer's newest version.
    pub peer_max: u16,
    /// Our oldest version.
    pub ours_min: u16,
    /// Our newest version.
    pub ours_max: u16,
}

/// A deadline of the session passed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("peer was silent for {ms} ms while {state}")]
pub struct Silent {
    /// What was awaited.
    pub state: &'static str,
    /// The deadline that passed, in milliseconds.
    pub ms: u64,
}

/// Why a session is over. There is no session left to misuse when one of these exists.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SessionError {
    /// The peer said goodbye.
    #[error("peer ended the session: {0}")]
    Ended(Reason),
    /// No common version.
    #[error(transparent)]
    Incompatible(#[from] Incompatible),
    /// Wrong bytes.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// A broken rule.
    #[error(transparent)]
    Misbehaved(#[from] Misbehaved),
    /// Our own driver called a transition that this state does not have.
    #[error("driver called {call} while {state}")]
    Misuse {
        /// The call.
        call: &'static str,
        /// The state.
        state: &'static str,
    },
    /// A passed deadline.
    #[error(transparent)]
    Silent(#[from] Silent),
}

impl From<InvalidId> for Malformed {
    fn from(invalid: InvalidId) -> Self {
        Self::Unreadable { what: invalid.what }
    }
}

/// Why a session ends, as the peer is told: a code, so that no text of one trust zone reaches the other.
#[derive(Clone, Copy, Eq, Hash, PartialEq, Serialize, Deserialize)]
pub struct Reason(pub u16);

impl Reason {
    /// Nothing is wrong; the peer is going away and comes back or not.
    pub const GOODBYE: Self = Self(0);
    /// Bytes could not be read.
    pub const MALFORMED: Self = Self(1);
    /// A rule was broken.
    pub const MISBEHAVED: Self = Self(2);
    /// No common version.
    pub const INCOMPATIBLE: Self = Self(3);
    /// A deadline passed.
    pub const SILENT: Self = Self(4);
    /// The side that says so has a fault of its own.
    pub const INTERNAL: Self = Self(5);
    /// No guest is registered where this agent was met.
    pub const UNKNOWN_GUEST: Self = Self(6);
    /// The guest's key awaits the operator's approval.
    pub const NOT_APPROVED: Self = Self(7);
    /// The proof does not match the key, or the key is not this guest's.
    pub const NOT_PROVED: Self = Self(8);
    /// A newer session of the same guest has proved its key.
    pub const SUPERSEDED: Self = Self(9);
    /// The session token is stale: the guest is a copy or was rewound.
    pub const FENCED: Self = Self(10);
    /// The manager has no room for this session.
    pub const OVERLOADED: Self = Self(11);

    /// The text for people, `None` for a code this version does not know.
    #[must_use]
    pub const fn text(self) -> Option<&'static str> {
        Some(match self {
            Self::GOODBYE => "goodbye",
            Self::MALFORMED => "malformed bytes",
            Self::MISBEHAVED => "a broken rule",
            Self::INCOMPATIBLE => "no common protocol version",
            Self::SILENT => "a passed deadline",
            Self::INTERNAL => "a fault of its own",
            Self::UNKNOWN_GUEST => "no guest is registered here",
            Self::NOT_APPROVED => "the guest's key is not approved yet",
            Self::NOT_PROVED => "the guest's key was not proved",
            Self::SUPERSEDED => "a newer session of the same guest",
            Self::FENCED => "a stale session token",
            Self::OVERLOADED => "too many sessions",
            _ => return None,
        })
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.text() {
            Some(text) => f.write_str(text),
            None => write!(f, "reason {:#06x}", self.0),
        }
    }
}

impl fmt::Debug for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reason({self})")
    }
}

/// What a peer is told of an error: every error has one answer, and `Ended` has none.
impl SessionError {
    /// The reason to send before closing; `None` when the peer has already gone.
    #[must_use]
    pub const fn reason(&self) -> Option<Reason> {
        match self {
            Self::Ended(_) => None,
            Self::Incompatible(_) => Some(Reason::INCOMPATIBLE),
            Self::Malformed(_) => Some(Reason::MALFORMED),
            Self::Misbehaved(_) => Some(Reason::MISBEHAVED),
            Self::Misuse { .. } => Some(Reason::INTERNAL),
            Self::Silent(_) => Some(Reason::SILENT),
        }
    }
}
