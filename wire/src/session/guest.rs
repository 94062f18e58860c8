//! The agent's half of a session.
//!
//! Called by the agent's link with frames from the manager and with what `fetch`, `apply` and `journal` did.
//! A ring while busy is remembered in one bit, never queued.

use super::{ReceiveWindow, SendCredit};
use crate::error::{Misbehaved, SessionError, Silent};
use crate::ids::{RequestId, Tick};
use crate::limits::{FETCH_MS_MAX, HANDSHAKE_MS_MAX, SILENCE_MS_MAX};
use crate::message::outcome::Acknowledgement;
use crate::message::{Chunk, Credit, Fetch, FromGuest, FromHost, Greeting, Hello, Offer, Offsets, Output};
use crate::message::{Progress, Welcome};
use std::collections::VecDeque;

/// The states in which the manager has accepted the guest.
macro_rules! open {
    () => {
        State::Settling
            | State::Attaching { .. }
            | State::Pulling
            | State::Idle
            | State::Deciding { .. }
            | State::Fetching { .. }
            | State::Applying { .. }
            | State::Acking { .. }
    };
}
/// The states with no request in hand.
macro_rules! idle {
    () => {
        State::Greeting
            | State::Introducing
            | State::Proving
            | State::Settling
            | State::Attaching { .. }
            | State::Pulling
            | State::Idle
    };
}
/// The states with a started request.
macro_rules! busy {
    () => {
        State::Applying { .. } | State::Acking { .. }
    };
}

/// What the session wants from the agent's link.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Owed {
    /// Write this frame.
    Send(FromGuest),
    /// Sign over this greeting and call [`Guest::introduce`].
    Introduce(Greeting),
    /// Put the token on disk, then call [`Guest::attach`] or [`Guest::pull`].
    Welcomed(Welcome),
    /// Continue the request in hand from these offsets; `None` when the manager does not want its output.
    Attached(Option<Offsets>),
    /// Decide on this request: call [`Guest::fetch`], [`Guest::apply`] or [`Guest::acknowledge`].
    Offered(Box<Offer>),
    /// Stage these bytes and call [`Guest::staged`].
    Stage(Chunk),
    /// End the request in hand if it has not ended.
    Cancel(RequestId),
    /// The manager has stored the outcome: forget it. A pull is on its way.
    Forget(RequestId),
    /// Nothing more; wait for bytes or for this tick, then call [`Guest::expire`].
    Wait(Tick),
}

/// The agent's half.
#[derive(Debug)]
pub struct Guest {
    state: State,
    rung: bool,
    heard: Tick,
    since: Tick,
    chunks: ReceiveWindow,
    output: SendCredit,
    out: VecDeque<Owed>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Greeting,
    Introducing,
    Proving,
    Settling,
    Attaching { request: RequestId },
    Pulling,
    Idle,
    Deciding { request: RequestId, len: u64 },
    Fetching { request: RequestId, next: u64, len: u64 },
    Applying { request: RequestId },
    Acking { request: RequestId },
}

impl Guest {
    /// A session on a connection that has just been made.
    #[must_use]
    pub fn connected(now: Tick) -> Self {
        Self {
            state: State::Greeting,
            rung: false,
            heard: now,
            since: now,
            chunks: ReceiveWindow::full(),
            output: SendCredit::full(),
            out: VecDeque::new(),
        }
    }

    /// Takes one message of the manager.
    ///
    /// # Errors
    /// [`SessionError`]: the connection is to be closed after its reason, if any, was sent.
    pub fn receive(mut self, now: Tick, message: FromHost) -> Result<Self, SessionError> {
        self.drained("receive")?;
        self.heard = now;
        self.state = match (self.state, message) {
            (_, FromHost::HostBye(reason)) => return Err(SessionError::Ended(reason)),
            (State::Greeting, FromHost::Greeting(greeting)) => {
                self.then(State::Introducing, Owed::Introduce(greeting))
            }
            (State::Proving, FromHost::Welcome(welcome)) => {
                self.then(State::Settling, Owed::Welcomed(welcome))
            }
            (state @ open!(), FromHost::Ping(number)) => {
                self.then(state, Owed::Send(FromGuest::Pong(number)))
            }
            (state @ open!(), FromHost::OutputCredit(credit)) => self.granted(state, credit)?,
            (state @ open!(), FromHost::Cancel(request)) => self.cancel(state, request),
            (state @ open!(), FromHost::Ring) => self.ring(state),
            (State::Attaching { request }, FromHost::Attached(attached)) => {
                same("ATTACHED", request, attached.request)?;
                self.then(State::Applying { request }, Owed::Attached(attached.from))
            }
            (State::Pulling, FromHost::Offer(offer)) => self.offered(offer),
            (State::Pulling, FromHost::Nothing) => self.nothing(),
            (State::Fetching { request, next, len }, FromHost::Chunk(chunk)) => {
                self.since = now;
                self.chunk(request, next, len, chunk)?
            }
            (State::Acking { request }, FromHost::Noted(noted)) => {
                same("NOTED", request, noted)?;
                self.out.push_back(Owed::Forget(request));
                self.pulling()
            }
            (
                state,
                message @ (FromHost::Attached(_)
                | FromHost::Cancel(_)
                | FromHost::Chunk(_)
                | FromHost::Greeting(_)
                | FromHost::Noted(_)
                | FromHost::Nothing
                | FromHost::Offer(_)
                | FromHost::OutputCredit(_)
                | FromHost::Ping(_)
                | FromHost::Ring
                | FromHost::Welcome(_)),
            ) => return Err(unexpected(state, &message)),
        };
        Ok(self)
    }

