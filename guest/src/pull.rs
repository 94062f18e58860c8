//! A request's way through the guest: pulled, fetched, verified, journalled, applied, acknowledged, forgotten.
//!
//! Called by `link` with what the session owes, and by the event loop whenever something may have happened.
//! Trusts the manager's bytes only as far as the types of `wire` checked them. Outlives connections: a request
//! that has started goes on while the channel is away and is presented again when it is back.
//!
//! - `begin` from the decision to the effect: fetch, verify, journal, apply
//! - `resume` what an earlier run of the agent left

mod begin;
mod resume;

use crate::apply::cgroup::Cgroups;
use crate::apply::running::{Remains, Stop};
use crate::apply::{Done, query};
use crate::clock;
use crate::decide::{Decision, decide};
use crate::ended::Ended;
use crate::hand::{Hand, Station};
use crate::identity::{About, Identity, ProofError};
use crate::journal::Journal;
use crate::spool::Spool;
use crate::state::StateDir;
use doorbell_wire::error::SessionError;
use doorbell_wire::handshake::choose_version;
use doorbell_wire::ids::{RequestId, Sequence, ShortText, Tick};
use doorbell_wire::message::outcome::{Acknowledgement, Evidence, Outcome, OutputTotals, Refusal};
use doorbell_wire::message::{Capabilities, Greeting, Hello, Offer, Output, Progress, Stage};
use doorbell_wire::session::guest::{Guest, Owed};
use nix::poll::PollFd;
use tracing::{info, warn};

/// The agent but for its connection.
#[derive(Debug)]
pub struct Agent {
    state: StateDir,
    identity: Identity,
    journal: Journal,
    cgroups: Option<Cgroups>,
    hand: Option<Hand>,
}

impl Agent {
    /// What this agent can do in this guest.
    #[must_use]
    pub const fn capabilities(&self) -> Capabilities {
        let always = Capabilities::RUN.with(Capabilities::LINK);
        if self.cgroups.is_some() { always.with(Capabilities::CGROUP_KILL) } else { always }
    }

