//! Names and numbers of the channel as types whose constructor is the check.
//!
//! Used by every other module and by both ends; trusts nothing that comes in. Decoding goes through the
//! same constructors as everything else, so a value of one of these types is always a checked one.
//! Ids of a fixed length are in `bytes`, texts in `names`, hardware addresses in `mac`, keys by their digest in
//! `fingerprint`.

mod bytes;
mod fingerprint;
mod mac;
mod names;

pub use bytes::{BootId, Digest, Generation, GuestId, Nonce, PublicKey, RequestId, SessionToken, Signature};
pub use fingerprint::Fingerprint;
pub use mac::MacAddress;
pub use names::{GuestName, GuestPath, LinkName, ShortText};

use serde::{Deserialize, Serialize};
use std::fmt;

/// Why a value was refused by the constructor of its type.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{what} {got:?} is not valid: expected {expected}")]
pub struct InvalidId {
    /// The kind of thing that was read.
    pub what: &'static str,
    /// What was found, cut to a readable length.
    pub got: String,
    /// What would have been accepted.
    pub expected: &'static str,
}

impl InvalidId {
    fn new(what: &'static str, got: &str, expected: &'static str) -> Self {
        Self { what, got: got.chars().take(80).collect(), expected }
    }
}

/// A context id that a guest may have: not 0, 1 or 2 (hypervisor, loopback, host) and not 2^32-1 (any).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct GuestCid(u32);

impl TryFrom<u32> for GuestCid {
    type Error = InvalidId;
    fn try_from(cid: u32) -> Result<Self, InvalidId> {
        match cid {
            0..=2 | u32::MAX => Err(InvalidId::new(
                "guest CID",
                &cid.to_string(),
                "3 to 4294967294 (0, 1, 2 and 4294967295 are reserved)",
            )),
            _ => Ok(Self(cid)),
        }
    }
}

impl From<GuestCid> for u32 {
    fn from(cid: GuestCid) -> u32 {
        cid.0
    }
}

impl fmt::Display for GuestCid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The place of a request in its guest's order; starts at 1 and only grows.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct Sequence(u64);

impl TryFrom<u64> for Sequence {
    type Error = InvalidId;
    fn try_from(number: u64) -> Result<Self, InvalidId> {
        // The upper half is refused so that a store with signed 64-bit integers holds every sequence.
        if number == 0 || number > i64::MAX as u64 {
            return Err(InvalidId::new("sequence", &number.to_string(), "1 to 9223372036854775807"));
        }
        Ok(Self(number))
    }
}

impl From<Sequence> for u64 {
    fn from(sequence: Sequence) -> u64 {
        sequence.0
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Milliseconds of a clock that only moves forward, from any start. Given by the driver; never read here.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Tick(pub u64);

impl Tick {
    /// The tick `ms` milliseconds later; the end of time where that overflows.
    #[must_use]
    pub fn after(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }
    /// Milliseconds from `self` to `later`, 0 when `later` is earlier.
    #[must_use]
    pub fn until(self, later: Self) -> u64 {
        later.0.saturating_sub(self.0)
    }
}
