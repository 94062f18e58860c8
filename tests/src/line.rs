//! A connection spoken by hand: whole frames, or any bytes at all, and what comes back.
//!
//! Used by [`crate::honest`], [`crate::rogue`] and by tests that break the rules.

use crate::wait::within;
use doorbell_wire::frame::{Deframer, Frame};
use doorbell_wire::message::{FromGuest, FromHost};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// What a connection gave.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Heard {
    /// A frame.
    Frame(Frame),
    /// Its end.
    Closed,
}

/// A connection.
#[derive(Debug)]
pub struct Line {
    stream: UnixStream,
    deframer: Deframer,
    bytes: Vec<u8>,
}

impl Line {
    /// Dials.
    #[must_use]
    pub fn dial(path: &Path) -> Self {
        Self::new(within(Duration::from_secs(10), &path.display().to_string(), || {
            UnixStream::connect(path).ok()
        }))
    }

    /// Takes over a connection.
    #[must_use]
    pub fn new(stream: UnixStream) -> Self {
        stream.set_read_timeout(Some(READ_IN)).expect("a read timeout");
        Self { stream, deframer: Deframer::new(), bytes: Vec::new() }
    }

    /// Sends bytes; whether they could all be sent.
    pub fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// Sends a frame of the agent's.
    pub fn say(&mut self, message: &FromGuest) -> bool {
        self.send(&guest_bytes(message))
    }

    /// Sends a frame of the manager's.
    pub fn order(&mut self, message: &FromHost) -> bool {
        self.send(&host_bytes(message))
    }

    /// The next frame or the end, when it comes within one read.
    pub fn try_hear(&mut self) -> Option<Heard> {
        loop {
            let mut rest = self.bytes.as_slice();
            let frame = self.deframer.next(&mut rest).expect("frames of a real part are well-formed");
            self.bytes = rest.to_vec();
            if let Some(frame) = frame {
                return Some(Heard::Frame(frame));
            }
            let mut buffer = [0; 64 * 1024];
            match self.stream.read(&mut buffer) {
                Ok(0) => return Some(Heard::Closed),
                Ok(count) => self.bytes.extend_from_slice(&buffer[..count]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return None;
                }
                Err(_) => return Some(Heard::Closed),
            }
        }
    }

    /// The next frame or the end.
    #[must_use]
    pub fn hear(&mut self) -> Heard {
        within(Duration::from_secs(90), "the peer to say something", || self.try_hear())
    }

    /// The next message of the manager.
    #[must_use]
    pub fn hear_host(&mut self) -> FromHost {
        match self.hear() {
            Heard::Frame(frame) => FromHost::from_frame(&frame).expect("a frame of the manager's"),
            Heard::Closed => panic!("the manager closed the connection"),
        }
    }

    /// The next message of the agent.
    #[must_use]
    pub fn hear_guest(&mut self) -> FromGuest {
        match self.hear() {
            Heard::Frame(frame) => FromGuest::from_frame(&frame).expect("a frame of the agent's"),
            Heard::Closed => panic!("the agent closed the connection"),
        }
    }

    /// Waits for the end, and gives what came before it.
    #[must_use]
    pub fn closed_within(&mut self, limit: Duration) -> Vec<Frame> {
        let mut frames = Vec::new();
        within(limit, "the peer to close the connection", || {
            loop {
                match self.try_hear()? {
                    Heard::Closed => return Some(()),
                    Heard::Frame(frame) => frames.push(frame),
                }
            }
        });
        frames
    }

    /// The socket below.
    #[must_use]
    pub const fn stream(&self) -> &UnixStream {
        &self.stream
    }
}

/// The bytes of a message of the agent's.
#[must_use]
pub fn guest_bytes(message: &FromGuest) -> Vec<u8> {
    bytes(&message.to_frame().expect("a message that fits"))
}

/// The bytes of a message of the manager's.
#[must_use]
pub fn host_bytes(message: &FromHost) -> Vec<u8> {
    bytes(&message.to_frame().expect("a message that fits"))
}

/// The bytes of a frame.
#[must_use]
pub fn bytes(frame: &Frame) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame.write(&mut bytes).expect("a frame that fits");
    bytes
}

const READ_IN: Duration = Duration::from_millis(20);
