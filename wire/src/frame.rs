//! The envelope: a stream of bytes becomes frames, and frames become bytes.
//!
//! Called by both drivers between the socket and the session. Trusts nothing: a length is checked against
//! its kind's limit at the one place where it is read, before anything is kept for it.
//!
//! ```text
//! offset  0     1      2          6           10
//!         kind  flags  length LE  CRC32C LE   payload …
//! ```
//! The checksum covers the first six bytes and the payload. The ring is the exception: its frame is its kind
//! byte and nothing else. A byte that a fault turned into a ring costs one pull; a ring that a fault turned
//! into another byte ends the session, and a new session pulls.

use crate::error::Malformed;
use crate::limits::{HEADER_LEN, PAYLOAD_LEN_MAX};
use crate::message::Kind;

/// One frame with a checked envelope and an unread payload.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Frame {
    /// What the payload is.
    pub kind: Kind,
    /// The payload, within its kind's limit.
    pub payload: Vec<u8>,
}

impl Frame {
    /// A frame of this kind.
    ///
    /// # Errors
    /// [`Malformed::TooLong`] when the payload is over its kind's limit.
    pub fn new(kind: Kind, payload: Vec<u8>) -> Result<Self, Malformed> {
        checked_len(kind, payload.len() as u64)?;
        Ok(Self { kind, payload })
    }

    /// Writes the frame behind what is in `out`.
    ///
    /// # Errors
    /// [`Malformed::TooLong`] when the payload is over its kind's limit; `out` is unchanged then.
    pub fn write(&self, out: &mut Vec<u8>) -> Result<(), Malformed> {
        let length = checked_len(self.kind, self.payload.len() as u64)?;
        if self.kind == Kind::Ring {
            out.push(Kind::Ring.byte());
            return Ok(());
        }
        let [a, b, c, d] = length.to_le_bytes();
        let head = [self.kind.byte(), NO_FLAGS, a, b, c, d];
        out.extend_from_slice(&head);
        out.extend_from_slice(&checksum(&head, &self.payload).to_le_bytes());
        out.extend_from_slice(&self.payload);
        Ok(())
    }
}

/// Cuts a stream into frames. Holds at most one unfinished frame.
#[derive(Debug, Default)]
pub struct Deframer {
    pending: Vec<u8>,
    broken: Option<Malformed>,
}

impl Deframer {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes bytes from the front of `bytes` up to the end of one frame, and gives the frame when it is whole.
    /// `None` with an emptied `bytes` means: more is needed. Frames marked as ignorable are passed over.
    ///
    /// # Errors
    /// [`Malformed`]; and the same again at every later call, for there is no way back into a broken stream.
    pub fn next(&mut self, bytes: &mut &[u8]) -> Result<Option<Frame>, Malformed> {
        if let Some(broken) = &self.broken {
            return Err(broken.clone());
        }
        self.advance(bytes).inspect_err(|broken| {
            self.broken = Some(broken.clone());
            self.pending = Vec::new();
        })
    }

    /// Whether a frame has begun and not ended; its deadline runs then.
    #[must_use]
    pub fn is_mid_frame(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Bytes held for an unfinished frame; never more than `HEADER_LEN + PAYLOAD_LEN_MAX`.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.pending.len()
    }

    fn advance(&mut self, bytes: &mut &[u8]) -> Result<Option<Frame>, Malformed> {
        loop {
            if self.pending.is_empty() {
                match bytes.split_first() {
                    Some((&byte, rest)) if byte == Kind::Ring.byte() => {
                        *bytes = rest;
                        return Ok(Some(Frame { kind: Kind::Ring, payload: Vec::new() }));
                    }
                    Some(_) => {}
                    None => return Ok(None),
                }
            }
            let Some(header) = self.header(bytes)? else { return Ok(None) };
            self.take(bytes, HEADER_LEN.saturating_add(header.length));
            if self.pending.len() < HEADER_LEN.saturating_add(header.length) {
                return Ok(None);
            }
            // Handed on and not kept: a connection that is idle after a large frame holds no room for one.
            let mut payload = std::mem::take(&mut self.pending);
            payload.drain(..HEADER_LEN);
            verify(&header, &payload)?;
            if let Some(kind) = header.kind {
                return Ok(Some(Frame { kind, payload }));
            }
        }
    }

    /// The header, checked, as soon as it is there; its kind and flags as soon as those are.
    fn header(&mut self, bytes: &mut &[u8]) -> Result<Option<Header>, Malformed> {
        self.take(bytes, HEADER_LEN);
        let Some((&byte, behind)) = self.pending.split_first() else { return Ok(None) };
        let kind = known(byte)?;
        if let Some(&flags) = behind.first().filter(|&&flags| flags != NO_FLAGS) {
            return Err(Malformed::Flags { kind: byte, flags });
        }
        let Some(header) = self.pending.first_chunk::<HEADER_LEN>() else { return Ok(None) };
        let [byte, flags, l0, l1, l2, l3, c0, c1, c2, c3] = *header;
        let claimed = u32::from_le_bytes([l0, l1, l2, l3]);
        let max = kind.map_or(PAYLOAD_LEN_MAX, Kind::payload_len_max);
        let what = kind.map_or("unknown frame", Kind::name);
        let length = usize::try_from(claimed)
            .ok()
            .filter(|&length| length <= max)
            .ok_or_else(|| Malformed::TooLong { what, got: u64::from(claimed), max: max as u64 })?;
        let head = [byte, flags, l0, l1, l2, l3];
        Ok(Some(Header { kind, head, length, checksum: u32::from_le_bytes([c0, c1, c2, c3]) }))
    }

    /// Moves bytes over until `want` are pending.
    fn take(&mut self, bytes: &mut &[u8], want: usize) {
        let missing = want.saturating_sub(self.pending.len()).min(bytes.len());
        if let Some((taken, rest)) = bytes.split_at_checked(missing) {
            self.pending.extend_from_slice(taken);
            *bytes = rest;
        }
    }
}

struct Header {
    kind: Option<Kind>,
    head: [u8; 6],
    length: usize,
    checksum: u32,
}

/// The kind of a frame, `None` for an unknown one that may be passed over.
fn known(byte: u8) -> Result<Option<Kind>, Malformed> {
    match Kind::from_byte(byte) {
        // A ring has no header, so it cannot start what came this far.
        Some(Kind::Ring) => Err(Malformed::UnknownKind { kind: byte }),
        Some(kind) => Ok(Some(kind)),
        None if byte & Kind::IGNORABLE == Kind::IGNORABLE => Ok(None),
        None => Err(Malformed::UnknownKind { kind: byte }),
    }
}

fn verify(header: &Header, payload: &[u8]) -> Result<(), Malformed> {
    let expected = checksum(&header.head, payload);
    if expected == header.checksum {
        return Ok(());
    }
    let [kind, ..] = header.head;
    Err(Malformed::Checksum { kind, got: header.checksum, expected })
}

fn checksum(head: &[u8; 6], payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(head), payload)
}

fn checked_len(kind: Kind, length: u64) -> Result<u32, Malformed> {
    let max = kind.payload_len_max() as u64;
    let too_long = || Malformed::TooLong { what: kind.name(), got: length, max };
    u32::try_from(length).ok().filter(|_| length <= max).ok_or_else(too_long)
}

const NO_FLAGS: u8 = 0;
