//! Whether a guest that presents a good session token was rewound all the same.
//!
//! Asked by `sessions` for every hello. A snapshot that is taken and restored within one session has that session's
//! token. What gives it away is what the guest itself has told since: the start of a request, which was on its disk
//! before, and the time of its kernel's clock, which nobody can turn back.

use super::StoreError;
use super::writer::Work;
use doorbell_wire::ids::{BootId, GuestId, Sequence};
use doorbell_wire::message::Claims;
use rusqlite::params;

/// The latest time that a guest has told of itself, in this run of the manager.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ClockTold {
    /// The run of the guest's kernel.
    pub boot: BootId,
    /// Microseconds since its boot.
    pub us: u64,
}

/// What contradicts that the guest is where it was; `None` when nothing does.
///
/// A journal that lacks a start lacks it until the guest is approved again. A clock goes on, and would be right in a
/// while: so the token that it came with is worth nothing from here on.
pub(super) fn contradiction(
    work: &Work<'_>,
    guest: GuestId,
    claims: &Claims,
    clock: Option<ClockTold>,
) -> Result<Option<String>, StoreError> {
    let sql = "SELECT started_max FROM guests WHERE id = ?1";
    let started: u64 = work.conn.prepare_cached(sql)?.query_row([guest.as_bytes()], |row| row.get(0))?;
    if claims.sequence_max < started {
        let ends = claims.sequence_max;
        return Ok(Some(format!(
            "it had told of the start of sequence {started}, and its journal ends at {ends}"
        )));
    }
    let clock = clock.filter(|told| told.boot == claims.boot_id);
    let Some(told) = clock.filter(|told| claims.clock_us.saturating_add(CLOCK_SLACK_US) < told.us) else {
        return Ok(None);
    };
    work.conn
        .prepare_cached("UPDATE guests SET token_current = zeroblob(32), token_next = NULL WHERE id = ?1")?
        .execute([guest.as_bytes()])?;
    let ms = told.us.checked_div(1_000).unwrap_or_default();
    Ok(Some(format!("it had told of a time {ms} ms after its boot, and its clock was turned back")))
}

/// The guest has told of a start, so its journal has it.
pub(super) fn started(work: &Work<'_>, guest: GuestId, sequence: Sequence) -> Result<(), StoreError> {
    work.conn
        .prepare_cached("UPDATE guests SET started_max = max(started_max, ?2) WHERE id = ?1")?
        .execute(params![guest.as_bytes(), u64::from(sequence)])?;
    Ok(())
}

/// A clock that moves with its guest to another host may lose this much on the way.
const CLOCK_SLACK_US: u64 = 1_000_000;
