//! How a session opens: greeting, hello and welcome.
//!
//! Read by both halves and by whoever proves or checks a key; [`crate::handshake`] binds them together.

use crate::ids::{BootId, Generation, Nonce, PublicKey, SessionToken, ShortText, Signature};
use serde::{Deserialize, Serialize};

/// The manager's opening.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Greeting {
    /// Oldest protocol version the manager speaks.
    pub version_min: u16,
    /// Newest protocol version the manager speaks.
    pub version_max: u16,
    /// Fresh random bytes; the guest's proof covers them.
    pub nonce: Nonce,
    /// The host's clock, milliseconds since the Unix epoch.
    pub host_time_ms: u64,
}

/// What the guest says of itself; the proof covers all of it.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Claims {
    /// The protocol version the guest chose.
    pub version: u16,
    /// Fresh random bytes of the guest.
    pub nonce: Nonce,
    /// The guest's key.
    pub public_key: PublicKey,
    /// The run of the guest's kernel.
    pub boot_id: BootId,
    /// The hypervisor's generation id, where the guest can read one.
    pub generation: Option<Generation>,
    /// The token of the last welcome; none before the first.
    pub token: Option<SessionToken>,
    /// What this agent can do in this guest.
    pub capabilities: Capabilities,
    /// The agent's own version.
    pub agent: ShortText,
    /// Requests up to this sequence are finished and forgotten; 0 when none is.
    pub low_water: u64,
}

/// The guest's answer to the greeting.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// What is claimed.
    pub claims: Claims,
    /// Signature of the claimed key over [`crate::handshake::transcript`].
    pub proof: Signature,
}

/// The manager's acceptance.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Welcome {
    /// What the next hello must present; the agent has it on disk before its first pull.
    pub token: SessionToken,
    /// The host's clock, milliseconds since the Unix epoch.
    pub host_time_ms: u64,
}

/// What an agent can do: a set that survives bits this version does not know.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Capabilities(pub u64);

impl Capabilities {
    /// Runs programs and commands.
    pub const RUN: Self = Self(1);
    /// Lists and switches links.
    pub const LINK: Self = Self(1 << 1);
    /// Ends a program with all it started, by its cgroup.
    pub const CGROUP_KILL: Self = Self(1 << 2);

    /// The names of the known bits, for people.
    pub const NAMES: &'static [(Self, &'static str)] =
        &[(Self::RUN, "run"), (Self::LINK, "link"), (Self::CGROUP_KILL, "cgroup-kill")];

    /// Whether all of `other` are in the set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The set with all of `other` added.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}
