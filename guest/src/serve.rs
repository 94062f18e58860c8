//! The event loop: dial, serve the connection, dial again, until told to stop.
//!
//! Called by `main`. What is in hand is looked after at every wake-up, with a connection or without, and so is the
//! share, where there is one: a ring makes the agent look into it at once.

use crate::clock::now;
use crate::dial::{Dial, DialError, source_port};
use crate::ended::Ended;
use crate::link::Link;
use crate::modules::Modules;
use crate::pull::{Agent, Way};
use crate::retry::Retry;
use crate::share::Share;
use crate::wait::until;
use doorbell_wire::ids::Tick;
use doorbell_wire::message::Polls;
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

/// The agent, and the share it looks into beside its connection.
#[derive(Debug)]
pub struct Crew {
    /// The agent.
    pub agent: Agent,
    /// The share, if there is one.
    pub share: Option<Share>,
}

impl Crew {
    /// Looks after what runs and into the share.
    fn step(&mut self) {
        self.agent.step();
        if let Some(share) = &mut self.share {
            share.turn(now(), &mut self.agent);
        }
    }

    /// The manager rang: there may be something in the share.
    fn rung(&mut self) {
        if let Some(share) = &mut self.share {
            share.look_now();
            share.turn(now(), &mut self.agent);
        }
    }

    /// The agent stops.
    fn stop(&mut self) {
        if let Some(share) = &mut self.share {
            share.leave(&mut self.agent);
        }
    }
}

/// Serves until `stop` is readable; without a dialer by the share alone.
///
/// # Errors
/// The kernel's refusal to wait, which leaves nothing to go on with.
pub fn run(crew: &mut Crew, dialer: Option<Dialer>, stop: &impl AsFd) -> Result<(), Errno> {
    let served = match dialer {
        Some(dialer) => channel(crew, dialer, stop),
        None => pause(crew, stop, Tick(u64::MAX)).map(drop),
    };
    crew.stop();
    served
}

fn channel(crew: &mut Crew, mut dialer: Dialer, stop: &impl AsFd) -> Result<(), Errno> {
    let mut retry = Retry::begin(now());
    loop {
        let Some(stream) = dial(crew, &mut dialer, &mut retry, stop)? else { return Ok(()) };
        let from = dialer.last;
        debug!(port = dialer.port, from, "answered");
        let mut link = Link::new(stream, now());
        let ended = drive(&mut link, crew, stop)?;
        if link.welcomed() {
            retry = Retry::begin(now());
            dialer.told = None;
        }
        link.close(now(), ended.reason());
        crew.agent.detached(Way::Channel);
        if let Ended::Stopped = ended {
            return Ok(());
        }
        let again = match (&ended, crew.agent.polls()) {
            (Ended::Polled, Some(polls)) => now().after(polled_again(polls, chance())),
            _ => {
                dialer.tell(ended.in_words(), "disconnected");
                retry.next(now(), chance())
            }
        };
        if pause(crew, stop, again)? {
            return Ok(());
        }
    }
}

/// Serves one connection to its end.
///
/// # Errors
/// The kernel's refusal to wait.
fn drive<S: AsFd + Read + Write>(
    link: &mut Link<S>,
    crew: &mut Crew,
    stop: &impl AsFd,
) -> Result<Ended, Errno> {
    loop {
        crew.step();
        if let Err(ended) = link.turn(now(), &mut crew.agent) {
            return Ok(ended);
        }
        if crew.agent.polls().is_some() && link.is_idle() {
            return Ok(Ended::Polled);
        }
        if link.take_ring() {
            crew.rung();
        }
        if wait(crew, stop, Some(link.watched()), link.due())? {
            return Ok(Ended::Stopped);
        }
    }
}

/// Dials until there is a connection; `None` when told to stop.
fn dial(
    crew: &mut Crew,
    dialer: &mut Dialer,
    retry: &mut Retry,
    stop: &impl AsFd,
) -> Result<Option<VsockStream>, Errno> {
    loop {
        if !dialer.modules.ready() {
            if pause(crew, stop, now().after(TRANSPORT_MS))? {
                return Ok(None);
            }
            continue;
        }
        match attempt(crew, dialer, stop)? {
            Attempt::Connected(stream) => return Ok(Some(stream)),
            Attempt::Stopped => return Ok(None),
            Attempt::Failed(error) => {
                if error.is_no_transport() {
                    dialer.modules.lost();
                }
                dialer.tell(with_source(&error), "the manager cannot be reached");
            }
        }
        if pause(crew, stop, retry.next(now(), chance()))? {
            return Ok(None);
        }
    }
}

enum Attempt {
    Connected(VsockStream),
    Failed(DialError),
    Stopped,
}

fn attempt(crew: &mut Crew, dialer: &mut Dialer, stop: &impl AsFd) -> Result<Attempt, Errno> {
    let from = source_port(chance(), dialer.last);
    dialer.last = Some(from);
    let mut dial = match Dial::begin(dialer.port, from, now()) {
        Ok(dial) => dial,
        Err(error) => return Ok(Attempt::Failed(error)),
    };
    loop {
        if wait(crew, stop, Some(dial.watched()), dial.deadline)? {
            return Ok(Attempt::Stopped);
        }
        crew.step();
        dial = match dial.finish(now()) {
            Ok(Ok(stream)) => return Ok(Attempt::Connected(stream)),
            Ok(Err(dial)) => dial,
            Err(error) => return Ok(Attempt::Failed(error)),
        };
    }
}

/// Looks after what is in hand until `end`; true when told to stop.
fn pause(crew: &mut Crew, stop: &impl AsFd, end: Tick) -> Result<bool, Errno> {
    while now() < end {
        if wait(crew, stop, None, end)? {
            return Ok(true);
        }
        crew.step();
    }
    Ok(false)
}

/// One wait for everything there is; true when told to stop.
fn wait(crew: &Crew, stop: &impl AsFd, channel: Option<PollFd<'_>>, due: Tick) -> Result<bool, Errno> {
    let mut fds = vec![PollFd::new(stop.as_fd(), PollFlags::POLLIN)];
    fds.extend(channel);
    fds.extend(crew.agent.watched());
    fds.extend(crew.share.iter().flat_map(Share::watched));
    let due = crew.share.as_ref().map_or(due, |share| due.min(share.due()));
    until(&mut fds, due)?;
    Ok(fds.first().and_then(PollFd::any).unwrap_or(false))
}

impl Dialer {
    /// The same reason again is told to those who look closely only.
    fn tell(&mut self, reason: String, what: &'static str) {
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

/// Milliseconds to the next poll: nine to eleven tenths of what was asked for, so that guests that came up together
/// do not stay together.
fn polled_again(polls: Polls, chance: u32) -> u64 {
    let every = u64::from(polls.every_ms);
    let fifth = every.div_ceil(5);
    let early = every.saturating_sub(every.div_ceil(10));
    early.saturating_add(u64::from(chance).checked_rem(fifth.max(1)).unwrap_or(0))
}

/// A number by chance. Without random bytes all guests have the same one, which only costs spreading.
fn chance() -> u32 {
    getrandom::u32().unwrap_or(0)
}

/// Milliseconds between looks for a transport that is not there.
const TRANSPORT_MS: u64 = 250;
