//! Both halves of a session as values.
//!
//! Called by the drivers: [`host::Host`] by the manager's task of a guest, [`guest::Guest`] by the agent's
//! link, both by the tests and fuzzers. Trusts nothing a peer sends and little that a driver does: a call
//! that a state does not have is [`crate::error::SessionError::Misuse`].
//!
//! A transition takes `self`: after an error there is no session left. What a session wants is in its
//! `Owed`; a driver drains it with `poll` until `Wait`.
//!
//! ```text
//!  connection            manager                       agent
//!                        Greeted  ── GREETING ──────▶  Greeting
//!                        Judging  ◀───────── HELLO ──  Proving
//!                        Settling ── WELCOME ───────▶  Settling
//!                                 ◀──────── ATTACH …─
//!                        Asked    ◀────────── PULL ──  Pulling
//!                        Quiet    ── OFFER, NOTHING ▶  Working
//!
//!  request               Offered  ── OFFER ─────────▶  Deciding
//!  (any number up        Serving  ◀───────── FETCH ──  Fetching
//!  to HANDS_MAX,                  ── CHUNK … ───────▶
//!  side by side)         Applying ◀ PROGRESS, OUTPUT─  Applying
//!                                 ── INPUT … ───────▶
//!                        Storing  ◀─── ACKNOWLEDGE ──  Acking
//!                                 ── NOTED ─────────▶          PULL …
//! ```

pub mod guest;
pub mod host;

use crate::error::Misbehaved;
use crate::limits::{BULK_WINDOW, CHUNK_LEN_MAX, INPUT_LEN_MAX, INPUT_WINDOW};
use crate::message::{Attach, Offsets, Output, Progress, Stage, action};

/// What the sender of bulk may still send.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SendCredit(u32);

impl SendCredit {
    pub(crate) const fn full() -> Self {
        Self(BULK_WINDOW)
    }

    /// Bytes the next bulk frame may have.
    pub(crate) fn room(self) -> usize {
        usize::try_from(self.0).map_or(CHUNK_LEN_MAX, |credit| credit.min(CHUNK_LEN_MAX))
    }

    /// Takes the bytes of one frame, if there is credit for them and they are a chunk's worth.
    pub(crate) fn spend(self, len: usize) -> Option<Self> {
        if len == 0 || len > CHUNK_LEN_MAX {
            return None;
        }
        self.0.checked_sub(u32::try_from(len).ok()?).map(Self)
    }

    /// Adds what the receiver granted.
    pub(crate) fn granted(self, bytes: u32) -> Result<Self, Misbehaved> {
        let room = BULK_WINDOW.saturating_sub(self.0);
        match self.0.checked_add(bytes) {
            Some(credit) if bytes > 0 && bytes <= room => Ok(Self(credit)),
            _ => Err(Misbehaved::CreditOverflow { got: bytes, room }),
        }
    }
}

/// What the receiver of bulk has allowed and not yet seen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReceiveWindow(u32);

impl ReceiveWindow {
    pub(crate) const fn full() -> Self {
        Self(BULK_WINDOW)
    }

    /// Takes the bytes of one frame that came in.
    pub(crate) fn accept(self, frame: &'static str, len: usize) -> Result<Self, Misbehaved> {
        if len == 0 || len > CHUNK_LEN_MAX {
            return Err(Misbehaved::ChunkLength { frame, got: len, max: CHUNK_LEN_MAX });
        }
        let left = u32::try_from(len).ok().and_then(|len| self.0.checked_sub(len));
        left.map(Self).ok_or(Misbehaved::CreditExceeded { frame, got: len as u64, credit: self.0 })
    }

    /// Gives back what has been consumed; `None` when that was never received.
    pub(crate) fn consumed(self, bytes: u32) -> Option<Self> {
        self.0.checked_add(bytes).filter(|&window| bytes > 0 && window <= BULK_WINDOW).map(Self)
    }
}

/// Where a bulk frame ends that must start at `next` and stay within `len`.
pub(crate) fn continued(
    frame: &'static str,
    next: u64,
    len: u64,
    offset: u64,
    bytes: &[u8],
) -> Result<u64, Misbehaved> {
    if offset != next {
        return Err(Misbehaved::ChunkOffset { frame, got: offset, expected: next });
    }
    let end = next.saturating_add(bytes.len() as u64);
    if end > len { Err(Misbehaved::ChunkBeyondEnd { frame, got: end, len }) } else { Ok(end) }
}

