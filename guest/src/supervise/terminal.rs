//! A terminal for a program: made, sized, and its end of file.
//!
//! Called by `spawn` and by the supervisor's loop. Needs `/dev/ptmx` and a mounted devpts; without them the start
//! is refused with the kernel's number.

use doorbell_wire::message::action::Window;
use nix::libc;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Both ends of a new terminal: ours and the program's.
pub(super) fn open(window: Window, owner: Option<libc::uid_t>) -> io::Result<(File, OwnedFd)> {
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: makes a descriptor that nobody else has.
    let ours = unsafe { owned(libc::posix_openpt(flags | libc::O_NONBLOCK))? };
    // SAFETY: a lock is taken off; the descriptor is open.
    succeeded(unsafe { libc::unlockpt(ours.as_raw_fd()) })?;
    // SAFETY: makes a descriptor that nobody else has, of the terminal whose descriptor is open.
    let theirs = unsafe { owned(libc::ioctl(ours.as_raw_fd(), libc::TIOCGPTPEER, flags))? };
    let ours = File::from(ours);
    resize(&ours, window)?;
    if let Some(uid) = owner {
        // SAFETY: changes owner and mode of an open file.
        unsafe {
            succeeded(libc::fchown(theirs.as_raw_fd(), uid, libc::gid_t::MAX))?;
            succeeded(libc::fchmod(theirs.as_raw_fd(), 0o620))?;
        }
    }
    Ok((ours, theirs))
}

/// Gives the terminal another size; its program is told by a signal of the kernel.
pub(super) fn resize(ours: &File, window: Window) -> io::Result<()> {
    let size = libc::winsize { ws_row: window.rows, ws_col: window.columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the structure is read by the kernel during the call.
    succeeded(unsafe { libc::ioctl(ours.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) })
}

/// The character that ends the input, and whether lines are being put together, so that one in the middle of a
/// line would only pass the line on.
pub(super) fn end_of_file(ours: &File) -> (u8, bool) {
    // SAFETY: a structure of numbers, for which all zeroes are a value.
    let mut settings: libc::termios = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel fills the structure during the call.
    if unsafe { libc::tcgetattr(ours.as_raw_fd(), &raw mut settings) } != 0 {
        return (USUAL_END, true);
    }
    let end = settings.c_cc.get(libc::VEOF).copied().unwrap_or(USUAL_END);
    (end, settings.c_lflag & libc::ICANON != 0)
}

/// # Safety
/// A descriptor that is not negative has no other owner.
unsafe fn owned(descriptor: libc::c_int) -> io::Result<OwnedFd> {
    succeeded(descriptor)?;
    // SAFETY: the caller says so.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

fn succeeded(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Control-D.
const USUAL_END: u8 = 4;
