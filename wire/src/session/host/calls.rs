//! What the manager's task tells its half of the session.
//!
//! Called between two drains, one call at a time; a call that the state does not have is refused.

use super::state::{At, Hand, State};
use super::{Host, Owed};
use crate::error::SessionError;
use crate::ids::RequestId;
use crate::limits::{HANDS_MAX, OUTPUT_LEN_MAX, PUSH_LEN_MAX};
use crate::message::{
    Attached, Chunk, FromHost, Input, InputEnd, Kind, Offer, Offsets, Push, Resize, Spooled, Stream, Welcome,
};
use crate::session::InputBook;

impl Host {
    /// Accepts the guest.
    ///
    /// # Errors
    /// [`SessionError::Misuse`] unless [`Owed::Judge`] was the last word, and for a proof in a session of version 0.
    pub fn welcome(mut self, welcome: Welcome) -> Result<Self, SessionError> {
        let State::Judging = self.state else { return Err(self.misuse("welcome")) };
        if welcome.proof.is_some() && self.version == 0 {
            return Err(self.misuse("welcome"));
        }
        self.state = State::Settling;
        self.send(FromHost::Welcome(welcome));
        Ok(self)
    }

    /// Tells the guest that something waits for it, unless it was told since its last pull.
    ///
    /// # Errors
    /// [`SessionError::Misuse`] before the guest is welcome.
    pub fn ring(mut self) -> Result<Self, SessionError> {
        if !self.is_open() {
            return Err(self.misuse("ring"));
        }
        if !self.rung {
            self.rung = true;
            self.send(FromHost::Ring);
        }
        Ok(self)
    }

    /// Answers a pull with a request.
    ///
    /// # Errors
    /// [`SessionError::Misuse`] unless [`Owed::Pulled`] was the last word, and for a request in hand.
    pub fn offer(mut self, offer: Offer) -> Result<Self, SessionError> {
        let State::Asked = self.state else { return Err(self.misuse("offer")) };
        self.free_hand(offer.request).map_err(|_| self.misuse("offer"))?;
        if !offer.floor_is_valid() || (offer.signed.is_some() && self.version == 0) {
            return Err(self.misuse("offer"));
        }
        let len = offer.action.payload().map_or(0, |payload| payload.len);
        let (at, input) = (At::Offered { len }, InputBook::of(offer.action.input()));
        self.hold(offer.request, at, offer.action.output_len_max(), input);
        self.state = State::Quiet;
        self.send(FromHost::Offer(Box::new(offer)));
        Ok(self)
    }

    /// Whether [`Host::push`] may be called: the guest is of a version that takes it, idle as far as is known, and
    /// has a free hand.
    #[must_use]
    pub fn takes_push(&self) -> bool {
        self.version >= Kind::Push.since()
            && self.state == State::Quiet
            && !self.rung
            && !self.is_suspended()
            && self.hands.len() < HANDS_MAX
    }

    /// Rings, and sends a request right behind that, with its program where that is small.
    ///
    /// # Errors
    /// [`SessionError::Misuse`] unless [`Host::takes_push`], for a request in hand, and for a program that is not the
    /// offer's or too large.
    pub fn push(mut self, push: Push) -> Result<Self, SessionError> {
        let len = push.offer.action.payload().map_or(0, |payload| payload.len);
        let got = push.program.len() as u64;
        let fits = got == 0 || (got == len && got <= PUSH_LEN_MAX);
        if !self.takes_push() || !fits || !push.offer.floor_is_valid() {
            return Err(self.misuse("push"));
        }
        self.free_hand(push.offer.request).map_err(|_| self.misuse("push"))?;
        let input = InputBook::of(push.offer.action.input());
        self.hold(push.offer.request, At::Offered { len }, push.offer.action.output_len_max(), input);
        self.rung = true;
        self.send(FromHost::Ring);
        self.send(FromHost::Push(Box::new(push)));
        Ok(self)
    }

