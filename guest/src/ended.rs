//! Why a connection is over, and what the manager is told of it.
//!
//! Given by the link and by the pull it drives to the loop that dials again. Says nothing of the peer's own words.

use crate::identity::ProofError;
use doorbell_wire::error::{Malformed, Reason, SessionError};
use doorbell_wire::ids::RequestId;
use doorbell_wire::limits::{FRAME_MS_MAX, WRITE_MS_MAX};
use std::io;

/// Why a connection is over.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    /// The manager closed it.
    #[error("manager closed the connection")]
    Closed,
    /// A frame began and did not end.
    #[error("a frame of the manager was not whole after {FRAME_MS_MAX} ms")]
    HalfFrame,
    /// The manager takes nothing.
    #[error("manager took no bytes for {WRITE_MS_MAX} ms")]
    Stuck,
    /// The kernel refused.
    #[error("cannot {verb} the manager")]
    Io {
        /// What was tried.
        verb: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The greeting could not be answered.
    #[error(transparent)]
    Proof(#[from] ProofError),
    /// A rule was broken, or the manager said goodbye.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// A request was offered that came by another way and is in hand.
    #[error("request {0} is in hand already, by another way")]
    Elsewhere(RequestId),
    /// A request was cut off that may start again: the next session begins without it.
    #[error("a request was cut off and is to be offered again")]
    ComesBack,
    /// Nothing waits; the agent comes back on its timer.
    #[error("nothing waits")]
    Polled,
    /// This agent is to stop.
    #[error("agent stops")]
    Stopped,
}

impl Ended {
    /// What the manager is told, if it is there to hear it.
    #[must_use]
    pub const fn reason(&self) -> Option<Reason> {
        match self {
            Self::Closed | Self::Io { .. } | Self::Stuck => None,
            Self::HalfFrame => Some(Reason::SILENT),
            Self::Proof(_) => Some(Reason::INTERNAL),
            Self::Session(error) => error.reason(),
            Self::Polled => Some(Reason::POLLED),
            Self::Elsewhere(_) | Self::ComesBack | Self::Stopped => Some(Reason::GOODBYE),
        }
    }
}

impl From<Malformed> for Ended {
    fn from(malformed: Malformed) -> Self {
        Self::Session(malformed.into())
    }
}
