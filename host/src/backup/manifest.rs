//! What a backup says of itself: its last entry, so that an archive that was cut off has none.
//!
//! Written by a backup and believed by a restore only as far as every file's digest goes.

use serde::{Deserialize, Serialize};

/// The manifest.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The form of the archive.
    pub format: u32,
    /// The release that wrote it.
    pub version: String,
    /// When, milliseconds since the Unix epoch.
    pub taken_at_ms: u64,
    /// By whom.
    pub taken_by: String,
    /// Records of the audit trail.
    pub audit_records: u64,
    /// The hash of the last one.
    pub audit_head: String,
    /// Guests in it.
    pub guests: u64,
    /// Requests in it.
    pub requests: u64,
    /// Every other file of the archive.
    pub files: Vec<Entry>,
    /// Output that the data base names and that was not on the disk.
    pub missing: Vec<String>,
}

/// One file.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Where it is in the state directory.
    pub path: String,
    /// Bytes.
    pub len: u64,
    /// Their SHA-256, 64 hexadecimal digits.
    pub sha256: String,
}

/// The form that this code writes and reads.
pub const FORMAT: u32 = 1;
/// The one directory that everything in an archive is in.
pub const TOP: &str = "doorbell-backup";
/// The manifest's own name.
pub const NAME: &str = "manifest.json";