    /// Has the guest set its clock. Nothing is sent in a session of a version that does not know of it.
    ///
    /// # Errors
    /// [`SessionError::Misuse`] before the guest is welcome.
    pub fn clock(mut self, host_time_ms: u64) -> Result<Self, SessionError> {
        if !self.is_open() {
            return Err(self.misuse("clock"));
        }
        if self.version >= Kind::Clock.since() {
            self.send(FromHost::Clock(host_time_ms));
        }
        Ok(self)
    }

    /// Answers a pull: no request waits.
    ///
    /// # Errors
    /// [`SessionError::Misuse`] unless [`Owed::Pulled`] was the last word.
    pub fn nothing(mut self) -> Result<Self, SessionError> {
        let State::Asked = self.state else { return Err(self.misuse("nothing")) };
        self.state = State::Quiet;
        self.send(FromHost::Nothing);
        Ok(self)
    }

    /// Answers an attach; `from` is `None` for a request whose output is not wanted. Of each stream `output_max`
    /// bytes are taken, as its action said when it was offered.
    ///
    /// # Errors
    /// [`SessionError::Misuse`] unless [`Owed::Attach`] named it, and for a place that no stream has.
    pub fn attached(
        mut self,
        request: RequestId,
        from: Option<Offsets>,
        output_max: u64,
    ) -> Result<Self, SessionError> {
        let misuse = self.misuse("attached");
        let hand = self.told("ATTACHED", request).map_err(|_| misuse.clone())?;
        let At::Attaching = hand.at else { return Err(misuse) };
        if from.is_some_and(|from| from.stdout.max(from.stderr) > OUTPUT_LEN_MAX) {
            return Err(misuse);
        }
        hand.printed = from;
        hand.output_max = output_max.min(OUTPUT_LEN_MAX);
        hand.at = At::Applying;
        self.send(FromHost::Attached(Attached { request, from }));
        Ok(self)
    }

    /// Whose program bytes are next, from which offset, and how many [`Host::chunk`] takes at once; `None`
    /// when none are wanted or there is no credit. Several fetches take turns.
    #[must_use]
    pub fn chunk_room(&self) -> Option<(RequestId, u64, usize)> {
        let credit = self.chunks.room();
        let (front, back) = self.hands.split_at_checked(self.turn).unwrap_or((&self.hands, &[]));
        back.iter().chain(front).find_map(|hand| {
            let At::Serving { next, len } = hand.at else { return None };
            let left = usize::try_from(len.saturating_sub(next)).unwrap_or(usize::MAX);
            Some((hand.request, next, credit.min(left))).filter(|&(_, _, room)| room > 0)
        })
    }

    /// Sends the next program bytes of a request.
    ///
    /// # Errors
    /// [`SessionError::Misuse`] when they are more than [`Host::chunk_room`] allows.
    pub fn chunk(mut self, request: RequestId, bytes: Vec<u8>) -> Result<Self, SessionError> {
        let misuse = self.misuse("chunk");
        let credit = self.chunks.spend(bytes.len()).ok_or_else(|| misuse.clone())?;
        let found = self.hands.iter().position(|hand| hand.request == request);
        let at = found.ok_or_else(|| misuse.clone())?;
        let hand = self.told("CHUNK", request).map_err(|_| misuse.clone())?;
        let At::Serving { next, len } = hand.at else { return Err(misuse) };
        let end = next.saturating_add(bytes.len() as u64);
        if end > len {
            return Err(misuse);
        }
        hand.at = At::Serving { next: end, len };
        self.turn = at.saturating_add(1);
        self.chunks = credit;
        self.send(FromHost::Chunk(Chunk { request, offset: next, bytes }));
        Ok(self)
    }

    /// From where on a request's input goes on, and how many bytes [`Host::input`] takes at once; `None`
    /// before its start, without credit, and behind the end.
    #[must_use]
    pub fn input_room(&self, request: RequestId) -> Option<(u64, usize)> {
        self.hand(request).filter(|hand| hand.at == At::Applying)?.input.room()
    }

    /// Sends the next input bytes of a request.
    ///
    /// # Errors
    /// [`SessionError::Misuse`] when they are more than [`Host::input_room`] allows.
    pub fn input(mut self, request: RequestId, bytes: Vec<u8>) -> Result<Self, SessionError> {
        let misuse = self.misuse("input");
        let (offset, _) = self.input_room(request).ok_or_else(|| misuse.clone())?;
        let hand = self.told("INPUT", request).map_err(|_| misuse.clone())?;
        hand.input.accept(offset, &bytes).map_err(|_| misuse)?;
        self.send(FromHost::Input(Input { request, offset, bytes }));
        Ok(self)
    }

