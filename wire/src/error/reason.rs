//! The codes in which one side tells the other why a session ends.
//!
//! Sent in `HOST_BYE` and `GUEST_BYE`. A code this version does not know is kept and shown as a number.

use serde::{Deserialize, Serialize};
use std::fmt;

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
    /// Nothing waits and nothing is in hand; the agent comes back on its timer. Since version 1.
    pub const POLLED: Self = Self(12);
    /// The operator has rejected the guest's key. Since version 1; an older side shows its number.
    pub const REJECTED: Self = Self(13);
    /// The manager has not proved the key that its guest has pinned. Since version 1.
    pub const MANAGER_NOT_PROVED: Self = Self(14);
    /// The one-time token was not taken. Since version 1.
    pub const NOT_ENROLLED: Self = Self(15);

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
            Self::POLLED => "nothing more to pull for now",
            Self::REJECTED => "the guest's key was rejected",
            Self::MANAGER_NOT_PROVED => "the manager's key was not proved",
            Self::NOT_ENROLLED => "the one-time token was not taken",
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
