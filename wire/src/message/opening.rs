//! How a session opens: greeting, hello and welcome.
//!
//! Read by both halves and by whoever proves or checks a key; [`crate::handshake`] binds them together.

use super::request::sequence_or_zero;
use crate::codec::{decode, decode_part, encode};
use crate::error::Malformed;
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
    /// The highest sequence this guest has a trace of; 0 when it has none. A manager that was restored from a
    /// backup begins above it.
    #[serde(deserialize_with = "sequence_or_zero")]
    pub sequence_max: u64,
    /// The guest's clock since boot, in microseconds, suspended time included.
    pub clock_us: u64,
}

/// The guest's answer to the greeting. What is written of it by itself is what version 0 has; an enrolment stands behind
/// that.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(from = "PlainHello", into = "PlainHello")]
pub struct Hello {
    /// What is claimed.
    pub claims: Claims,
    /// Signature of the claimed key over [`crate::handshake::transcript`].
    pub proof: Signature,
    /// That whoever claims the key was given a one-time token; since version 1.
    pub enrolment: Option<Enrolment>,
}

/// A one-time token by its public half, and that the guest holds the other one.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Enrolment {
    /// The token's public key.
    pub token: PublicKey,
    /// Its signature over [`crate::handshake::enrolment_transcript`].
    pub proof: Signature,
}

/// A hello without an enrolment.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct PlainHello {
    claims: Claims,
    proof: Signature,
}

impl From<PlainHello> for Hello {
    fn from(PlainHello { claims, proof }: PlainHello) -> Self {
        Self { claims, proof, enrolment: None }
    }
}

impl From<Hello> for PlainHello {
    fn from(Hello { claims, proof, enrolment: _ }: Hello) -> Self {
        Self { claims, proof }
    }
}

/// The body of HELLO: the hello, and its enrolment where it has one.
pub(super) fn encode_hello(what: &'static str, hello: &Hello) -> Result<Vec<u8>, Malformed> {
    let mut bytes = encode(what, hello)?;
    if let Some(enrolment) = &hello.enrolment {
        bytes.extend(encode(what, enrolment)?);
    }
    Ok(bytes)
}

/// The body of HELLO, read.
pub(super) fn decode_hello(what: &'static str, bytes: &[u8]) -> Result<Box<Hello>, Malformed> {
    let (mut hello, behind) = decode_part::<Hello>(what, bytes)?;
    if !behind.is_empty() {
        hello.enrolment = Some(decode(what, behind)?);
    }
    Ok(Box::new(hello))
}

/// The manager's acceptance. What is written of it by itself is what version 0 has; a proof stands behind that.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(from = "Plain", into = "Plain")]
pub struct Welcome {
    /// What the next hello must present; the agent has it on disk before its first pull.
    pub token: SessionToken,
    /// The host's clock, milliseconds since the Unix epoch.
    pub host_time_ms: u64,
    /// That the manager holds its key, for an agent that takes it; since version 1.
    pub proof: Option<ManagerProof>,
}

/// A manager's key, and that whoever sends it holds it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct ManagerProof {
    /// The manager's key.
    pub public_key: PublicKey,
    /// Its signature over [`crate::handshake::manager_transcript`].
    pub signature: Signature,
}

/// A welcome without a proof.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Plain {
    token: SessionToken,
    host_time_ms: u64,
}

impl From<Plain> for Welcome {
    fn from(Plain { token, host_time_ms }: Plain) -> Self {
        Self { token, host_time_ms, proof: None }
    }
}

impl From<Welcome> for Plain {
    fn from(Welcome { token, host_time_ms, proof: _ }: Welcome) -> Self {
        Self { token, host_time_ms }
    }
}

/// The body of WELCOME: the welcome, and its proof where it has one.
pub(super) fn encode_welcome(what: &'static str, welcome: &Welcome) -> Result<Vec<u8>, Malformed> {
    let mut bytes = encode(what, welcome)?;
    if let Some(proof) = &welcome.proof {
        bytes.extend(encode(what, proof)?);
    }
    Ok(bytes)
}

/// The body of WELCOME, read.
pub(super) fn decode_welcome(what: &'static str, bytes: &[u8]) -> Result<Welcome, Malformed> {
    let (welcome, behind) = decode_part::<Welcome>(what, bytes)?;
    let proof = if behind.is_empty() { None } else { Some(decode(what, behind)?) };
    Ok(Welcome { proof, ..welcome })
}

/// How the agent comes to its requests where nobody rings; since version 1.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Polls {
    /// Milliseconds between two connections of the agent, without its jitter.
    pub every_ms: u32,
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
    /// Limits the memory, the processes and the processor time of a program.
    pub const LIMITS: Self = Self(1 << 3);
    /// Gives a program a terminal of its own.
    pub const TERMINAL: Self = Self(1 << 4);
    /// Puts and gets files.
    pub const FILES: Self = Self(1 << 5);
    /// Takes an offer behind a ring without a pull.
    pub const PUSH: Self = Self(1 << 6);
    /// Reboots the guest for a request, and goes on behind that.
    pub const REBOOT: Self = Self(1 << 7);
    /// Sets the guest's clock by the host's.
    pub const CLOCK: Self = Self(1 << 8);
    /// Looks into a shared directory when it is rung.
    pub const SHARE: Self = Self(1 << 9);
    /// Has a policy, says what it would decide, and names the rule in a refusal.
    pub const POLICY: Self = Self(1 << 10);
    /// Checks the signature of a request.
    pub const SIGNED: Self = Self(1 << 11);
    /// Takes the proof of the manager's key.
    pub const MANAGER_PROOF: Self = Self(1 << 12);

    /// The names of the known bits, for people.
    pub const NAMES: &'static [(Self, &'static str)] = &[
        (Self::RUN, "run"),
        (Self::LINK, "link"),
        (Self::CGROUP_KILL, "cgroup-kill"),
        (Self::LIMITS, "limits"),
        (Self::TERMINAL, "terminal"),
        (Self::FILES, "files"),
        (Self::PUSH, "push"),
        (Self::REBOOT, "reboot"),
        (Self::CLOCK, "clock"),
        (Self::SHARE, "share"),
        (Self::POLICY, "policy"),
        (Self::SIGNED, "signed"),
        (Self::MANAGER_PROOF, "manager-proof"),
    ];

    /// The set without what a session of this version does not have.
    #[must_use]
    pub const fn of_version(self, version: u16) -> Self {
        if version == 0 { Self(self.0 & VERSION_0) } else { self }
    }

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

/// The capabilities of the first version.
const VERSION_0: u64 = 0x3f;
