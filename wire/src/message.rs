//! The messages of the channel and the kinds of frame that carry them.
//!
//! Called by both drivers to read a frame for the session and to write what the session sends. Trusts
//! nothing: every field is of a type whose constructor checks it, and decoding goes through it.
//! What a request asks for is in [`action`], what came of it in [`outcome`].

pub mod action;
pub mod outcome;

use crate::codec::{decode, encode};
use crate::error::{Malformed, Reason};
use crate::frame::Frame;
use crate::ids::{
    BootId, Generation, Nonce, PublicKey, RequestId, Sequence, SessionToken, ShortText, Signature,
};
use crate::limits::{CHUNK_LEN_MAX, PAYLOAD_LEN_MAX};
use action::Action;
use outcome::Acknowledgement;
use serde::{Deserialize, Serialize};

macro_rules! messages {
    ($($direction:ident { $($kind:ident = $byte:literal, $name:literal, $max:expr, $body:tt;)* })*) => {
        /// What a frame carries. The high digit tells who sends it: 0 and 1 the manager, 2 the agent.
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub enum Kind { $($(#[doc = $name] $kind,)*)* }

        impl Kind {
            /// Every kind, in the order of the paper's table.
            pub const ALL: &'static [Kind] = &[$($(Kind::$kind,)*)*];

            /// The first byte of a frame of this kind.
            #[must_use]
            pub const fn byte(self) -> u8 {
                match self { $($(Kind::$kind => $byte,)*)* }
            }
            /// The kind's name on paper and in errors.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $($(Kind::$kind => $name,)*)* }
            }
            /// Payload bytes of the largest frame of this kind.
            #[must_use]
            pub const fn payload_len_max(self) -> usize {
                match self { $($(Kind::$kind => $max,)*)* }
            }
            /// The kind with this byte.
            #[must_use]
            pub const fn from_byte(byte: u8) -> Option<Self> {
                match byte { $($($byte => Some(Kind::$kind),)*)* _ => None }
            }
        }

        $(messages!(@direction $direction { $($kind, $name, $body;)* });)*
    };
    (@direction $direction:ident { $($kind:ident, $name:literal, $body:tt;)* }) => {
        impl $direction {
            /// The kind of frame that carries this message.
            #[must_use]
            pub const fn kind(&self) -> Kind {
                match self { $(messages!(@pattern $direction, $kind, $body) => Kind::$kind,)* }
            }

            /// The frame of this message.
            ///
            /// # Errors
            /// [`Malformed::TooLong`] when the body is over its kind's limit.
            pub fn to_frame(&self) -> Result<Frame, Malformed> {
                let payload = match self { $(messages!(@bind $direction, $kind, $body, body) =>
                    messages!(@encode $name, $body, body),)* };
                Ok(Frame { kind: self.kind(), payload })
            }

            /// Reads a frame that the peer of this direction sent.
            ///
            /// # Errors
            /// [`Malformed`] when the body is not one of its kind, or the kind belongs to the other direction.
            #[allow(clippy::wildcard_enum_match_arm, reason = "all other kinds belong to the other direction")]
            pub fn from_frame(frame: &Frame) -> Result<Self, Malformed> {
                match frame.kind {
                    $(Kind::$kind => messages!(@decode $direction, $kind, $name, $body, &frame.payload),)*
                    other => Err(Malformed::WrongDirection { what: other.name() }),
                }
            }
        }
    };
    (@pattern $direction:ident, $kind:ident, ()) => { $direction::$kind };
    (@pattern $direction:ident, $kind:ident, (body)) => { $direction::$kind(_) };
    (@bind $direction:ident, $kind:ident, (), $body:ident) => { $direction::$kind };
    (@bind $direction:ident, $kind:ident, (body), $body:ident) => { $direction::$kind($body) };
    (@encode $name:literal, (), $body:ident) => { Vec::new() };
    (@encode $name:literal, (body), $body:ident) => { encode($name, $body)? };
    (@decode $direction:ident, $kind:ident, $name:literal, (), $bytes:expr) => {
        empty($name, $bytes).map(|()| $direction::$kind)
    };
    (@decode $direction:ident, $kind:ident, $name:literal, (body), $bytes:expr) => {
        decode($name, $bytes).map($direction::$kind)
    };
}

messages! {
    FromHost {
        Ring = 0x07, "RING", 0, ();
        Greeting = 0x10, "GREETING", 64, (body);
        Welcome = 0x11, "WELCOME", 64, (body);
        Offer = 0x12, "OFFER", PAYLOAD_LEN_MAX, (body);
        Nothing = 0x13, "NOTHING", 0, ();
        Chunk = 0x14, "CHUNK", CHUNK_LEN_MAX + 64, (body);
        OutputCredit = 0x15, "OUTPUT_CREDIT", 8, (body);
        Attached = 0x16, "ATTACHED", 64, (body);
        Noted = 0x17, "NOTED", 16, (body);
        Cancel = 0x18, "CANCEL", 16, (body);
        Ping = 0x19, "PING", 16, (body);
        HostBye = 0x1f, "HOST_BYE", 4, (body);
    }
    FromGuest {
        Hello = 0x20, "HELLO", 640, (body);
        Pull = 0x21, "PULL", 0, ();
        Fetch = 0x22, "FETCH", 32, (body);
        ChunkCredit = 0x23, "CHUNK_CREDIT", 8, (body);
        Attach = 0x24, "ATTACH", 16, (body);
        Progress = 0x25, "PROGRESS", 32, (body);
        Output = 0x26, "OUTPUT", CHUNK_LEN_MAX + 64, (body);
        Acknowledge = 0x27, "ACKNOWLEDGE", PAYLOAD_LEN_MAX, (body);
        Pong = 0x28, "PONG", 16, (body);
        GuestBye = 0x2f, "GUEST_BYE", 4, (body);
    }
}

impl Kind {
    /// A kind with this bit set may be passed over by a side that does not know it.
    pub const IGNORABLE: u8 = 0x80;
}

/// What the manager sends.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum FromHost {
    /// There is something for you. One byte, no envelope, no data; level, not edge.
    Ring,
    /// The first frame of a connection.
    Greeting(Greeting),
    /// The guest's key is proved; the session is open.
    Welcome(Welcome),
    /// The next request.
    Offer(Box<Offer>),
    /// No request is waiting.
    Nothing,
    /// Program bytes.
    Chunk(Chunk),
    /// So many output bytes are spooled; as many more may come.
    OutputCredit(Credit),
    /// Where the output of a request in hand continues.
    Attached(Attached),
    /// The outcome is stored; the agent may forget it.
    Noted(RequestId),
    /// End this request if it has not ended.
    Cancel(RequestId),
    /// The heartbeat; its number comes back.
    Ping(u64),
    /// The manager ends the session.
    HostBye(Reason),
}

/// What the agent sends.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum FromGuest {
    /// Who the guest is, with the proof.
    Hello(Box<Hello>),
    /// Give me the next request.
    Pull,
    /// Send the program of the request in hand.
    Fetch(Fetch),
    /// So many program bytes are staged; as many more may come.
    ChunkCredit(Credit),
    /// A request from an earlier session is still in hand.
    Attach(RequestId),
    /// A station was reached.
    Progress(Progress),
    /// Output bytes of the request in hand.
    Output(Output),
    /// What came of the request in hand.
    Acknowledge(Box<Acknowledgement>),
    /// The answer to a heartbeat.
    Pong(u64),
    /// The agent ends the session.
    GuestBye(Reason),
}

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

