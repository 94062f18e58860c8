//! What the daemon says of itself.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The daemon.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct Info {
    /// Its version.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// Oldest protocol version it speaks.
    pub protocol_min: u16,
    /// Newest protocol version it speaks.
    pub protocol_max: u16,
    /// Whether it listens on AF_VSOCK, and if not why.
    pub vsock: String,
    /// Where its state is.
    pub state_dir: String,
    /// Its public key, 64 hexadecimal digits: what a guest pins, and what signs the head of the audit trail.
    #[serde(default)]
    pub key: String,
    /// Guests it knows.
    pub guests: u64,
    /// Guests with an open session.
    pub connected: u64,
    /// When it started, milliseconds since the Unix epoch.
    pub started_at_ms: u64,
    /// What the disk of the state directory refuses now; nothing where all is well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<String>,
}
