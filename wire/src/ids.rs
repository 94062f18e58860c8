//! Names and numbers of the channel as types whose constructor is the check.
//!
//! Used by every other module and by both ends; trusts nothing that comes in. Decoding goes through the
//! same constructors as everything else, so a value of one of these types is always a checked one.

use crate::limits::{LINK_NAME_LEN_MAX, NAME_LEN_MAX, PATH_LEN_MAX, TEXT_LEN_MAX};
use serde::de::{Error as _, SeqAccess, Visitor};
use serde::ser::SerializeTuple;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

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

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $expected:expr, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(text: String) -> Result<Self, InvalidId> {
                let valid: fn(&str) -> bool = $check;
                if valid(&text) { Ok(Self(text)) } else { Err(InvalidId::new($what, &text, $expected)) }
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Self::try_from(text.to_owned())
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_id! {
    /// What an operator calls a guest: a DNS label, so that it is safe in paths, tables and URLs.
    GuestName, "guest name",
    "1 to 63 of a-z, 0-9, '-' and '.', starting and ending with a letter or digit",
    |text| {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        text.len() <= NAME_LEN_MAX
            && text.starts_with(plain)
            && text.ends_with(plain)
            && text.chars().all(|c| plain(c) || c == '-' || c == '.')
    }
}
text_id! {
    /// The name of a network interface as the kernel accepts it.
    LinkName, "link name",
    "1 to 15 bytes without '/', ':', white space or control characters, and not '.' or '..'",
    |text| {
        (1..=LINK_NAME_LEN_MAX).contains(&text.len())
            && text != "."
            && text != ".."
            && !text.chars().any(|c| c == '/' || c == ':' || c.is_whitespace() || c.is_control())
    }
}
text_id! {
    /// A short text for people: a version, the text of a rule.
    ShortText, "text", "at most 256 bytes without control characters",
    |text| text.len() <= TEXT_LEN_MAX && !text.chars().any(char::is_control)
}
text_id! {
    /// An absolute path in the guest.
    GuestPath, "path", "an absolute path of at most 4095 bytes without NUL",
    |text| text.starts_with('/') && text.len() <= PATH_LEN_MAX && !text.contains('\0')
}

/// The hardware address of a link.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "MacForm", into = "MacForm")]
pub struct MacAddress([u8; 6]);

impl MacAddress {
    /// Takes the bytes as they are.
    #[must_use]
    pub const fn new(bytes: [u8; 6]) -> Self {
        Self(bytes)
    }
    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 6] {
        &self.0
    }
}

impl FromStr for MacAddress {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let refused = || InvalidId::new("MAC address", text, "six bytes as in 52:54:00:12:34:56");
        let digits: String = text.split(':').collect();
        let separators = text.len().saturating_sub(digits.len());
        if separators != 5 || !text.split(':').all(|part| part.len() == 2) {
            return Err(refused());
        }
        parse_hex::<6>(&digits.to_ascii_lowercase()).map(Self).ok_or_else(refused)
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[derive(Serialize, Deserialize)]
struct MacForm([u8; 6]);

impl From<MacForm> for MacAddress {
    fn from(form: MacForm) -> Self {
        Self(form.0)
    }
}

impl From<MacAddress> for MacForm {
    fn from(mac: MacAddress) -> Self {
        Self(mac.0)
    }
}

fn write_hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

fn parse_hex<const LEN: usize>(text: &str) -> Option<[u8; LEN]> {
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
