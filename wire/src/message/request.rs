//! A request on its way to the guest, and the stations it reaches there.
//!
//! Offers come from the manager's store, stations from the agent; both halves of a session read them.

use super::action::Action;
use super::signed::Signed;
use crate::codec::{decode, decode_part, encode};
use crate::error::Malformed;
use crate::ids::{InvalidId, RequestId, Sequence};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

/// One request. What is written of it by itself is what version 0 has; a signature stands behind that.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(from = "Plain", into = "Plain")]
pub struct Offer {
    /// Its name.
    pub request: RequestId,
    /// Its place in the guest's order; `None` makes it a query, which no journal keeps.
    pub sequence: Option<Sequence>,
    /// Every sequence below this one is settled at the manager and will not be offered again. It is not above
    /// the request's own; 0 and 1 settle none.
    pub floor: u64,
    /// What is to be done.
    pub action: Action,
    /// Milliseconds the program may run once it has started; `None` is no limit.
    pub timeout_ms: Option<u64>,
    /// Whether an interrupted start may be started again.
    pub idempotent: bool,
    /// The signature that it carries, if it does; since version 1.
    pub signed: Option<Box<Signed>>,
}

/// An offer without a signature.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Plain {
    request: RequestId,
    sequence: Option<Sequence>,
    #[serde(deserialize_with = "sequence_or_zero")]
    floor: u64,
    action: Action,
    timeout_ms: Option<u64>,
    idempotent: bool,
}

impl From<Plain> for Offer {
    fn from(Plain { request, sequence, floor, action, timeout_ms, idempotent }: Plain) -> Self {
        Self { request, sequence, floor, action, timeout_ms, idempotent, signed: None }
    }
}

impl From<Offer> for Plain {
    fn from(Offer { request, sequence, floor, action, timeout_ms, idempotent, signed: _ }: Offer) -> Self {
        Self { request, sequence, floor, action, timeout_ms, idempotent }
    }
}

/// The body of OFFER: the offer, and its signature where it has one.
pub(super) fn encode_offer(what: &'static str, offer: &Offer) -> Result<Vec<u8>, Malformed> {
    let mut bytes = encode(what, offer)?;
    if let Some(signed) = &offer.signed {
        bytes.extend(encode(what, signed)?);
    }
    Ok(bytes)
}

/// The body of PUSH: the push, and its offer's signature where that has one.
pub(super) fn encode_push(what: &'static str, push: &Push) -> Result<Vec<u8>, Malformed> {
    let mut bytes = encode(what, push)?;
    if let Some(signed) = &push.offer.signed {
        bytes.extend(encode(what, signed)?);
    }
    Ok(bytes)
}

/// The same, read.
pub(super) fn decode_push(what: &'static str, bytes: &[u8]) -> Result<Box<Push>, Malformed> {
    let (mut push, behind) = decode_part::<Push>(what, bytes)?;
    if !behind.is_empty() {
        push.offer.signed = Some(decode(what, behind)?);
    }
    Ok(Box::new(push))
}

/// The body of OFFER, read.
pub(super) fn decode_offer(what: &'static str, bytes: &[u8]) -> Result<Box<Offer>, Malformed> {
    let (mut offer, behind) = decode_part::<Offer>(what, bytes)?;
    if !behind.is_empty() {
        offer.signed = Some(decode(what, behind)?);
    }
    Ok(Box::new(offer))
}

/// An offer that nobody pulled for, with the program where that is small; since version 1.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Push {
    /// The request.
    pub offer: Offer,
    /// All bytes of its program, or none: then they are fetched.
    #[serde(with = "serde_bytes")]
    pub program: Vec<u8>,
}

impl Offer {
    /// Whether the floor leaves the request itself, and a sequence of any request behind it.
    #[must_use]
    pub fn floor_is_valid(&self) -> bool {
        self.floor <= self.sequence.map_or(SEQUENCE_MAX, u64::from)
    }
}

/// Reads a place in the order of a guest's requests, or 0 for none: the guest keeps what it makes of one for
/// ever, and both stores have signed integers.
pub(super) fn sequence_or_zero<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    let number = u64::deserialize(from)?;
    if number > SEQUENCE_MAX {
        let expected = "0 to 9223372036854775807";
        return Err(D::Error::custom(InvalidId { what: "sequence", got: number.to_string(), expected }));
    }
    Ok(number)
}

/// A station the request has reached in the guest.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// The request.
    pub request: RequestId,
    /// The station.
    pub stage: Stage,
    /// The guest's clock since boot, in microseconds, suspended time included.
    pub at_us: u64,
}

/// Stations inside the guest.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub enum Stage {
    /// All program bytes are staged.
    Fetched,
    /// The program has the digest that was offered.
    Verified,
    /// The start is on the guest's disk.
    Journalled,
    /// The effect has begun.
    Started,
    /// The guest is about to go down for a reboot that belongs to the request; since version 1.
    Rebooting,
}

/// The highest sequence there is.
pub(crate) const SEQUENCE_MAX: u64 = i64::MAX as u64;
