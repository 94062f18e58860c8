//! What the agent's link tells its half of the session.
//!
//! Called between two drains, one call at a time; a call that the state does not have is refused.

use super::state::{State, idle};
use super::{Guest, Owed};
use crate::error::SessionError;
use crate::ids::{RequestId, Tick};
use crate::message::outcome::Acknowledgement;
use crate::message::{Credit, Fetch, FromGuest, Hello, Offsets, Output, Progress, Stage};
use crate::session::{ReceiveWindow, in_order, printed};

impl Guest {
    /// Answers the greeting.
    ///
    /// # Errors
    /// [`SessionError::Misuse`] unless [`Owed::Introduce`] was the last word.
    pub fn introduce(self, hello: Hello) -> Result<Self, SessionError> {
        let State::Introducing = self.state else { return Err(self.misuse("introduce")) };
        Ok(self.enter(State::Proving, Some(FromGuest::Hello(Box::new(hello)))))
    }

    /// Asks for the first request of this session, when none is in hand.
    ///
    /// # Errors
    /// [`SessionError::Misuse`] unless [`Owed::Welcomed`] was the last word.
    pub fn pull(mut self) -> Result<Self, SessionError> {
        let State::Settling = self.state else { return Err(self.misuse("pull")) };
        self.rung = false;
        Ok(self.enter(State::Pulling, Some(FromGuest::Pull)))
    }

    /// Presents a request that an earlier session left in hand.
    ///
    /// # Errors
    /// [`SessionError::Misuse`] unless [`Owed::Welcomed`] was the last word.
    pub fn attach(self, request: RequestId) -> Result<Self, SessionError> {
        let State::Settling = self.state else { return Err(self.misuse("attach")) };
        Ok(self.enter(State::Attaching { request }, Some(FromGuest::Attach(request))))
    }

    /// Asks for the program of the offered request; the window for its bytes is whole again.
    ///
    /// # Errors
    /// [`SessionError::Misuse`] unless [`Owed::Offered`] was the last word and its program has bytes.
    pub fn fetch(mut self, now: Tick) -> Result<Self, SessionError> {
        let State::Deciding { request, len: len @ 1.. } = self.state else {
            return Err(self.misuse("fetch"));
        };
        let fetch = FromGuest::Fetch(Fetch { request, offset: 0 });
        self.chunks = ReceiveWindow::full();
        self.since = now;
        Ok(self.enter(State::Fetching { request, next: 0, len }, Some(fetch)))
    }

    /// Tells that so many bytes of the program are staged.
    ///
    /// # Errors
    /// [`SessionError::Misuse`] when more is told than came, or the program is no longer being fetched.
    pub fn staged(mut self, bytes: u32) -> Result<Self, SessionError> {
        let State::Fetching { .. } = self.state else { return Err(self.misuse("staged")) };
        self.chunks = self.chunks.consumed(bytes).ok_or_else(|| self.misuse("staged"))?;
        self.out.push_back(Owed::Send(FromGuest::ChunkCredit(Credit { bytes })));
        Ok(self)
    }

    /// Tells of a station that the request in hand has reached.
    ///
    /// # Errors
    /// [`SessionError::Misuse`] when it is not in hand, a later station was told, or it has not begun to apply
    /// and is told as started.
    pub fn progress(mut self, progress: Progress) -> Result<Self, SessionError> {
        if self.in_hand() != Some(progress.request) {
            return Err(self.misuse("progress"));
        }
        self.stage = in_order(self.stage, &progress).map_err(|_| self.misuse("progress"))?;
        if progress.stage == Stage::Started {
            let State::Applying { attached, .. } = self.state else { return Err(self.misuse("progress")) };
            // Output begins here; after an attach the manager has said where it continues.
            self.printed = if attached { self.printed } else { Some(Offsets::default()) };
        }
        self.out.push_back(Owed::Send(FromGuest::Progress(progress)));
        Ok(self)
    }

    /// Begins to apply the offered request.
    ///
    /// # Errors
    /// [`SessionError::Misuse`] unless it is offered, or wholly fetched.
    pub fn apply(self) -> Result<Self, SessionError> {
        match self.state {
            State::Deciding { request, .. } => {
                Ok(self.enter(State::Applying { request, attached: false }, None))
            }
            State::Fetching { request, next, len } if next == len => {
                Ok(self.enter(State::Applying { request, attached: false }, None))
            }
            State::Fetching { .. } | State::Applying { .. } | State::Acking { .. } | idle!() => {
                Err(self.misuse("apply"))
            }
        }
    }

    /// How many output bytes [`Guest::output`] takes at once; 0 without credit, before the start was told with
    /// [`Guest::progress`], and for a request whose output the manager does not want.
    #[must_use]
    pub fn output_room(&self) -> usize {
        match (self.state, self.printed) {
            (State::Applying { .. }, Some(_)) => self.output.room(),
            _ => 0,
        }
    }

    /// Sends output of the request in hand.
    ///
    /// # Errors
    /// [`SessionError::Misuse`] when it has not started, its stream stands elsewhere, or credit is short.
    pub fn output(mut self, output: Output) -> Result<Self, SessionError> {
        let (State::Applying { request, .. }, Some(at)) = (self.state, self.printed) else {
            return Err(self.misuse("output"));
        };
        if request != output.request {
            return Err(self.misuse("output"));
        }
        self.printed = Some(printed(at, &output).map_err(|_| self.misuse("output"))?);
        self.output = self.output.spend(output.bytes.len()).ok_or_else(|| self.misuse("output"))?;
        self.out.push_back(Owed::Send(FromGuest::Output(output)));
        Ok(self)
    }

    /// Gives the outcome of the request in hand.
    ///
    /// # Errors
    /// [`SessionError::Misuse`] when it is not in hand.
    pub fn acknowledge(self, acknowledgement: Acknowledgement) -> Result<Self, SessionError> {
        let request = acknowledgement.request;
        let (next, len) = match self.state {
            // Chunks may be on their way; they are checked and passed over.
            State::Fetching { next, len, .. } => (next, len),
            State::Deciding { .. } | State::Applying { .. } | State::Acking { .. } | idle!() => (0, 0),
        };
        if self.in_hand() != Some(request) {
            return Err(self.misuse("acknowledge"));
        }
        let message = FromGuest::Acknowledge(Box::new(acknowledgement));
        Ok(self.enter(State::Acking { request, next, len }, Some(message)))
    }

    fn enter(mut self, state: State, send: Option<FromGuest>) -> Self {
        self.state = state;
        self.out.extend(send.map(Owed::Send));
        self
    }
}
