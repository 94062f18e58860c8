//! A signature over a request, as the API takes and shows it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A signature over what a request does, and for whom and how long it is good.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Signature {
    /// The guests that it is for.
    pub target: Target,
    /// Where the guest stands among several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<Proof>,
    /// From when on it is good, seconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before_s: Option<u64>,
    /// Until when it is good, seconds since the Unix epoch.
    pub expires_s: u64,
    /// 64 random hexadecimal digits: what was signed once begins once.
    pub nonce: String,
    /// What `ssh-keygen -Y sign -n doorbell-request` made of the manifest, with its two lines; empty while it is missing.
    pub armored: String,
}

/// The guests that a signature is for, by their keys.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Target {
    /// This one.
    Guest {
        /// Its key's fingerprint: `SHA256:…`.
        fingerprint: String,
    },
    /// All under a root over their fingerprints.
    Guests {
        /// The root, 64 hexadecimal digits.
        root: String,
        /// How many they are.
        count: u32,
    },
}

/// Where a guest stands under a root.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Proof {
    /// Its place among the sorted fingerprints, from 0.
    pub index: u32,
    /// The other node of each pair on the way to the root, 64 hexadecimal digits each.
    pub path: Vec<String>,
}
