//! The manager's half of a session.
//!
//! Called by the manager's task of one guest with frames from the agent and with what store, programs and
//! receipts did. However often the task asks for a ring, one is sent until the guest pulls; the heartbeat
//! repeats it.

mod bulk;
mod calls;
mod hands;
mod state;
mod still;

use super::guest::EARLIER_VERSION;
use super::{InputBook, ReceiveWindow, SendCredit, in_order};
use crate::error::{Misbehaved, SessionError, Silent};
use crate::handshake::check_version;
use crate::ids::{RequestId, Tick};
use crate::limits::{HANDS_MAX, HANDSHAKE_MS_MAX, HEARTBEAT_MS, OUTPUT_LEN_MAX, SILENCE_MS_MAX, VERSION_MIN};
use crate::message::outcome::Acknowledgement;
use crate::message::{Attach, FromGuest, FromHost, Greeting, Hello, Offsets, Output, Polls, Progress, Stage};
use state::{At, Hand, State};
use std::collections::VecDeque;

/// What the session wants from the manager's task.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Owed {
    /// Write this frame.
    Send(FromHost),
    /// Check the proof against the greeting and call [`Host::welcome`], or close.
    Judge(Box<Hello>),
    /// The guest closes when nothing waits, and comes back on a timer.
    Polls(Polls),
    /// Look for the next request and call [`Host::offer`] or [`Host::nothing`].
    Pulled,
    /// The guest still has this request in hand: call [`Host::attached`]. That the manager has as much of its
    /// input as the guest is the manager's to check.
    Attach(Attach),
    /// Program bytes are wanted: call [`Host::chunk`] as long as there is [`Host::chunk_room`].
    Serve(RequestId),
    /// A request has reached a station.
    Progress(Progress),
    /// Spool these bytes and call [`Host::spooled`]; that may wait until the disk has them.
    Spool(Output),
    /// The program has taken input: there may be [`Host::input_room`] again.
    InputTaken(RequestId),
    /// Store this outcome, behind all output of its request, and call [`Host::noted`].
    Store(Box<Acknowledgement>),
    /// Nothing more; wait for bytes or for this tick, then call [`Host::expire`].
    Wait(Tick),
}

/// The manager's half.
#[derive(Debug)]
pub struct Host {
    state: State,
    version: u16,
    hands: Vec<Hand>,
    rung: bool,
    accepted: Tick,
    heard: Tick,
    next_ping: Tick,
    still_since: Option<Tick>,
    pings: u64,
    answered: u64,
    chunks: SendCredit,
    output: ReceiveWindow,
    turn: usize,
    out: VecDeque<Owed>,
}

impl Host {
    /// A session on a connection that has just been accepted; the greeting is owed at once.
    #[must_use]
    pub fn accepted(now: Tick, greeting: Greeting) -> Self {
        Self {
            state: State::Greeted,
            version: VERSION_MIN,
            hands: Vec::new(),
            rung: false,
            accepted: now,
            heard: now,
            next_ping: now.after(HEARTBEAT_MS),
            still_since: None,
            pings: 0,
            answered: 0,
            chunks: SendCredit::full(),
            output: ReceiveWindow::full(),
            turn: 0,
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
        if message.kind().since() > self.version {
            return Err(unexpected(&message, EARLIER_VERSION));
        }
        match (self.state, message) {
            (_, FromGuest::GuestBye(reason)) => return Err(SessionError::Ended(reason)),
            (State::Greeted, FromGuest::Hello(hello)) => {
                check_version(hello.claims.version)?;
                if hello.enrolment.is_some() && hello.claims.version == 0 {
                    return Err(unexpected(&FromGuest::Hello(hello), EARLIER_VERSION));
                }
                self.version = hello.claims.version;
                self.state = State::Judging;
                self.out.push_back(Owed::Judge(hello));
            }
            (State::Settling, FromGuest::Attach(attach)) => self.attach(attach)?,
            (State::Settling, FromGuest::Polls(polls)) => self.out.push_back(Owed::Polls(polls)),
            (State::Settling | State::Quiet, FromGuest::Pull) => self.pulled()?,
            (state, message) if state.is_open() => self.receive_open(message)?,
            (state, message) => return Err(unexpected(&message, state.name())),
        }
        Ok(self)
    }

    /// Checks the deadlines, and sends the heartbeat when it is due, with the ring that no pull has answered.
    ///
    /// # Errors
    /// [`Silent`] when the guest has missed one.
    pub fn expire(mut self, now: Tick) -> Result<Self, SessionError> {
        if self.is_suspended() {
            return Ok(self);
        }
        let (deadline, ms) = self.deadline();
        if now >= deadline {
            return Err(Silent { state: self.state.name(), ms }.into());
        }
        if self.is_open() && now >= self.next_ping {
            self.ping(now);
            // A ring that was lost on the way costs a heartbeat and not the rest of the session.
            if self.rung && self.state == State::Quiet {
                self.out.push_back(Owed::Send(FromHost::Ring));
            }
        }
        Ok(self)
    }

    /// What is owed next; [`Owed::Wait`] when nothing is.
    pub fn poll(&mut self) -> Owed {
        self.out.pop_front().unwrap_or_else(|| Owed::Wait(self.wakes()))
    }

    /// When the guest was last heard of.
    #[must_use]
    pub const fn heard(&self) -> Tick {
        self.heard
    }

    /// Whether the guest has proved its key and was welcomed.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.state.is_open()
    }