    /// Answers the greeting.
    ///
    /// # Errors
    /// [`SessionError::Misuse`] unless [`Owed::Introduce`] was the last word.
    pub fn introduce(self, now: Tick, hello: Hello) -> Result<Self, SessionError> {
        let State::Introducing = self.state else { return Err(self.misuse("introduce")) };
        Ok(self.enter(now, State::Proving, Some(FromGuest::Hello(Box::new(hello)))))
    }

    /// Asks for the first request of this session, when none is in hand.
    ///
    /// # Errors
    /// [`SessionError::Misuse`] unless [`Owed::Welcomed`] was the last word.
    pub fn pull(mut self, now: Tick) -> Result<Self, SessionError> {
        let State::Settling = self.state else { return Err(self.misuse("pull")) };
        self.rung = false;
        Ok(self.enter(now, State::Pulling, Some(FromGuest::Pull)))
    }

    /// Presents a request that an earlier session left in hand.
    ///
    /// # Errors
    /// [`SessionError::Misuse`] unless [`Owed::Welcomed`] was the last word.
    pub fn attach(self, now: Tick, request: RequestId) -> Result<Self, SessionError> {
        let State::Settling = self.state else { return Err(self.misuse("attach")) };
        Ok(self.enter(now, State::Attaching { request }, Some(FromGuest::Attach(request))))
    }

    /// Asks for the program of the offered request.
    ///
    /// # Errors
    /// [`SessionError::Misuse`] unless [`Owed::Offered`] was the last word and its program has bytes.
    pub fn fetch(self, now: Tick) -> Result<Self, SessionError> {
        let State::Deciding { request, len: len @ 1.. } = self.state else {
            return Err(self.misuse("fetch"));
        };
        let fetch = FromGuest::Fetch(Fetch { request, offset: 0 });
        Ok(self.enter(now, State::Fetching { request, next: 0, len }, Some(fetch)))
    }

    /// Tells that so many bytes of the program are staged.
    ///
    /// # Errors
    /// [`SessionError::Misuse`] when more is told than came.
    pub fn staged(mut self, bytes: u32) -> Result<Self, SessionError> {
        self.chunks = self.chunks.consumed(bytes).ok_or_else(|| self.misuse("staged"))?;
        self.out.push_back(Owed::Send(FromGuest::ChunkCredit(Credit { bytes })));
        Ok(self)
    }

    /// Tells of a station that the request in hand has reached.
    ///
    /// # Errors
    /// [`SessionError::Misuse`] when it is not in hand.
    pub fn progress(mut self, progress: Progress) -> Result<Self, SessionError> {
        if self.in_hand() != Some(progress.request) {
            return Err(self.misuse("progress"));
        }
        self.out.push_back(Owed::Send(FromGuest::Progress(progress)));
        Ok(self)
    }

    /// Begins to apply the offered request.
    ///
    /// # Errors
    /// [`SessionError::Misuse`] unless it is offered, or wholly fetched.
    pub fn apply(self, now: Tick) -> Result<Self, SessionError> {
        match self.state {
            State::Deciding { request, .. } => Ok(self.enter(now, State::Applying { request }, None)),
            State::Fetching { request, next, len } if next == len => {
                Ok(self.enter(now, State::Applying { request }, None))
            }
            State::Fetching { .. } | idle!() | busy!() => Err(self.misuse("apply")),
        }
    }

    /// How many output bytes [`Guest::output`] takes at once; 0 until there is credit.
    #[must_use]
    pub fn output_room(&self) -> usize {
        if matches!(self.state, State::Applying { .. }) { self.output.room() } else { 0 }
    }

    /// Sends output of the request in hand.
    ///
    /// # Errors
    /// [`SessionError::Misuse`] when it is not being applied or there is no credit for so much.
    pub fn output(mut self, output: Output) -> Result<Self, SessionError> {
        if self.state != (State::Applying { request: output.request }) {
            return Err(self.misuse("output"));
        }
        self.output = self.output.spend(output.bytes.len()).ok_or_else(|| self.misuse("output"))?;
        self.out.push_back(Owed::Send(FromGuest::Output(output)));
        Ok(self)
    }

