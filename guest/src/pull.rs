//! A request's way through the guest: pulled, fetched, verified, journalled, applied, acknowledged, forgotten.
//!
//! Called by `link` with what the session owes, and by the event loop whenever something may have happened.
//! Trusts the manager's bytes only as far as the types of `wire` checked them. Outlives connections: a request
//! that has started goes on while the channel is away and is presented again when it is back.
//!
//! - `opening` who this guest is, and whether the manager is the one it pins
//! - `offered` from an offer to the decision
//! - `begin` from the decision to the effect: fetch, verify, journal, apply
//! - `can` what would be decided about something, and nothing done
//! - `finish` from the end of the effect to the receipt: journal, acknowledge, forget
//! - `reboot` the guest goes down for a request, and what is told behind that
//! - `resume` what an earlier run of the agent left
//! - `leftovers` what a manager that does not come back leaves

mod begin;
mod can;
mod finish;
mod leftovers;
mod offered;
mod opening;
mod reboot;
mod resume;

use crate::apply::cgroup::Cgroups;
use crate::clock;
use crate::ended::Ended;
use crate::fetch::Fetches;
pub use crate::hand::Way;
use crate::hand::{Detached, Hand, Station, Word};
use crate::identity::Identity;
use crate::identity::pin::Pin;
use crate::journal::{Journal, file::errno_of};
use crate::policy::Policy;
use crate::state::StateDir;
use crate::supervise::Sight;
use crate::verify::signature::Gate;
use doorbell_wire::error::SessionError;
use doorbell_wire::ids::{RequestId, Signature, Tick};
use doorbell_wire::message::outcome::Outcome;
use doorbell_wire::message::{Capabilities, Claims, Greeting, Input, Polls, Progress, Push, Stage};
use doorbell_wire::session::guest::{Guest, Owed};
use nix::poll::PollFd;
use tracing::{info, warn};

/// The agent but for its connection.
#[derive(Debug)]
pub struct Agent {
    state: StateDir,
    identity: Identity,
    journal: Journal,
    gate: Gate,
    policy: Policy,
    cgroups: Option<Cgroups>,
    fetches: Fetches,
    hands: Vec<Hand>,
    /// The ways that have a session.
    open: Vec<Way>,
    alone: leftovers::Alone,
    turn: usize,
    /// The ways whose session believes something in hand that was let go.
    comes_back: Vec<Way>,
    /// When the guest was last asked to reboot.
    reboot_at: Option<Tick>,
    /// Whether it looks into a share.
    shares: bool,
    /// How it polls, if it does.
    polls: Option<Polls>,
    /// The manager's key, where it is pinned, and what was said on the channel before a welcome.
    pin: Option<Pin>,
    opening: Option<(Greeting, Claims)>,
}

impl Agent {
    /// What this agent can do in this guest.
    #[must_use]
    pub fn capabilities(&self) -> Capabilities {
        let always = Capabilities::RUN
            .with(Capabilities::LINK)
            .with(Capabilities::TERMINAL)
            .with(Capabilities::FILES)
            .with(Capabilities::PUSH)
            .with(Capabilities::REBOOT)
            .with(Capabilities::POLICY)
            .with(Capabilities::SIGNED)
            .with(Capabilities::MANAGER_PROOF);
        // Who sets the clock decides how long a signature is good: not the manager, where one is demanded.
        let always = if self.policy.demands() { always } else { always.with(Capabilities::CLOCK) };
        let always = if self.shares { always.with(Capabilities::SHARE) } else { always };
        match &self.cgroups {
            Some(cgroups) if cgroups.has_limits() => {
                always.with(Capabilities::CGROUP_KILL).with(Capabilities::LIMITS)
            }
            Some(_) => always.with(Capabilities::CGROUP_KILL),
            None => always,
        }
    }

