//! What can go wrong on the channel, sorted by whose fault it is, and the one table of what the peer is told.
//!
//! Used by every module here and by both drivers. The peer sees a [`Reason`] code and never a text of ours.

mod reason;

pub use reason::Reason;

use crate::message::Stage;

/// The bytes themselves are wrong. Nothing of the frame was used.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Malformed {
    /// The checksum over header and payload does not match.
    #[error("frame of kind {kind:#04x} has checksum {got:#010x} where its bytes give {expected:#010x}")]
    Checksum {
        /// Kind byte of the frame.
        kind: u8,
        /// The checksum the frame carried.
        got: u32,
        /// The checksum of the bytes that arrived.
        expected: u32,
    },
    /// A reserved flag is set.
    #[error("frame of kind {kind:#04x} has flags {flags:#04x} where version 0 knows none")]
    Flags {
        /// Kind byte of the frame.
        kind: u8,
        /// The flags byte.
        flags: u8,
    },
    /// Bytes remain behind a complete body.
    #[error("{what} is followed by {count} bytes that belong to nothing")]
    Leftover {
        /// The message that was read.
        what: &'static str,
        /// Bytes that remain.
        count: usize,
    },
    /// A payload or a list is longer than its kind allows.
    #[error("{what} has length {got} where {max} is the most")]
    TooLong {
        /// The frame or field.
        what: &'static str,
        /// The length that was claimed or built.
        got: u64,
        /// The limit.
        max: u64,
    },
    /// No frame of this kind exists and it is not marked as one to be ignored.
    #[error("frame kind {kind:#04x} is unknown to this version")]
    UnknownKind {
        /// Kind byte of the frame.
        kind: u8,
    },
    /// The body is not what its kind says, or a value in it is out of bounds.
    #[error("body of {what} cannot be read: {why}")]
    Unreadable {
        /// The message that was expected.
        what: &'static str,
        /// What in it was refused.
        why: String,
    },
    /// The frame belongs to the other direction.
    #[error("{what} came from the side that receives it")]
    WrongDirection {
        /// The frame.
        what: &'static str,
    },
    /// A body of ours could not be written; a type let a value through that it must not.
    #[error("body of {what} cannot be written")]
    Unwritable {
        /// The message.
        what: &'static str,
    },
}

