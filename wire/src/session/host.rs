//! The manager's half of a session.
//!
//! Called by the manager's task of one guest with frames from the agent and with what store, programs and
//! receipts did. However often the task asks for a ring, one is sent until the guest pulls; the heartbeat
//! repeats it.

mod calls;
mod state;

use super::{ReceiveWindow, SendCredit, in_order, printed, same};
use crate::error::{Misbehaved, SessionError, Silent};
use crate::handshake::check_version;
use crate::ids::{RequestId, Tick};
use crate::limits::{HANDSHAKE_MS_MAX, HEARTBEAT_MS, SILENCE_MS_MAX};
use crate::message::outcome::Acknowledgement;
use crate::message::{Credit, Fetch, FromGuest, FromHost, Greeting, Hello, Offsets, Output, Progress, Stage};
use state::{State, in_hand, open};
use std::collections::VecDeque;

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
    accepted: Tick,
    heard: Tick,
    next_ping: Tick,
    pings: u64,
    answered: u64,
    chunks: SendCredit,
    output: ReceiveWindow,
    printed: Option<Offsets>,
    stage: Option<Stage>,
    out: VecDeque<Owed>,
}

impl Host {
    /// A session on a connection that has just been accepted; the greeting is owed at once.
    #[must_use]
    pub fn accepted(now: Tick, greeting: Greeting) -> Self {
        Self {
            state: State::Greeted,
            rung: false,
            accepted: now,
            heard: now,
            next_ping: now.after(HEARTBEAT_MS),
            pings: 0,
            answered: 0,
            chunks: SendCredit::full(),
            output: ReceiveWindow::full(),
            printed: None,
            stage: None,
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
            (state @ open!(), FromGuest::Pong(number)) => self.pong(state, number)?,
            (state @ State::Serving { .. }, FromGuest::ChunkCredit(credit)) => self.granted(state, credit)?,
            (State::Settling | State::Quiet, FromGuest::Pull) => self.pulled(),
            (State::Settling, FromGuest::Attach(request)) => {
                self.then(State::Attaching { request }, Owed::Attach(request))
            }
            (State::Offered { request, len }, FromGuest::Fetch(fetch)) => self.serve(request, len, fetch)?,
            (state @ in_hand!(request), FromGuest::Progress(progress)) => {
                same("PROGRESS", request, progress.request)?;
                self.progress(state, progress)?
            }
            (state @ State::Applying { request }, FromGuest::Output(output)) => {
                let Some(at) = self.printed else {
                    return Err(unexpected(state, &FromGuest::Output(output)));
                };
                same("OUTPUT", request, output.request)?;
                self.output = self.output.accept("OUTPUT", output.bytes.len())?;
                self.printed = Some(printed(at, &output)?);
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

    /// Checks the deadlines, and sends the heartbeat when it is due, with the ring that no pull has answered.
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
            self.pings = self.pings.saturating_add(1);
            self.out.push_back(Owed::Send(FromHost::Ping(self.pings)));
            // A ring that was lost on the way costs a heartbeat and not the rest of the session.
            if self.rung && self.state == State::Quiet {
                self.out.push_back(Owed::Send(FromHost::Ring));
            }
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
            return Err(Misbehaved::FetchBeyondEnd { got: fetch.offset, len });
        }
        self.chunks = SendCredit::full();
        Ok(self.then(State::Serving { request, next: fetch.offset, len }, Owed::Serve(request)))
    }

    fn progress(&mut self, state: State, progress: Progress) -> Result<State, Misbehaved> {
        self.stage = in_order(self.stage, &progress)?;
        let next = match (progress.stage, state) {
            // After an attach the output continues where the answer said, and a start that is told late moves nothing.
            (Stage::Started, State::Applying { .. }) => state,
            (Stage::Started, _) => {
                self.printed = Some(Offsets::default());
                State::Applying { request: progress.request }
            }
            (Stage::Fetched | Stage::Verified | Stage::Journalled, _) => state,
        };
        Ok(self.then(next, Owed::Progress(progress)))
    }

    /// A pong answers a ping, once: nobody stays alive by pongs that nobody asked for.
    fn pong(&mut self, state: State, number: u64) -> Result<State, Misbehaved> {
        let first = self.answered.saturating_add(1);
        if !(first..=self.pings).contains(&number) {
            return Err(Misbehaved::UnaskedPong { got: number, first, last: self.pings });
        }
        self.answered = number;
        Ok(state)
    }

    fn deadline(&self) -> (Tick, u64) {
        if matches!(self.state, open!()) {
            (self.heard.after(SILENCE_MS_MAX), SILENCE_MS_MAX)
        } else {
            (self.accepted.after(HANDSHAKE_MS_MAX), HANDSHAKE_MS_MAX)
        }
    }

    fn drained(&self, call: &'static str) -> Result<(), SessionError> {
        if self.out.is_empty() { Ok(()) } else { Err(self.misuse(call)) }
    }

    const fn misuse(&self, call: &'static str) -> SessionError {
        SessionError::Misuse { call, state: self.state.name() }
    }
}

fn unexpected(state: State, message: &FromGuest) -> SessionError {
    Misbehaved::Unexpected { frame: message.kind().name(), state: state.name() }.into()
}
