//! Guests as the API shows and takes them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A guest to be added. Exactly one of `cid` and `hybrid_socket` is given.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewGuest {
    /// Its name: a-z, 0-9, '-' and '.', at most 63 bytes.
    pub name: String,
    /// The context id its vhost-vsock device has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cid: Option<u32>,
    /// The base path of its hybrid vsock socket; the manager listens on `<path>_707`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hybrid_socket: Option<String>,
    /// The path of its QMP socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qmp: Option<String>,
    /// Its public key, 64 hexadecimal digits, when it is known beforehand: such a guest needs no approval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key: Option<String>,
    /// How many ordinary requests run in it at once, 1 to 8; 1, in order, when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u8>,
}

/// Changes of a guest; what is absent stays as it is.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GuestChange {
    /// Another context id; replaces a hybrid socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cid: Option<u32>,
    /// Another hybrid socket; replaces a context id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hybrid_socket: Option<String>,
    /// Another QMP socket; an empty text removes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qmp: Option<String>,
    /// How many ordinary requests run in it at once, 1 to 8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u8>,
}

/// A guest.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct Guest {
    /// Its name.
    pub name: String,
    /// Its lasting id, 32 hexadecimal digits.
    pub id: String,
    /// Where it is met.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cid: Option<u32>,
    /// Where it is met.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hybrid_socket: Option<String>,
    /// Its QMP socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qmp: Option<String>,
    /// Whether it is there.
    pub presence: Presence,
    /// The fingerprint of its approved key, as OpenSSH prints one (`SHA256:…`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// When it was added, milliseconds since the Unix epoch.
    pub added_at_ms: u64,
    /// When it was last heard of, milliseconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen_ms: Option<u64>,
    /// What it said of itself when it last proved its key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentInfo>,
    /// How many ordinary requests run in it at once.
    pub concurrency: u8,
    /// Requests that have no final state yet.
    pub open_requests: u64,
}

/// Whether a guest is there. A signal of its own, never inferred from requests.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Presence {
    /// Never met with an approved key.
    Never,
    /// An agent with a key that nobody has approved was met.
    Pending,
    /// A proved session is open.
    Connected,
    /// No session is open.
    Gone,
    /// It presented a stale session token: a copy, or rewound.
    Fenced,
}

/// What an agent says of itself.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct AgentInfo {
    /// Its version.
    pub version: String,
    /// The protocol version of the session.
    pub protocol: u16,
    /// The run of the guest's kernel.
    pub boot_id: String,
    /// What it can do.
    pub capabilities: Vec<String>,
}

/// A key that waits for the operator.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct PendingKey {
    /// The guest it claims to be, by where it was met.
    pub guest: String,
    /// Its fingerprint, to be compared with the one the agent prints on the guest's console.
    pub fingerprint: String,
    /// Where it was met: `cid 7` or the socket's path.
    pub met_at: String,
    /// When it was last met, milliseconds since the Unix epoch.
    pub seen_at_ms: u64,
}

/// An approval.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Approval {
    /// Approve only a key with this fingerprint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
}
