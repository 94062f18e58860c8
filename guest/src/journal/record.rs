//! One record of the journal: `length u32 LE, CRC32C u32 LE, body`.
//!
//! Called by `file` to append and by `recover` to read back. Trusts nothing on the disk: a length is checked
//! before anything is kept for it, and the checksum covers length and body.

use doorbell_wire::codec::{decode, encode};
use doorbell_wire::error::Malformed;
use doorbell_wire::ids::{BootId, RequestId, Sequence};
use doorbell_wire::limits::PAYLOAD_LEN_MAX;
use doorbell_wire::message::action::Reboot;
use doorbell_wire::message::outcome::Acknowledgement;
use serde::{Deserialize, Serialize};
use std::num::NonZeroU8;

/// What happened.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum Record {
    /// The effect of a request is about to begin.
    Started(Started),
    /// A request has ended.
    Outcome {
        /// Its place in the order.
        sequence: Sequence,
        /// What the manager is told.
        acknowledgement: Box<Acknowledgement>,
    },
    /// The manager has stored the outcome.
    Forgotten {
        /// The request.
        request: RequestId,
        /// Its place in the order.
        sequence: Sequence,
    },
    /// What was forgotten before this journal was written anew.
    Settled(Settled),
    /// The effect of a request is about to begin, and the guest may have to reboot for it. From here on: form 2.
    StartedReboot {
        /// The start.
        started: Started,
        /// When the guest is to reboot.
        terms: Terms,
    },
    /// The guest is about to go down for a request whose program has ended.
    GoesDown {
        /// Its place in the order.
        sequence: Sequence,
        /// What the manager is told when another run of the kernel has been seen.
        acknowledgement: Box<Acknowledgement>,
        /// The run of the kernel that is to end.
        boot_id: BootId,
    },
    /// The manager knows that a request waits for its next step.
    Continued {
        /// The request.
        request: RequestId,
    },
}

/// When the guest is to reboot for a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Terms {
    /// At which end of its program.
    pub reboot: Reboot,
    /// Which step this start is.
    pub step: NonZeroU8,
}

/// What bytes are that are no record.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Shape {
    /// The front of one.
    Cut,
    /// Something else.
    Damaged,
}

/// Sequences that must not start here again.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Settled {
    /// All below this one.
    pub floor: u64,
    /// And all from the first to the last of each of these.
    pub ranges: Vec<(u64, u64)>,
}

/// A start.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Started {
    /// The request.
    pub request: RequestId,
    /// Its place in the order.
    pub sequence: Sequence,
    /// Below this sequence the manager has settled everything.
    pub floor: u64,
    /// Whether it may be started again after an interruption.
    pub idempotent: bool,
    /// The run of the kernel it started in.
    pub boot_id: BootId,
}

impl Record {
    /// The form of a journal that has this record. An agent that does not know a form leaves the journal alone, where
    /// it would take a record that it does not know for damage.
    #[must_use]
    pub const fn form(&self) -> u8 {
        match self {
            Self::Started(_) | Self::Outcome { .. } | Self::Forgotten { .. } | Self::Settled(_) => 1,
            Self::StartedReboot { .. } | Self::GoesDown { .. } | Self::Continued { .. } => 2,
        }
    }

    /// The bytes of the record on disk.
    ///
    /// # Errors
    /// [`Malformed`] when it does not fit; checked values do.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Malformed> {
        let body = encode(WHAT, self)?;
        let length =
            u32::try_from(body.len()).map_err(|_| Malformed::Unwritable { what: WHAT })?.to_le_bytes();
        let mut bytes = length.to_vec();
        bytes.extend_from_slice(&checksum(length, &body).to_le_bytes());
        bytes.extend_from_slice(&body);
        Ok(bytes)
    }

    /// What bytes are that [`Record::take`] does not take. A cut record is all there is and shorter than it
    /// says; one whose length alone was altered is still known by its checksum.
    #[must_use]
    pub fn shape(bytes: &[u8]) -> Shape {
        let Some((length, rest)) = bytes.split_first_chunk::<4>() else { return Shape::Cut };
        let Some((sum, body)) = rest.split_first_chunk::<4>() else { return Shape::Cut };
        let said = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
        let true_length = u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes();
        let altered = checksum(true_length, body) == u32::from_le_bytes(*sum);
        if said <= PAYLOAD_LEN_MAX && body.len() < said && !altered { Shape::Cut } else { Shape::Damaged }
    }

    /// Takes one whole record from the front of `bytes`; `None`, and `bytes` as it was, when there is none.
    pub fn take(bytes: &mut &[u8]) -> Option<Self> {
        let (length, rest) = bytes.split_first_chunk::<4>()?;
        let (sum, rest) = rest.split_first_chunk::<4>()?;
        let len = usize::try_from(u32::from_le_bytes(*length)).ok().filter(|&len| len <= PAYLOAD_LEN_MAX)?;
        let (body, rest) = rest.split_at_checked(len)?;
        if checksum(*length, body) != u32::from_le_bytes(*sum) {
            return None;
        }
        let record = decode(WHAT, body).ok()?;
        *bytes = rest;
        Some(record)
    }
}

fn checksum(length: [u8; 4], body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&length), body)
}

const WHAT: &str = "journal record";
