//! The agent's half of a session.
//!
//! Called by the agent's link with frames from the manager and with what `fetch`, `apply` and `journal` did.
//! A ring while a pull is out is remembered in one bit, never queued; what is in hand is bounded.

mod bulk;
mod calls;
mod offered;
mod state;

use super::{ReceiveWindow, SendCredit};
use crate::error::{Misbehaved, SessionError, Silent};
use crate::handshake::choose_version;
use crate::ids::{RequestId, Tick};
use crate::limits::{FETCH_MS_MAX, HANDS_MAX, HANDSHAKE_MS_MAX, OUTPUT_LEN_MAX, SILENCE_MS_MAX, VERSION_MIN};
use crate::message::{
    Attached, Chunk, FromGuest, FromHost, Greeting, Input, InputEnd, Offer, Offsets, Push, Resize, Spooled,
    Welcome,
};
use state::{At, Hand, State};
use std::collections::VecDeque;

/// What the session wants from the agent's link.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Owed {
    /// Write this frame.
    Send(FromGuest),
    /// Sign over this greeting and call [`Guest::introduce`].
    Introduce(Greeting),
    /// Check the manager's proof, if its key is pinned; put the token on disk, call [`Guest::attach`] for each request in hand, then [`Guest::pull`].
    Welcomed(Welcome),
    /// Continue the output of this request from these offsets; `None` when the manager does not want it. From
    /// an offset behind what is there, nothing more of that stream is wanted.
    Attached(RequestId, Option<Offsets>),
    /// Decide on this request: call [`Guest::fetch`], [`Guest::apply`] or [`Guest::acknowledge`].
    Offered(Box<Offer>),
    /// Decide on this request as on an offered one; its program is here already, unless it has no bytes.
    Pushed(Box<Push>),
    /// Set the guest's clock: the host's, milliseconds since the Unix epoch.
    Clock(u64),
    /// Stage these bytes and call [`Guest::staged`], also for a fetch that was given up meanwhile.
    Stage(Chunk),
    /// Give these bytes to the program and call [`Guest::input_taken`] when it has taken them.
    Input(Input),
    /// That was all the input of the program. It may have been told in an earlier session.
    InputEnd(InputEnd),
    /// Tell the program's terminal.
    Resize(Resize),
    /// The manager has this much of the output; the space in front of it can be given back.
    Spooled(Spooled),
    /// End this request if it is in hand and has not ended. Before [`Guest::pull`] only the link knows
    /// whether it is.
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
    version: u16,
    hands: Vec<Hand>,
    rung: bool,
    heard: Tick,
    connected: Tick,
    chunks: ReceiveWindow,
    output: SendCredit,
    out: VecDeque<Owed>,
}

impl Guest {
    /// A session on a connection that has just been made.
    #[must_use]
    pub fn connected(now: Tick) -> Self {
        Self {
            state: State::Greeting,
            version: VERSION_MIN,
            hands: Vec::new(),
            rung: false,
            heard: now,
            connected: now,
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
        if message.kind().since() > self.version {
            return Err(unexpected(&message, EARLIER_VERSION));
        }
        match (self.state, message) {
            (_, FromHost::HostBye(reason)) => return Err(SessionError::Ended(reason)),
            (State::Greeting, FromHost::Greeting(greeting)) => {
                self.version = choose_version(&greeting)?;
                self.state = State::Introducing;
                self.out.push_back(Owed::Introduce(greeting));
            }
            (State::Proving, FromHost::Welcome(welcome)) if welcome.proof.is_some() && self.version == 0 => {
                return Err(unexpected(&FromHost::Welcome(welcome), EARLIER_VERSION));
            }
            (State::Proving, FromHost::Welcome(welcome)) => {
                self.state = State::Settling;
                self.out.push_back(Owed::Welcomed(welcome));
            }
            (State::Pulling, FromHost::Offer(offer)) => self.offered(offer)?,
            (State::Pulling, FromHost::Nothing) => self.answered(),
            (State::Pulling | State::Working, FromHost::Push(push)) => self.pushed(push)?,
            (state, message) if state.is_open() => self.receive_open(now, message)?,
            (state, message) => return Err(unexpected(&message, state.name())),
        }
        Ok(self)
    }

    /// Checks the deadlines.
    ///
    /// # Errors
    /// [`Silent`] when one has passed.
    pub fn expire(self, now: Tick) -> Result<Self, SessionError> {
        let (deadline, ms, state) = self.deadline();
        if now < deadline { Ok(self) } else { Err(Silent { state, ms }.into()) }
    }

    /// What is owed next; [`Owed::Wait`] when nothing is.
    pub fn poll(&mut self) -> Owed {
        self.out.pop_front().unwrap_or_else(|| Owed::Wait(self.deadline().0))
    }

    /// Whether a request is in hand: from its offer, or its attach, to its acknowledgement.
    #[must_use]
    pub fn has_in_hand(&self, request: RequestId) -> bool {
        self.hand(request).is_some_and(|hand| !matches!(hand.at, At::Acking { .. }))
    }

    /// The protocol version of this session; the oldest one before it was chosen.
    #[must_use]
    pub const fn version(&self) -> u16 {
        self.version
    }

    /// The name of the connection's state, as on paper.
    #[must_use]
    pub const fn state(&self) -> &'static str {
        self.state.name()
    }