/// Where each stream stands after this output, of which `max` bytes may be kept.
pub(crate) fn printed(at: Offsets, max: u64, output: &Output) -> Result<Offsets, Misbehaved> {
    let next = at.of(output.stream);
    let end = continued("OUTPUT", next, max, output.offset, &output.bytes)?;
    Ok(at.moved(output.stream, end))
}

/// Each station is told once, and in order: what a guest can make the manager record of one request is bounded.
pub(crate) fn in_order(last: Option<Stage>, progress: &Progress) -> Result<Option<Stage>, Misbehaved> {
    match last {
        Some(last) if progress.stage <= last => Err(Misbehaved::StageOrder { got: progress.stage, last }),
        _ => Ok(Some(progress.stage)),
    }
}

/// How far one request's input has come and how much of it may come; both halves keep the same book.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InputBook {
    next: u64,
    credit: u32,
    ended: bool,
}

impl InputBook {
    /// The book of a request that was just offered: a whole window, or none for what reads nothing.
    pub(crate) const fn of(input: action::Input) -> Self {
        match input {
            action::Input::Stream | action::Input::Terminal(_) => {
                Self { next: 0, credit: INPUT_WINDOW, ended: false }
            }
            action::Input::None => Self { next: 0, credit: 0, ended: true },
        }
    }

    /// The book of a request that is presented: what its program has not taken is in the window still.
    pub(crate) fn attached(Attach { input, taken, .. }: Attach) -> Result<Self, Misbehaved> {
        let impossible = Misbehaved::InputImpossible { input, taken, window: INPUT_WINDOW };
        if input > INPUT_LEN_MAX {
            return Err(Misbehaved::ChunkBeyondEnd { frame: "ATTACH", got: input, len: INPUT_LEN_MAX });
        }
        let waiting = input.checked_sub(taken).and_then(|waiting| u32::try_from(waiting).ok());
        let credit = waiting.and_then(|waiting| INPUT_WINDOW.checked_sub(waiting));
        Ok(Self { next: input, credit: credit.ok_or(impossible)?, ended: false })
    }

    /// Bytes the next frame may have, and where they belong; `None` without credit and behind the end.
    pub(crate) fn room(self) -> Option<(u64, usize)> {
        let left = usize::try_from(INPUT_LEN_MAX.saturating_sub(self.next)).unwrap_or(usize::MAX);
        let room =
            usize::try_from(self.credit).map_or(CHUNK_LEN_MAX, |credit| credit.min(CHUNK_LEN_MAX)).min(left);
        Some((self.next, room)).filter(|_| !self.ended && room > 0)
    }

    /// Takes one frame of it.
    pub(crate) fn accept(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Misbehaved> {
        let (frame, got) = ("INPUT", bytes.len());
        if self.ended {
            return Err(Misbehaved::InputEnded);
        }
        if got == 0 || got > CHUNK_LEN_MAX {
            return Err(Misbehaved::ChunkLength { frame, got, max: CHUNK_LEN_MAX });
        }
        let next = continued(frame, self.next, INPUT_LEN_MAX, offset, bytes)?;
        let left = u32::try_from(got).ok().and_then(|len| self.credit.checked_sub(len));
        let exceeded = Misbehaved::CreditExceeded { frame, got: got as u64, credit: self.credit };
        self.credit = left.ok_or(exceeded)?;
        self.next = next;
        Ok(())
    }

    /// Ends it; gives its length.
    pub(crate) const fn end(&mut self) -> Result<u64, Misbehaved> {
        if self.ended {
            return Err(Misbehaved::InputEnded);
        }
        self.ended = true;
        Ok(self.next)
    }

    /// Adds what the program has taken.
    pub(crate) fn granted(&mut self, got: u32) -> Result<(), Misbehaved> {
        let room = if self.next == 0 { 0 } else { INPUT_WINDOW.saturating_sub(self.credit) };
        if got == 0 || got > room {
            return Err(Misbehaved::CreditOverflow { got, room });
        }
        self.credit = self.credit.saturating_add(got);
        Ok(())
    }
}
