//! Waiting for one of several descriptors or for a moment, whichever is first.
//!
//! Called by the event loop, and where a bounded wait for one condition is needed. A signal or a spurious
//! wake-up is a return like any other: callers look at their conditions again.

use crate::clock::now;
use doorbell_wire::ids::Tick;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::AsFd;

/// Waits until one of `fds` is ready or `deadline` is there.
///
/// # Errors
/// The kernel's refusal to wait at all.
pub fn until(fds: &mut [PollFd<'_>], deadline: Tick) -> Result<(), Errno> {
    // One more millisecond than is left, so that the deadline has passed when the wait ends by it.
    let left = now().until(deadline);
    let ms = if left == 0 { 0 } else { left.saturating_add(1) };
    let timeout = i32::try_from(ms).ok().and_then(|ms| PollTimeout::try_from(ms).ok());
    match poll(fds, timeout.unwrap_or(PollTimeout::MAX)) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// Waits until `fd` has an exceptional condition, or until `deadline`.
///
/// # Errors
/// The kernel's refusal to wait at all.
pub fn until_priority(fd: &impl AsFd, deadline: Tick) -> Result<(), Errno> {
    until(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLPRI)], deadline)
}
