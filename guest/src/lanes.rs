//! What is on its way out: control in front of bulk.
//!
//! Called by `link`. A frame that has begun is written to its end; then control goes first. Bulk frames are
//! made only while less than one chunk of them waits, so that nothing urgent stands behind more than that.

use doorbell_wire::error::Malformed;
use doorbell_wire::ids::Tick;
use doorbell_wire::limits::{CHUNK_LEN_MAX, WRITE_MS_MAX};
use doorbell_wire::message::{FromGuest, Kind};
use std::io::{self, Write};

/// Both lanes and the frame between them and the socket.
#[derive(Debug, Default)]
pub struct Lanes {
    writing: Vec<u8>,
    written: usize,
    control: Vec<u8>,
    bulk: Vec<u8>,
    waiting_since: Option<Tick>,
}

impl Lanes {
    /// Adds a message.
    ///
    /// # Errors
    /// [`Malformed`] when it does not fit a frame.
    pub fn push(&mut self, message: &FromGuest) -> Result<(), Malformed> {
        let frame = message.to_frame()?;
        let lane = if frame.kind == Kind::Output { &mut self.bulk } else { &mut self.control };
        frame.write(lane)
    }

    /// Whether a bulk frame may be made.
    #[must_use]
    pub fn has_bulk_room(&self) -> bool {
        self.bulk.len().saturating_add(self.unwritten()) < CHUNK_LEN_MAX
    }

    /// Whether no bulk waits that a control frame could overtake.
    #[must_use]
    pub const fn bulk_is_empty(&self) -> bool {
        self.bulk.is_empty()
    }

    /// Whether so much control waits that nothing more should be read that would be answered.
    #[must_use]
    pub const fn is_clogged(&self) -> bool {
        self.control.len() > CONTROL_LEN_MAX
    }

    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.unwritten() == 0 && self.control.is_empty() && self.bulk.is_empty()
    }

    /// When a peer that takes nothing is given up.
    #[must_use]
    pub fn deadline(&self) -> Option<Tick> {
        self.waiting_since.map(|since| since.after(WRITE_MS_MAX))
    }

    /// Writes as much as the socket takes.
    ///
    /// # Errors
    /// The kernel's error; one that only says "later" is none.
    pub fn flush(&mut self, stream: &mut impl Write, now: Tick) -> io::Result<()> {
        loop {
            if self.unwritten() == 0 && !self.take_next() {
                self.waiting_since = None;
                return Ok(());
            }
            match stream.write(self.writing.get(self.written..).unwrap_or_default()) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    self.written = self.written.saturating_add(count);
                    self.waiting_since = None;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.waiting_since = self.waiting_since.or(Some(now));
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn unwritten(&self) -> usize {
        self.writing.len().saturating_sub(self.written)
    }

    fn take_next(&mut self) -> bool {
        let lane = if self.control.is_empty() { &mut self.bulk } else { &mut self.control };
        self.writing.clear();
        self.written = 0;
        std::mem::swap(&mut self.writing, lane);
        !self.writing.is_empty()
    }
}

/// Far more than an honest manager's questions give in answers.
const CONTROL_LEN_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use doorbell_wire::frame::Deframer;
    use doorbell_wire::ids::RequestId;
    use doorbell_wire::message::{Output, Stream};

    /// Takes `room` bytes and then says "later".
    struct Narrow {
        room: usize,
        got: Vec<u8>,
    }

    impl Write for Narrow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = bytes.len().min(self.room);
            if count == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.room -= count;
            self.got.extend_from_slice(&bytes[..count]);
            Ok(count)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn output(len: usize) -> FromGuest {
        let request = RequestId::new([0; 16]);
        FromGuest::Output(Output { request, stream: Stream::Stdout, offset: 0, bytes: vec![0; len] })
    }

    #[test]
    fn control_overtakes_bulk_between_frames_only() {
        let mut lanes = Lanes::default();
        lanes.push(&output(1_000)).unwrap();
        let mut narrow = Narrow { room: 100, got: Vec::new() };
        lanes.flush(&mut narrow, Tick(1)).unwrap();
        lanes.push(&output(1_000)).unwrap();
        lanes.push(&FromGuest::Pong(7)).unwrap();
        narrow.room = usize::MAX;
        lanes.flush(&mut narrow, Tick(2)).unwrap();
        let mut deframer = Deframer::new();
        let mut bytes = narrow.got.as_slice();
        let kinds: Vec<_> =
            std::iter::from_fn(|| deframer.next(&mut bytes).unwrap().map(|frame| frame.kind)).collect();
        assert_eq!(kinds, [Kind::Output, Kind::Pong, Kind::Output]);
        assert!(lanes.is_empty() && !deframer.is_mid_frame());
    }

    #[test]
    fn a_full_chunk_leaves_no_room_for_another() {
        let mut lanes = Lanes::default();
        assert!(lanes.has_bulk_room() && lanes.bulk_is_empty());
        lanes.push(&output(CHUNK_LEN_MAX)).unwrap();
        assert!(!lanes.has_bulk_room() && !lanes.bulk_is_empty());
        lanes.flush(&mut Narrow { room: 5, got: Vec::new() }, Tick(1)).unwrap();
        assert!(!lanes.has_bulk_room());
    }

    #[test]
    fn the_write_deadline_runs_from_the_last_progress() {
        let mut lanes = Lanes::default();
        lanes.push(&FromGuest::Pull).unwrap();
        let mut narrow = Narrow { room: 0, got: Vec::new() };
        lanes.flush(&mut narrow, Tick(5)).unwrap();
        lanes.flush(&mut narrow, Tick(50)).unwrap();
        assert_eq!(lanes.deadline(), Some(Tick(5).after(WRITE_MS_MAX)));
        narrow.room = 3;
        lanes.flush(&mut narrow, Tick(60)).unwrap();
        assert_eq!(lanes.deadline(), Some(Tick(60).after(WRITE_MS_MAX)));
        narrow.room = 100;
        lanes.flush(&mut narrow, Tick(61)).unwrap();
        assert_eq!(lanes.deadline(), None);
    }
}
