//! A shared directory in the place of a connection: the agent looks into it on a timer, and at once when rung.
//!
//! Driven by the event loop. One code path: from the files of the share a `desk` plays the manager's half of a
//! session, and the agent's own half answers it over a socket pair in this process, so that a request takes the
//! same way as over the channel. Trusts the share as it trusts its manager. A share that fails or vanishes ends
//! the session; what is in hand goes on, and the next session presents it.
//!
//! - `files` reads and writes them, whole or not at all
//! - `desk` plays the manager; `bulk` moves programs and output
//! - `look` tells the desk what is new in the share

mod bulk;
mod desk;
mod files;
mod look;

use crate::clock::now;
use crate::ended::{Ended, told};
use crate::link::Link;
use crate::pull::{Agent, Way};
use crate::serve::with_source;
use desk::Desk;
use doorbell_wire::error::{Malformed, Reason};
use doorbell_wire::ids::{Nonce, Tick};
use doorbell_wire::limits::{LOOK_BUSY_MS, LOOK_MS_MAX, RETRY_MS_MAX};
use doorbell_wire::message::{Claims, FromGuest, FromHost, Greeting, Welcome};
use doorbell_wire::session::host::Host;
use doorbell_wire::share::{self as layout, ShareError};
use files::{Files, place, read};
use nix::poll::PollFd;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use tracing::{debug, info, warn};

/// The share and the session through it.
#[derive(Debug)]
pub struct Share {
    files: Files,
    every: u64,
    phase: Phase,
    next: Tick,
    told: Option<String>,
}

/// How far a session is.
#[derive(Debug)]
enum Phase {
    /// None is asked for. A greeting that was answered once is not answered again.
    Away {
        answered: Option<Nonce>,
    },
    /// The hello is in the receipts, and the manager has not answered.
    Asked {
        greeting: Greeting,
        hello: Box<Claims>,
    },
    Open(Box<Open>),
}

#[derive(Debug)]
struct Open {
    link: Link<UnixStream>,
    desk: Desk,
}

