//! The states of the agent's half: of the connection, and of each request in hand.
//!
//! Used by [`super`] and its calls. The tables in `docs/protocol.md` have one row for each.

use crate::ids::{RequestId, Tick};
use crate::message::{Offsets, Stage};
use crate::session::InputBook;

/// Where the connection stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum State {
    Greeting,
    Introducing,
    Proving,
    Settling,
    Pulling,
    Working,
}

impl State {
    /// The name on paper.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Greeting => "Greeting",
            Self::Introducing => "Introducing",
            Self::Proving => "Proving",
            Self::Settling => "Settling",
            Self::Pulling => "Pulling",
            Self::Working => "Working",
        }
    }

    /// Whether the manager has accepted the guest.
    pub(super) const fn is_open(self) -> bool {
        matches!(self, Self::Settling | Self::Pulling | Self::Working)
    }
}

/// Where one request stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum At {
    Attaching,
    Deciding { len: u64 },
    Fetching { next: u64, len: u64, since: Tick },
    Applying { attached: bool },
    Acking { next: u64, len: u64 },
}

impl At {
    /// The name on paper.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Attaching => "Attaching",
            Self::Deciding { .. } => "Deciding",
            Self::Fetching { .. } => "Fetching",
            Self::Applying { .. } => "Applying",
            Self::Acking { .. } => "Acking",
        }
    }
}

/// A request in hand.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hand {
    pub(super) request: RequestId,
    pub(super) at: At,
    /// Where its output stands; `None` before its start, and where the manager wants none.
    pub(super) printed: Option<Offsets>,
    /// Bytes of each stream, at most.
    pub(super) output_max: u64,
    pub(super) stage: Option<Stage>,
    pub(super) input: InputBook,
}
