//! What retention removes, and backups, as the API shows them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a sweep has removed, or would remove.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
pub struct Sweep {
    /// Whether nothing was removed, and this is what would be.
    pub dry_run: bool,
    /// Requests with their receipts; the bytes are those of their output.
    pub requests: Total,
    /// Output of requests that stay.
    pub outputs: Total,
    /// Programs and pushed files.
    pub programs: Total,
    /// Uploads that nobody went on with.
    pub uploads: Total,
    /// Files that an earlier removal or a crash has left.
    pub leftovers: Total,
    /// Ids that are refused no longer when they are sent again.
    pub ids: u64,
    /// What they are, one by one; at most 1000 are listed.
    pub things: Vec<Thing>,
    /// Whether there are more than one sweep takes, or than are listed.
    pub more: bool,
}

/// How many, and how much.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct Total {
    /// How many.
    pub count: u64,
    /// Bytes on the manager's disk.
    pub bytes: u64,
}

/// One thing that retention removes.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct Thing {
    /// What it is.
    pub kind: Kind,
    /// The request's id, or the SHA-256 of a program.
    pub name: String,
    /// Bytes on the manager's disk.
    pub bytes: u64,
    /// Why it goes.
    pub why: Why,
}

/// What is removed.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A request with its receipt and output.
    Request,
    /// The output of a request that stays.
    Output,
    /// A program or a pushed file.
    Program,
    /// An upload.
    Upload,
    /// A file that nothing names.
    Leftover,
}

/// Why it is removed.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// It is older than things of its kind are kept.
    Age,
    /// Together with what is younger it takes more than things of its kind may.
    Size,
    /// Nobody needs it any more.
    Unused,
}

impl Total {
    /// One more.
    pub const fn add(&mut self, bytes: u64) {
        self.count = self.count.saturating_add(1);
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

/// The header that says about how many bytes a backup will have.
pub const BACKUP_ABOUT: &str = "doorbell-backup-about";
