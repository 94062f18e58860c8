//! The manager's half of a session.
//!
//! Called by the manager's task of one guest with frames from the agent and with what store, programs and
//! receipts did. At most one ring is sent between two pulls, however often the task asks for one.

use super::{ReceiveWindow, SendCredit};
use crate::error::{Misbehaved, SessionError, Silent};
use crate::handshake::check_version;
use crate::ids::{RequestId, Tick};
use crate::limits::{HANDSHAKE_MS_MAX, HEARTBEAT_MS, SILENCE_MS_MAX};
use crate::message::outcome::Acknowledgement;
use crate::message::{Attached, Chunk, Credit, Fetch, FromGuest, FromHost, Greeting, Hello, Offer, Offsets};
use crate::message::{Output, Progress, Stage, Welcome};
use std::collections::VecDeque;

/// The states in which the guest has been accepted.
macro_rules! open {
    () => {
        State::Settling
            | State::Quiet
            | State::Asked
            | State::Attaching { .. }
            | State::Offered { .. }
            | State::Serving { .. }
            | State::Applying { .. }
            | State::Storing { .. }
    };
}
/// The states with a request in the guest's hand.
macro_rules! in_hand {
    ($request:ident) => {
        State::Offered { request: $request, .. }
            | State::Serving { request: $request, .. }
            | State::Applying { request: $request }
    };
}

/// What the session wants from the manager's task.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Owed {
    /// Write this frame.
    Send(FromHost),
    /// Check the proof against the greeting and call [`Host::welcome`], or close.
    Judge(Box<Hello>),
    /// Look for the next request and call [`Host::offer`] or [`Host::nothing`].
    Pulled,
    /// The guest still has this request in hand: call [`Host::attached`].
    Attach(RequestId),
    /// Program bytes are wanted: call [`Host::chunk`] as long as there is [`Host::chunk_room`].
    Serve(RequestId),
    /// The request has reached a station.
    Progress(Progress),
    /// Spool these bytes and call [`Host::spooled`].
    Spool(Output),
    /// Store this outcome and call [`Host::noted`].
    Store(Box<Acknowledgement>),
    /// Nothing more; wait for bytes or for this tick, then call [`Host::expire`].
    Wait(Tick),
}

/// The manager's half.
#[derive(Debug)]
pub struct Host {
    state: State,
    rung: bool,
    since: Tick,
    heard: Tick,
    next_ping: Tick,
    pings: u64,
    chunks: SendCredit,
    output: ReceiveWindow,
    out: VecDeque<Owed>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Greeted,
    Judging,
    Settling,
    Quiet,
    Asked,
    Attaching { request: RequestId },
    Offered { request: RequestId, len: u64 },
    Serving { request: RequestId, next: u64, len: u64 },
    Applying { request: RequestId },
    Storing { request: RequestId },
}

impl Host {
    /// A session on a connection that has just been accepted; the greeting is owed at once.
    #[must_use]
    pub fn accepted(now: Tick, greeting: Greeting) -> Self {
        Self {
            state: State::Greeted,
            rung: false,
            since: now,
            heard: now,
            next_ping: now.after(HEARTBEAT_MS),
            pings: 0,
            chunks: SendCredit::full(),
            output: ReceiveWindow::full(),
            out: VecDeque::from([Owed::Send(FromHost::Greeting(greeting))]),
        }
    }

    /// Takes one message of the agent.
    ///
    /// # Errors
    /// [`SessionError`]: the connection is to be closed after its reason, if any, was sent.
    pub fn receive(mut self, now: Tick, message: FromGuest) -> Result<Self, SessionError> {
        self.drained("receive")?;
        self.heard = now;
        self.state = match (self.state, message) {
            (_, FromGuest::GuestBye(reason)) => return Err(SessionError::Ended(reason)),
            (State::Greeted, FromGuest::Hello(hello)) => {
                check_version(hello.claims.version)?;
                self.then(State::Judging, Owed::Judge(hello))
            }
            (state @ open!(), FromGuest::Pong(_)) => state,
            (state @ open!(), FromGuest::ChunkCredit(credit)) => self.granted(state, credit)?,
            (State::Settling | State::Quiet, FromGuest::Pull) => self.pulled(),
            (State::Settling, FromGuest::Attach(request)) => {
                self.then(State::Attaching { request }, Owed::Attach(request))
            }
            (State::Offered { request, len }, FromGuest::Fetch(fetch)) => self.serve(request, len, fetch)?,
            (state @ in_hand!(request), FromGuest::Progress(progress)) => {
                same("PROGRESS", request, progress.request)?;
                self.progress(state, progress)
            }
            (state @ State::Applying { request }, FromGuest::Output(output)) => {
                same("OUTPUT", request, output.request)?;
                self.output = self.output.accept(output.bytes.len())?;
                self.then(state, Owed::Spool(output))
            }
            (in_hand!(request), FromGuest::Acknowledge(acknowledgement)) => {
                same("ACKNOWLEDGE", request, acknowledgement.request)?;
                self.then(State::Storing { request }, Owed::Store(acknowledgement))
            }
            (
                state,
                message @ (FromGuest::Acknowledge(_)
                | FromGuest::Attach(_)
                | FromGuest::ChunkCredit(_)
                | FromGuest::Fetch(_)
                | FromGuest::Hello(_)
                | FromGuest::Output(_)
                | FromGuest::Pong(_)
                | FromGuest::Progress(_)
                | FromGuest::Pull),
            ) => return Err(unexpected(state, &message)),
        };
        Ok(self)
    }

