//! The answer to a pull, and what the guest reports on the way.
//!
//! Called by a guest's session. Trusts the guest about its own requests: a pull says that it has nothing in
//! hand, so whatever the store believes to run there is lost.

use super::receipts::{Closing, close};
use super::requests::{expire, many, maybe};
use super::writer::Work;
use super::{NextOffer, RequestRow, Store, StoreError};
use crate::programs::Programs;
use crate::request::{Happening, next, reached, word};
use doorbell_api::request::State;
use doorbell_wire::ids::{GuestId, RequestId};
use doorbell_wire::message::{Offer, Stage};
use rusqlite::params;

impl Store {
    /// Settles what the pull of a guest reveals, and gives the next request, marked offered on the disk.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn next_offer(&self, guest: GuestId) -> Result<NextOffer, StoreError> {
        self.write(move |work| next_offer(work, guest)).await
    }

    /// Notes a station that a request has reached in its guest. Only forwards; `None` when nothing moved.
    /// The guest's clock says when, unless the station only shows by what the guest has in hand.
    ///
    /// # Errors
    /// When the data base cannot be written.
    pub async fn mark(
        &self,
        guest: GuestId,
        request: RequestId,
        stage: Stage,
        at_ms_guest: Option<u64>,
    ) -> Result<Option<RequestRow>, StoreError> {
        self.write(move |work| mark(work, guest, request, stage, at_ms_guest)).await
    }

    /// The request, if it is this guest's.
    ///
    /// # Errors
    /// When the data base cannot be read.
    pub async fn attach(&self, guest: GuestId, request: RequestId) -> Result<Option<RequestRow>, StoreError> {
        self.read(move |conn| Ok(maybe(conn, request)?.filter(|row| row.guest_id == guest))).await
    }
}

fn next_offer(work: &mut Work<'_>, guest: GuestId) -> Result<NextOffer, StoreError> {
    super::guests::by_id(work.conn, guest)?;
    let mut moved = settle_started(work, guest)?;
    moved.extend(settle_expired(work, guest)?);
    moved.extend(settle_cancelled(work, guest)?);
    while let Some(row) = lowest(work, guest)? {
        let gone = row.program().filter(|(digest, len)| !Programs::has(work.state_dir, digest, *len));
        if let Some((digest, _)) = gone {
            let why =
                Closing { happening: Happening::ProgramGone, event: "request-not-retrieved", by: "manager" };
            moved.push(close(
                work,
                row,
                &why,
                &format!("the manager does not have the program sha256 {digest}"),
            )?);
            continue;
        }
        let row = offer(work, row)?;
        let offer = Offer {
            request: row.id,
            sequence: Some(row.sequence),
            action: row.action.clone(),
            timeout_ms: row.timeout_ms,
            idempotent: row.idempotent,
        };
        moved.push(row);
        return Ok(NextOffer { offer: Some(offer), moved });
    }
    Ok(NextOffer { offer: None, moved })
}

/// The guest has nothing in hand, so what had started there is lost to it.
fn settle_started(work: &mut Work<'_>, guest: GuestId) -> Result<Vec<RequestRow>, StoreError> {
    let started =
        many(work.conn, "r.guest = ?1 AND r.state = 'started' ORDER BY r.sequence", [guest.as_bytes()])?;
    started.into_iter().map(|row| lost(work, row)).collect()
}

fn lost(work: &mut Work<'_>, row: RequestRow) -> Result<RequestRow, StoreError> {
    let due = row.expires_at_ms.is_some_and(|at| at <= work.now);
    if row.idempotent && !due && !row.cancel_asked {
        let detail = "it had started, its guest no longer knows it, and it may be started again";
        return step(work, row, Happening::LostAgain, "manager", "request-queued-again", detail);
    }
    let why = Closing { happening: Happening::Lost, event: "request-interrupted", by: "manager" };
    close(work, row, &why, "it had started, and its guest no longer knows it")
}

fn settle_expired(work: &mut Work<'_>, guest: GuestId) -> Result<Vec<RequestRow>, StoreError> {
    let due = many(
        work.conn,
        "r.guest = ?1 AND r.expires_at_ms IS NOT NULL AND r.state IN ('queued', 'offered', 'fetched')
         AND r.expires_at_ms <= ?2 ORDER BY r.sequence",
        params![guest.as_bytes(), work.now],
    )?;
    due.into_iter().map(|row| expire(work, row)).collect()
}

fn settle_cancelled(work: &mut Work<'_>, guest: GuestId) -> Result<Vec<RequestRow>, StoreError> {
    let cancelled = many(
        work.conn,
        "r.guest = ?1 AND r.cancel_asked = 1 AND r.state IN ('queued', 'offered', 'fetched') ORDER BY r.sequence",
        [guest.as_bytes()],
    )?;
    let why = Closing { happening: Happening::Cancelled, event: "request-cancelled", by: "manager" };
    cancelled
        .into_iter()
        .map(|row| close(work, row, &why, "it was cancelled before it had started"))
        .collect()
}

fn lowest(work: &Work<'_>, guest: GuestId) -> Result<Option<RequestRow>, StoreError> {
    let condition =
        "r.guest = ?1 AND r.state IN ('queued', 'offered', 'fetched', 'started') ORDER BY r.sequence LIMIT 1";
    Ok(many(work.conn, condition, [guest.as_bytes()])?.pop())
}

fn offer(work: &mut Work<'_>, row: RequestRow) -> Result<RequestRow, StoreError> {
    let offers = row.offers.saturating_add(1);
    work.conn
        .prepare_cached("UPDATE requests SET offers = ?2 WHERE id = ?1")?
        .execute(params![row.id.as_bytes(), offers])?;
    let row = step(work, row, Happening::Offered, "manager", "request-offered", &format!("offer {offers}"))?;
    Ok(RequestRow { offers, ..row })
}

fn mark(
    work: &mut Work<'_>,
    guest: GuestId,
    request: RequestId,
    stage: Stage,
    at_ms: Option<u64>,
) -> Result<Option<RequestRow>, StoreError> {
    let Some(row) = maybe(work.conn, request)?.filter(|row| row.guest_id == guest && !row.state.is_final())
    else {
        return Ok(None);
    };
    let Some(happening) = reached(stage).filter(|happening| next(row.state, *happening).is_some()) else {
        return Ok(None);
    };
    let by = format!("guest {}", row.guest);
    let detail = at_ms.map_or_else(
        || "the guest came back with it in hand".to_owned(),
        |at_ms| format!("{at_ms} ms after the guest's boot"),
    );
    let event = if happening == Happening::Started { "request-started" } else { "request-fetched" };
    step(work, row, happening, &by, event, &detail).map(Some)
}

/// Moves a request to another open state.
fn step(
    work: &mut Work<'_>,
    row: RequestRow,
    happening: Happening,
    by: &str,
    event: &'static str,
    detail: &str,
) -> Result<RequestRow, StoreError> {
    let Some(state) = next(row.state, happening) else { return Ok(row) };
    let starts = row.starts.saturating_add(u32::from(state == State::Started));
    work.conn
        .prepare_cached("UPDATE requests SET state = ?2, starts = ?3 WHERE id = ?1")?
        .execute(params![row.id.as_bytes(), word(state), starts])?;
    work.audit(by, event, Some(row.guest.as_str()), Some(row.id), detail)?;
    Ok(RequestRow { state, starts, ..row })
}