    /// What the event loop has to watch for the requests in hand.
    pub fn watched(&self) -> impl Iterator<Item = PollFd<'_>> {
        self.hands.iter().filter_map(|hand| match &hand.station {
            Station::Running(supervised) => supervised.watched(),
            Station::Offered | Station::Fetching(..) | Station::Ended(..) => None,
        })
    }

    /// Looks after what runs, and after what the disk would not take, with a connection or without.
    pub fn step(&mut self) {
        let now = clock::now();
        self.journal.tend(now);
        self.identity.tend(now);
        self.tidy(now);
        for at in 0..self.hands.len() {
            let Some(hand) = self.hands.get_mut(at) else { return };
            let Station::Running(supervised) = &mut hand.station else { continue };
            let request = hand.request;
            match supervised.look() {
                Sight::Starting => {}
                Sight::Running { started_us } => hand.started_us = Some(started_us),
                // Its end is known, and told behind the reboot.
                Sight::Over(_) | Sight::Lost if hand.down.is_some() => {}
                Sight::Over(over) => self.over(request, *over),
                Sight::Lost => self.lost(request),
            }
        }
        self.tend_reboot(now);
    }

    /// Does what a session of this way owes.
    ///
    /// # Errors
    /// [`Ended`] when the session cannot go on.
    pub fn owed(&mut self, way: Way, session: Guest, now: Tick, owed: Owed) -> Result<Guest, Ended> {
        match owed {
            Owed::Introduce(greeting) => return self.introduce(way, session, greeting),
            Owed::Welcomed(welcome) => {
                self.check_manager(way, &welcome)?;
                self.identity.keep(way, welcome.token);
                self.open.push(way);
                return Ok(self.present(way, session)?);
            }
            Owed::Offered(offer) => return self.offered(way, session, now, offer, &[]),
            Owed::Pushed(push) => {
                let Push { offer, program } = *push;
                return self.offered(way, session, now, Box::new(offer), &program);
            }
            Owed::Clock(_) if self.policy.demands() => {}
            Owed::Clock(host_time_ms) => clock::set(host_time_ms),
            Owed::Stage(chunk) => return Ok(self.stage(session, &chunk)?),
            Owed::Attached(request, from) => {
                if let Some(hand) = self.hand(request) {
                    hand.attached(from);
                }
            }
            Owed::Input(input) => self.input(&input),
            Owed::InputEnd(end) => self.running(end.request, |supervised| supervised.end_input(end.len)),
            Owed::Resize(resize) => {
                self.running(resize.request, |supervised| supervised.resize(resize.window));
            }
            Owed::Spooled(spooled) => {
                self.running(spooled.request, |supervised| supervised.stored(spooled.stream, spooled.end));
            }
            Owed::Cancel(request) => self.cancel(request),
            Owed::Forget(request) => self.forget(request),
            Owed::Send(_) | Owed::Wait(_) => {}
        }
        Ok(session)
    }

    /// The next thing to say on this session. Requests take turns: none keeps the others' output from going.
    pub(crate) fn next_word(
        &mut self,
        way: Way,
        session: &Guest,
        has_room: bool,
        quiet: bool,
    ) -> Option<Word> {
        let count = self.hands.len();
        for step in 0..count {
            let at = self.turn.saturating_add(step).checked_rem(count)?;
            let hand = self.hands.get_mut(at)?;
            if hand.way != way || !session.has_in_hand(hand.request) {
                continue;
            }
            let room = if has_room { session.output_room(hand.request) } else { 0 };
            if let Some(word) = hand.next_word(room, quiet) {
                self.turn = if let Word::Output(_) = word { at.saturating_add(1) } else { at };
                return Some(word);
            }
        }
        None
    }

    /// The session of this way is over.
    pub fn detached(&mut self, way: Way) {
        self.comes_back.retain(|back| *back != way);
        self.open.retain(|open| *open != way);
        for hand in std::mem::take(&mut self.hands) {
            if hand.way != way {
                self.hands.push(hand);
                continue;
            }
            match hand.detached() {
                Detached::Kept(hand) => self.hands.push(*hand),
                Detached::Half(staging) => self.fetches.keep(*staging),
                Detached::Nothing => {}
            }
        }
    }

    /// The signature of the guest's key.
    pub(crate) fn sign(&self, bytes: &[u8]) -> Signature {
        self.identity.sign(bytes)
    }

    /// What an earlier run of the agent left is presented by this way.
    pub fn present_by(&mut self, way: Way) {
        self.shares = way == Way::Share;
        self.hands.iter_mut().for_each(|hand| hand.way = way);
    }

    /// Has the agent close its channel when nothing waits, and come back on a timer.
    pub const fn poll_every(&mut self, polls: Option<Polls>) {
        self.polls = polls;
    }

    /// How it polls, if it does.
    #[must_use]
    pub const fn polls(&self) -> Option<Polls> {
        self.polls
    }

    /// Requests that an earlier session left come before anything new.
    fn present(&mut self, way: Way, mut session: Guest) -> Result<Guest, SessionError> {
        if let Some(polls) = self.polls.filter(|_| way == Way::Channel) {
            session = session.polls(polls)?;
        }
        for hand in self.hands.iter_mut().filter(|hand| hand.way == way) {
            let (input, taken) = hand.presented();
            session = session.attach(hand.request, input, taken)?;
        }
        session.pull()
    }

    /// Input that the disk does not take would be missing in the middle, so its program is ended.
    fn input(&mut self, input: &Input) {
        let Some(hand) = self.hand(input.request) else { return };
        let Station::Running(supervised) = &mut hand.station else { return };
        if let Err(error) = supervised.add_input(input.offset, &input.bytes) {
            warn!(request = %input.request, %error, "input cannot be kept; its program is ended");
            hand.input_errno = Some(errno_of(&error) as i32);
            supervised.stop();
        }
    }

    fn cancel(&mut self, request: RequestId) {
        let Some(hand) = self.hand(request) else { return };
        info!(%request, "cancelled");
        match &mut hand.station {
            Station::Running(supervised) => supervised.stop(),
            Station::Offered | Station::Fetching(..) => self.end(request, Outcome::Cancelled),
            Station::Ended(..) => {}
        }
    }

    fn reached(&self, session: Guest, request: RequestId, stage: Stage) -> Result<Guest, SessionError> {
        session.progress(Progress { request, stage, at_us: clock::now_us() })
    }

    fn running(&mut self, request: RequestId, act: impl FnOnce(&mut crate::supervise::Supervised)) {
        if let Some(Hand { station: Station::Running(supervised), .. }) = self.hand(request) {
            act(supervised);
        }
    }

    fn hand(&mut self, request: RequestId) -> Option<&mut Hand> {
        self.hands.iter_mut().find(|hand| hand.request == request)
    }
}

#[cfg(test)]
impl Agent {
    pub(crate) fn is_idle(&self) -> bool {
        self.hands.is_empty()
    }

    /// As if the disk refused the journal, until the file that this gives is gone.
    pub(crate) fn break_journal(&mut self, errno: nix::errno::Errno) -> std::path::PathBuf {
        self.journal.break_it(errno);
        let obstacle = self.state.root().join("journal.new");
        std::fs::create_dir(&obstacle).unwrap();
        obstacle
    }
}
