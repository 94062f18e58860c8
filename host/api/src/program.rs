//! Programs as the API shows them. They are uploaded as bare bytes.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A program the manager has.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct Program {
    /// SHA-256 of its bytes, 64 hexadecimal digits.
    pub digest: String,
    /// Bytes it has.
    pub len: u64,
}

/// An upload that can be resumed.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct Upload {
    /// Bytes the manager has of it.
    pub len: u64,
}

/// A program that lives elsewhere, and is known by its content.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Where: `https://…`, or `http://…` or `file:///…` where the manager's configuration allows it. Without user
    /// name and password: it stands in the audit trail.
    pub url: String,
    /// SHA-256 of its bytes, 64 hexadecimal digits.
    pub sha256: String,
    /// What people call it; the last part of the URL's path when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}
