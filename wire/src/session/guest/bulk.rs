//! What the agent's half checks of the bytes that come in, and of the credit for those that go out.
//!
//! Called by [`super`] for each frame of an open session that carries bytes, or speaks of them.

use super::state::{At, Hand};
use super::{Guest, Owed};
use crate::error::{Misbehaved, SessionError};
use crate::ids::{RequestId, Tick};
use crate::message::{Chunk, Credit, FromGuest, Input, InputEnd, Resize, Spooled};
use crate::session::continued;

impl Guest {
    /// All credit of a request comes before it is noted, so one that is not in hand has none to give.
    pub(super) fn spooled(&mut self, spooled: Spooled) -> Result<(), Misbehaved> {
        let wrong = Misbehaved::WrongRequest { frame: "OUTPUT_CREDIT" };
        let hand = *self.hand(spooled.request).ok_or_else(|| wrong.clone())?;
        let sent = hand.printed.ok_or(wrong)?.of(spooled.stream);
        if spooled.end > sent {
            return Err(Misbehaved::StoredUnsent { got: spooled.end, sent });
        }
        self.output = self.output.granted(spooled.bytes)?;
        // A request that is over gives all its space back when it is forgotten.
        if !matches!(hand.at, At::Acking { .. }) {
            self.out.push_back(Owed::Spooled(spooled));
        }
        Ok(())
    }

    pub(super) fn chunk(&mut self, now: Tick, chunk: Chunk) -> Result<(), Misbehaved> {
        self.chunks = self.chunks.accept("CHUNK", chunk.bytes.len())?;
        let wrong = Misbehaved::WrongRequest { frame: "CHUNK" };
        let hand = self.hand_mut(chunk.request).ok_or_else(|| wrong.clone())?;
        match hand.at {
            At::Fetching { next, len, .. } => {
                let next = continued("CHUNK", next, len, chunk.offset, &chunk.bytes)?;
                hand.at = At::Fetching { next, len, since: now };
                self.out.push_back(Owed::Stage(chunk));
                Ok(())
            }
            // Sent before the manager knew that the fetch was given up: the credit goes back all the same.
            At::Acking { next, len } => {
                let next = continued("CHUNK", next, len, chunk.offset, &chunk.bytes)?;
                hand.at = At::Acking { next, len };
                self.give_back(&chunk);
                Ok(())
            }
            At::Attaching | At::Deciding { .. } | At::Applying { .. } => Err(wrong),
        }
    }

    pub(super) fn input(&mut self, input: Input) -> Result<(), Misbehaved> {
        let wrong = Misbehaved::WrongRequest { frame: "INPUT" };
        let hand = self.reader(input.request).ok_or(wrong)?;
        hand.input.accept(input.offset, &input.bytes)?;
        if matches!(hand.at, At::Applying { .. }) {
            self.out.push_back(Owed::Input(input));
        }
        Ok(())
    }

    pub(super) fn input_end(&mut self, end: InputEnd) -> Result<(), Misbehaved> {
        let wrong = Misbehaved::WrongRequest { frame: "INPUT_END" };
        let hand = self.reader(end.request).ok_or(wrong)?;
        let expected = hand.input.end()?;
        if end.len != expected {
            return Err(Misbehaved::ChunkOffset { frame: "INPUT_END", got: end.len, expected });
        }
        if matches!(hand.at, At::Applying { .. }) {
            self.out.push_back(Owed::InputEnd(end));
        }
        Ok(())
    }

    /// One that crossed with the end of its request is nothing to do.
    pub(super) fn resize(&mut self, resize: Resize) {
        if self.has_in_hand(resize.request) {
            self.out.push_back(Owed::Resize(resize));
        }
    }

    fn give_back(&mut self, chunk: &Chunk) {
        let bytes = u32::try_from(chunk.bytes.len()).unwrap_or(u32::MAX);
        if let Some(chunks) = self.chunks.consumed(bytes) {
            self.chunks = chunks;
            self.out.push_back(Owed::Send(FromGuest::ChunkCredit(Credit { bytes })));
        }
    }

    /// The hand that input is for: it applies, or has ended and the manager did not know.
    fn reader(&mut self, request: RequestId) -> Option<&mut Hand> {
        self.hand_mut(request).filter(|hand| matches!(hand.at, At::Applying { .. } | At::Acking { .. }))
    }
}

impl Guest {
    /// Tells that so many bytes of a program or file are staged, or were thrown away: the window is the
    /// session's, and what is not given back is lost to every later fetch.
    ///
    /// # Errors
    /// [`SessionError::Misuse`] when more is told than came.
    pub fn staged(mut self, bytes: u32) -> Result<Self, SessionError> {
        self.chunks = self.chunks.consumed(bytes).ok_or_else(|| self.misuse("staged"))?;
        self.out.push_back(Owed::Send(FromGuest::ChunkCredit(Credit { bytes })));
        Ok(self)
    }
}
