//! The host end of the floor program: tells it what to do, and is the other half of its ping-pong and its streams.
//!
//! Called by `lab` and `measure`. The order of words is written down in the floor program.

use anyhow::{Context as _, Result};
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;
use vsock::{VMADDR_CID_ANY, VsockListener, VsockStream};

/// The host end, and the floor program once it has called.
#[derive(Debug)]
pub(crate) struct Floor {
    door: Door,
    line: Option<Line>,
}

#[derive(Debug)]
enum Door {
    Hybrid(UnixListener),
    Vsock(VsockListener),
}

#[derive(Debug)]
enum Line {
    Hybrid(UnixStream),
    Vsock(VsockStream),
}

impl Floor {
    /// Behind a hybrid socket with this base: no AF_VSOCK on this machine.
    pub(crate) fn on_hybrid(base: &Path) -> Result<Self> {
        let mut path = base.as_os_str().to_owned();
        path.push(format!("_{PORT}"));
        let listener = UnixListener::bind(&path).with_context(|| path.display().to_string())?;
        listener.set_nonblocking(true)?;
        Ok(Self { door: Door::Hybrid(listener), line: None })
    }

    /// On the kernel's vsock, in an L1 guest.
    pub(crate) fn on_vsock() -> Result<Self> {
        let listener = VsockListener::bind_with_cid_port(VMADDR_CID_ANY, PORT)?;
        listener.set_nonblocking(true)?;
        Ok(Self { door: Door::Vsock(listener), line: None })
    }

    pub(crate) const fn port(&self) -> u32 {
        PORT
    }

    /// Takes the floor program's call, if it has come.
    pub(crate) fn accept(&mut self) -> Result<()> {
        self.line = Some(match &self.door {
            Door::Hybrid(listener) => {
                let line = listener.accept()?.0;
                line.set_nonblocking(false)?;
                line.set_read_timeout(Some(ANSWER_IN))?;
                Line::Hybrid(line)
            }
            Door::Vsock(listener) => {
                let line = listener.accept()?.0;
                line.set_nonblocking(false)?;
                line.set_read_timeout(Some(ANSWER_IN))?;
                Line::Vsock(line)
            }
        });
        Ok(())
    }

    /// Round trips of one byte.
    pub(crate) fn ping(&mut self, count: u64) -> Result<Vec<Duration>> {
        self.order(b'P', count)?;
        let line = self.line()?;
        for _ in 0..count {
            let mut byte = [0];
            line.read_exact(&mut byte)?;
            line.write_all(&byte)?;
        }
        self.times(count)
    }

    /// Fork, exec and wait, with pipes and in a fresh cgroup.
    pub(crate) fn exec(&mut self, count: u64) -> Result<Vec<Duration>> {
        self.order(b'X', count)?;
        self.times(count)
    }

    /// Appending and fdatasync on the guest's state disk.
    pub(crate) fn sync(&mut self, count: u64) -> Result<Vec<Duration>> {
        self.order(b'W', count)?;
        self.times(count)
    }

    /// Bytes to the guest, which checks them.
    pub(crate) fn receive_and_check(&mut self, len: u64) -> Result<Duration> {
        self.send_to_guest(b'D', len)
    }

    /// Bytes to the guest, which only takes them.
    pub(crate) fn receive(&mut self, len: u64) -> Result<Duration> {
        self.send_to_guest(b'R', len)
    }

    /// Bytes from the guest.
    pub(crate) fn send(&mut self, len: u64) -> Result<Duration> {
        self.order(b'T', len)?;
        let line = self.line()?;
        let mut buffer = vec![0; PIECE];
        for _ in 0..len.div_ceil(u64::try_from(PIECE)?) {
            line.read_exact(&mut buffer)?;
            line.write_all(&[1])?;
        }
        self.times(1)?.pop().context("a time")
    }

    /// SHA-256 and CRC32C of so many bytes in the guest's memory.
    pub(crate) fn digest(&mut self, len: u64) -> Result<[Duration; 2]> {
        self.order(b'H', len)?;
        let times = self.times(2)?;
        <[Duration; 2]>::try_from(times).ok().context("two times")
    }

    fn send_to_guest(&mut self, letter: u8, len: u64) -> Result<Duration> {
        self.order(letter, len)?;
        let line = self.line()?;
        let buffer = vec![7; PIECE];
        let mut left = len;
        while left > 0 {
            let size = usize::try_from(left)?.min(PIECE);
            line.write_all(buffer.get(..size).unwrap_or_default())?;
            left = left.saturating_sub(u64::try_from(size)?);
        }
        self.times(1)?.pop().context("a time")
    }

    fn order(&mut self, letter: u8, number: u64) -> Result<()> {
        let mut order = vec![letter];
        order.extend(number.to_le_bytes());
        Ok(self.line()?.write_all(&order)?)
    }

    fn times(&mut self, count: u64) -> Result<Vec<Duration>> {
        let line = self.line()?;
        (0..count)
            .map(|_| {
                let mut bytes = [0; 8];
                line.read_exact(&mut bytes)?;
                Ok(Duration::from_nanos(u64::from_le_bytes(bytes)))
            })
            .collect()
    }

    fn line(&mut self) -> Result<&mut dyn Stream> {
        Ok(match self.line.as_mut().context("the floor program has not called")? {
            Line::Hybrid(line) => line,
            Line::Vsock(line) => line,
        })
    }
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

const PORT: u32 = 5005;
const PIECE: usize = 65536;
const ANSWER_IN: Duration = Duration::from_secs(100);