/// The bytes were fine and the peer broke a rule of the session.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Misbehaved {
    /// More bulk arrived than credit was given for.
    #[error("{frame} has {got} bytes where there was credit for {credit}")]
    CreditExceeded {
        /// The frame.
        frame: &'static str,
        /// Bytes in it.
        got: u64,
        /// Credit the peer had.
        credit: u32,
    },
    /// Credit was granted beyond the window.
    #[error("peer granted {got} bytes of credit where {room} were outstanding")]
    CreditOverflow {
        /// The grant.
        got: u32,
        /// What could be granted at most.
        room: u32,
    },
    /// A chunk of no bytes, or with more than a chunk may have.
    #[error("{frame} has {got} bytes where 1 to {max} are allowed")]
    ChunkLength {
        /// The frame.
        frame: &'static str,
        /// Bytes in the chunk.
        got: usize,
        /// The limit.
        max: usize,
    },
    /// A chunk does not continue where the last one ended.
    #[error("{frame} starts at offset {got} where {expected} was awaited")]
    ChunkOffset {
        /// The frame.
        frame: &'static str,
        /// The offset that came.
        got: u64,
        /// The offset that was awaited.
        expected: u64,
    },
    /// A chunk goes beyond the end of the program, or of what a stream may have.
    #[error("{frame} ends at offset {got} where {len} bytes are all there may be")]
    ChunkBeyondEnd {
        /// The frame.
        frame: &'static str,
        /// Where the chunk would end.
        got: u64,
        /// The length that was offered, or the limit of a stream.
        len: u64,
    },
    /// A fetch of bytes that the program does not have.
    #[error("FETCH starts at offset {got} of a program of {len} bytes")]
    FetchBeyondEnd {
        /// The first byte that is wanted.
        got: u64,
        /// The length that was offered.
        len: u64,
    },
    /// A station told twice, or one that lies before a station that was told.
    #[error("PROGRESS tells of {got:?} where only what follows {last:?} can come")]
    StageOrder {
        /// The station.
        got: Stage,
        /// The last one that was told.
        last: Stage,
    },
    /// A pong that answers no ping, or one that was answered before.
    #[error("PONG carries {got} where {first} to {last} await an answer")]
    UnaskedPong {
        /// Its number.
        got: u64,
        /// The oldest ping without an answer; above `last` when none is.
        first: u64,
        /// The newest ping.
        last: u64,
    },
    /// The frame is not allowed in this state.
    #[error("{frame} arrived while {state}")]
    Unexpected {
        /// The frame.
        frame: &'static str,
        /// The state that was waiting for something else.
        state: &'static str,
    },
    /// A frame speaks of a request that is not in hand, or not as far as that.
    #[error("{frame} names a request that is not in hand for it")]
    WrongRequest {
        /// The frame.
        frame: &'static str,
    },
    /// A request is offered or attached that is in hand already.
    #[error("a request came that is in hand already")]
    OfferedTwice,
    /// More requests in hand than there may be.
    #[error("a request more than the {max} that may be in hand")]
    HandsFull {
        /// The limit.
        max: usize,
    },
    /// The manager tells of more output than it was sent.
    #[error("OUTPUT_CREDIT tells of {got} bytes of a stream where {sent} were sent")]
    StoredUnsent {
        /// What it tells of.
        got: u64,
        /// What was sent.
        sent: u64,
    },
    /// An offer that would settle its own sequence, or more.
    #[error("OFFER has floor {got} where at most {max} leaves its own sequence")]
    FloorTooHigh {
        /// The floor.
        got: u64,
        /// The request's own sequence, or the highest there is for a query.
        max: u64,
    },
    /// A program cannot have taken more of its input than came, nor may more wait for it than the window.
    #[error("ATTACH tells of {input} bytes of input and {taken} taken where at most {window} can wait")]
    InputImpossible {
        /// Bytes that came.
        input: u64,
        /// Bytes that were taken.
        taken: u64,
        /// The window.
        window: u32,
    },
    /// Input behind its own end.
    #[error("INPUT goes on behind its end")]
    InputEnded,
}

/// Both sides are well-formed and share no protocol version.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "peer speaks protocol versions {peer_min} to {peer_max}, this side {ours_min} to {ours_max}; upgrade the older side"
)]
pub struct Incompatible {
    /// The peer's oldest version.
    pub peer_min: u16,
    /// The peer's newest version.
    pub peer_max: u16,
    /// Our oldest version.
    pub ours_min: u16,
    /// Our newest version.
    pub ours_max: u16,
}

/// A deadline of the session passed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("peer was silent for {ms} ms while {state}")]
pub struct Silent {
    /// What was awaited.
    pub state: &'static str,
    /// The deadline that passed, in milliseconds.
    pub ms: u64,
}

/// Why a session is over. There is no session left to misuse when one of these exists.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SessionError {
    /// The peer said goodbye.
    #[error("peer ended the session: {0}")]
    Ended(Reason),
    /// No common version.
    #[error(transparent)]
    Incompatible(#[from] Incompatible),
    /// Wrong bytes.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// A broken rule.
    #[error(transparent)]
    Misbehaved(#[from] Misbehaved),
    /// Our own driver called a transition that this state does not have.
    #[error("driver called {call} while {state}")]
    Misuse {
        /// The call.
        call: &'static str,
        /// The state.
        state: &'static str,
    },
    /// A passed deadline.
    #[error(transparent)]
    Silent(#[from] Silent),
}

/// What a peer is told of an error: every error has one answer, and `Ended` has none.
impl SessionError {
    /// The reason to send before closing; `None` when the peer has already gone.
    #[must_use]
    pub const fn reason(&self) -> Option<Reason> {
        match self {
            Self::Ended(_) => None,
            Self::Incompatible(_) => Some(Reason::INCOMPATIBLE),
            // A body of ours that cannot be written is no fault of the peer's bytes.
            Self::Malformed(Malformed::Unwritable { .. }) | Self::Misuse { .. } => Some(Reason::INTERNAL),
            Self::Malformed(_) => Some(Reason::MALFORMED),
            Self::Misbehaved(_) => Some(Reason::MISBEHAVED),
            Self::Silent(_) => Some(Reason::SILENT),
        }
    }
}
