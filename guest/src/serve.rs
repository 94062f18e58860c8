//! The event loop: dial, serve the connection, dial again, until told to stop.
//!
//! Called by `main`; tests call [`drive`] with a stream of their own. What is in hand is looked after at
//! every wake-up, with a connection or without.

use crate::clock::now;
use crate::dial::{Dial, DialError, source_port};
use crate::ended::Ended;
use crate::link::Link;
use crate::modules::Modules;
use crate::pull::Agent;
use crate::retry::Retry;
use crate::wait::until;
use doorbell_wire::ids::Tick;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};
use std::error::Error;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use tracing::{debug, warn};
use vsock::VsockStream;

/// Where and how to dial.
#[derive(Debug)]
pub struct Dialer {
    port: u32,
    modules: Modules,
    last: Option<u32>,
    told: Option<String>,
}

impl Dialer {
    /// A dialer for the manager's `port`.
    #[must_use]
    pub const fn new(port: u32, modules: Modules) -> Self {
        Self { port, modules, last: None, told: None }
    }
}

/// Serves until `stop` is readable.
///
/// # Errors
/// The kernel's refusal to wait, which leaves nothing to go on with.
pub fn run(agent: &mut Agent, mut dialer: Dialer, stop: &impl AsFd) -> Result<(), Errno> {
    let mut retry = Retry::begin(now());
    loop {
        let Some(stream) = dial(agent, &mut dialer, &mut retry, stop)? else { return Ok(()) };
        let from = dialer.last;
        debug!(port = dialer.port, from, "answered");
        let mut link = Link::new(stream, now());
        let ended = drive(&mut link, agent, stop)?;
        if link.welcomed() {
            retry = Retry::begin(now());
            dialer.told = None;
        }
        link.close(now(), ended.reason());
        agent.detached();
        if let Ended::Stopped = ended {
            return Ok(());
        }
        dialer.tell(&ended, "disconnected");
        if pause(agent, stop, retry.next(now(), chance()))? {
            return Ok(());
        }
    }
}

/// Serves one connection to its end.
///
/// # Errors
/// The kernel's refusal to wait.
pub fn drive<S: AsFd + Read + Write>(
    link: &mut Link<S>,
    agent: &mut Agent,
    stop: &impl AsFd,
) -> Result<Ended, Errno> {
    loop {
        let now = now();
        agent.step();
        if let Err(ended) = link.turn(now, agent) {
            return Ok(ended);
        }
        if wait(agent, stop, Some(link.watched()), link.due())? {
            return Ok(Ended::Stopped);
        }
    }
}

/// Dials until there is a connection; `None` when told to stop.
fn dial(
    agent: &mut Agent,
    dialer: &mut Dialer,
    retry: &mut Retry,
    stop: &impl AsFd,
) -> Result<Option<VsockStream>, Errno> {
    loop {
        if !dialer.modules.ready() {
            if pause(agent, stop, now().after(TRANSPORT_MS))? {
                return Ok(None);
            }
            continue;
        }
        match attempt(agent, dialer, stop)? {
            Attempt::Connected(stream) => return Ok(Some(stream)),
            Attempt::Stopped => return Ok(None),
            Attempt::Failed(error) => {
                if error.is_no_transport() {
                    dialer.modules.lost();
                }
                dialer.tell(&error, "the manager cannot be reached");
            }
        }
        if pause(agent, stop, retry.next(now(), chance()))? {
            return Ok(None);
        }
    }
}

enum Attempt {
    Connected(VsockStream),
    Failed(DialError),
    Stopped,
}

fn attempt(agent: &mut Agent, dialer: &mut Dialer, stop: &impl AsFd) -> Result<Attempt, Errno> {
    let from = source_port(chance(), dialer.last);
    dialer.last = Some(from);
    let mut dial = match Dial::begin(dialer.port, from, now()) {
        Ok(dial) => dial,
        Err(error) => return Ok(Attempt::Failed(error)),
    };
    loop {
        if wait(agent, stop, Some(dial.watched()), dial.deadline)? {
            return Ok(Attempt::Stopped);
        }
        agent.step();
        dial = match dial.finish(now()) {
            Ok(Ok(stream)) => return Ok(Attempt::Connected(stream)),
            Ok(Err(dial)) => dial,
            Err(error) => return Ok(Attempt::Failed(error)),
        };
    }
}

/// Looks after what is in hand until `end`; true when told to stop.
fn pause(agent: &mut Agent, stop: &impl AsFd, end: Tick) -> Result<bool, Errno> {
    while now() < end {
        if wait(agent, stop, None, end)? {
            return Ok(true);
        }
        agent.step();
    }
    Ok(false)
}

/// One wait for everything there is; true when told to stop.
fn wait(agent: &Agent, stop: &impl AsFd, channel: Option<PollFd<'_>>, due: Tick) -> Result<bool, Errno> {
    let mut fds = vec![PollFd::new(stop.as_fd(), PollFlags::POLLIN)];
    fds.extend(channel);
    fds.extend(agent.watched());
    until(&mut fds, due)?;
    Ok(fds.first().and_then(PollFd::any).unwrap_or(false))
}

impl Dialer {
    /// The same reason again is told to those who look closely only.
    fn tell(&mut self, error: &dyn Error, what: &'static str) {
        let reason = with_source(error);
        if self.told.as_ref() == Some(&reason) {
            debug!(reason, "{what}");
        } else {
            warn!(reason, "{what}");
            self.told = Some(reason);
        }
    }
}

/// An error and what caused it, in one line.
#[must_use]
pub fn with_source(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// A number by chance. Without random bytes all guests have the same one, which only costs spreading.
fn chance() -> u32 {
    getrandom::u32().unwrap_or(0)
}

/// Milliseconds between looks for a transport that is not there.
const TRANSPORT_MS: u64 = 250;
