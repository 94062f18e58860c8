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
//!  manager                              agent
//!  Greeted   ── GREETING ──────────▶    Greeting
//!  Judging   ◀───────────── HELLO ──    Proving
//!  Settling  ── WELCOME ───────────▶    Settling
//!  Asked     ◀────────────── PULL ──    Pulling
//!  Offered   ── OFFER ─────────────▶    Deciding
//!  Serving   ◀───────────── FETCH ──    Fetching
//!            ── CHUNK … ───────────▶
//!  Applying  ◀── PROGRESS, OUTPUT ──    Applying
//!  Storing   ◀─────── ACKNOWLEDGE ──    Acking
//!  Quiet     ── NOTED ─────────────▶    Pulling ── PULL …
//! ```

pub mod guest;
pub mod host;

use crate::error::Misbehaved;
use crate::ids::RequestId;
use crate::limits::{BULK_WINDOW, CHUNK_LEN_MAX, OUTPUT_LEN_MAX};
use crate::message::{Offsets, Output, Progress, Stage};

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

/// Where each stream stands after this output.
pub(crate) fn printed(at: Offsets, output: &Output) -> Result<Offsets, Misbehaved> {
    let next = at.of(output.stream);
    let end = continued("OUTPUT", next, OUTPUT_LEN_MAX, output.offset, &output.bytes)?;
    Ok(at.moved(output.stream, end))
}

/// Each station is told once, and in order: what a guest can make the manager record of one request is bounded.
pub(crate) fn in_order(last: Option<Stage>, progress: &Progress) -> Result<Option<Stage>, Misbehaved> {
    match last {
        Some(last) if progress.stage <= last => Err(Misbehaved::StageOrder { got: progress.stage, last }),
        _ => Ok(Some(progress.stage)),
    }
}

/// Refuses a frame about another request than the one in hand.
pub(crate) fn same(frame: &'static str, ours: RequestId, theirs: RequestId) -> Result<(), Misbehaved> {
    if ours == theirs { Ok(()) } else { Err(Misbehaved::WrongRequest { frame }) }
}
