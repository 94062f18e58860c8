//! The states of the manager's half: of the connection, and of each request in the guest's hands.
//!
//! Used by [`super`] and its calls. The tables in `docs/protocol.md` have one row for each.

use crate::ids::RequestId;
use crate::message::{Offsets, Stage};
use crate::session::InputBook;

/// Where the connection stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum State {
    Greeted,
    Judging,
    Settling,
    Asked,
    Quiet,
}

impl State {
    /// The name on paper.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Greeted => "Greeted",
            Self::Judging => "Judging",
            Self::Settling => "Settling",
            Self::Asked => "Asked",
            Self::Quiet => "Quiet",
        }
    }

    /// Whether the guest has been accepted.
    pub(super) const fn is_open(self) -> bool {
        matches!(self, Self::Settling | Self::Asked | Self::Quiet)
    }
}

/// Where one request stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum At {
    Attaching,
    Offered { len: u64 },
    Serving { next: u64, len: u64 },
    Applying,
    Storing,
}

impl At {
    /// The name on paper.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Attaching => "Attaching",
            Self::Offered { .. } => "Offered",
            Self::Serving { .. } => "Serving",
            Self::Applying => "Applying",
            Self::Storing => "Storing",
        }
    }
}

/// A request in the guest's hands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hand {
    pub(super) request: RequestId,
    pub(super) at: At,
    /// Where its output stands; `None` before its start, and where none is wanted.
    pub(super) printed: Option<Offsets>,
    /// Bytes of each stream, at most.
    pub(super) output_max: u64,
    /// Bytes of output that came and were not told as stored: credit that is due.
    pub(super) due: u32,
    pub(super) stage: Option<Stage>,
    pub(super) input: InputBook,
}
