//! The states of the manager's half, and the groups of them that share a rule.
//!
//! Used by [`super`] and its calls. The table in `docs/protocol.md` has one row for each.

use crate::ids::RequestId;

/// The states in which the guest has been accepted.
macro_rules! open {
    () => {
        State::Settling
            | State::Quiet
            | State::Asked
            | State::Attaching { .. }
            | State::Offered { .. }
            | State::Serving { .. }
            | State::Applying { .. }
            | State::Storing { .. }
    };
}
/// The states with a request in the guest's hand.
macro_rules! in_hand {
    ($request:ident) => {
        State::Offered { request: $request, .. }
            | State::Serving { request: $request, .. }
            | State::Applying { request: $request }
    };
}
pub(super) use {in_hand, open};

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum State {
    Greeted,
    Judging,
    Settling,
    Quiet,
    Asked,
    Attaching { request: RequestId },
    Offered { request: RequestId, len: u64 },
    Serving { request: RequestId, next: u64, len: u64 },
    Applying { request: RequestId },
    Storing { request: RequestId },
}

impl State {
    /// The name on paper.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Greeted => "Greeted",
            Self::Judging => "Judging",
            Self::Settling => "Settling",
            Self::Quiet => "Quiet",
            Self::Asked => "Asked",
            Self::Attaching { .. } => "Attaching",
            Self::Offered { .. } => "Offered",
            Self::Serving { .. } => "Serving",
            Self::Applying { .. } => "Applying",
            Self::Storing { .. } => "Storing",
        }
    }
}
