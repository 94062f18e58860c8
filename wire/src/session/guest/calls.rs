//! What the agent's link tells its half of the session.
//!
//! Called between two drains, one call at a time; a call that the state does not have is refused.

use super::state::{At, Hand, State};
use super::{Guest, Owed};
use crate::error::SessionError;
use crate::ids::{RequestId, Tick};
use crate::limits::{HANDS_MAX, OUTPUT_LEN_MAX};
use crate::message::outcome::Acknowledgement;
use crate::message::{
    Attach, Fetch, FromGuest, Hello, InputCredit, Kind, Offsets, Output, Polls, Progress, SEQUENCE_MAX, Stage,
};
use crate::session::{InputBook, in_order, printed};

impl Guest {
    /// Answers the greeting.
    ///
    /// # Errors
    /// [`SessionError::Misuse`] unless [`Owed::Introduce`] was the last word, for a sequence that no request has, and
    /// for an enrolment in a session of version 0.
    pub fn introduce(mut self, hello: Hello) -> Result<Self, SessionError> {
        let State::Introducing = self.state else { return Err(self.misuse("introduce")) };
        if hello.claims.sequence_max > SEQUENCE_MAX || (hello.enrolment.is_some() && self.version == 0) {
            return Err(self.misuse("introduce"));
        }
        self.state = State::Proving;
        self.send(FromGuest::Hello(Box::new(hello)));
        Ok(self)
    }

    /// Presents a request that an earlier session left in hand, how much of its input is there, and how much
    /// of that its program has taken.
    ///
    /// # Errors
    /// [`SessionError::Misuse`] unless [`Owed::Welcomed`] was the last word, when it is presented already, and
    /// when more input waits for the program than the window holds.
    pub fn attach(mut self, request: RequestId, input: u64, taken: u64) -> Result<Self, SessionError> {
        let State::Settling = self.state else { return Err(self.misuse("attach")) };
        if self.hand(request).is_some() || self.hands.len() >= HANDS_MAX {
            return Err(self.misuse("attach"));
        }
        let attach = Attach { request, input, taken };
        let input = InputBook::attached(attach).map_err(|_| self.misuse("attach"))?;
        let at = At::Attaching;
        self.hands.push(Hand { request, at, printed: None, output_max: OUTPUT_LEN_MAX, stage: None, input });
        self.send(FromGuest::Attach(attach));
        Ok(self)
    }

    /// Tells that this agent closes when nothing waits, and comes back on a timer. Nothing is told in a session of
    /// a version that does not know of it.
    ///
    /// # Errors
    /// [`SessionError::Misuse`] unless [`Owed::Welcomed`] was the last word.
    pub fn polls(mut self, polls: Polls) -> Result<Self, SessionError> {
        let State::Settling = self.state else { return Err(self.misuse("polls")) };
        if self.version >= Kind::Polls.since() {
            self.send(FromGuest::Polls(polls));
        }
        Ok(self)
    }

    /// Whether nothing waits and nothing is in hand: the last pull was answered with nothing, and no ring came.
    #[must_use]
    pub const fn is_idle(&self) -> bool {
        matches!(self.state, State::Working) && self.hands.is_empty() && !self.rung
    }

    /// Asks for the first request of this session.
    ///
    /// # Errors
    /// [`SessionError::Misuse`] unless [`Owed::Welcomed`] was the last word.
    pub fn pull(mut self) -> Result<Self, SessionError> {
        let State::Settling = self.state else { return Err(self.misuse("pull")) };
        self.state = State::Working;
        self.rung = true;
        self.pull_again();
        Ok(self)
    }

    /// Asks for the bytes of an offered request, from `offset` on: what is in front of it is there already.
    ///
    /// # Errors
    /// [`SessionError::Misuse`] unless it was just offered and has bytes behind `offset`.
    pub fn fetch(mut self, now: Tick, request: RequestId, offset: u64) -> Result<Self, SessionError> {
        let misuse = self.misuse("fetch");
        let hand = self.hand_mut(request).ok_or_else(|| misuse.clone())?;
        let At::Deciding { len } = hand.at else { return Err(misuse) };
        if offset >= len {
            return Err(misuse);
        }
        hand.at = At::Fetching { next: offset, len, since: now };
        self.send(FromGuest::Fetch(Fetch { request, offset }));
        Ok(self)
    }

