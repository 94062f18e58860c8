//! The input of a program on its way from the disk to its pipe or terminal.
//!
//! Called by `watch`. The agent writes the file and says how long it is; what the program does not want any more
//! counts as taken, so that nobody waits for it.

use super::terminal::end_of_file;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::poll::{PollFd, PollFlags};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

/// The input of a program.
#[derive(Debug)]
pub(super) struct Feed {
    file: Option<File>,
    sink: Option<File>,
    terminal: bool,
    taken: u64,
    len: u64,
    end: Option<u64>,
    last: u8,
    ended: bool,
    /// Characters for the end that the terminal has no room for yet.
    unsaid: usize,
    hole: u64,
}

impl Feed {
    pub(super) const fn new(file: Option<File>, sink: Option<File>, terminal: bool) -> Self {
        let (taken, len, end, last, ended, unsaid, hole) = (0, 0, None, b'\n', false, 0, 0);
        Self { file, sink, terminal, taken, len, end, last, ended, unsaid, hole }
    }

    /// The agent has written so far, and the whole is so long.
    pub(super) fn has(&mut self, len: u64, end: Option<u64>) {
        self.len = self.len.max(len);
        self.end = self.end.or(end);
    }

    pub(super) const fn taken(&self) -> u64 {
        self.taken
    }

    /// What to wait for: room, or only that nobody reads any more.
    pub(super) fn watched(&self) -> Option<PollFd<'_>> {
        let waits = self.taken < self.len || self.unsaid > 0;
        let flags = if waits { PollFlags::POLLOUT } else { PollFlags::empty() };
        // A terminal's end shows where it is read.
        let sink = self.sink.as_ref().filter(|_| !self.terminal || !flags.is_empty())?;
        Some(PollFd::new(sink.as_fd(), flags))
    }

    /// Nobody reads it any more.
    pub(super) fn close(&mut self) {
        self.sink = None;
        self.turn();
    }

    /// Passes on what there is; `readerless` is what the kernel said of the pipe.
    pub(super) fn step(&mut self, readerless: bool) {
        if readerless {
            self.sink = None;
        }
        self.turn();
    }

    fn turn(&mut self) {
        let mut buffer = [0; PIECE_LEN];
        for _ in 0..PIECES_PER_TURN {
            if self.taken >= self.len || self.sink.is_none() {
                break;
            }
            let left = usize::try_from(self.len.saturating_sub(self.taken)).unwrap_or(usize::MAX);
            let piece = buffer.get_mut(..left.min(PIECE_LEN)).unwrap_or_default();
            let Some(Ok(count @ 1..)) = self.file.as_ref().map(|file| file.read_at(piece, self.taken)) else {
                break;
            };
            if !self.pass(buffer.get(..count).unwrap_or_default()) {
                break;
            }
        }
        if self.sink.is_none() {
            self.taken = self.len;
        }
        self.give_back();
        if self.end.is_some_and(|end| self.taken >= end) {
            self.finish();
        }
    }

    /// Whether more may go.
    fn pass(&mut self, bytes: &[u8]) -> bool {
        let Some(sink) = &mut self.sink else { return false };
        match sink.write(bytes) {
            Ok(count @ 1..) => {
                self.taken = self.taken.saturating_add(count as u64);
                self.last = bytes.get(count.saturating_sub(1)).copied().unwrap_or(b'\n');
                true
            }
            Ok(0) => false,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => true,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
            Err(_) => {
                self.sink = None;
                false
            }
        }
    }

    /// A pipe is closed. A terminal stays: it gets its character for the end, and a second one where the first only
    /// ends a line that was begun.
    fn finish(&mut self) {
        if std::mem::replace(&mut self.ended, true) {
            return self.say_end();
        }
        if !self.terminal {
            self.sink = None;
            return;
        }
        let by_line = self.sink.as_ref().is_some_and(|sink| end_of_file(sink).1);
        self.unsaid = if by_line && self.last != b'\n' { 2 } else { 1 };
        self.say_end();
    }

    /// A terminal that is full takes its end when its program has read on.
    fn say_end(&mut self) {
        let Some(sink) = self.sink.as_mut().filter(|_| self.unsaid > 0) else { return };
        let (end, _) = end_of_file(sink);
        match sink.write([end; 2].get(..self.unsaid).unwrap_or_default()) {
            Ok(count) => self.unsaid = self.unsaid.saturating_sub(count),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => self.unsaid = 0,
        }
    }

    /// What was taken need not lie on the disk.
    fn give_back(&mut self) {
        let Some(file) = &self.file else { return };
        let count = self.taken.saturating_sub(self.hole);
        if count < HOLE_LEN {
            return;
        }
        let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        if let (Ok(offset), Ok(len)) = (self.hole.try_into(), count.try_into()) {
            let _ = fallocate(file, flags, offset, len);
        }
        self.hole = self.taken;
    }
}

const PIECE_LEN: usize = 16 * 1024;
/// A limit per turn leaves the loop time for everything else.
const PIECES_PER_TURN: usize = 8;
const HOLE_LEN: u64 = 4 * 1024 * 1024;