    /// Accepts the guest.
    ///
    /// # Errors
    /// [`SessionError::Misuse`] unless [`Owed::Judge`] was the last word.
    pub fn welcome(self, now: Tick, welcome: Welcome) -> Result<Self, SessionError> {
        let State::Judging = self.state else { return Err(self.misuse("welcome")) };
        Ok(self.enter(now, State::Settling, FromHost::Welcome(welcome)))
    }

    /// Tells the guest that something waits for it, unless it was told since its last pull.
    ///
    /// # Errors
    /// [`SessionError::Misuse`] before the guest is welcome.
    pub fn ring(mut self) -> Result<Self, SessionError> {
        if !matches!(self.state, open!()) {
            return Err(self.misuse("ring"));
        }
        if !self.rung {
            self.rung = true;
            self.out.push_back(Owed::Send(FromHost::Ring));
        }
        Ok(self)
    }

    /// Answers a pull with a request.
    ///
    /// # Errors
    /// [`SessionError::Misuse`] unless [`Owed::Pulled`] was the last word.
    pub fn offer(self, now: Tick, offer: Offer) -> Result<Self, SessionError> {
        let State::Asked = self.state else { return Err(self.misuse("offer")) };
        let len = offer.action.program().map_or(0, |program| program.len);
        let state = State::Offered { request: offer.request, len };
        Ok(self.enter(now, state, FromHost::Offer(Box::new(offer))))
    }

    /// Answers a pull: no request waits.
    ///
    /// # Errors
    /// [`SessionError::Misuse`] unless [`Owed::Pulled`] was the last word.
    pub fn nothing(self, now: Tick) -> Result<Self, SessionError> {
        let State::Asked = self.state else { return Err(self.misuse("nothing")) };
        Ok(self.enter(now, State::Quiet, FromHost::Nothing))
    }

    /// Answers an attach; `from` is `None` for a request this manager does not have.
    ///
    /// # Errors
    /// [`SessionError::Misuse`] unless [`Owed::Attach`] was the last word.
    pub fn attached(self, now: Tick, from: Option<Offsets>) -> Result<Self, SessionError> {
        let State::Attaching { request } = self.state else { return Err(self.misuse("attached")) };
        let attached = Attached { request, from };
        Ok(self.enter(now, State::Applying { request }, FromHost::Attached(attached)))
    }

    /// How many program bytes [`Host::chunk`] takes at once, and from which offset; `None` when none are wanted.
    #[must_use]
    pub fn chunk_room(&self) -> Option<(u64, usize)> {
        let State::Serving { next, len, .. } = self.state else { return None };
        let left = usize::try_from(len.saturating_sub(next)).unwrap_or(usize::MAX);
        Some((next, self.chunks.room().min(left))).filter(|&(_, room)| room > 0)
    }

    /// Sends the next program bytes.
    ///
    /// # Errors
    /// [`SessionError::Misuse`] when they are more than [`Host::chunk_room`] allows.
    pub fn chunk(mut self, bytes: Vec<u8>) -> Result<Self, SessionError> {
        let State::Serving { request, next, len } = self.state else { return Err(self.misuse("chunk")) };
        let end = next.saturating_add(bytes.len() as u64);
        self.chunks =
            self.chunks.spend(bytes.len()).filter(|_| end <= len).ok_or_else(|| self.misuse("chunk"))?;
        self.state = State::Serving { request, next: end, len };
        self.out.push_back(Owed::Send(FromHost::Chunk(Chunk { request, offset: next, bytes })));
        Ok(self)
    }

    /// Tells that so many output bytes are spooled.
    ///
    /// # Errors
    /// [`SessionError::Misuse`] when more is told than came.
    pub fn spooled(mut self, bytes: u32) -> Result<Self, SessionError> {
        self.output = self.output.consumed(bytes).ok_or_else(|| self.misuse("spooled"))?;
        self.out.push_back(Owed::Send(FromHost::OutputCredit(Credit { bytes })));
        Ok(self)
    }