    /// Gives the outcome of the request in hand.
    ///
    /// # Errors
    /// [`SessionError::Misuse`] when it is not in hand.
    pub fn acknowledge(self, now: Tick, acknowledgement: Acknowledgement) -> Result<Self, SessionError> {
        let request = acknowledgement.request;
        if self.in_hand() != Some(request) {
            return Err(self.misuse("acknowledge"));
        }
        let message = FromGuest::Acknowledge(Box::new(acknowledgement));
        Ok(self.enter(now, State::Acking { request }, Some(message)))
    }

    /// Checks the deadlines.
    ///
    /// # Errors
    /// [`Silent`] when one has passed.
    pub fn expire(self, now: Tick) -> Result<Self, SessionError> {
        let (deadline, ms) = self.deadline();
        if now < deadline { Ok(self) } else { Err(Silent { state: self.state.name(), ms }.into()) }
    }

    /// What is owed next; [`Owed::Wait`] when nothing is.
    pub fn poll(&mut self) -> Owed {
        self.out.pop_front().unwrap_or_else(|| Owed::Wait(self.deadline().0))
    }

    /// The request in hand, from its offer to its acknowledgement.
    #[must_use]
    pub const fn in_hand(&self) -> Option<RequestId> {
        match self.state {
            State::Deciding { request, .. }
            | State::Fetching { request, .. }
            | State::Applying { request } => Some(request),
            idle!() | State::Acking { .. } => None,
        }
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

    fn pulling(&mut self) -> State {
        self.rung = false;
        self.then(State::Pulling, Owed::Send(FromGuest::Pull))
    }

    fn ring(&mut self, state: State) -> State {
        if state == State::Idle {
            return self.pulling();
        }
        self.rung = true;
        state
    }

    fn nothing(&mut self) -> State {
        if self.rung { self.pulling() } else { State::Idle }
    }

    fn offered(&mut self, offer: Box<Offer>) -> State {
        let state = State::Deciding {
            request: offer.request,
            len: offer.action.program().map_or(0, |program| program.len),
        };
        self.then(state, Owed::Offered(offer))
    }

    fn granted(&mut self, state: State, credit: Credit) -> Result<State, Misbehaved> {
        self.output = self.output.granted(credit.bytes)?;
        Ok(state)
    }

    /// A cancel that crossed with the end of its request names one that is not in hand: nothing to do.
    fn cancel(&mut self, state: State, request: RequestId) -> State {
        if self.in_hand() == Some(request) { self.then(state, Owed::Cancel(request)) } else { state }
    }

    fn chunk(&mut self, request: RequestId, next: u64, len: u64, chunk: Chunk) -> Result<State, Misbehaved> {
        same("CHUNK", request, chunk.request)?;
        self.chunks = self.chunks.accept(chunk.bytes.len())?;
        if chunk.offset != next {
            return Err(Misbehaved::ChunkOffset { got: chunk.offset, expected: next });
        }
        let end = next.saturating_add(chunk.bytes.len() as u64);
        if end > len {
            return Err(Misbehaved::ChunkBeyondEnd { got: end, len });
        }
        Ok(self.then(State::Fetching { request, next: end, len }, Owed::Stage(chunk)))
    }

    fn enter(mut self, now: Tick, state: State, send: Option<FromGuest>) -> Self {
        self.state = state;
        self.since = now;
        self.out.extend(send.map(Owed::Send));
        self
    }

    fn deadline(&self) -> (Tick, u64) {
        let silence = (self.heard.after(SILENCE_MS_MAX), SILENCE_MS_MAX);
        match self.state {
            State::Greeting | State::Introducing | State::Proving => {
                (self.since.after(HANDSHAKE_MS_MAX), HANDSHAKE_MS_MAX)
            }
            State::Fetching { next, len, .. } if next < len => {
                silence.min((self.since.after(FETCH_MS_MAX), FETCH_MS_MAX))
            }
            State::Settling
            | State::Attaching { .. }
            | State::Pulling
            | State::Idle
            | State::Deciding { .. }
            | State::Fetching { .. }
            | State::Applying { .. }
            | State::Acking { .. } => silence,
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
            Self::Greeting => "Greeting",
            Self::Introducing => "Introducing",
            Self::Proving => "Proving",
            Self::Settling => "Settling",
            Self::Attaching { .. } => "Attaching",
            Self::Pulling => "Pulling",
            Self::Idle => "Idle",
            Self::Deciding { .. } => "Deciding",
            Self::Fetching { .. } => "Fetching",
            Self::Applying { .. } => "Applying",
            Self::Acking { .. } => "Acking",
        }
    }
}

fn same(frame: &'static str, ours: RequestId, theirs: RequestId) -> Result<(), Misbehaved> {
    if ours == theirs { Ok(()) } else { Err(Misbehaved::WrongRequest { frame }) }
}

fn unexpected(state: State, message: &FromHost) -> SessionError {
    Misbehaved::Unexpected { frame: message.kind().name(), state: state.name() }.into()
}
