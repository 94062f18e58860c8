//! What can go wrong between a program and the manager, sorted by what the caller can do about it.

use doorbell_api::error::{ErrorBody, ErrorCode};
use std::io;
use std::path::{Path, PathBuf};

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers on the socket: nothing was sent.
    #[error("cannot reach doorbelld at {}", socket.display())]
    Unreachable {
        /// The socket that was tried.
        socket: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The connection broke: what was sent may or may not have been done.
    #[error("lost the connection to doorbelld at {}", socket.display())]
    Lost {
        /// The socket it was on.
        socket: PathBuf,
        /// How it broke.
        source: io::Error,
    },
    /// The manager understood and will not, or cannot.
    #[error("{message}")]
    Refused {
        /// Why, for programs.
        code: ErrorCode,
        /// Why and what to do, for people, in one line.
        message: String,
        /// The HTTP status it came with.
        status: u16,
    },
    /// What came back is not what the API promises.
    #[error("doorbelld at {} answered {what}: expected {expected}", socket.display())]
    Protocol {
        /// The socket it came from.
        socket: PathBuf,
        /// What was found.
        what: String,
        /// What should have been there.
        expected: &'static str,
    },
    /// The caller's value cannot be sent.
    #[error("{what} {got:?} cannot be used: expected {expected}")]
    Misuse {
        /// The kind of thing it is.
        what: &'static str,
        /// The value.
        got: String,
        /// What can be sent.
        expected: &'static str,
    },
    /// What the caller gave to be sent could not be read.
    #[error("cannot read what is to be sent")]
    Source(#[source] io::Error),
}

impl ClientError {
    /// Whether the manager, as opposed to the request, was the trouble, so that the same call may succeed later.
    #[must_use]
    pub const fn is_transport(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Lost { .. })
    }

    pub(crate) fn transport(socket: &Path, error: reqwest::Error) -> Self {
        let socket = socket.to_path_buf();
        let connecting = error.is_connect();
        let error = error.without_url();
        let source = match root_io(&error) {
            Some(root) if root.kind() == io::ErrorKind::UnexpectedEof => {
                io::Error::new(root.kind(), "it closed the connection")
            }
            Some(root) => io::Error::new(root.kind(), root.to_string()),
            None if error.is_timeout() => io::Error::new(io::ErrorKind::TimedOut, "no answer in time"),
            None => io::Error::other(error),
        };
        if connecting { Self::Unreachable { socket, source } } else { Self::Lost { socket, source } }
    }

    pub(crate) fn refused(socket: &Path, status: u16, body: &[u8]) -> Self {
        match serde_json::from_slice::<ErrorBody>(body) {
            Ok(ErrorBody { code, message }) => Self::Refused { code, message, status },
            Err(_) => {
                let text: String = String::from_utf8_lossy(body).chars().take(120).collect();
                Self::protocol(socket, format!("status {status} with {text:?}"), "an error body in JSON")
            }
        }
    }

    pub(crate) fn protocol(socket: &Path, what: String, expected: &'static str) -> Self {
        Self::Protocol { socket: socket.to_path_buf(), what, expected }
    }
}

/// The operating system's error at the bottom of a chain, where there is one.
fn root_io<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a io::Error> {
    let mut found = None;
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            found = Some(io);
        }
        next = error.source();
    }
    found
}
