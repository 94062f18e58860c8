//! Why a fetch came to nothing, and whether another try can come to something.

use crate::disk::Gone;
use crate::store::StoreError;

/// Why a fetch came to nothing, in words that go on behind "the program could not be fetched from …: ".
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum Fault {
    /// It will be so the next time, too.
    #[error("{0}")]
    Final(String),
    /// It may be otherwise in a moment.
    #[error("{0}")]
    Passing(String),
    /// This host's disk does not take it, which says nothing of where it comes from.
    #[error("{0}")]
    Disk(String),
}

impl Fault {
    pub(super) fn last(text: impl Into<String>) -> Self {
        Self::Final(text.into())
    }

    pub(super) fn passing(text: impl Into<String>) -> Self {
        Self::Passing(text.into())
    }

    /// The same, told of a later place than the one that was asked for.
    pub(super) fn behind(self, place: &str) -> Self {
        match self {
            Self::Final(text) => Self::Final(format!("{place}: {text}")),
            Self::Passing(text) => Self::Passing(format!("{place}: {text}")),
            Self::Disk(text) => Self::Disk(text),
        }
    }
}

impl From<Gone> for Fault {
    fn from(gone: Gone) -> Self {
        Self::Passing(gone.to_string())
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::TooLarge { .. } => Self::Final(error.to_string()),
            StoreError::NoSpace { .. } | StoreError::Disk { .. } => Self::Disk(error.whole()),
            StoreError::NotFound { .. }
            | StoreError::Gone { .. }
            | StoreError::Conflict { .. }
            | StoreError::Invalid { .. }
            | StoreError::InUse { .. }
            | StoreError::Internal { .. } => Self::Passing(error.whole()),
        }
    }
}
