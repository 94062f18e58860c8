//! The operator's own terminal while a program of a guest has it: raw, and put back whatever happens.
//!
//! Called by `follow`. The terminal is put back when the guard is dropped: at the end, at a failure, at a panic,
//! and at a signal that asks this command to end, which is listened for as long as the terminal is raw.

use crate::exit::Exit;
use crate::failure::Failure;
use doorbell_client::api::request::Window;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use std::io::{self, IsTerminal as _};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};

/// A terminal in raw mode until this is dropped.
#[derive(Debug)]
pub(crate) struct Raw<Fd: AsFd> {
    terminal: Fd,
    before: Termios,
}

impl<Fd: AsFd> Raw<Fd> {
    pub(crate) fn of(terminal: Fd) -> io::Result<Self> {
        let before = tcgetattr(&terminal)?;
        let mut raw = before.clone();
        raw.make_raw();
        let guard = Self { terminal, before };
        tcsetattr(&guard.terminal, OptionalActions::Now, &raw)?;
        IS_RAW.store(true, Ordering::Relaxed);
        Ok(guard)
    }
}

impl<Fd: AsFd> Drop for Raw<Fd> {
    fn drop(&mut self) {
        IS_RAW.store(false, Ordering::Relaxed);
        // A terminal that is gone needs nothing any more.
        let _ = tcsetattr(&self.terminal, OptionalActions::Now, &self.before);
    }
}

/// Makes standard input raw where it is a terminal. A pipe is left as it is.
pub(crate) fn make_raw() -> Result<Option<Raw<io::Stdin>>, Failure> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return Ok(None);
    }
    let failed =
        |error| Failure::new(Exit::Misused, format!("cannot put the terminal into raw mode: {error}"));
    Raw::of(stdin).map(Some).map_err(failed)
}

/// How a line ends on our standard error now.
pub(crate) fn line_end() -> &'static str {
    if IS_RAW.load(Ordering::Relaxed) { "\r\n" } else { "\n" }
}

/// The size of the terminal that this command has, or the one that all terminals once had.
pub(crate) fn window() -> Window {
    let sizes = [tcgetwinsize(io::stdout()), tcgetwinsize(io::stderr()), tcgetwinsize(io::stdin())];
    let known = sizes.into_iter().flatten().find(|size| size.ws_row > 0 && size.ws_col > 0);
    known.map_or(Window { rows: 24, columns: 80 }, |size| Window { rows: size.ws_row, columns: size.ws_col })
}

static IS_RAW: AtomicBool = AtomicBool::new(false);

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::termios::LocalModes;
    use std::os::fd::OwnedFd;

    fn pair() -> (OwnedFd, OwnedFd) {
        let pair = nix::pty::openpty(None, None).expect("a terminal");
        (pair.master, pair.slave)
    }

    #[test]
    fn a_panic_puts_the_terminal_back() {
        let (_master, slave) = pair();
        let echo = || tcgetattr(&slave).expect("modes").local_modes.contains(LocalModes::ECHO);
        assert!(echo());
        let inside = slave.try_clone().expect("a descriptor");
        let panicked = std::panic::catch_unwind(move || {
            let raw = Raw::of(inside).expect("raw");
            assert!(!tcgetattr(&raw.terminal).expect("modes").local_modes.contains(LocalModes::ECHO));
            panic!("in the middle of it");
        });
        assert!(panicked.is_err() && echo());
    }
}