/// Why a session through the share is over, or there is none.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("cannot {verb} {}", path.display())]
    Io {
        verb: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Share(#[from] ShareError),
    #[error("the manager said: {0}")]
    Refused(Reason),
    #[error("the manager has begun another session, or ended this one")]
    Over,
    #[error("another agent writes these receipts: this guest is a copy, or was rewound")]
    Copied,
    #[error(transparent)]
    Ended(#[from] Ended),
}

impl From<Malformed> for Fault {
    fn from(malformed: Malformed) -> Self {
        Self::Share(malformed.into())
    }
}

impl From<doorbell_wire::error::SessionError> for Fault {
    fn from(error: doorbell_wire::error::SessionError) -> Self {
        Self::Ended(error.into())
    }
}

impl Share {
    /// A share that nobody has looked into yet. Between two looks are at most `every` milliseconds.
    #[must_use]
    pub fn new(share: &Path, receipts: &Path, every: u64) -> Self {
        let files = Files { share: share.to_owned(), receipts: receipts.to_owned() };
        let every = every.min(LOOK_MS_MAX);
        Self { files, every, phase: Phase::Away { answered: None }, next: now(), told: None }
    }

    /// What the event loop has to watch.
    pub fn watched(&self) -> impl Iterator<Item = PollFd<'_>> {
        let open = if let Phase::Open(open) = &self.phase { Some(open) } else { None };
        open.into_iter().flat_map(|open| [open.link.watched(), open.desk.watched()])
    }

    /// When [`Share::turn`] has something to do even if nothing comes.
    #[must_use]
    pub fn due(&self) -> Tick {
        match &self.phase {
            Phase::Open(open) => self.next.min(open.link.due()).min(open.desk.due()),
            Phase::Away { .. } | Phase::Asked { .. } => self.next,
        }
    }

    /// The next turn looks, whatever the timer says.
    pub fn look_now(&mut self) {
        self.next = now();
    }

    /// One turn: looks when it is time, and moves what can move.
    pub fn turn(&mut self, now: Tick, agent: &mut Agent) {
        if let Err(fault) = self.try_turn(now, agent) {
            self.end(&fault, agent);
        }
    }

    /// Tells the manager that the agent goes, as far as the share takes it.
    pub fn leave(&mut self, agent: &mut Agent) {
        if let Phase::Open(open) = &self.phase {
            open.desk.goodbye();
        }
        agent.detached(Way::Share);
    }

    fn try_turn(&mut self, now: Tick, agent: &mut Agent) -> Result<(), Fault> {
        if now >= self.next {
            // Before the look: one that fails is not repeated at once.
            self.next = now.after(self.every);
            self.look(now, agent)?;
            let is_busy = match &self.phase {
                Phase::Open(open) => open.desk.is_busy(now),
                Phase::Asked { .. } => true,
                Phase::Away { .. } => false,
            };
            if is_busy {
                self.next = now.after(self.every.min(LOOK_BUSY_MS));
            }
        }
        let Phase::Open(open) = &mut self.phase else { return Ok(()) };
        open.desk.turn(now, agent)?;
        open.link.turn(now, agent)?;
        open.desk.turn(now, agent)
    }

    fn look(&mut self, now: Tick, agent: &mut Agent) -> Result<(), Fault> {
        // Without it the share is away, and nothing that it lacks means anything.
        let Some(greeting) = self.files.greeting()? else { return self.tell_away() };
        match &mut self.phase {
            Phase::Away { answered } if *answered == Some(greeting.nonce) => Ok(()),
            Phase::Away { .. } => self.ask(greeting, agent),
            Phase::Asked { greeting: asked, hello } => {
                let (asked, nonce) = (*asked, hello.nonce);
                match self.files.answer(&nonce)? {
                    Some(FromHost::Welcome(welcome)) => {
                        agent.check_proof(&asked, hello, &welcome)?;
                        self.open(now, asked, nonce, welcome)
                    }
                    Some(FromHost::HostBye(reason)) => Err(Fault::Refused(reason)),
                    Some(other) => {
                        Err(ShareError::Other { file: layout::ANSWER, got: other.kind().name() }.into())
                    }
                    None if asked.nonce == greeting.nonce => Ok(()),
                    // Nobody reads what was said to a manager before this one.
                    None => self.ask(greeting, agent),
                }
            }
            Phase::Open(open) => open.desk.look(now),
        }
    }

    fn ask(&mut self, greeting: Greeting, agent: &Agent) -> Result<(), Fault> {
        let hello = agent.hello(Way::Share, &greeting)?;
        let claims = Box::new(hello.claims.clone());
        let nonce = claims.nonce;
        self.files.begin(&nonce)?;
        let mut bytes = Vec::new();
        FromGuest::Hello(Box::new(hello)).to_frame()?.write(&mut bytes)?;
        place(&self.files.receipts.join(layout::HELLO), &bytes)?;
        debug!(session = %nonce, "asked for a session through the share");
        self.phase = Phase::Asked { greeting, hello: claims };
        Ok(())
    }

    fn open(&mut self, now: Tick, greeting: Greeting, session: Nonce, welcome: Welcome) -> Result<(), Fault> {
        let pair = UnixStream::pair().and_then(|(ours, desks)| {
            ours.set_nonblocking(true)?;
            desks.set_nonblocking(true)?;
            Ok((ours, desks))
        });
        let (ours, desks) =
            pair.map_err(|source| Ended::Io { verb: "make a pair of sockets for", source })?;
        let link = Link::of(Way::Share, ours, now);
        let desk = Desk::new(self.files.session(session), desks, Host::accepted(now, greeting), welcome);
        self.phase = Phase::Open(Box::new(Open { link, desk }));
        info!(share = %self.files.share.display(), "the share is open");
        self.told = None;
        Ok(())
    }

    /// Whatever ended it: requests go on, and the next look asks for another session.
    fn end(&mut self, fault: &Fault, agent: &mut Agent) {
        agent.detached(Way::Share);
        let answered = match (&self.phase, fault) {
            (Phase::Asked { greeting, .. }, Fault::Refused(_) | Fault::Ended(Ended::NotTheManager(_))) => {
                Some(greeting.nonce)
            }
            _ => None,
        };
        self.next = match &self.phase {
            Phase::Open(_) => now(),
            // Whoever was refused may be approved at any time.
            Phase::Asked { .. } | Phase::Away { .. } => self.next.min(now().after(RETRY_MS_MAX)),
        };
        self.phase = Phase::Away { answered };
        let text = with_source(fault);
        let text = if let Fault::Refused(reason) = fault { told(text, *reason) } else { text };
        self.tell(&text, "no session through the share");
    }

    fn tell_away(&mut self) -> Result<(), Fault> {
        self.tell("it has no greeting of a manager", "nothing is in the share");
        Ok(())
    }

    /// The same reason again is told to those who look closely only.
    fn tell(&mut self, reason: &str, what: &'static str) {
        if self.told.as_deref() == Some(reason) {
            debug!(reason, "{what}");
        } else {
            warn!(reason, share = %self.files.share.display(), "{what}");
            self.told = Some(reason.to_owned());
        }
    }
}

#[cfg(test)]
mod tests;
