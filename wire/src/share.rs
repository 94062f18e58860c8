//! A session through a shared directory: which file holds what, where there is no channel.
//!
//! Called by the agent's share and the manager's, which each play the other's half of a session from these
//! files; [`crate::session`] stays what decides. Pure: names and bytes; nobody here opens a file. Trusts no
//! name and no byte that it reads.
//!
//! ```text
//! the share, which the guest only reads         the receipts, which the guest writes
//! manager                 GREETING              hello                      HELLO
//! programs/DIGEST         bytes
//! sessions/NONCE/answer   WELCOME or HOST_BYE   sessions/NONCE/attach      ATTACH …, then pulled
//!   SEQUENCE-REQUEST.prompt  OFFER                beat                     PONG
//!   REQUEST.attached      ATTACHED                REQUEST.progress         PROGRESS …
//!   REQUEST.stored        OUTPUT_CREDIT …         REQUEST.stdout, .stderr  bytes
//!   REQUEST.cancel        CANCEL                  REQUEST.ack              ACKNOWLEDGE, signature
//!   REQUEST.noted         NOTED
//! ```
//! A session is a pair of directories with the name of its hello's nonce, so that no file of an earlier one is
//! ever taken for one of it. A file that is read as a whole appears by a rename, or is not there.

use crate::error::Malformed;
use crate::frame::{Deframer, Frame};
use crate::ids::{InvalidId, Nonce, RequestId, Signature};
use crate::message::outcome::Acknowledgement;
use crate::message::{FromGuest, FromHost, Greeting};

/// The file with the greeting that the next hello has to answer.
pub const MANAGER: &str = "manager";
/// The file with the hello that was written last.
pub const HELLO: &str = "hello";
/// The directory of programs, by digest.
pub const PROGRAMS: &str = "programs";
/// The directory of sessions, on either side.
pub const SESSIONS: &str = "sessions";
/// What the manager says to a hello.
pub const ANSWER: &str = "answer";
/// The requests that the guest presents; when it is there, it has pulled.
pub const ATTACH: &str = "attach";
/// A number that grows as long as the agent looks.
pub const BEAT: &str = "beat";

/// A file of one request, by the ending of its name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Of {
    /// From the agent: ACKNOWLEDGE and its signature.
    Ack,
    /// From the manager: ATTACHED.
    Attached,
    /// From the manager: CANCEL.
    Cancel,
    /// From the manager: NOTED.
    Noted,
    /// From the agent: one PROGRESS behind the other.
    Progress,
    /// From the agent: standard error as it is.
    Stderr,
    /// From the agent: standard output as it is.
    Stdout,
    /// From the manager: OUTPUT_CREDIT for each stream of which it has something.
    Stored,
}

impl Of {
    const ALL: [Self; 8] = [
        Self::Ack,
        Self::Attached,
        Self::Cancel,
        Self::Noted,
        Self::Progress,
        Self::Stderr,
        Self::Stdout,
        Self::Stored,
    ];

    const fn ending(self) -> &'static str {
        match self {
            Self::Ack => "ack",
            Self::Attached => "attached",
            Self::Cancel => "cancel",
            Self::Noted => "noted",
            Self::Progress => "progress",
            Self::Stderr => "stderr",
            Self::Stdout => "stdout",
            Self::Stored => "stored",
        }
    }

    /// The file's name.
    #[must_use]
    pub fn name(self, request: RequestId) -> String {
        format!("{request}.{}", self.ending())
    }

    /// Reads a name back; `None` for any other.
    #[must_use]
    pub fn read(name: &str) -> Option<(Self, RequestId)> {
        let (request, ending) = name.split_once('.')?;
        let of = Self::ALL.into_iter().find(|of| of.ending() == ending)?;
        Some((of, request.parse().ok()?))
    }
}

/// The directory of the session that a hello with this nonce asks for.
#[must_use]
pub fn session(nonce: &Nonce) -> String {
    format!("{SESSIONS}/{nonce}")
}

/// The name of a prompt; names sort in the order of the requests. A query has the number 0.
#[must_use]
pub fn prompt(sequence: u64, request: RequestId) -> String {
    format!("{sequence:020}-{request}.{PROMPT}")
}

/// Reads the name of a prompt back; `None` for any other.
#[must_use]
pub fn read_prompt(name: &str) -> Option<(u64, RequestId)> {
    let (sequence, request) = name.strip_suffix(PROMPT)?.strip_suffix('.')?.split_once('-')?;
    let digits = sequence.len() == 20 && sequence.bytes().all(|byte| byte.is_ascii_digit());
    if digits { Some((sequence.parse().ok()?, request.parse().ok()?)) } else { None }
}

/// The bytes of `manager`: what it is and in which form, and the greeting.
///
/// # Errors
/// [`Malformed`] when it cannot be written, which no checked value causes.
pub fn manager_file(greeting: Greeting) -> Result<Vec<u8>, Malformed> {
    let mut bytes = FORM.to_vec();
    FromHost::Greeting(greeting).to_frame()?.write(&mut bytes)?;
    Ok(bytes)
}

