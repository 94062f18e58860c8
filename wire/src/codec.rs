//! The one place that knows how a message's body becomes bytes: bincode with a limit.
//!
//! Called by `message` only. Trusts nothing: a body is read within [`PAYLOAD_LEN_MAX`], nothing is reserved
//! before it is checked against what is there, and left-over bytes are an error. No wire type recurses.

use crate::error::Malformed;
use crate::limits::PAYLOAD_LEN_MAX;
use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use bincode::error::DecodeError;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Writes `body`.
///
/// # Errors
/// [`Malformed::TooLong`] when the body does not fit a frame: the caller built more than its types' limits allow.
pub fn encode<T: Serialize>(what: &'static str, body: &T) -> Result<Vec<u8>, Malformed> {
    let bytes = bincode::serde::encode_to_vec(body, CONFIG).map_err(|_| Malformed::Unwritable { what })?;
    if bytes.len() > PAYLOAD_LEN_MAX {
        return Err(Malformed::TooLong { what, got: bytes.len() as u64, max: PAYLOAD_LEN_MAX as u64 });
    }
    Ok(bytes)
}

/// Reads a whole body.
///
/// # Errors
/// [`Malformed::Unreadable`] when it is not a `T` within its limits, [`Malformed::Leftover`] when bytes remain.
/// A number may come in a longer form than it needs; all that binds bytes is computed from the value.
pub fn decode<T: DeserializeOwned>(what: &'static str, bytes: &[u8]) -> Result<T, Malformed> {
    match decode_part(what, bytes)? {
        (body, []) => Ok(body),
        (_, behind) => Err(Malformed::Leftover { what, count: behind.len() }),
    }
}

/// Reads a body, and gives the bytes behind it.
///
/// # Errors
/// [`Malformed::Unreadable`] as [`decode`].
pub(crate) fn decode_part<'a, T: DeserializeOwned>(
    what: &'static str,
    bytes: &'a [u8],
) -> Result<(T, &'a [u8]), Malformed> {
    let (body, used) =
        bincode::serde::decode_from_slice(bytes, CONFIG).map_err(|error| unreadable(what, &error))?;
    Ok((body, bytes.get(used..).unwrap_or_default()))
}

/// The refusal in one line of bounded length: a constructor's own text where one refused, else the decoder's.
fn unreadable(what: &'static str, error: &DecodeError) -> Malformed {
    #[allow(clippy::wildcard_enum_match_arm, reason = "the decoder's other errors differ in their text only")]
    let why = match error {
        DecodeError::OtherString(text) => text.clone(),
        other => other.to_string(),
    };
    let one_line = why.chars().map(|c| if c.is_control() { ' ' } else { c });
    Malformed::Unreadable { what, why: one_line.take(WHY_CHARS_MAX).collect() }
}

const WHY_CHARS_MAX: usize = 256;
const CONFIG: Configuration<LittleEndian, Varint, Limit<PAYLOAD_LEN_MAX>> =
    bincode::config::standard().with_limit::<PAYLOAD_LEN_MAX>();
