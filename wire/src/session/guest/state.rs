//! The states of the agent's half, and the groups of them that share a rule.
//!
//! Used by [`super`] and its calls. The table in `docs/protocol.md` has one row for each.

use crate::ids::RequestId;

/// The states in which the manager has accepted the guest.
macro_rules! open {
    () => {
        State::Settling
            | State::Attaching { .. }
            | State::Pulling
            | State::Idle
            | State::Deciding { .. }
            | State::Fetching { .. }
            | State::Applying { .. }
            | State::Acking { .. }
    };
}
/// The states with no request in hand.
macro_rules! idle {
    () => {
        State::Greeting
            | State::Introducing
            | State::Proving
            | State::Settling
            | State::Attaching { .. }
            | State::Pulling
            | State::Idle
    };
}
pub(super) use {idle, open};

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum State {
    Greeting,
    Introducing,
    Proving,
    Settling,
    Attaching { request: RequestId },
    Pulling,
    Idle,
    Deciding { request: RequestId, len: u64 },
    Fetching { request: RequestId, next: u64, len: u64 },
    Applying { request: RequestId, attached: bool },
    Acking { request: RequestId, next: u64, len: u64 },
}

impl State {
    /// The name on paper.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Greeting => "Greeting",
            Self::Introducing => "Introducing",
            Self::Proving => "Proving",
            Self::Settling => "Settling",
            Self::Attaching { .. } => "Attaching",
            Self::Pulling => "Pulling",
            Self::Idle => "Idle",
            Self::Deciding { .. } => "Deciding",
            Self::Fetching { .. } => "Fetching",
            Self::Applying { .. } => "Applying",
            Self::Acking { .. } => "Acking",
        }
    }
}
