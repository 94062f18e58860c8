//! The messages of the channel and the kinds of frame that carry them.
//!
//! Called by both drivers to read a frame for the session and to write what the session sends. Trusts
//! nothing: every field is of a type whose constructor checks it, and decoding goes through it.
//! What a request asks for is in [`action`], what came of it in [`outcome`].

pub mod action;
mod bulk;
mod kind;
mod list;
mod opening;
pub mod outcome;
mod request;
mod signed;

pub use bulk::{
    Attach, Attached, Chunk, Credit, Fetch, Input, InputCredit, InputEnd, Offsets, Output, Resize, Spooled,
    Stream,
};
pub use opening::{Capabilities, Claims, Enrolment, Greeting, Hello, ManagerProof, Polls, Welcome};
pub(crate) use request::SEQUENCE_MAX;
pub use request::{Offer, Progress, Push, Stage};
pub use signed::{Proof, Signed, SshSignature, Target, Terms};

use crate::codec::{decode, encode};
use crate::error::{Malformed, Reason};
use crate::frame::Frame;
use crate::ids::RequestId;
use crate::limits::{CHUNK_LEN_MAX, PAYLOAD_LEN_MAX};
use kind::{empty, messages};
use opening::{decode_hello, decode_welcome, encode_hello, encode_welcome};
use outcome::Acknowledgement;
use request::{decode_offer, decode_push, encode_offer, encode_push};

messages! {
    FromHost {
        Ring = 0x07, "RING", 0, ();
        Greeting = 0x10, "GREETING", 64, (body);
        Welcome = 0x11, "WELCOME", 160, (welcome);
        Offer = 0x12, "OFFER", PAYLOAD_LEN_MAX, (offer);
        Nothing = 0x13, "NOTHING", 0, ();
        Chunk = 0x14, "CHUNK", CHUNK_LEN_MAX + 64, (body);
        OutputCredit = 0x15, "OUTPUT_CREDIT", 40, (body);
        Attached = 0x16, "ATTACHED", 64, (body);
        Noted = 0x17, "NOTED", 16, (body);
        Cancel = 0x18, "CANCEL", 16, (body);
        Ping = 0x19, "PING", 16, (body);
        Input = 0x1a, "INPUT", CHUNK_LEN_MAX + 64, (body);
        InputEnd = 0x1b, "INPUT_END", 32, (body);
        Resize = 0x1c, "RESIZE", 32, (body);
        Push = 0x1d, "PUSH", PAYLOAD_LEN_MAX, (push);
        Clock = 0x1e, "CLOCK", 16, (body);
        HostBye = 0x1f, "HOST_BYE", 4, (body);
    }
    FromGuest {
        Hello = 0x20, "HELLO", 640, (hello);
        Pull = 0x21, "PULL", 0, ();
        Fetch = 0x22, "FETCH", 32, (body);
        ChunkCredit = 0x23, "CHUNK_CREDIT", 8, (body);
        Attach = 0x24, "ATTACH", 40, (body);
        Progress = 0x25, "PROGRESS", 32, (body);
        Output = 0x26, "OUTPUT", CHUNK_LEN_MAX + 64, (body);
        Acknowledge = 0x27, "ACKNOWLEDGE", PAYLOAD_LEN_MAX, (body);
        Pong = 0x28, "PONG", 16, (body);
        InputCredit = 0x29, "INPUT_CREDIT", 32, (body);
        Polls = 0x2a, "POLLS", 8, (body);
        GuestBye = 0x2f, "GUEST_BYE", 4, (body);
    }
}

impl Kind {
    /// The protocol version that brought this kind. It is neither sent nor taken in a session of an earlier one.
    #[must_use]
    pub const fn since(self) -> u16 {
        match self {
            Self::Push | Self::Clock | Self::Polls => 1,
            Self::Ring
            | Self::Greeting
            | Self::Welcome
            | Self::Offer
            | Self::Nothing
            | Self::Chunk
            | Self::OutputCredit
            | Self::Attached
            | Self::Noted
            | Self::Cancel
            | Self::Ping
            | Self::Input
            | Self::InputEnd
            | Self::Resize
            | Self::HostBye
            | Self::Hello
            | Self::Pull
            | Self::Fetch
            | Self::ChunkCredit
            | Self::Attach
            | Self::Progress
            | Self::Output
            | Self::Acknowledge
            | Self::Pong
            | Self::InputCredit
            | Self::GuestBye => 0,
        }
    }

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
    /// Output is stored; as much more may come.
    OutputCredit(Spooled),
    /// Where the output of a request in hand continues.
    Attached(Attached),
    /// The outcome is stored; the agent may forget it.
    Noted(RequestId),
    /// End this request if it has not ended.
    Cancel(RequestId),
    /// The heartbeat; its number comes back.
    Ping(u64),
    /// Input bytes of a request in hand.
    Input(Input),
    /// That was all the input.
    InputEnd(InputEnd),
    /// The terminal of a request in hand has another size.
    Resize(Resize),
    /// A request that nobody pulled for; it follows its ring at once.
    Push(Box<Push>),
    /// Set the guest's clock to this: the host's, milliseconds since the Unix epoch.
    Clock(u64),
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
    /// Send the program or file of a request in hand.
    Fetch(Fetch),
    /// So many program bytes are staged; as many more may come.
    ChunkCredit(Credit),
    /// A request from an earlier session is still in hand.
    Attach(Attach),
    /// A station was reached.
    Progress(Progress),
    /// Output bytes of a request in hand.
    Output(Output),
    /// What came of a request in hand.
    Acknowledge(Box<Acknowledgement>),
    /// The answer to a heartbeat.
    Pong(u64),
    /// The program has taken so much of its input; as much more may come.
    InputCredit(InputCredit),
    /// The agent closes when nothing waits, and comes back on a timer.
    Polls(Polls),
    /// The agent ends the session.
    GuestBye(Reason),
}
