//! One stream of a program on its way from the pipe, or the terminal, to the disk.
//!
//! Called by `watch`. A stream whose space is full is either left in the pipe, so that the program waits as on any
//! pipe, or counted and dropped; which of them is the watch's to say.

use crate::spool::Keeper;
use nix::fcntl::{FcntlArg, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;

/// One stream.
#[derive(Debug)]
pub(super) struct Source {
    pipe: Option<File>,
    widened: bool,
    /// Bytes that are still read before it is let go.
    closing: Option<usize>,
    pub(super) keeper: Keeper,
}

impl Source {
    pub(super) const fn new(pipe: Option<File>, keeper: Keeper) -> Self {
        Self { pipe, widened: false, closing: None, keeper }
    }

    pub(super) const fn is_open(&self) -> bool {
        self.pipe.is_some()
    }

    /// Whether it waits for space.
    pub(super) fn is_held(&self, hold: bool) -> bool {
        hold && self.is_open() && self.keeper.wants() == Some(0)
    }

    /// What to wait for.
    pub(super) fn watched(&self, hold: bool) -> Option<PollFd<'_>> {
        let pipe = self.pipe.as_ref().filter(|_| !self.is_held(hold))?;
        Some(PollFd::new(pipe.as_fd(), PollFlags::POLLIN))
    }

    /// Reads once; gives how many bytes came.
    pub(super) fn read(&mut self, buffer: &mut [u8], hold: bool) -> usize {
        if self.is_held(hold) {
            return 0;
        }
        let Some(pipe) = &mut self.pipe else { return 0 };
        let wants = self.keeper.wants().filter(|_| hold).unwrap_or(u64::MAX);
        let room = usize::try_from(wants).unwrap_or(usize::MAX).min(buffer.len());
        let room = self.closing.map_or(room, |left| left.min(room));
        if room == 0 {
            self.pipe = None;
            return 0;
        }
        match pipe.read(buffer.get_mut(..room).unwrap_or_default()) {
            Ok(count @ 1..) => {
                self.keeper.write(buffer.get(..count).unwrap_or_default());
                self.closing = self.closing.map(|left| left.saturating_sub(count));
                self.widen(count);
                count
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if self.closing.is_some() {
                    self.pipe = None;
                }
                0
            }
            // A terminal whose last user is gone answers with an error.
            Ok(0) | Err(_) => {
                self.pipe = None;
                0
            }
        }
    }

    /// Whether any process can still write into it.
    pub(super) fn has_writer(&self) -> bool {
        let Some(pipe) = &self.pipe else { return false };
        let mut fds = [PollFd::new(pipe.as_fd(), PollFlags::empty())];
        let looked = poll(&mut fds, PollTimeout::ZERO);
        let [fd] = fds;
        looked.is_ok() && !fd.revents().unwrap_or(PollFlags::empty()).contains(PollFlags::POLLHUP)
    }

    /// Whether it is to be read now, whether the kernel says that there is something or not.
    pub(super) fn is_closing(&self, hold: bool) -> bool {
        self.closing.is_some() && self.is_open() && !self.is_held(hold)
    }

    /// Lets go of it as soon as what is in it now has been read, whoever may still write.
    pub(super) fn close(&mut self) {
        self.closing = self.closing.or(Some(PIPE_LEN));
    }

    /// A program that fills its pipe gets a larger one: fewer turns for as many bytes.
    fn widen(&mut self, count: usize) {
        if count < USUAL_PIPE_LEN || self.widened {
            return;
        }
        self.widened = true;
        if let (Some(pipe), Ok(len)) = (&self.pipe, PIPE_LEN.try_into()) {
            // Refused where its user has too many; the usual one will do.
            let _ = fcntl(pipe, FcntlArg::F_SETPIPE_SZ(len));
        }
    }
}

const USUAL_PIPE_LEN: usize = 64 * 1024;
/// The largest pipe that any user may have.
const PIPE_LEN: usize = 1024 * 1024;
