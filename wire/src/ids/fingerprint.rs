//! A guest by the SHA-256 of its public key, in the form that OpenSSH prints.
//!
//! Used through [`crate::ids`]. People compare and write it, and signed manifests name their guests by it.

use super::{Digest, InvalidId, PublicKey};
use base64ct::{Base64Unpadded, Encoding as _};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::str::FromStr;

/// SHA-256 of a public key as OpenSSH writes it.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Fingerprint(Digest);

impl Fingerprint {
    /// The fingerprint with this digest.
    #[must_use]
    pub const fn new(digest: Digest) -> Self {
        Self(digest)
    }

    /// The fingerprint of a guest's key.
    #[must_use]
    pub fn of(key: &PublicKey) -> Self {
        let mut sum = Sha256::new();
        for part in [KEY_TYPE, key.as_bytes().as_slice()] {
            sum.update(u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
            sum.update(part);
        }
        Self(Digest::new(sum.finalize().into()))
    }

    /// The fingerprint of any key, of which this is the whole public form.
    #[must_use]
    pub fn of_blob(blob: &[u8]) -> Self {
        Self(Digest::new(Sha256::digest(blob).into()))
    }

    /// The bare digest.
    #[must_use]
    pub const fn digest(&self) -> &Digest {
        &self.0
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", Base64Unpadded::encode_string(self.0.as_bytes()))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Fingerprint {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let mut digest = [0; Digest::LEN];
        text.strip_prefix(PREFIX)
            .and_then(|digits| Base64Unpadded::decode(digits, &mut digest).ok())
            .filter(|decoded| decoded.len() == Digest::LEN)
            .ok_or_else(|| InvalidId::new("fingerprint", text, "SHA256: and 43 base64 digits"))?;
        Ok(Self(Digest::new(digest)))
    }
}

impl Serialize for Fingerprint {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if to.is_human_readable() { to.collect_str(self) } else { self.0.serialize(to) }
    }
}

impl<'de> Deserialize<'de> for Fingerprint {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        if from.is_human_readable() {
            return String::deserialize(from)?.parse().map_err(D::Error::custom);
        }
        Digest::deserialize(from).map(Self)
    }
}

const KEY_TYPE: &[u8] = b"ssh-ed25519";
const PREFIX: &str = "SHA256:";
