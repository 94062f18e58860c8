//! What the manager's task tells its half of the session.
//!
//! Called between two drains, one call at a time; a call that the state does not have is refused.

use super::state::{State, open};
use super::{Host, Owed};
use crate::error::SessionError;
use crate::ids::RequestId;
use crate::message::{Attached, Chunk, Credit, FromHost, Offer, Offsets, Welcome};

impl Host {
    /// Accepts the guest.
    ///
    /// # Errors
    /// [`SessionError::Misuse`] unless [`Owed::Judge`] was the last word.
    pub fn welcome(self, welcome: Welcome) -> Result<Self, SessionError> {
        let State::Judging = self.state else { return Err(self.misuse("welcome")) };
        Ok(self.enter(State::Settling, FromHost::Welcome(welcome)))
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
    pub fn offer(mut self, offer: Offer) -> Result<Self, SessionError> {
        let State::Asked = self.state else { return Err(self.misuse("offer")) };
        let len = offer.action.program().map_or(0, |program| program.len);
        let state = State::Offered { request: offer.request, len };
        self.printed = None;
        self.stage = None;
        Ok(self.enter(state, FromHost::Offer(Box::new(offer))))
    }

    /// Answers a pull: no request waits.
    ///
    /// # Errors
    /// [`SessionError::Misuse`] unless [`Owed::Pulled`] was the last word.
    pub fn nothing(self) -> Result<Self, SessionError> {
        let State::Asked = self.state else { return Err(self.misuse("nothing")) };
        Ok(self.enter(State::Quiet, FromHost::Nothing))
    }

    /// Answers an attach; `from` is `None` for a request this manager does not have.
    ///
    /// # Errors
    /// [`SessionError::Misuse`] unless [`Owed::Attach`] was the last word.
    pub fn attached(mut self, from: Option<Offsets>) -> Result<Self, SessionError> {
        let State::Attaching { request } = self.state else { return Err(self.misuse("attached")) };
        let attached = Attached { request, from };
        self.printed = from;
        Ok(self.enter(State::Applying { request }, FromHost::Attached(attached)))
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
    pub fn noted(self) -> Result<Self, SessionError> {
        let State::Storing { request } = self.state else { return Err(self.misuse("noted")) };
        Ok(self.enter(State::Quiet, FromHost::Noted(request)))
    }

    fn enter(mut self, state: State, message: FromHost) -> Self {
        self.state = state;
        self.out.push_back(Owed::Send(message));
        self
    }
}
