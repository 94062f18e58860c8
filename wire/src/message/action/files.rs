//! Files and trees that are put into a guest or read from it.
//!
//! Used through [`super`]. Trusts nothing: a length and permission bits are checked where they are made or read;
//! whether a path is there, and may be written, is the agent's to find out.

use crate::ids::{Digest, GuestPath, InvalidId, ShortText};
use crate::limits::FILE_LEN_MAX;
use serde::{Deserialize, Serialize};

/// Bytes by their content. Made by [`Payload::new`] only, outside this module.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "PayloadParts", into = "PayloadParts")]
#[non_exhaustive]
pub struct Payload {
    /// SHA-256 of the bytes.
    pub digest: Digest,
    /// How many; at most [`FILE_LEN_MAX`].
    pub len: u64,
}

impl Payload {
    /// The payload of this digest and length.
    ///
    /// # Errors
    /// [`InvalidId`] when it is longer than [`FILE_LEN_MAX`].
    pub fn new(digest: Digest, len: u64) -> Result<Self, InvalidId> {
        if len > FILE_LEN_MAX {
            let got = format!("{len} bytes");
            return Err(InvalidId { what: "payload", got, expected: "at most 17179869184 bytes" });
        }
        Ok(Self { digest, len })
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct PayloadParts {
    digest: Digest,
    len: u64,
}

impl TryFrom<PayloadParts> for Payload {
    type Error = InvalidId;
    fn try_from(PayloadParts { digest, len }: PayloadParts) -> Result<Self, InvalidId> {
        Self::new(digest, len)
    }
}

impl From<Payload> for PayloadParts {
    fn from(Payload { digest, len }: Payload) -> Self {
        Self { digest, len }
    }
}

/// A file or a tree for the guest.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Put {
    /// Where it belongs: the name of the file, or of the tree's top.
    pub path: GuestPath,
    /// Its bytes.
    pub payload: Payload,
    /// What the bytes are.
    pub form: Form,
    /// Permission bits of a file, 0 to `0o7777`; those of an archive stand in it.
    pub mode: Option<Mode>,
    /// Owner, `user`, `user:group` or `:group`, by name or number; the agent's own when none is given.
    pub owner: Option<ShortText>,
    /// Whether a tree that is there is replaced whole; a file always is.
    pub replace: bool,
}

/// What the bytes of a [`Put`] are.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum Form {
    /// The content of one file.
    File,
    /// A tar archive of a tree.
    Archive,
}

/// Permission bits, 0 to `0o7777`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct Mode(u16);

impl TryFrom<u16> for Mode {
    type Error = InvalidId;
    fn try_from(bits: u16) -> Result<Self, InvalidId> {
        if bits > 0o7777 {
            return Err(InvalidId { what: "mode", got: format!("{bits:o}"), expected: "0 to 7777, octal" });
        }
        Ok(Self(bits))
    }
}

impl From<Mode> for u16 {
    fn from(mode: Mode) -> u16 {
        mode.0
    }
}

/// A file or a tree of the guest to be read.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Get {
    /// Where it is. A link at its end is read as a link.
    pub path: GuestPath,
}