    /// The protocol version of this session; the oldest one before the guest chose it.
    #[must_use]
    pub const fn version(&self) -> u16 {
        self.version
    }

    /// The name of the connection's state, as on paper.
    #[must_use]
    pub const fn state(&self) -> &'static str {
        self.state.name()
    }

    /// The name of a request's state, as on paper; `None` when it is not in the guest's hands.
    #[must_use]
    pub fn state_of(&self, request: RequestId) -> Option<&'static str> {
        self.hand(request).map(|hand| hand.at.name())
    }

    /// The requests in the guest's hands, in the order in which they came there.
    pub fn in_hand(&self) -> impl Iterator<Item = RequestId> + '_ {
        self.hands.iter().map(|hand| hand.request)
    }

    fn receive_open(&mut self, message: FromGuest) -> Result<(), SessionError> {
        match message {
            FromGuest::Pong(number) => self.pong(number)?,
            FromGuest::ChunkCredit(credit) => self.chunks = self.chunks.granted(credit.bytes)?,
            FromGuest::Fetch(fetch) => self.fetch(fetch)?,
            FromGuest::Progress(progress) => self.progressed(progress)?,
            FromGuest::Output(output) => self.printed(output)?,
            FromGuest::InputCredit(credit) => self.input_credit(credit)?,
            FromGuest::Acknowledge(acknowledgement) => self.acknowledged(acknowledgement)?,
            message @ (FromGuest::Hello(_)
            | FromGuest::Polls(_)
            | FromGuest::Attach(_)
            | FromGuest::Pull
            | FromGuest::GuestBye(_)) => return Err(unexpected(&message, self.state.name())),
        }
        Ok(())
    }

    fn attach(&mut self, attach: Attach) -> Result<(), Misbehaved> {
        self.free_hand(attach.request)?;
        let input = InputBook::attached(attach)?;
        self.hold(attach.request, At::Attaching, OUTPUT_LEN_MAX, input);
        self.out.push_back(Owed::Attach(attach));
        Ok(())
    }

    fn pulled(&mut self) -> Result<(), Misbehaved> {
        if self.hands.len() >= HANDS_MAX {
            return Err(Misbehaved::HandsFull { max: HANDS_MAX });
        }
        self.rung = false;
        self.state = State::Asked;
        self.out.push_back(Owed::Pulled);
        Ok(())
    }

    fn progressed(&mut self, progress: Progress) -> Result<(), SessionError> {
        let hand = self.told("PROGRESS", progress.request)?;
        hand.stage = in_order(hand.stage, &progress)?;
        match (progress.stage, hand.at) {
            (_, At::Attaching | At::Storing) => {
                return Err(unexpected(&FromGuest::Progress(progress), hand.at.name()));
            }
            // After an attach the output continues where the answer said, and a start that is told late moves nothing.
            (Stage::Fetched | Stage::Verified | Stage::Journalled, _) | (Stage::Started, At::Applying) => {}
            (Stage::Rebooting, At::Applying) => {}
            (Stage::Rebooting, At::Offered { .. } | At::Serving { .. }) => {
                return Err(unexpected(&FromGuest::Progress(progress), hand.at.name()));
            }
            (Stage::Started, At::Offered { .. } | At::Serving { .. }) => {
                hand.printed = Some(Offsets::default());
                hand.at = At::Applying;
            }
        }
        self.out.push_back(Owed::Progress(progress));
        Ok(())
    }

    fn acknowledged(&mut self, acknowledgement: Box<Acknowledgement>) -> Result<(), SessionError> {
        let hand = self.told("ACKNOWLEDGE", acknowledgement.request)?;
        if matches!(hand.at, At::Attaching | At::Storing) {
            return Err(unexpected(&FromGuest::Acknowledge(acknowledgement), hand.at.name()));
        }
        hand.at = At::Storing;
        self.out.push_back(Owed::Store(acknowledgement));
        Ok(())
    }

    /// A pong answers a ping, once: nobody stays alive by pongs that nobody asked for.
    fn pong(&mut self, number: u64) -> Result<(), Misbehaved> {
        let first = self.answered.saturating_add(1);
        if !(first..=self.pings).contains(&number) {
            return Err(Misbehaved::UnaskedPong { got: number, first, last: self.pings });
        }
        self.answered = number;
        Ok(())
    }

    fn wakes(&self) -> Tick {
        let deadline = self.deadline().0;
        match (self.is_suspended(), self.is_open()) {
            (true, _) => Tick(u64::MAX),
            (false, true) => deadline.min(self.next_ping),
            (false, false) => deadline,
        }
    }

    fn deadline(&self) -> (Tick, u64) {
        if self.is_open() {
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

fn unexpected(message: &FromGuest, state: &'static str) -> SessionError {
    Misbehaved::Unexpected { frame: message.kind().name(), state }.into()
}
