//! Guests as the API shows and takes them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A guest to be added. At most one of `cid` and `hybrid_socket` is given, and one of these or `share`.
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
    /// A directory of the host that the guest shares: requests are put there too, or only there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<String>,
    /// How its requests come to it; `ring` when absent, `store` where it has a share and nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trigger: Option<Trigger>,
    /// Whether its clock is set to the host's at each session; not when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set_clock: Option<bool>,
    /// The tenant that owns it; nobody but those who see all when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// A one-time token by which its own key is taken, once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enrolment: Option<NewEnrolment>,
    /// Take the first key that is met without an approval; only with a `cid`, and not when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust_first_key: Option<bool>,
}

/// A one-time token for a guest: an Ed25519 key, of which the manager is told the public half.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewEnrolment {
    /// The public half, 64 hexadecimal digits. The agent signs with the other one.
    pub token: String,
    /// Milliseconds until it is good for nothing, 1 s to 30 days; a day when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_ms: Option<u64>,
}

/// How requests come to a guest. Whatever it is, an agent that polls by itself is answered.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Trigger {
    /// It is rung, and pulls.
    #[default]
    Ring,
    /// It is never rung: its agent asks on a timer.
    Poll,
    /// The request, and its program where that is small, follow the ring at once, where the agent can take them.
    Push,
    /// A prompt lies in the shared directory, and its agent looks there on a timer.
    Store,
    /// A prompt lies in the shared directory, and a ring makes its agent look there at once.
    RingStore,
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
    /// Another shared directory; an empty text removes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<String>,
    /// How its requests come to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trigger: Option<Trigger>,
    /// Whether its clock is set to the host's at each session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set_clock: Option<bool>,
    /// Another owner; an empty text leaves it without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
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
    /// The tenant that owns it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Whether it is there.
    pub presence: Presence,
    /// What its hypervisor says of it, where it has a QMP socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub power: Option<Power>,
    /// The fingerprint of its approved key, as OpenSSH prints one (`SHA256:…`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// The fingerprints of the keys that were rejected here: to approve one by its own lets it in after all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rejected: Vec<String>,
    /// Whether the first key that is met is taken without an approval; not any more once there is one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub trust_first_key: bool,
    /// Until when a one-time token that nobody has used yet is good, milliseconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enrolment_until_ms: Option<u64>,
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
    /// Its directories in the spool: what is put into `inbox` below it becomes a request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spool: Option<String>,
    /// The directory that it shares with the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<String>,
    /// How its requests come to it.
    #[serde(default)]
    pub trigger: Trigger,
    /// Whether its clock is set to the host's at each session.
    #[serde(default)]
    pub set_clock: bool,
    /// A copy of it that was met and turned away since its key was last approved: a clone, or a rewound snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copy: Option<CopyMet>,
}

/// A bearer of a guest's key with a stale session token.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct CopyMet {
    /// The run of its kernel.
    pub boot_id: String,
    /// Where it was met.
    pub met_at: String,
    /// When it was last met, milliseconds since the Unix epoch.
    pub seen_at_ms: u64,
    /// Why it was turned away.
    pub reason: String,
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
    /// A proved session is open, and nothing was heard in it for longer than a heartbeat takes.
    Silent,
    /// No session is open, and its agent comes back on a timer.
    Polling,
    /// Its virtual machine is paused, as its monitor says.
    Paused,
    /// Its virtual machine is off, as its monitor says.
    Off,
    /// No session is open.
    Gone,
    /// It presented a stale session token: a copy, or rewound.
    Fenced,
}

/// What its hypervisor says of a guest.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct Power {
    /// Whether its machine runs.
    pub state: PowerState,
    /// In the hypervisor's own word, or why nothing is known.
    pub status: String,
    /// Since when, milliseconds since the Unix epoch.
    pub since_ms: u64,
}

/// Whether a guest's machine runs.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PowerState {
    /// Nobody says.
    #[default]
    Unknown,
    /// It runs.
    Running,
    /// It stands still.
    Paused,
    /// There is no machine, or one that was shut down.
    Off,
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
    /// Milliseconds between its polls; absent where it keeps its connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub polls_every_ms: Option<u32>,
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

/// A rejection.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Rejection {
    /// Reject only a key with this fingerprint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
}
