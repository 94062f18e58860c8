//! Receipts: the manager's durable record of what came of a request, with the evidence.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What came of a request.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct Receipt {
    /// When the manager had it on disk, milliseconds since the Unix epoch.
    pub stored_at_ms: u64,
    /// The exit status, when a program exited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<u8>,
    /// The signal's number, when one ended the program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<u8>,
    /// What went wrong, in one line: what was expected, what was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The kernel's error number behind it, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errno: Option<i32>,
    /// The link before the change, read from the guest's kernel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link_before: Option<LinkState>,
    /// The link after the change, read back from the guest's kernel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link_after: Option<LinkState>,
    /// Standard output.
    pub stdout: OutputTotal,
    /// Standard error.
    pub stderr: OutputTotal,
    /// Milliseconds from start to end, by the guest's clock since boot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ran_for_ms: Option<u64>,
    /// The run of the guest's kernel that acknowledged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_id: Option<String>,
    /// The hash of the audit record that was written with this receipt.
    pub audit_hash: String,
}

/// What a stream of a program gave.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct OutputTotal {
    /// Bytes that can be read from the manager.
    pub bytes: u64,
    /// Bytes that were lost: beyond the limit, or with a guest that went down.
    pub lost: u64,
}

/// A link as the guest's kernel shows it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct LinkState {
    /// The kernel's number of it.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its MAC address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// Whether it is administratively up.
    pub up: bool,
    /// Whether it sees a carrier, where it can tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carrier: Option<bool>,
    /// All `IFF_*` flags.
    pub flags: u32,
    /// Its largest packet, in bytes.
    pub mtu: u32,
}
