//! What a signature adds to an offer: its terms, and the signature itself.
//!
//! Made by whoever signs, handed on by the manager, judged by the agent. Trusts nothing: a signature has a bounded
//! length here and is read nowhere but in the agent; the terms are what [`crate::manifest`] writes out.

use super::list::at_most;
use crate::ids::{Digest, Fingerprint, InvalidId, Nonce};
use crate::limits::{PROOF_LEN_MAX, SIGNATURE_LEN_MAX};
use crate::merkle;
use base64ct::{Base64, Encoding as _};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A signature over an offer's manifest, with what the manifest says beside the action; since version 1.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Signed {
    /// For whom and how long it is good.
    pub terms: Terms,
    /// Where the guest stands among several; nothing where it is named alone.
    pub proof: Proof,
    /// The signature.
    pub signature: SshSignature,
}

/// For whom and how long a signature is good. All of it is signed.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Terms {
    /// The guests it is for.
    pub target: Target,
    /// From when on, in seconds since the Unix epoch; at once when absent.
    pub not_before_s: Option<u64>,
    /// Until when, in seconds since the Unix epoch.
    pub expires_s: u64,
    /// Fresh random bytes: what was signed once is begun once in a guest.
    pub nonce: Nonce,
}

/// The guests that a signature is for, by their keys.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum Target {
    /// This one.
    Guest(Fingerprint),
    /// All under this root; see [`crate::merkle`].
    Guests {
        /// The root over the sorted fingerprints.
        root: Digest,
        /// How many there are.
        count: u32,
    },
}

impl Target {
    /// Whether a guest is one of them, by its proof.
    #[must_use]
    pub fn names(&self, guest: &Fingerprint, proof: &Proof) -> bool {
        match self {
            Self::Guest(named) => named == guest,
            Self::Guests { root, count } => merkle::leads(guest, proof, *count) == Some(*root),
        }
    }
}

/// Where a guest stands under a root.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Proof {
    /// Its place among the sorted fingerprints, from 0.
    pub index: u32,
    /// The other node of each pair on the way to the root.
    #[serde(deserialize_with = "at_most::<_, _, PROOF_LEN_MAX>")]
    pub path: Vec<Digest>,
}

/// A signature in OpenSSH's form (SSHSIG), without its armour; not read here.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SshSignature(Vec<u8>);

impl SshSignature {
    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Reads what `ssh-keygen -Y sign` writes.
    ///
    /// # Errors
    /// [`InvalidId`] when it is not between its two lines, not base64, or too long.
    pub fn from_armor(text: &str) -> Result<Self, InvalidId> {
        let bad = |expected| InvalidId { what: "signature", got: text.chars().take(60).collect(), expected };
        let body = text.trim().strip_prefix(ARMOR_BEGIN).and_then(|rest| rest.strip_suffix(ARMOR_END));
        let body = body.ok_or_else(|| bad("-----BEGIN SSH SIGNATURE----- to -----END SSH SIGNATURE-----"))?;
        if body.len() > SIGNATURE_LEN_MAX.saturating_mul(2) {
            return Err(bad("at most 4096 bytes"));
        }
        let digits: String = body.split_ascii_whitespace().collect();
        let bytes = Base64::decode_vec(&digits).map_err(|_| bad("base64 between its two lines"))?;
        Self::try_from(bytes)
    }
}

impl SshSignature {
    /// The signature as `ssh-keygen -Y sign` writes it.
    #[must_use]
    pub fn to_armor(&self) -> String {
        let mut text = ARMOR_BEGIN.to_owned();
        for (at, sign) in Base64::encode_string(&self.0).chars().enumerate() {
            if at > 0 && at % ARMOR_COLUMNS == 0 {
                text.push('\n');
            }
            text.push(sign);
        }
        text.push_str(ARMOR_END);
        text.push('\n');
        text
    }
}

impl TryFrom<Vec<u8>> for SshSignature {
    type Error = InvalidId;
    fn try_from(bytes: Vec<u8>) -> Result<Self, InvalidId> {
        if !bytes.starts_with(MAGIC) || bytes.len() > SIGNATURE_LEN_MAX {
            let got = format!("{} bytes", bytes.len());
            return Err(InvalidId { what: "signature", got, expected: "SSHSIG and at most 4096 bytes" });
        }
        Ok(Self(bytes))
    }
}

impl Serialize for SshSignature {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if to.is_human_readable() {
            to.serialize_str(&Base64::encode_string(&self.0))
        } else {
            serde_bytes::serialize(&self.0, to)
        }
    }
}

impl<'de> Deserialize<'de> for SshSignature {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let bytes = if from.is_human_readable() {
            Base64::decode_vec(&String::deserialize(from)?).map_err(D::Error::custom)?
        } else {
            at_most::<_, u8, SIGNATURE_LEN_MAX>(from)?
        };
        Self::try_from(bytes).map_err(D::Error::custom)
    }
}

/// The first bytes of every signature.
const MAGIC: &[u8] = b"SSHSIG";
const ARMOR_COLUMNS: usize = 70;
const ARMOR_BEGIN: &str = "-----BEGIN SSH SIGNATURE-----\n";
const ARMOR_END: &str = "\n-----END SSH SIGNATURE-----";
