//! What the suites of the wire share: sample messages, and sessions in every state.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "each suite uses a part, and a broken assumption of a test must end it"
)]

pub mod paper;
pub mod samples;
pub mod walk;

use doorbell_wire::error::Malformed;
use doorbell_wire::frame::{Deframer, Frame};
use doorbell_wire::ids::{RequestId, Tick};
use doorbell_wire::message::{FromGuest, FromHost};

/// A message of either side.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Message {
    Host(FromHost),
    Guest(FromGuest),
}

impl Message {
    pub fn frame(&self) -> Frame {
        match self {
            Self::Host(message) => message.to_frame().unwrap(),
            Self::Guest(message) => message.to_frame().unwrap(),
        }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.frame().write(&mut bytes).unwrap();
        bytes
    }

    pub fn read(frame: &Frame) -> Result<Self, Malformed> {
        match FromHost::from_frame(frame) {
            Err(Malformed::WrongDirection { .. }) => FromGuest::from_frame(frame).map(Self::Guest),
            read => read.map(Self::Host),
        }
    }
}

/// All frames of a stream that comes in one piece, and how it ends.
pub fn deframe(bytes: &[u8]) -> (Vec<Frame>, Result<Deframer, Malformed>) {
    let mut deframer = Deframer::new();
    let mut rest = bytes;
    let mut frames = Vec::new();
    loop {
        match deframer.next(&mut rest) {
            Ok(Some(frame)) => frames.push(frame),
            Ok(None) => return (frames, Ok(deframer)),
            Err(error) => return (frames, Err(error)),
        }
    }
}

/// The bytes of a frame whose envelope is as it should be around whatever payload.
pub fn envelope(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_le_bytes();
    let head = [kind, flags, length[0], length[1], length[2], length[3]];
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&head), payload);
    [&head[..], &checksum.to_le_bytes(), payload].concat()
}

pub fn id(byte: u8) -> RequestId {
    RequestId::new([byte; 16])
}

pub const START: Tick = Tick(1_000_000);