    /// What the event loop has to watch for the request in hand.
    #[must_use]
    pub fn watched(&self) -> Vec<PollFd<'_>> {
        match self.hand.as_ref().map(|hand| &hand.station) {
            Some(Station::Running(running)) => running.watched(),
            Some(Station::Offered | Station::Fetching(..) | Station::Ended(..)) | None => Vec::new(),
        }
    }

    /// When [`Agent::step`] has something to do even if nothing happens.
    #[must_use]
    pub fn due(&self, now: Tick) -> Option<Tick> {
        match self.hand.as_ref().map(|hand| &hand.station) {
            Some(Station::Running(running)) => running.due(now),
            Some(Station::Offered | Station::Fetching(..) | Station::Ended(..)) | None => None,
        }
    }

    /// Looks after the running program, with a connection or without.
    pub fn step(&mut self, now: Tick) {
        let Some(Hand { station: Station::Running(running), .. }) = &mut self.hand else { return };
        if let Some(done) = running.step(now) {
            self.ended(done);
        }
    }

    /// Does what the session owes.
    ///
    /// # Errors
    /// [`Ended`] when the session cannot go on.
    pub fn owed(&mut self, session: Guest, now: Tick, owed: Owed) -> Result<Guest, Ended> {
        match owed {
            Owed::Introduce(greeting) => {
                let hello = self.hello(&greeting)?;
                Ok(session.introduce(hello)?)
            }
            Owed::Welcomed(welcome) => {
                self.identity.keep(welcome.token);
                Ok(self.present(session)?)
            }
            Owed::Attached(from) => {
                if let Some(hand) = &mut self.hand {
                    hand.stream_from(from);
                }
                Ok(session)
            }
            Owed::Offered(offer) => Ok(self.offered(session, now, offer)?),
            Owed::Stage(chunk) => Ok(self.stage(session, &chunk)?),
            Owed::Cancel(request) => {
                self.cancel(now, request);
                Ok(session)
            }
            Owed::Forget(request) => {
                self.forget(request);
                Ok(session)
            }
            Owed::Send(_) | Owed::Wait(_) => Ok(session),
        }
    }

    /// The next output to send, at most `room` bytes.
    pub fn next_output(&mut self, room: usize) -> Option<Output> {
        self.hand.as_mut()?.next_output(room)
    }

    /// The acknowledgement that is due, once per connection.
    pub fn acknowledgement(&mut self, in_hand: Option<RequestId>) -> Option<Acknowledgement> {
        self.hand.as_mut().filter(|hand| in_hand == Some(hand.request))?.acknowledgement()
    }

    /// The connection is gone.
    pub fn detached(&mut self) {
        self.hand = self.hand.take().and_then(Hand::detached);
    }

    fn hello(&self, greeting: &Greeting) -> Result<Hello, Ended> {
        let version = choose_version(greeting).map_err(SessionError::from)?;
        let low_water = self.journal.history().low_water();
        let agent = ShortText::try_from(env!("CARGO_PKG_VERSION").to_owned());
        let agent = agent.map_err(ProofError::Version)?;
        let about = About { version, capabilities: self.capabilities(), agent, low_water };
        Ok(self.identity.hello(greeting, about)?)
    }

    /// A request that an earlier session left comes before anything new.
    fn present(&mut self, session: Guest) -> Result<Guest, SessionError> {
        self.hand = self.hand.take().or_else(|| self.left_over());
        match &self.hand {
            Some(hand) => session.attach(hand.request),
            None => session.pull(),
        }
    }

    fn offered(&mut self, session: Guest, now: Tick, offer: Box<Offer>) -> Result<Guest, SessionError> {
        self.hand = Some(Hand::new(offer.request, offer.sequence, Station::Offered));
        info!(request = %offer.request, action = offer.action.name(), sequence = offer.sequence.map(u64::from), "pulled");
        match decide(&offer, self.journal.history()) {
            Decision::Query => {
                let session = session.apply()?;
                self.ended(query(&offer.action));
                Ok(session)
            }
            Decision::Begin(sequence) => self.fetch(session, now, offer, sequence),
            Decision::Repeat(acknowledgement) => {
                self.set(Station::Ended(acknowledgement, Remains::default()));
                Ok(session)
            }
            Decision::Interrupted => {
                self.end_left_over(offer.request);
                self.end(Outcome::Interrupted);
                Ok(session)
            }
            Decision::Stale(sequence) => {
                self.end(Outcome::Refused(Refusal::StaleSequence(sequence)));
                Ok(session)
            }
        }
    }

    fn cancel(&mut self, now: Tick, request: RequestId) {
        let Some(hand) = self.hand.as_mut().filter(|hand| hand.request == request) else { return };
        info!(%request, "cancelled");
        match &mut hand.station {
            Station::Running(running) => running.stop(now, Stop::Cancelled),
            Station::Offered | Station::Fetching(..) => self.end(Outcome::Cancelled),
            Station::Ended(..) => {}
        }
    }

    /// The manager has stored the outcome: nothing of the request is needed any more.
    fn forget(&mut self, request: RequestId) {
        let Some(hand) = self.hand.take().filter(|hand| hand.request == request) else { return };
        if let Some(sequence) = hand.sequence
            && let Err(errno) = self.journal.forgotten(request, sequence)
        {
            warn!(%request, %errno, "the journal could not forget a request; it will be presented again");
        }
        if let Station::Ended(_, Remains { spool: Some(spool), .. }) = hand.station {
            spool.remove();
        }
    }

    fn end(&mut self, outcome: Outcome) {
        self.ended(Done { outcome, evidence: Evidence::None, ran: None });
    }

    /// The outcome is on disk before it is acknowledged; where the disk refuses, it is acknowledged all the
    /// same, for a manager that knows is better than one that waits.
    fn ended(&mut self, done: Done) {
        let Some(mut hand) = self.hand.take() else { return };
        let remains = match hand.station {
            Station::Running(running) => running.into_remains(),
            Station::Offered | Station::Fetching(..) | Station::Ended(..) => Remains::default(),
        };
        let output = remains.spool.as_ref().map_or_else(OutputTotals::default, Spool::totals);
        let Done { outcome, evidence, ran } = done;
        info!(request = %hand.request, ?outcome, "ended");
        let acknowledgement = Acknowledgement { request: hand.request, outcome, evidence, output, ran };
        self.keep(hand.sequence, &acknowledgement);
        hand.station = Station::Ended(Box::new(acknowledgement), remains);
        self.hand = Some(hand);
    }

    fn keep(&mut self, sequence: Option<Sequence>, acknowledgement: &Acknowledgement) {
        let Some(sequence) = sequence else { return };
        let untouched = matches!(
            acknowledgement.outcome,
            Outcome::Refused(Refusal::StaleSequence(_) | Refusal::StateUnwritable(_))
        );
        if untouched {
            return;
        }
        if let Err(errno) = self.journal.outcome(sequence, acknowledgement) {
            warn!(request = %acknowledgement.request, %errno, "an outcome is not on disk");
        }
    }

    fn set(&mut self, station: Station) {
        if let Some(hand) = &mut self.hand {
            hand.station = station;
        }
    }

    fn reached(&self, session: Guest, stage: Stage) -> Result<Guest, SessionError> {
        let Some(hand) = &self.hand else { return Ok(session) };
        session.progress(Progress { request: hand.request, stage, at_ms: clock::now().0 })
    }
}

#[cfg(test)]
impl Agent {
    pub(crate) fn break_journal(&mut self, errno: nix::errno::Errno) {
        self.journal.break_it(errno);
    }
}