    /// Tells that the input of a request is at its end.
    ///
    /// # Errors
    /// [`SessionError::Misuse`] before its start, and when it was told.
    pub fn input_end(mut self, request: RequestId) -> Result<Self, SessionError> {
        let misuse = self.misuse("input_end");
        let hand = self.told("INPUT_END", request).map_err(|_| misuse.clone())?;
        if hand.at != At::Applying {
            return Err(misuse);
        }
        let len = hand.input.end().map_err(|_| misuse)?;
        self.send(FromHost::InputEnd(InputEnd { request, len }));
        Ok(self)
    }

    /// Tells the size of a request's terminal, once it has started and until its outcome is there. What
    /// changed before is to be told behind [`Owed::Progress`] of the start, or behind [`Host::attached`].
    ///
    /// # Errors
    /// [`SessionError::Misuse`] before the guest is welcome.
    pub fn resize(mut self, resize: Resize) -> Result<Self, SessionError> {
        if !self.is_open() {
            return Err(self.misuse("resize"));
        }
        if self.hand(resize.request).is_some_and(|hand| hand.at == At::Applying) {
            self.send(FromHost::Resize(resize));
        }
        Ok(self)
    }

    /// Tells that so many output bytes of a request are stored, and that one of its streams is, up to `end`.
    /// Bytes that are thrown away are told too, with an `end` in front of them: their credit is due.
    ///
    /// # Errors
    /// [`SessionError::Misuse`] when more is told than came of that request, or `end` lies behind what came;
    /// after [`Host::noted`], which gives back what is due.
    pub fn spooled(
        mut self,
        request: RequestId,
        stream: Stream,
        end: u64,
        bytes: u32,
    ) -> Result<Self, SessionError> {
        let misuse = self.misuse("spooled");
        let hand = self.told("OUTPUT_CREDIT", request).map_err(|_| misuse.clone())?;
        let came = hand.printed.map_or(0, |printed| printed.of(stream));
        let due = hand.due.checked_sub(bytes).filter(|_| end <= came);
        hand.due = due.ok_or_else(|| misuse.clone())?;
        self.output = self.output.consumed(bytes).ok_or(misuse)?;
        self.send(FromHost::OutputCredit(Spooled { request, stream, end, bytes }));
        Ok(self)
    }

    /// Asks the guest to end a request. A request that is not in its hand is passed over there.
    ///
    /// # Errors
    /// [`SessionError::Misuse`] before the guest is welcome.
    pub fn cancel(mut self, request: RequestId) -> Result<Self, SessionError> {
        if !self.is_open() {
            return Err(self.misuse("cancel"));
        }
        self.send(FromHost::Cancel(request));
        Ok(self)
    }

    /// Tells that the outcome of a request is stored. Credit for output of it that was never told as stored
    /// goes out in front: the window is the session's, and nobody speaks of the request again.
    ///
    /// # Errors
    /// [`SessionError::Misuse`] unless [`Owed::Store`] named it.
    pub fn noted(mut self, request: RequestId) -> Result<Self, SessionError> {
        let stored = |hand: &Hand| hand.request == request && hand.at == At::Storing;
        let Some(at) = self.hands.iter().position(stored) else { return Err(self.misuse("noted")) };
        let Hand { due: bytes, .. } = self.hands.remove(at);
        // The hand whose turn it is stays the same one.
        self.turn = if at < self.turn { self.turn.saturating_sub(1) } else { self.turn };
        if let Some(output) = self.output.consumed(bytes) {
            self.output = output;
            let (stream, end) = (Stream::Stdout, 0);
            self.send(FromHost::OutputCredit(Spooled { request, stream, end, bytes }));
        }
        self.send(FromHost::Noted(request));
        Ok(self)
    }

    fn send(&mut self, message: FromHost) {
        self.out.push_back(Owed::Send(message));
    }
}
