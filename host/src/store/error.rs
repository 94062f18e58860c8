//! Why the store would not, in words for whoever asked.
//!
//! Made by everything durable in this crate; the API turns it into a status by [`StoreError::code`].

use doorbell_api::error::ErrorCode;
use rusqlite::ErrorCode as Sqlite;
use std::io;

/// Why the store would not.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no such thing.
    #[error("there is no {what} {name:?}: {hint}")]
    NotFound {
        /// The kind of thing.
        what: &'static str,
        /// What was asked for.
        name: String,
        /// What to do.
        hint: &'static str,
    },
    /// It is taken, or in a state that does not allow this.
    #[error("{message}")]
    Conflict {
        /// What is in the way and what to do.
        message: String,
    },
    /// It was there, and retention has removed it.
    #[error("{message}")]
    Gone {
        /// What is gone and since when.
        message: String,
    },
    /// A value is out of its bounds.
    #[error("{message}")]
    Invalid {
        /// What was expected and found.
        message: String,
    },
    /// A body is larger than anything may be.
    #[error("{message}")]
    TooLarge {
        /// What was expected and found.
        message: String,
    },
    /// The disk is full or a limit on files is reached.
    #[error("no space to {doing}: free some on the disk of the state directory and ask again")]
    NoSpace {
        /// What could not be written.
        doing: String,
    },
    /// The disk fails, or takes nothing.
    #[error(
        "cannot {doing}: the disk of the state directory fails ({why}): see the kernel's log, and ask again when it is well"
    )]
    Disk {
        /// What could not be done.
        doing: String,
        /// What it answered.
        why: String,
    },
    /// Another daemon has the state directory.
    #[error("{message}")]
    InUse {
        /// Who has it and what to do.
        message: String,
    },
    /// A fault of the manager or its host.
    #[error("cannot {doing}; the manager's log says why")]
    Internal {
        /// What cannot be done.
        doing: String,
        /// What failed in it.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
}

impl StoreError {
    /// What the API answers with.
    #[must_use]
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::NotFound { .. } => ErrorCode::NotFound,
            Self::Conflict { .. } | Self::InUse { .. } => ErrorCode::Conflict,
            Self::Gone { .. } => ErrorCode::Gone,
            Self::Invalid { .. } => ErrorCode::Invalid,
            Self::TooLarge { .. } => ErrorCode::TooLarge,
            Self::NoSpace { .. } | Self::Disk { .. } => ErrorCode::NoSpace,
            Self::Internal { .. } => ErrorCode::Internal,
        }
    }

    /// Whether the disk would not, so that the same may go through later.
    #[must_use]
    pub const fn is_of_disk(&self) -> bool {
        matches!(self, Self::NoSpace { .. } | Self::Disk { .. })
    }

    /// With what failed in it, for the log; whoever asked is told no more than the text.
    #[must_use]
    pub fn whole(&self) -> String {
        let mut text = if let Self::Internal { doing, .. } = self {
            format!("cannot {doing}")
        } else {
            self.to_string()
        };
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            text = format!("{text}: {cause}");
            source = cause.source();
        }
        text
    }

    pub(crate) fn output_gone(request: impl std::fmt::Display, at_ms: u64) -> Self {
        let at = crate::time::shown(at_ms);
        let message = format!(
            "the output of request {request} was removed at {at} by retention; its receipt still says what it was"
        );
        Self::Gone { message }
    }

    pub(crate) fn conflict(message: impl Into<String>) -> Self {
        Self::Conflict { message: message.into() }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid { message: message.into() }
    }

    pub(crate) fn internal(
        doing: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Internal { doing: doing.into(), source: Some(source.into()) }
    }

    /// For a file operation: a full disk, a reached file limit and a disk that fails are the operator's to solve,
    /// the rest is a fault.
    pub(crate) fn io(doing: impl Into<String>, source: io::Error) -> Self {
        use io::ErrorKind as Kind;
        let doing = doing.into();
        if matches!(source.kind(), Kind::StorageFull | Kind::QuotaExceeded | Kind::FileTooLarge) {
            return Self::NoSpace { doing };
        }
        let fails = source.raw_os_error() == Some(nix::libc::EIO);
        if fails || source.kind() == Kind::ReadOnlyFilesystem {
            return Self::Disk { doing, why: source.to_string() };
        }
        Self::internal(doing, source)
    }

    /// A stored value that its own type refuses: the data base was written by something else.
    pub(crate) fn damaged(what: &str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::internal(format!("read the stored {what}, which was written by something else"), source)
    }
}

impl From<crate::disk::Gone> for StoreError {
    fn from(source: crate::disk::Gone) -> Self {
        Self::internal("work on the disk", source)
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(source: rusqlite::Error) -> Self {
        let doing = "write the data base".to_owned();
        match source.sqlite_error_code() {
            Some(Sqlite::DiskFull) => Self::NoSpace { doing },
            Some(Sqlite::SystemIoFailure | Sqlite::ReadOnly | Sqlite::CannotOpen) => {
                Self::Disk { doing, why: source.to_string() }
            }
            Some(_) | None => Self::internal("use the data base", source),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_says_why_where_the_asker_is_sent_to_the_log() {
        let error = StoreError::io("keep output", io::Error::from_raw_os_error(nix::libc::EACCES));
        assert_eq!(error.to_string(), "cannot keep output; the manager's log says why");
        assert_eq!(error.whole(), "cannot keep output: Permission denied (os error 13)");
    }

    #[test]
    fn a_disk_that_fails_is_told_from_a_full_one_and_from_a_fault() {
        let told = |errno| StoreError::io("keep output", io::Error::from_raw_os_error(errno));
        assert!(matches!(told(nix::libc::ENOSPC), StoreError::NoSpace { .. }));
        for errno in [nix::libc::EIO, nix::libc::EROFS] {
            let error = told(errno);
            assert!(error.is_of_disk() && error.code() == ErrorCode::NoSpace, "{error:?}");
            assert!(
                error.to_string().starts_with("cannot keep output: the disk of the state directory fails (")
            );
        }
        assert!(!told(nix::libc::EACCES).is_of_disk());
    }
}
