//! Program and input bytes to the guest, output bytes to the manager, and the credit that bounds them.
//!
//! Chunks are made and read by the drivers; both halves of a session check order, length and credit.

use super::action::Window;
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

/// Program bytes that may be sent beyond what could be sent before.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Credit {
    /// How many.
    pub bytes: u32,
}

/// Output that is stored. As many bytes of output as it names, of whichever request, may be sent beyond what
/// could be sent before.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Spooled {
    /// The request that printed it.
    pub request: RequestId,
    /// Which stream.
    pub stream: Stream,
    /// How many bytes of the stream the manager has.
    pub end: u64,
    /// The credit that is given back.
    pub bytes: u32,
}

/// A request from an earlier session that is still in hand.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Attach {
    /// The request.
    pub request: RequestId,
    /// How many bytes of its input the guest has.
    pub input: u64,
    /// How many of these its program has taken: what is left fills a part of the window.
    pub taken: u64,
}

/// Input bytes.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Input {
    /// The request whose program reads them.
    pub request: RequestId,
    /// Where the bytes belong.
    pub offset: u64,
    /// The bytes.
    #[serde(with = "serde_bytes")]
    pub bytes: Vec<u8>,
}

/// The end of a request's input.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct InputEnd {
    /// The request.
    pub request: RequestId,
    /// How many bytes the input has.
    pub len: u64,
}

/// Input bytes of one request that may be sent beyond what could be sent before.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct InputCredit {
    /// The request.
    pub request: RequestId,
    /// How many.
    pub bytes: u32,
}

/// The size that a request's terminal has now.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Resize {
    /// The request.
    pub request: RequestId,
    /// The size.
    pub window: Window,
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
