//! Program bytes to the guest, output bytes to the manager, and the credit that bounds both.
//!
//! Chunks are made and read by the drivers; both halves of a session check order, length and credit.

use crate::ids::RequestId;
use serde::{Deserialize, Serialize};

/// Program bytes.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Chunk {
    /// The request whose program this is.
    pub request: RequestId,
    /// Where the bytes belong.
    pub offset: u64,
    /// The bytes.
    #[serde(with = "serde_bytes")]
    pub bytes: Vec<u8>,
}

/// Bulk bytes that may be sent beyond what could be sent before.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Credit {
    /// How many.
    pub bytes: u32,
}

/// The manager's answer to an attach.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Attached {
    /// The request.
    pub request: RequestId,
    /// Where its output continues; `None` when the manager has no such request and wants no output.
    pub from: Option<Offsets>,
}

/// A place in each of a request's two streams.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Offsets {
    /// Bytes of standard output.
    pub stdout: u64,
    /// Bytes of standard error.
    pub stderr: u64,
}

impl Offsets {
    /// The place in one stream.
    #[must_use]
    pub const fn of(self, stream: Stream) -> u64 {
        match stream {
            Stream::Stdout => self.stdout,
            Stream::Stderr => self.stderr,
        }
    }

    /// The same places, but this one in `stream`.
    #[must_use]
    pub const fn moved(self, stream: Stream, to: u64) -> Self {
        match stream {
            Stream::Stdout => Self { stdout: to, ..self },
            Stream::Stderr => Self { stderr: to, ..self },
        }
    }
}

/// Which program bytes are wanted.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Fetch {
    /// The request whose program is wanted.
    pub request: RequestId,
    /// The first byte wanted.
    pub offset: u64,
}

/// Output bytes.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Output {
    /// The request that printed them.
    pub request: RequestId,
    /// Which stream.
    pub stream: Stream,
    /// Where the bytes belong in that stream.
    pub offset: u64,
    /// The bytes.
    #[serde(with = "serde_bytes")]
    pub bytes: Vec<u8>,
}

/// One of a program's two output streams.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}
