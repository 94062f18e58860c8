//! Why a connection is over, and what the manager is told of it.
//!
//! Given by the link and by the pull it drives to the loop that dials again. Says nothing of the peer's own words.

use crate::identity::ProofError;
use crate::identity::pin::NotTheManager;
use crate::serve::with_source;
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
    /// Whoever answered is not the manager that is pinned.
    #[error(transparent)]
    NotTheManager(NotTheManager),
    /// This agent is to stop.
    #[error("agent stops")]
    Stopped,
}

impl Ended {
    /// Why, and what to do about it, in one line.
    #[must_use]
    pub fn in_words(&self) -> String {
        let text = with_source(self);
        if let Self::Session(SessionError::Ended(reason)) = self { told(text, *reason) } else { text }
    }

    /// What the manager is told, if it is there to hear it.
    #[must_use]
    pub const fn reason(&self) -> Option<Reason> {
        match self {
            Self::Closed | Self::Io { .. } | Self::Stuck => None,
            Self::HalfFrame => Some(Reason::SILENT),
            Self::Proof(_) => Some(Reason::INTERNAL),
            Self::Session(error) => error.reason(),
            Self::Polled => Some(Reason::POLLED),
            Self::NotTheManager(_) => Some(Reason::MANAGER_NOT_PROVED),
            Self::Elsewhere(_) | Self::ComesBack | Self::Stopped => Some(Reason::GOODBYE),
        }
    }
}

/// A text that ends in a goodbye of the manager's, with what to do about it.
pub(crate) fn told(text: String, reason: Reason) -> String {
    match remedy(reason) {
        Some(remedy) => format!("{text}; {remedy}"),
        None => text,
    }
}

/// What to do about a goodbye of the manager's, where there is something to do; on the host, for nobody is in the guest.
#[must_use]
const fn remedy(reason: Reason) -> Option<&'static str> {
    Some(match reason {
        Reason::UNKNOWN_GUEST => "on the host: doorbell guest add",
        Reason::NOT_APPROVED => "on the host: compare the fingerprint, then doorbell guest approve NAME",
        Reason::NOT_PROVED => {
            "on the host: the guest has another key there; doorbell guest pending shows this one"
        }
        Reason::NOT_ENROLLED => "on the host: doorbell guest enrol NAME makes another one-time token",
        Reason::REJECTED => "on the host: doorbell guest approve NAME --fingerprint lets it in after all",
        Reason::FENCED => "on the host: doorbell guest approve NAME, if this guest is the one to keep",
        _ => return None,
    })
}

impl From<Malformed> for Ended {
    fn from(malformed: Malformed) -> Self {
        Self::Session(malformed.into())
    }
}
