//! Ids, keys and digests: so many bytes, shown as hexadecimal digits.
//!
//! Used through [`crate::ids`]. The channel carries the bare bytes, people's formats the digits; both are
//! read here, and a value of another length or with other digits is refused.

use super::InvalidId;
use serde::de::{Error as _, SeqAccess, Visitor};
use serde::ser::SerializeTuple;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

macro_rules! byte_id {
    ($(#[$doc:meta])* $name:ident, $len:literal, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub struct $name([u8; $len]);

        impl $name {
            /// Bytes of a value of this type.
            pub const LEN: usize = $len;
            /// Takes the bytes as they are.
            #[must_use]
            pub const fn new(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }
            /// The bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = InvalidId;
            fn try_from(bytes: &[u8]) -> Result<Self, InvalidId> {
                <[u8; $len]>::try_from(bytes).map(Self).map_err(|_| {
                    InvalidId::new($what, &format!("{} bytes", bytes.len()), concat!($len, " bytes"))
                })
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                parse_hex::<$len>(text).map(Self).ok_or_else(|| {
                    InvalidId::new($what, text, concat!($len, " bytes as lower-case hexadecimal digits"))
                })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                serialize_bytes(&self.0, to)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                deserialize_bytes::<D, $len>(from, $what).map(Self)
            }
        }
    };
}

macro_rules! shown_as_hex {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(&self.0, f)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(&self.0, f)
            }
        }
    };
}

byte_id! {
    /// The name of one request, chosen at random by the manager.
    RequestId, 16, "request id"
}
shown_as_hex!(RequestId);
byte_id! {
    /// The lasting id of a guest, chosen at random by the manager; a name may be given to another guest later.
    GuestId, 16, "guest id"
}
shown_as_hex!(GuestId);
byte_id! {
    /// One run of the guest's kernel: `/proc/sys/kernel/random/boot_id`.
    BootId, 16, "boot id"
}
shown_as_hex!(BootId);
byte_id! {
    /// The hypervisor's generation id, which changes when a guest is restored or cloned.
    Generation, 16, "generation"
}
shown_as_hex!(Generation);
byte_id! {
    /// SHA-256 of a program.
    Digest, 32, "digest"
}
shown_as_hex!(Digest);
byte_id! {
    /// Fresh random bytes of one side of a handshake.
    Nonce, 32, "nonce"
}
shown_as_hex!(Nonce);
byte_id! {
    /// A guest's Ed25519 public key.
    PublicKey, 32, "public key"
}
shown_as_hex!(PublicKey);
byte_id! {
    /// An Ed25519 signature.
    Signature, 64, "signature"
}
shown_as_hex!(Signature);
byte_id! {
    /// What a welcome gave and the next hello must present; a rewound or copied guest presents a stale one.
    SessionToken, 32, "session token"
}
impl fmt::Debug for SessionToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionToken(redacted)")
    }
}

fn write_hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

pub(super) fn parse_hex<const LEN: usize>(text: &str) -> Option<[u8; LEN]> {
    let digits = text.as_bytes();
    if digits.len() != LEN.checked_mul(2)? || digits.iter().any(u8::is_ascii_uppercase) {
        return None;
    }
    let mut bytes = [0; LEN];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let [high, low] = pair else { return None };
        let value =
            (*high as char).to_digit(16)?.checked_mul(16)?.checked_add((*low as char).to_digit(16)?)?;
        *byte = u8::try_from(value).ok()?;
    }
    Some(bytes)
}

/// Hexadecimal for people's formats, the bare bytes for the channel's.
fn serialize_bytes<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
    if to.is_human_readable() {
        let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        return to.serialize_str(&text);
    }
    let mut tuple = to.serialize_tuple(bytes.len())?;
    bytes.iter().try_for_each(|byte| tuple.serialize_element(byte))?;
    tuple.end()
}

fn deserialize_bytes<'de, D: Deserializer<'de>, const LEN: usize>(
    from: D,
    what: &'static str,
) -> Result<[u8; LEN], D::Error> {
    if from.is_human_readable() {
        let text = String::deserialize(from)?;
        return parse_hex(&text)
            .ok_or_else(|| D::Error::custom(InvalidId::new(what, &text, "hexadecimal digits")));
    }
    from.deserialize_tuple(LEN, ArrayVisitor::<LEN>)
}

struct ArrayVisitor<const LEN: usize>;

impl<'de, const LEN: usize> Visitor<'de> for ArrayVisitor<LEN> {
    type Value = [u8; LEN];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{LEN} bytes")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut bytes: A) -> Result<[u8; LEN], A::Error> {
        let mut value = [0; LEN];
        for (index, byte) in value.iter_mut().enumerate() {
            *byte = bytes.next_element()?.ok_or_else(|| A::Error::invalid_length(index, &self))?;
        }
        Ok(value)
    }
}