/// Reads `manager` back.
///
/// # Errors
/// [`ShareError`] when it is of another form, or no greeting.
pub fn read_manager(bytes: &[u8]) -> Result<Greeting, ShareError> {
    let Some(frame) = bytes.strip_prefix(FORM) else {
        let line = bytes.split(|&byte| byte == b'\n').next().unwrap_or_default();
        let got = String::from_utf8_lossy(line).chars().take(FORM_SHOWN).collect();
        return Err(ShareError::Form { got });
    };
    let frame = one_frame(MANAGER, frame)?;
    let FromHost::Greeting(greeting) = FromHost::from_frame(&frame)? else {
        return Err(ShareError::Other { file: MANAGER, got: frame.kind.name() });
    };
    Ok(greeting)
}

/// The one frame that a file holds.
///
/// # Errors
/// [`ShareError`] when it is not whole, or more stands behind it.
pub fn one_frame(file: &'static str, mut bytes: &[u8]) -> Result<Frame, ShareError> {
    let frame = Deframer::new().next(&mut bytes)?.ok_or(ShareError::Short { file })?;
    if bytes.is_empty() { Ok(frame) } else { Err(ShareError::Leftover { file, count: bytes.len() }) }
}

/// The frames that a file holds whole, and how many bytes of it they are: one may still be on its way.
///
/// # Errors
/// [`Malformed`] for the first byte that cannot become a frame.
pub fn whole_frames(mut bytes: &[u8]) -> Result<(Vec<Frame>, usize), Malformed> {
    let (all, mut frames, mut used) = (bytes.len(), Vec::new(), 0);
    let mut deframer = Deframer::new();
    while let Some(frame) = deframer.next(&mut bytes)? {
        frames.push(frame);
        used = all.saturating_sub(bytes.len());
    }
    Ok((frames, used))
}

/// What the guest's key signs under a receipt, so that it is this guest's, of this session, and of this request.
#[must_use]
pub fn receipt_transcript(session: &Nonce, frame: &Frame) -> Vec<u8> {
    let mut bytes = RECEIPT_TAG.to_vec();
    bytes.extend_from_slice(session.as_bytes());
    bytes.extend_from_slice(&frame.payload);
    bytes
}

/// The bytes of an `.ack`.
///
/// # Errors
/// [`Malformed`] when the acknowledgement does not fit a frame.
pub fn ack_file(
    acknowledgement: &Acknowledgement,
    sign: impl FnOnce(&Frame) -> Signature,
) -> Result<Vec<u8>, Malformed> {
    let frame = FromGuest::Acknowledge(Box::new(acknowledgement.clone())).to_frame()?;
    let mut bytes = Vec::new();
    frame.write(&mut bytes)?;
    bytes.extend_from_slice(sign(&frame).as_bytes());
    Ok(bytes)
}

/// Reads an `.ack` back: its frame as it was signed, what that says, and the signature. Nothing is verified.
///
/// # Errors
/// [`ShareError`] when it is no acknowledgement with a signature behind it.
pub fn read_ack(bytes: &[u8]) -> Result<(Frame, Box<Acknowledgement>, Signature), ShareError> {
    let file = Of::Ack.ending();
    let (frame, signature) =
        bytes.split_last_chunk::<{ Signature::LEN }>().ok_or(ShareError::Short { file })?;
    let frame = one_frame(file, frame)?;
    let FromGuest::Acknowledge(ack) = FromGuest::from_frame(&frame)? else {
        return Err(ShareError::Other { file, got: frame.kind.name() });
    };
    Ok((frame, ack, Signature::new(*signature)))
}

/// What is wrong with a file of a share.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ShareError {
    /// It is of another form than this code reads.
    #[error(
        "the share begins with {got:?} where \"doorbell-share 1\" is expected; use a manager and an agent of the same form"
    )]
    Form {
        /// Its first line.
        got: String,
    },
    /// It ends too early.
    #[error("{file} is not whole")]
    Short {
        /// Which.
        file: &'static str,
    },
    /// More stands behind its end.
    #[error("{file} has {count} bytes behind its end")]
    Leftover {
        /// Which.
        file: &'static str,
        /// How many.
        count: usize,
    },
    /// It holds a frame that does not belong there.
    #[error("{file} holds {got}, which does not belong there")]
    Other {
        /// Which.
        file: &'static str,
        /// What it holds.
        got: &'static str,
    },
    /// It holds no frame.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// A name or value in it is none.
    #[error(transparent)]
    Invalid(#[from] InvalidId),
}

const FORM: &[u8] = b"doorbell-share 1\n";
const FORM_SHOWN: usize = 40;
const PROMPT: &str = "prompt";
const RECEIPT_TAG: &[u8] = b"doorbell-receipt\0";