    /// Tells of a station that a request in hand has reached.
    ///
    /// # Errors
    /// [`SessionError::Misuse`] when it is not in hand, a later station was told, or it has not begun to apply
    /// and is told as started.
    pub fn progress(mut self, progress: Progress) -> Result<Self, SessionError> {
        let misuse = self.misuse("progress");
        let hand = self.hand_mut(progress.request).ok_or_else(|| misuse.clone())?;
        hand.stage = in_order(hand.stage, &progress).map_err(|_| misuse.clone())?;
        match (progress.stage, hand.at) {
            (_, At::Acking { .. } | At::Attaching) => return Err(misuse),
            // Output begins here; after an attach the manager has said where it continues.
            (Stage::Started, At::Applying { attached }) => {
                hand.printed = if attached { hand.printed } else { Some(Offsets::default()) };
            }
            (Stage::Rebooting, At::Applying { .. }) => {}
            (Stage::Started | Stage::Rebooting, At::Deciding { .. } | At::Fetching { .. }) => {
                return Err(misuse);
            }
            (Stage::Fetched | Stage::Verified | Stage::Journalled, _) => {}
        }
        self.send(FromGuest::Progress(progress));
        Ok(self)
    }

    /// Begins to apply an offered request.
    ///
    /// # Errors
    /// [`SessionError::Misuse`] unless it is offered, or wholly fetched.
    pub fn apply(mut self, request: RequestId) -> Result<Self, SessionError> {
        let misuse = self.misuse("apply");
        let hand = self.hand_mut(request).ok_or_else(|| misuse.clone())?;
        match hand.at {
            At::Deciding { .. } => {}
            At::Fetching { next, len, .. } if next == len => {}
            At::Attaching | At::Fetching { .. } | At::Applying { .. } | At::Acking { .. } => {
                return Err(misuse);
            }
        }
        hand.at = At::Applying { attached: false };
        Ok(self)
    }

    /// How many output bytes of a request [`Guest::output`] takes at once; 0 without credit, before the start
    /// was told with [`Guest::progress`], and where the manager does not want its output.
    #[must_use]
    pub fn output_room(&self, request: RequestId) -> usize {
        match self.hand(request) {
            Some(Hand { at: At::Applying { .. }, printed: Some(_), .. }) => self.output.room(),
            Some(_) | None => 0,
        }
    }

    /// Whether output of a request is wanted: its start was told, or the manager has said where it goes on.
    #[must_use]
    pub fn prints(&self, request: RequestId) -> bool {
        matches!(self.hand(request), Some(Hand { at: At::Applying { .. }, printed: Some(_), .. }))
    }

    /// Sends output of a request in hand.
    ///
    /// # Errors
    /// [`SessionError::Misuse`] when it has not started, its stream stands elsewhere, or credit is short.
    pub fn output(mut self, output: Output) -> Result<Self, SessionError> {
        let misuse = self.misuse("output");
        let credit = self.output.spend(output.bytes.len()).ok_or_else(|| misuse.clone())?;
        let hand = self.hand_mut(output.request).filter(|hand| matches!(hand.at, At::Applying { .. }));
        let hand = hand.ok_or_else(|| misuse.clone())?;
        let at = hand.printed.ok_or_else(|| misuse.clone())?;
        hand.printed = Some(printed(at, hand.output_max, &output).map_err(|_| misuse)?);
        self.output = credit;
        self.send(FromGuest::Output(output));
        Ok(self)
    }

    /// Tells that a program has taken so many bytes of its input, since it was offered or presented. Nothing is
    /// told of one that has ended.
    ///
    /// # Errors
    /// [`SessionError::Misuse`] when more is told than came.
    pub fn input_taken(mut self, request: RequestId, bytes: u32) -> Result<Self, SessionError> {
        let misuse = self.misuse("input_taken");
        let hand = self.hand_mut(request).ok_or_else(|| misuse.clone())?;
        hand.input.granted(bytes).map_err(|_| misuse)?;
        // Also before an attach is answered: what is not told now is never told.
        if !matches!(hand.at, At::Acking { .. }) {
            self.send(FromGuest::InputCredit(InputCredit { request, bytes }));
        }
        Ok(self)
    }

    /// Gives the outcome of a request in hand.
    ///
    /// # Errors
    /// [`SessionError::Misuse`] when it is not in hand, or was attached and the manager has not answered.
    pub fn acknowledge(mut self, acknowledgement: Acknowledgement) -> Result<Self, SessionError> {
        let misuse = self.misuse("acknowledge");
        let hand = self.hand_mut(acknowledgement.request).ok_or_else(|| misuse.clone())?;
        hand.at = match hand.at {
            // Chunks may be on their way; they are checked and passed over.
            At::Fetching { next, len, .. } => At::Acking { next, len },
            At::Deciding { .. } | At::Applying { .. } => At::Acking { next: 0, len: 0 },
            At::Attaching | At::Acking { .. } => return Err(misuse),
        };
        self.send(FromGuest::Acknowledge(Box::new(acknowledgement)));
        Ok(self)
    }

    fn send(&mut self, message: FromGuest) {
        self.out.push_back(Owed::Send(message));
    }
}
