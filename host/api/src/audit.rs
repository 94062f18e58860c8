//! The audit trail as the API shows it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A record of the trail.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct AuditRecord {
    /// Its number, from 1 without gaps.
    pub number: u64,
    /// When, milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Who: `uid 0 (root)`, `guest web-3`, `manager`.
    pub actor: String,
    /// What was decided: `guest-added`, `request-accepted`, `receipt-stored`, …
    pub event: String,
    /// The guest it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest: Option<String>,
    /// The request it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// The particulars, without secrets.
    pub detail: String,
    /// Why, as whoever asked for it said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The ticket it belongs to, as whoever asked for it said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<String>,
    /// The hash of the record before, 64 hexadecimal digits; zeros in the first.
    pub previous: String,
    /// SHA-256 over all of the above in a fixed form.
    pub hash: String,
}

/// What a check of the whole trail found.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct AuditCheck {
    /// Whether every record continues the one before and nothing is missing.
    pub intact: bool,
    /// Records that were checked.
    pub records: u64,
    /// The hash of the newest record: keep it elsewhere, and compare.
    pub head: String,
    /// The first thing that is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broken: Option<String>,
}

/// Where a trail ends, signed with the manager's own key: what is kept elsewhere.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SignedHead {
    /// The number of the newest record; 0 when there is none.
    pub number: u64,
    /// Its hash, 64 hexadecimal digits; zeros when there is none.
    pub hash: String,
    /// When it was signed, milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// The manager's public key, 64 hexadecimal digits.
    pub key: String,
    /// The Ed25519 signature over number, hash and time, 128 hexadecimal digits.
    pub signature: String,
}
