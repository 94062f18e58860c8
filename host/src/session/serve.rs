//! What a session does with each thing it owes: the stations from ring to receipt, one short step each.
//!
//! Called by the session's drain. Every step does its durable part before the session says anything about it.

use super::hand::{Held, takes_query};
use super::stalled::Mark;
use super::{End, Greeted, Hand, Session};
use crate::judge::{Judgement, judge, random};
use crate::manager::Manager;
use crate::request::{is_closed, reached};
use crate::ring::Query;
use crate::store::{ClockTold, Door, Pull, RequestRow};
use crate::time::unix_us;
use crate::trace::{Clock, Stamp, station_of};
use doorbell_api::event::Change;
use doorbell_api::guest::{Presence, Trigger};
use doorbell_api::request::State;
use doorbell_wire::error::Reason;
use doorbell_wire::ids::{RequestId, SessionToken};
use doorbell_wire::limits::PUSH_LEN_MAX;
use doorbell_wire::message::action::Payload;
use doorbell_wire::message::{
    Attach, Capabilities, Claims, FromHost, Hello, Kind, Offer, Offsets, Polls, Progress, Push, Stage,
    Welcome,
};
use doorbell_wire::session::host::Host;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};
use tracing::{info, warn};

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Session<S> {
    pub(super) async fn judge(&mut self, session: Host, hello: &Hello) -> Result<Host, End> {
        let judgement =
            judge(&self.manager, &self.guest, (self.door, &self.met_at), &self.greeting, hello).await?;
        let token = match judgement {
            Judgement::Welcome(token) => token,
            Judgement::Refuse(reason, text) => {
                self.tell_refused(reason);
                return Err(End::Refused(reason, text));
            }
        };
        // A hello in a share may have waited there: its clock was read nobody knows when.
        if self.door == Door::Channel {
            self.align(&hello.claims);
        }
        self.entry = None;
        self.entered = true;
        self.token = Some(token);
        if let Some(older) = self.manager.registry.enter(self.guest.id, self.door, Arc::clone(&self.bell)) {
            // What the older one still reads and stores would be taken for this one's.
            let ended = tokio::time::timeout(OLDER_MAX, older.ended()).await;
            ended.map_err(|_| End::Fault("an older session of this guest does not end".into()))?;
        }
        self.check_place().await?;
        crate::power::met(&self.manager, self.guest.id, &self.guest.name).await;
        self.tell_presence(Presence::Connected, None);
        info!(agent = %hello.claims.agent, boot_id = %hello.claims.boot_id, "session open");
        self.pushes = self.guest.trigger == Trigger::Push
            && hello.claims.capabilities.contains(Capabilities::PUSH)
            && session.version() >= Kind::Push.since();
        let sets_clock = self.guest.set_clock
            && self.door == Door::Channel
            && hello.claims.capabilities.contains(Capabilities::CLOCK);
        let welcome = self.welcome(token, session.version(), &hello.claims)?;
        let session = session.welcome(welcome)?;
        // The agent keeps the token first; what it asks for comes behind a clock that is right.
        if sets_clock { Ok(session.clock(crate::time::unix_ms())?) } else { Ok(session) }
    }

    /// What the guest is accepted with; with the proof of the manager's key, where its agent takes one.
    fn welcome(&self, token: SessionToken, version: u16, claims: &Claims) -> Result<Welcome, End> {
        let plain = Welcome { token, host_time_ms: crate::time::unix_ms(), proof: None };
        if version == 0 || !claims.capabilities.contains(Capabilities::MANAGER_PROOF) {
            return Ok(plain);
        }
        let proof = self.manager.signer.prove(&self.greeting, claims, &plain)?;
        Ok(Welcome { proof: Some(proof), ..plain })
    }

    /// The guest comes back on a timer: until then it is not gone.
    pub(super) async fn polls(&mut self, session: Host, polls: Polls) -> Result<Host, End> {
        self.manager.store.polls(self.guest.id, Some(polls.every_ms)).await?;
        Ok(session)
    }

    /// Sends what waits right behind its ring, with its program where that is small. Where the guest is not idle,
    /// or a query waits, a ring is as fast.
    pub(super) async fn push(&mut self, session: Host) -> Result<Host, End> {
        if !session.takes_push() || self.bell.has_query() {
            return self.ring(session);
        }
        let now = unix_us();
        let pull = Pull { in_hand: session.in_hand().collect(), rung_us: Some(now), pulled_us: now };
        let next = self.next(pull).await;
        let Some(next) = self.or_later(next)? else {
            self.stalled.add_pull();
            return Ok(session);
        };
        let Some(offer) = next else { return Ok(session) };
        let program = small_program(&self.manager, &offer).await;
        let pushed = Push { offer: offer.clone(), program };
        let fits = FromHost::Push(Box::new(pushed.clone())).to_frame().is_ok();
        Ok(session.push(if fits { pushed } else { Push { program: Vec::new(), ..pushed } })?)
    }

    /// The next request for this guest, marked offered on the disk and put into its hand.
    async fn next(&mut self, pull: Pull) -> Result<Option<Offer>, End> {
        let next = self.manager.store.next_offer(self.guest.id, pull).await?;
        for row in &next.moved {
            self.manager.moved(row).await;
        }
        self.floor = next.floor;
        self.more = next.more;
        if let Some(offer) = &next.offer {
            let row = next.moved.iter().find(|row| row.id == offer.request);
            let base = row.map(|row| row.output_base).unwrap_or_default();
            let held = Held { base, ..Held::offered(&offer.action) };
            self.hands.insert(offer.request, Hand::Request(held));
        }
        Ok(next.offer)
    }

    pub(super) async fn pulled(&mut self, session: Host) -> Result<Host, End> {
        let confirmed = self.confirm().await;
        let confirmed = self.or_later(confirmed)?.is_some();
        self.manager.events.tell(&self.guest.name, Change::Pulled);
        let (rung_us, pulled_us) = (self.rung_us.take(), unix_us());
        if let Some(query) =
            Some(&self.bell).filter(|_| takes_query(&self.hands)).and_then(|bell| bell.take_query())
        {
            return self.offer_query(session, query);
        }
        // What is durable goes through the share, where there is one.
        if self.door == Door::Channel && self.guest.share.is_some() {
            return Ok(session.nothing()?);
        }
        let pull = Pull { in_hand: session.in_hand().collect(), rung_us, pulled_us };
        let next = if confirmed {
            let next = self.next(pull).await;
            self.or_later(next)?
        } else {
            None
        };
        let Some(next) = next else {
            // It is rung when the disk takes an offer again.
            self.stalled.add_pull();
            return Ok(session.nothing()?);
        };
        let Some(offer) = next else { return Ok(session.nothing()?) };
        let session = session.offer(offer)?;
        let more = self.more || (self.bell.has_query() && takes_query(&self.hands));
        if more { self.ring(session) } else { Ok(session) }
    }

    /// A query goes first, and what else waits is asked for again.
    fn offer_query(&mut self, session: Host, query: Query) -> Result<Host, End> {
        let offer = Offer {
            request: RequestId::new(random()?),
            sequence: None,
            floor: self.floor,
            action: query.action.clone(),
            timeout_ms: None,
            idempotent: true,
            signed: None,
        };
        self.hands.insert(offer.request, Hand::Query(query));
        let session = session.offer(offer)?;
        self.ring(session)
    }

    pub(super) async fn attach(&mut self, session: Host, attach: Attach) -> Result<Host, End> {
        let request = attach.request;
        let taken = self.take_up(attach).await;
        let Some(taken) = self.or_later(taken)? else {
            self.stalled.add_attach(attach);
            return Ok(session);
        };
        let Some((row, from)) = taken else {
            warn!(%request, "the guest has a request in hand that this manager does not know; its outcome will be dropped");
            self.hands.insert(request, Hand::Stranger);
            return Ok(session.attached(request, None, 0)?);
        };
        let output_max = row.action.output_len_max();
        let mut session = session.attached(request, from, output_max)?;
        if row.cancel_asked {
            session = session.cancel(request)?;
        }
        self.feed(session, request).await
    }

    /// The request that the guest presents and where its output continues; `None` when this manager does not have it.
    async fn take_up(&mut self, attach: Attach) -> Result<Option<(RequestRow, Option<Offsets>)>, End> {
        self.confirm().await?;
        let Some(row) = self.manager.store.attach(self.guest.id, attach.request).await? else {
            return Ok(None);
        };
        self.hands.insert(attach.request, Hand::Request(Held::attached(&row)));
        let from = self.continue_output(&row).await?;
        self.check_input(&row, attach).await?;
        Ok(Some((row, from)))
    }

    /// A manager that lost input in a crash goes on when its client has sent it again.
    async fn check_input(&mut self, row: &RequestRow, attach: Attach) -> Result<(), End> {
        let kept = self.manager.inputs.state(row.id).await?;
        if kept.len < attach.input && !is_closed(row.state) {
            let (request, guest) = (row.id, attach.input);
            warn!(%request, guest, manager = kept.len, "the guest has more input than this manager");
        }
        Ok(())
    }

    pub(super) async fn progress(&mut self, session: Host, progress: Progress) -> Result<Host, End> {
        let Progress { request, stage, at_us } = progress;
        let clock = self.clock;
        let Some(Hand::Request(held)) = self.hands.get_mut(&request) else { return Ok(session) };
        let station = station_of(stage);
        held.stamps.extend(clock.zip(station).map(|(clock, station)| clock.stamp(station, at_us)));
        if stage == Stage::Rebooting {
            self.manager.store.rebooting(self.guest.id, request).await?;
            return Ok(session);
        }
        // The other stations move nothing: they go along with the next one that does.
        if reached(stage).is_none() || stage == Stage::Verified {
            return Ok(session);
        }
        let (fresh, base, stamps) = (held.fresh, held.base, std::mem::take(&mut held.stamps));
        if fresh && stage == Stage::Started {
            self.told(at_us);
        }
        // Output of the steps before stays; what an attempt at this one printed goes.
        let anew = fresh && stage == Stage::Started && base == Offsets::default();
        self.keep_mark(Mark { request, stage, stamps, anew }).await?;
        if stage == Stage::Started { self.feed(session, request).await } else { Ok(session) }
    }

    /// An operator who moves or removes a guest ends the session that is entered: one that enters behind
    /// that has to see it by itself.
    async fn check_place(&mut self) -> Result<(), End> {
        let found = match self.door {
            Door::Channel => self.manager.store.guest_at(&self.guest.place).await?,
            Door::Share => self.manager.store.guest_sharing(self.guest.share.clone()).await?,
        };
        if found.is_some_and(|found| found.id == self.guest.id) {
            return Ok(());
        }
        let text = format!("its guest was removed, or moved from {}", self.guest.place);
        Err(End::Refused(Reason::UNKNOWN_GUEST, text))
    }

    /// Where the output of a request that the guest still has in hand continues; `None` when its receipt is
    /// stored, for then it has all the output it will ever have.
    async fn continue_output(&mut self, row: &RequestRow) -> Result<Option<Offsets>, End> {
        if is_closed(row.state) {
            return Ok(None);
        }
        if !matches!(row.state, State::Started | State::Unconfirmed) {
            // It has started, and this manager did not hear of it: what is on its disk was printed by a start
            // before that one.
            if row.output_base == Offsets::default() {
                self.manager.outputs.forget(row.id).await?;
            }
            self.mark(row.id, Stage::Started, Vec::new()).await?;
        }
        let Offsets { stdout, stderr } = self.manager.outputs.lens(row.id).await?;
        let base = row.output_base;
        let (stdout, stderr) = (stdout.saturating_sub(base.stdout), stderr.saturating_sub(base.stderr));
        Ok(Some(Offsets { stdout, stderr }))
    }

    pub(super) async fn mark(&mut self, id: RequestId, stage: Stage, stamps: Vec<Stamp>) -> Result<(), End> {
        if let Some(row) = self.manager.store.mark(self.guest.id, id, stage, stamps).await? {
            self.manager.moved(&row).await;
        }
        Ok(())
    }

    /// The guest's first frame behind the welcome shows that it has the token on disk.
    async fn confirm(&mut self) -> Result<(), End> {
        if let Some(token) = self.token {
            self.manager.store.confirm(self.guest.id, self.door, token).await?;
            self.token = None;
        }
        Ok(())
    }

    /// The guest read its clock between our greeting and its hello.
    fn align(&mut self, claims: &Claims) {
        let greeted = self.greeted.unwrap_or_else(|| Greeted { at_us: unix_us(), at: Instant::now() });
        let took = u64::try_from(greeted.at.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.clock = Some(Clock::aligned(claims.boot_id, greeted.at_us, took, claims.clock_us));
        if self.door == Door::Channel {
            let at = ClockTold { boot: claims.boot_id, us: claims.clock_us };
            self.manager.registry.clock_starts(self.guest.id, at);
        }
    }

    /// The guest has told of a time of this run of its kernel.
    pub(super) fn told(&self, us: u64) {
        if let Some(clock) = self.clock.filter(|_| self.door == Door::Channel) {
            let told = ClockTold { boot: clock.boot, us: clock.bounded(us, unix_us()) };
            self.manager.registry.told(self.guest.id, told);
        }
    }

    fn tell_refused(&self, reason: Reason) {
        let presence = match reason {
            Reason::FENCED => Presence::Fenced,
            // Nobody waits for an answer any longer.
            Reason::REJECTED => return,
            _ => Presence::Pending,
        };
        if self.manager.registry.bell(self.guest.id).is_none() {
            self.manager.events.presence(&self.guest.name, presence, None);
        }
    }
}

/// All bytes of a program that is small enough to ride along; none of any other.
async fn small_program(manager: &Manager, offer: &Offer) -> Vec<u8> {
    let small = offer.action.payload().filter(|payload| payload.len <= PUSH_LEN_MAX);
    let Some(Payload { digest, len, .. }) = small else { return Vec::new() };
    let room = usize::try_from(len).unwrap_or_default();
    let bytes = manager.programs.read(digest, 0, room).await.unwrap_or_default();
    // Where it cannot be read whole, its fetch tells why.
    if bytes.len() == room { bytes } else { Vec::new() }
}

/// How long an older session may take for its last step, which is one of the store.
const OLDER_MAX: Duration = Duration::from_secs(5);