    /// Asks the guest to end a request. A request that is not in its hand is passed over there.
    ///
    /// # Errors
    /// [`SessionError::Misuse`] before the guest is welcome.
    pub fn cancel(mut self, request: RequestId) -> Result<Self, SessionError> {
        if !matches!(self.state, open!()) {
            return Err(self.misuse("cancel"));
        }
        self.out.push_back(Owed::Send(FromHost::Cancel(request)));
        Ok(self)
    }

    /// Tells that the outcome is stored.
    ///
    /// # Errors
    /// [`SessionError::Misuse`] unless [`Owed::Store`] was the last word.
    pub fn noted(self, now: Tick) -> Result<Self, SessionError> {
        let State::Storing { request } = self.state else { return Err(self.misuse("noted")) };
        Ok(self.enter(now, State::Quiet, FromHost::Noted(request)))
    }

    /// Checks the deadlines, and sends the heartbeat when it is due.
    ///
    /// # Errors
    /// [`Silent`] when the guest has missed one.
    pub fn expire(mut self, now: Tick) -> Result<Self, SessionError> {
        let (deadline, ms) = self.deadline();
        if now >= deadline {
            return Err(Silent { state: self.state.name(), ms }.into());
        }
        if matches!(self.state, open!()) && now >= self.next_ping {
            self.next_ping = now.after(HEARTBEAT_MS);
            self.pings = self.pings.wrapping_add(1);
            self.out.push_back(Owed::Send(FromHost::Ping(self.pings)));
        }
        Ok(self)
    }

    /// What is owed next; [`Owed::Wait`] when nothing is.
    pub fn poll(&mut self) -> Owed {
        self.out.pop_front().unwrap_or_else(|| {
            let deadline = self.deadline().0;
            Owed::Wait(if matches!(self.state, open!()) { deadline.min(self.next_ping) } else { deadline })
        })
    }

    /// When the guest was last heard of.
    #[must_use]
    pub const fn heard(&self) -> Tick {
        self.heard
    }

    /// Whether the guest has proved its key and was welcomed.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        matches!(self.state, open!())
    }

    /// The name of the state, as on paper.
    #[must_use]
    pub const fn state(&self) -> &'static str {
        self.state.name()
    }

    fn then(&mut self, state: State, owed: Owed) -> State {
        self.out.push_back(owed);
        state
    }

    fn pulled(&mut self) -> State {
        self.rung = false;
        self.then(State::Asked, Owed::Pulled)
    }

    fn granted(&mut self, state: State, credit: Credit) -> Result<State, Misbehaved> {
        self.chunks = self.chunks.granted(credit.bytes)?;
        Ok(state)
    }

    fn serve(&mut self, request: RequestId, len: u64, fetch: Fetch) -> Result<State, Misbehaved> {
        same("FETCH", request, fetch.request)?;
        if fetch.offset >= len {
            return Err(Misbehaved::ChunkBeyondEnd { got: fetch.offset, len });
        }
        Ok(self.then(State::Serving { request, next: fetch.offset, len }, Owed::Serve(request)))
    }

    fn progress(&mut self, state: State, progress: Progress) -> State {
        let next = match progress.stage {
            Stage::Started => State::Applying { request: progress.request },
            Stage::Fetched | Stage::Verified | Stage::Journalled => state,
        };
        self.then(next, Owed::Progress(progress))
    }

    fn enter(mut self, now: Tick, state: State, message: FromHost) -> Self {
        self.state = state;
        self.since = now;
        self.out.push_back(Owed::Send(message));
        self
    }

    fn deadline(&self) -> (Tick, u64) {
        if matches!(self.state, open!()) {
            (self.heard.after(SILENCE_MS_MAX), SILENCE_MS_MAX)
        } else {
            (self.since.after(HANDSHAKE_MS_MAX), HANDSHAKE_MS_MAX)
        }
    }

    fn drained(&self, call: &'static str) -> Result<(), SessionError> {
        if self.out.is_empty() { Ok(()) } else { Err(self.misuse(call)) }
    }

    const fn misuse(&self, call: &'static str) -> SessionError {
        SessionError::Misuse { call, state: self.state.name() }
    }
}

impl State {
    const fn name(self) -> &'static str {
        match self {
            Self::Greeted => "Greeted",
            Self::Judging => "Judging",
            Self::Settling => "Settling",
            Self::Quiet => "Quiet",
            Self::Asked => "Asked",
            Self::Attaching { .. } => "Attaching",
            Self::Offered { .. } => "Offered",
            Self::Serving { .. } => "Serving",
            Self::Applying { .. } => "Applying",
            Self::Storing { .. } => "Storing",
        }
    }
}

fn same(frame: &'static str, ours: RequestId, theirs: RequestId) -> Result<(), Misbehaved> {
    if ours == theirs { Ok(()) } else { Err(Misbehaved::WrongRequest { frame }) }
}

fn unexpected(state: State, message: &FromGuest) -> SessionError {
    Misbehaved::Unexpected { frame: message.kind().name(), state: state.name() }.into()
}
