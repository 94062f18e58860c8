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
