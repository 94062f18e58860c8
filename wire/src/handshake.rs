//! What both sides' keys and choices are bound together with, and the choice of a version.
//!
//! The agent signs [`transcript`], the manager checks it; the manager signs [`manager_transcript`], an agent that pins its
//! key checks that. Each covers the greeting as it was sent, so a
//! version range that somebody narrowed, or a nonce of another connection, gives another transcript.

use crate::codec::encode;
use crate::error::{Incompatible, Malformed};
use crate::limits::{VERSION_CURRENT, VERSION_MIN};
use crate::message::{Claims, Greeting, Welcome};
use std::ops::RangeInclusive;

/// The bytes that the guest's key signs: a tag of our own, then greeting and claims, each behind its length.
///
/// # Errors
/// [`Malformed`] when a part cannot be written, which no checked value causes.
pub fn transcript(greeting: &Greeting, claims: &Claims) -> Result<Vec<u8>, Malformed> {
    tagged(TAG, &[encode("GREETING", greeting)?, encode("HELLO", claims)?])
}

/// The bytes that a one-time token's key signs for the guest that holds it: a tag of its own in front of the same two parts.
///
/// # Errors
/// As for [`transcript`].
pub fn enrolment_transcript(greeting: &Greeting, claims: &Claims) -> Result<Vec<u8>, Malformed> {
    tagged(ENROLMENT_TAG, &[encode("GREETING", greeting)?, encode("HELLO", claims)?])
}

/// The bytes that the manager's key signs for an agent that takes its proof: another tag, then greeting, claims and the
/// welcome without the proof, each behind its length. Both nonces, the version and the guest's key are in it, and the
/// token that it gives, so a proof is of no use in any other handshake.
///
/// # Errors
/// As for [`transcript`].
pub fn manager_transcript(
    greeting: &Greeting,
    claims: &Claims,
    welcome: &Welcome,
) -> Result<Vec<u8>, Malformed> {
    let parts = [encode("GREETING", greeting)?, encode("HELLO", claims)?, encode("WELCOME", welcome)?];
    tagged(MANAGER_TAG, &parts)
}

fn tagged(tag: &[u8], parts: &[Vec<u8>]) -> Result<Vec<u8>, Malformed> {
    let mut bytes = tag.to_vec();
    for part in parts {
        let too_long = |_| Malformed::Unwritable { what: "transcript" };
        bytes.extend_from_slice(&u32::try_from(part.len()).map_err(too_long)?.to_le_bytes());
        bytes.extend_from_slice(part);
    }
    Ok(bytes)
}

/// The newest version both sides speak.
///
/// # Errors
/// [`Incompatible`] when there is none.
pub fn choose_version(greeting: &Greeting) -> Result<u16, Incompatible> {
    common(&OURS, &(greeting.version_min..=greeting.version_max))
}

/// Whether the guest chose a version that was offered.
///
/// # Errors
/// [`Incompatible`] when it did not.
pub fn check_version(version: u16) -> Result<(), Incompatible> {
    common(&OURS, &(version..=version)).map(|_| ())
}

fn common(ours: &RangeInclusive<u16>, peer: &RangeInclusive<u16>) -> Result<u16, Incompatible> {
    let newest = *ours.end().min(peer.end());
    if ours.contains(&newest) && peer.contains(&newest) {
        return Ok(newest);
    }
    Err(Incompatible {
        peer_min: *peer.start(),
        peer_max: *peer.end(),
        ours_min: *ours.start(),
        ours_max: *ours.end(),
    })
}

const OURS: RangeInclusive<u16> = VERSION_MIN..=VERSION_CURRENT;
const TAG: &[u8] = b"doorbell-handshake\0";
const ENROLMENT_TAG: &[u8] = b"doorbell-enrolment\0";
const MANAGER_TAG: &[u8] = b"doorbell-manager\0";