    /// The name of a request's state, as on paper; `None` when nothing is known of it.
    #[must_use]
    pub fn state_of(&self, request: RequestId) -> Option<&'static str> {
        self.hand(request).map(|hand| hand.at.name())
    }

    fn receive_open(&mut self, now: Tick, message: FromHost) -> Result<(), SessionError> {
        match message {
            FromHost::Ping(number) => self.out.push_back(Owed::Send(FromGuest::Pong(number))),
            FromHost::Ring => self.ring(),
            FromHost::Cancel(request) => self.cancel(request),
            FromHost::OutputCredit(spooled) => self.spooled(spooled)?,
            FromHost::Attached(attached) => self.attached(attached)?,
            FromHost::Chunk(chunk) => self.chunk(now, chunk)?,
            FromHost::Input(input) => self.input(input)?,
            FromHost::InputEnd(end) => self.input_end(end)?,
            FromHost::Resize(resize) => self.resize(resize),
            FromHost::Noted(request) => self.noted(request)?,
            FromHost::Clock(host_time_ms) => self.out.push_back(Owed::Clock(host_time_ms)),
            message @ (FromHost::Greeting(_)
            | FromHost::Push(_)
            | FromHost::Welcome(_)
            | FromHost::Offer(_)
            | FromHost::Nothing
            | FromHost::HostBye(_)) => return Err(unexpected(&message, self.state.name())),
        }
        Ok(())
    }

    fn ring(&mut self) {
        self.rung = true;
        if self.state == State::Working {
            self.pull_again();
        }
    }

    /// With every hand full the ring is kept until one is free.
    fn pull_again(&mut self) {
        if self.hands.len() < HANDS_MAX {
            self.rung = false;
            self.state = State::Pulling;
            self.out.push_back(Owed::Send(FromGuest::Pull));
        }
    }

    /// The hand is free. A pull that is out may have been answered before the manager knew.
    fn noted(&mut self, request: RequestId) -> Result<(), Misbehaved> {
        let acking = |hand: &Hand| hand.request == request && matches!(hand.at, At::Acking { .. });
        let found = self.hands.iter().position(acking);
        let at = found.ok_or(Misbehaved::WrongRequest { frame: "NOTED" })?;
        self.hands.remove(at);
        self.out.push_back(Owed::Forget(request));
        self.ring();
        Ok(())
    }

    /// A cancel that crossed with the end of its request names one that is not in hand: nothing to do.
    fn cancel(&mut self, request: RequestId) {
        if self.state == State::Settling || self.has_in_hand(request) {
            self.out.push_back(Owed::Cancel(request));
        }
    }

    /// A place that no stream has is refused.
    fn attached(&mut self, attached: Attached) -> Result<(), Misbehaved> {
        let Offsets { stdout, stderr } = attached.from.unwrap_or_default();
        let got = stdout.max(stderr);
        if got > OUTPUT_LEN_MAX {
            return Err(Misbehaved::ChunkBeyondEnd { frame: "ATTACHED", got, len: OUTPUT_LEN_MAX });
        }
        let hand = self.hand_mut(attached.request).filter(|hand| hand.at == At::Attaching);
        let hand = hand.ok_or(Misbehaved::WrongRequest { frame: "ATTACHED" })?;
        hand.printed = attached.from;
        hand.at = At::Applying { attached: true };
        self.out.push_back(Owed::Attached(attached.request, attached.from));
        Ok(())
    }

    fn deadline(&self) -> (Tick, u64, &'static str) {
        if !self.state.is_open() {
            return (self.connected.after(HANDSHAKE_MS_MAX), HANDSHAKE_MS_MAX, self.state.name());
        }
        let silence = (self.heard.after(SILENCE_MS_MAX), SILENCE_MS_MAX, self.state.name());
        let fetches = self.hands.iter().filter_map(|hand| match hand.at {
            At::Fetching { next, len, since } if next < len => {
                Some((since.after(FETCH_MS_MAX), FETCH_MS_MAX, hand.at.name()))
            }
            At::Attaching
            | At::Deciding { .. }
            | At::Fetching { .. }
            | At::Applying { .. }
            | At::Acking { .. } => None,
        });
        fetches.fold(silence, Ord::min)
    }

    fn hand(&self, request: RequestId) -> Option<&Hand> {
        self.hands.iter().find(|hand| hand.request == request)
    }

    fn hand_mut(&mut self, request: RequestId) -> Option<&mut Hand> {
        self.hands.iter_mut().find(|hand| hand.request == request)
    }

    fn drained(&self, call: &'static str) -> Result<(), SessionError> {
        if self.out.is_empty() { Ok(()) } else { Err(self.misuse(call)) }
    }

    const fn misuse(&self, call: &'static str) -> SessionError {
        SessionError::Misuse { call, state: self.state.name() }
    }
}

/// The state of a session that does not have a frame at all.
pub(super) const EARLIER_VERSION: &str = "an earlier protocol version was chosen";

fn unexpected(message: &FromHost, state: &'static str) -> SessionError {
    Misbehaved::Unexpected { frame: message.kind().name(), state }.into()
}
