//! Lines of a monitor, within bounds of length and of pace.
//!
//! Read by the task that follows a guest's monitor. Trusts nothing: whoever answers there may send anything,
//! for ever and as fast as the kernel lets it.

use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::time::{Instant, sleep_until};

/// The lines that come from a monitor.
#[derive(Debug)]
pub(super) struct Lines<R> {
    reader: R,
    buffer: Vec<u8>,
    // Bytes of the buffer without an end of line in them.
    searched: usize,
    pace: Pace,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    pub(super) fn of(reader: R) -> Self {
        Self { reader, buffer: Vec::new(), searched: 0, pace: Pace::of(BYTES_PER_SECOND) }
    }

    /// The next line without its end; `None` at the end of the stream. Nothing is lost when the wait for it is
    /// given up.
    ///
    /// # Errors
    /// When the connection fails, and for a line that is too long.
    pub(super) async fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(line) = self.take() {
                return Ok(Some(line));
            }
            if self.buffer.len() > LINE_LEN_MAX {
                let text = format!("a line of more than {LINE_LEN_MAX} bytes: that is no QMP");
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
            self.pace.keep().await;
            let mut piece = [0; PIECE_LEN];
            let count = self.reader.read(&mut piece).await?;
            self.pace.took(count);
            if count == 0 {
                return Ok(None);
            }
            self.buffer.extend_from_slice(piece.get(..count).unwrap_or_default());
        }
    }

    fn take(&mut self) -> Option<Vec<u8>> {
        let fresh = self.buffer.get(self.searched..)?;
        let Some(end) = fresh.iter().position(|byte| *byte == b'\n') else {
            self.searched = self.buffer.len();
            return None;
        };
        let mut line: Vec<u8> = self.buffer.drain(..=self.searched.saturating_add(end)).collect();
        self.searched = 0;
        while line.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
            line.pop();
        }
        Some(line)
    }
}

/// How much was used of what one second may cost: a monitor that never stops talking takes no more.
#[derive(Debug)]
pub(super) struct Pace {
    max: usize,
    since: Instant,
    used: usize,
}

impl Pace {
    pub(super) fn of(max: usize) -> Self {
        Self { max, since: Instant::now(), used: 0 }
    }

    pub(super) const fn took(&mut self, count: usize) {
        self.used = self.used.saturating_add(count);
    }

    /// Waits for the end of this second when its share is used up.
    pub(super) async fn keep(&mut self) {
        let next = self.since + SECOND;
        if self.used >= self.max {
            sleep_until(next).await;
        }
        if Instant::now() >= next {
            *self = Self::of(self.max);
        }
    }
}

/// Far more than any event or answer that is read here. Bounds the memory that a monitor can take.
const LINE_LEN_MAX: usize = 64 * 1024;
const PIECE_LEN: usize = 4 * 1024;
/// A busy QEMU says less in an hour; bounds the processor time that a monitor can take.
const BYTES_PER_SECOND: usize = 64 * 1024;
const SECOND: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt as _;

    #[tokio::test]
    async fn lines_come_whole_whatever_their_pieces_and_their_ends() {
        let (mut peer, ours) = tokio::io::duplex(3);
        let mut lines = Lines::of(ours);
        let says = tokio::spawn(async move { peer.write_all(b"{}\r\n\nlast\nrest").await });
        for expected in [&b"{}"[..], b"", b"last"] {
            assert_eq!(lines.next().await.unwrap().unwrap(), expected);
        }
        assert_eq!(lines.next().await.unwrap(), None, "what has no end is no line");
        says.await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_without_an_end_is_given_up() {
        let error = Lines::of(tokio::io::repeat(b'x')).next().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    #[tokio::test(start_paused = true)]
    async fn a_monitor_that_never_stops_is_read_at_its_pace() {
        let mut lines = Lines::of(tokio::io::repeat(b'\n'));
        let begin = Instant::now();
        for _ in 0..4 * BYTES_PER_SECOND {
            assert_eq!(lines.next().await.unwrap().unwrap(), b"");
        }
        assert!(begin.elapsed() >= 3 * SECOND, "{:?}", begin.elapsed());
    }
}
