//! The agent's half of a session.
//!
//! Called by the agent's link with frames from the manager and with what `fetch`, `apply` and `journal` did.
//! A ring while busy is remembered in one bit, never queued.

mod calls;
mod state;

use super::{ReceiveWindow, SendCredit, continued, same};
use crate::error::{Misbehaved, SessionError, Silent};
use crate::handshake::choose_version;
use crate::ids::{RequestId, Tick};
use crate::limits::{FETCH_MS_MAX, HANDSHAKE_MS_MAX, SILENCE_MS_MAX};
use crate::message::{Chunk, Credit, FromGuest, FromHost, Greeting, Offer, Offsets, Stage, Welcome};
use state::{State, idle, open};
use std::collections::VecDeque;

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
    /// End this request if it is the one in hand and has not ended. Before [`Guest::attach`] or
    /// [`Guest::pull`] only the link knows whether it is.
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
    printed: Option<Offsets>,
    stage: Option<Stage>,
    out: VecDeque<Owed>,
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
            printed: None,
            stage: None,
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
                choose_version(&greeting)?;
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
                self.printed = attached.from;
                self.then(State::Applying { request, attached: true }, Owed::Attached(attached.from))
            }
            (State::Pulling, FromHost::Offer(offer)) => self.offered(offer),
            (State::Pulling, FromHost::Nothing) => self.nothing(),
            (State::Fetching { request, next, len }, FromHost::Chunk(chunk)) => {
                self.since = now;
                let next = self.chunk(request, next, len, &chunk)?;
                self.then(State::Fetching { request, next, len }, Owed::Stage(chunk))
            }
            // Sent before the manager knew that the fetch was given up.
            (State::Acking { request, next, len }, FromHost::Chunk(chunk)) => {
                let next = self.chunk(request, next, len, &chunk)?;
                State::Acking { request, next, len }
            }
            (State::Acking { request, .. }, FromHost::Noted(noted)) => {
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
            | State::Applying { request, .. } => Some(request),
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
        self.printed = None;
        self.stage = None;
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
        let may_be_in_hand = match state {
            State::Settling => true,
            State::Attaching { request: presented } => presented == request,
            State::Greeting | State::Introducing | State::Proving | State::Pulling | State::Idle => false,
            State::Deciding { .. }
            | State::Fetching { .. }
            | State::Applying { .. }
            | State::Acking { .. } => self.in_hand() == Some(request),
        };
        if may_be_in_hand { self.then(state, Owed::Cancel(request)) } else { state }
    }

    fn chunk(&mut self, request: RequestId, next: u64, len: u64, chunk: &Chunk) -> Result<u64, Misbehaved> {
        same("CHUNK", request, chunk.request)?;
        self.chunks = self.chunks.accept("CHUNK", chunk.bytes.len())?;
        continued("CHUNK", next, len, chunk.offset, &chunk.bytes)
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
            open!() => silence,
        }
    }

    fn drained(&self, call: &'static str) -> Result<(), SessionError> {
        if self.out.is_empty() { Ok(()) } else { Err(self.misuse(call)) }
    }

    const fn misuse(&self, call: &'static str) -> SessionError {
        SessionError::Misuse { call, state: self.state.name() }
    }
}

fn unexpected(state: State, message: &FromHost) -> SessionError {
    Misbehaved::Unexpected { frame: message.kind().name(), state: state.name() }.into()
}