/// One request.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Offer {
    /// Its name.
    pub request: RequestId,
    /// Its place in the guest's order; `None` makes it a query, which no journal keeps.
    pub sequence: Option<Sequence>,
    /// What is to be done.
    pub action: Action,
    /// Milliseconds the program may run once it has started; `None` is no limit.
    pub timeout_ms: Option<u64>,
    /// Whether an interrupted start may be started again.
    pub idempotent: bool,
}

/// Program bytes.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Chunk {
    /// The request whose program this is.
    pub request: RequestId,
    /// Where the bytes belong.
    pub offset: u64,
    /// The bytes.
    #[serde(with = "serde_bytes")]
    pub bytes: Vec<u8>,
}

/// Bulk bytes that may be sent beyond what could be sent before.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Credit {
    /// How many.
    pub bytes: u32,
}

/// The manager's answer to an attach.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Attached {
    /// The request.
    pub request: RequestId,
    /// Where its output continues; `None` when the manager has no such request and wants no output.
    pub from: Option<Offsets>,
}

/// A place in each of a request's two streams.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Offsets {
    /// Bytes of standard output.
    pub stdout: u64,
    /// Bytes of standard error.
    pub stderr: u64,
}

/// Which program bytes are wanted.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Fetch {
    /// The request whose program is wanted.
    pub request: RequestId,
    /// The first byte wanted.
    pub offset: u64,
}

/// A station the request has reached in the guest.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// The request.
    pub request: RequestId,
    /// The station.
    pub stage: Stage,
    /// The guest's clock since boot, in milliseconds, suspended time included.
    pub at_ms: u64,
}

/// Stations inside the guest.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub enum Stage {
    /// All program bytes are staged.
    Fetched,
    /// The program has the digest that was offered.
    Verified,
    /// The start is on the guest's disk.
    Journalled,
    /// The effect has begun.
    Started,
}

/// Output bytes.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Output {
    /// The request that printed them.
    pub request: RequestId,
    /// Which stream.
    pub stream: Stream,
    /// Where the bytes belong in that stream.
    pub offset: u64,
    /// The bytes.
    #[serde(with = "serde_bytes")]
    pub bytes: Vec<u8>,
}

/// One of a program's two output streams.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
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

fn empty(what: &'static str, bytes: &[u8]) -> Result<(), Malformed> {
    match bytes.len() {
        0 => Ok(()),
        count => Err(Malformed::Leftover { what, count }),
    }
}
