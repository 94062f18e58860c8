//! The answer to a pull, and what the guest reports on the way.
//!
//! Called by a guest's session. Trusts the guest about its own requests: a pull says what it has in hand, so
//! whatever else the store believes to run there is lost.

use super::deadlines::expire;
use super::receipts::{Closing, close};
use super::requests::{many, maybe};
use super::rewound::started;
use super::stages::{begin_again, put};
use super::writer::Work;
use super::{GuestRow, NextOffer, Pull, RequestRow, Store, StoreError};
use crate::programs::Programs;
use crate::request::{Happening, next, reached, word};
use crate::trace::Stamp;
use doorbell_api::guest::AgentInfo;
use doorbell_api::request::State;
use doorbell_api::trace::Station;
use doorbell_wire::ids::{GuestId, RequestId};
use doorbell_wire::limits::URGENT_MAX;
use doorbell_wire::message::action::{Action, Payload, RunReboot};
use doorbell_wire::message::{Offer, Stage};
use rusqlite::{Connection, OptionalExtension as _, params};
use std::num::NonZeroU8;

impl Store {
    /// Settles what the pull of a guest reveals, and gives the next request, marked offered on the disk.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn next_offer(&self, guest: GuestId, pull: Pull) -> Result<NextOffer, StoreError> {
        self.write(move |work| next_offer(work, guest, &pull)).await
    }

    /// Notes a station that a request has reached in its guest, with the stamps of this one and of those
    /// before it; none where the station only shows by what the guest has in hand. Only forwards; `None`
    /// when nothing moved.
    ///
    /// # Errors
    /// When the data base cannot be written.
    pub async fn mark(
        &self,
        guest: GuestId,
        request: RequestId,
        stage: Stage,
        stamps: Vec<Stamp>,
    ) -> Result<Option<RequestRow>, StoreError> {
        self.write(move |work| mark(work, guest, request, stage, &stamps)).await
    }

    /// Notes that a guest goes down for a reboot that belongs to a request of its own.
    ///
    /// # Errors
    /// When the data base cannot be written.
    pub async fn rebooting(&self, guest: GuestId, request: RequestId) -> Result<(), StoreError> {
        self.write(move |work| {
            let Some(row) = maybe(work.conn, request)?.filter(|row| row.guest_id == guest) else {
                return Ok(());
            };
            let (by, detail) = (format!("guest {}", row.guest), format!("step {}", row.step));
            work.audit(&by, "request-reboots", Some(row.guest.as_str()), Some(request), detail).map(drop)
        })
        .await
    }

    /// The request, if it is this guest's to have.
    ///
    /// # Errors
    /// When the data base cannot be read.
    pub async fn attach(&self, guest: GuestId, request: RequestId) -> Result<Option<RequestRow>, StoreError> {
        let is_its = move |row: &RequestRow| {
            (row.guest_id == guest || crate::planted::is("G4")) && row.state != State::Unapproved
        };
        self.read(move |conn| Ok(maybe(conn, request)?.filter(is_its))).await
    }
}

fn next_offer(work: &mut Work<'_>, guest: GuestId, pull: &Pull) -> Result<NextOffer, StoreError> {
    let known = super::guest_rows::by_id(work.conn, guest)?;
    let mut moved = settle(work, guest, pull)?;
    let mut hands = Hands::count(work.conn, guest, &pull.in_hand, known.concurrency)?;
    while let Some(row) = hands.lowest(work.conn, guest)? {
        if let Some(what) = beyond(&row, &known) {
            let why = Closing { happening: Happening::Unsupported, event: "request-refused", by: "manager" };
            moved.push(close(work, row, &why, what)?);
            continue;
        }
        let payload = row.action.payload();
        let gone = payload.filter(|Payload { digest, len, .. }| !Programs::has(work.state_dir, digest, *len));
        if let Some(Payload { digest, .. }) = gone {
            let why =
                Closing { happening: Happening::ProgramGone, event: "request-not-retrieved", by: "manager" };
            let what = if matches!(row.action, Action::Put(_)) { "file" } else { "program" };
            moved.push(close(
                work,
                row,
                &why,
                &format!("the manager does not have the {what} sha256 {digest}"),
            )?);
            continue;
        }
        let row = offer(work, row, pull)?;
        hands.take(&row);
        let floor = floor(work.conn, guest)?;
        let offer = Offer {
            request: row.id,
            sequence: Some(row.sequence),
            floor,
            action: at_step(row.action.clone(), row.step),
            timeout_ms: row.timeout_ms,
            idempotent: row.idempotent,
            signed: row.signed.clone().map(Box::new),
        };
        moved.push(row);
        let more = hands.lowest(work.conn, guest)?.is_some();
        return Ok(NextOffer { offer: Some(offer), more, floor, moved });
    }
    Ok(NextOffer { offer: None, more: false, floor: floor(work.conn, guest)?, moved })
}

/// What of a request is beyond its guest's agent.
fn beyond(row: &RequestRow, guest: &GuestRow) -> Option<&'static str> {
    let can = |what: &str| {
        let has = |agent: &AgentInfo| agent.capabilities.iter().any(|capability| capability == what);
        guest.agent.as_ref().is_some_and(has)
    };
    if matches!(row.action, Action::RunReboot(_)) && !can("reboot") {
        return Some("the guest's agent cannot reboot for a request: it is of a version before that");
    }
    if row.signed.is_some() && !can("signed") {
        return Some("the guest's agent checks no signatures: it is of a version before that");
    }
    None
}

fn at_step(action: Action, step: u8) -> Action {
    match (action, NonZeroU8::new(step)) {
        (Action::RunReboot(run), Some(step)) => Action::RunReboot(RunReboot { step, ..run }),
        (action, _) => action,
    }
}

/// The lowest sequence that is open, or the next one.
fn floor(conn: &Connection, guest: GuestId) -> Result<u64, StoreError> {
    let sql = "SELECT ifnull((SELECT min(sequence) FROM requests
         WHERE guest = ?1 AND state IN ('unapproved', 'queued', 'offered', 'fetched', 'started')), next_sequence)
         FROM guests WHERE id = ?1";
    Ok(conn.prepare_cached(sql)?.query_row([guest.as_bytes()], |row| row.get(0))?)
}

/// What the guest has in hand, and how much more of each kind it may have.
struct Hands<'a> {
    in_hand: &'a [RequestId],
    taken: Option<RequestId>,
    urgent: usize,
    ordinary: usize,
    concurrency: usize,
}

impl<'a> Hands<'a> {
    fn count(
        conn: &Connection,
        guest: GuestId,
        in_hand: &'a [RequestId],
        concurrency: u8,
    ) -> Result<Self, StoreError> {
        let concurrency = usize::from(concurrency);
        let mut hands = Self { in_hand, taken: None, urgent: 0, ordinary: 0, concurrency };
        let mut look = conn.prepare_cached("SELECT urgent FROM requests WHERE id = ?1 AND guest = ?2")?;
        for id in in_hand {
            let urgent: Option<bool> =
                look.query_row(params![id.as_bytes(), guest.as_bytes()], |row| row.get(0)).optional()?;
            // A query, or what this manager does not know, is of neither kind.
            if let Some(urgent) = urgent {
                hands.add(urgent);
            }
        }
        Ok(hands)
    }

    fn add(&mut self, urgent: bool) {
        let kind = if urgent { &mut self.urgent } else { &mut self.ordinary };
        *kind = kind.saturating_add(1);
    }

    fn take(&mut self, row: &RequestRow) {
        self.add(row.urgent);
        self.taken = Some(row.id);
    }

    /// The next one that may be offered: urgent ones first, each kind in its order. One whose program is still
    /// being fetched holds its place: those of its kind behind it wait with it.
    fn lowest(&self, conn: &Connection, guest: GuestId) -> Result<Option<RequestRow>, StoreError> {
        let kinds = [(true, self.urgent < URGENT_MAX), (false, self.ordinary < self.concurrency)];
        for (urgent, _) in kinds.into_iter().filter(|(_, room)| *room) {
            if let Some((id, false)) = self.waiting(conn, guest, urgent)? {
                return maybe(conn, id);
            }
        }
        Ok(None)
    }

    /// The first of a kind that is not in hand, and whether it awaits its program.
    fn waiting(
        &self,
        conn: &Connection,
        guest: GuestId,
        urgent: bool,
    ) -> Result<Option<(RequestId, bool)>, StoreError> {
        let sql = "SELECT id, awaits_program FROM requests WHERE guest = ?1 AND urgent = ?2
             AND state IN ('queued', 'offered', 'fetched') ORDER BY sequence";
        let mut waiting = conn.prepare_cached(sql)?;
        let mut rows = waiting.query(params![guest.as_bytes(), urgent])?;
        // As many as are in hand are passed over at most.
        while let Some(row) = rows.next()? {
            let id = RequestId::new(row.get(0)?);
            if !self.in_hand.contains(&id) && self.taken != Some(id) {
                return Ok(Some((id, row.get(1)?)));
            }
        }
        Ok(None)
    }
}

/// Closes, or queues again, what the guest no longer has in hand and what need not be begun.
fn settle(work: &mut Work<'_>, guest: GuestId, pull: &Pull) -> Result<Vec<RequestRow>, StoreError> {
    let started = many(
        work.conn,
        "r.guest = ?1 AND r.state IN ('started', 'unconfirmed') ORDER BY r.sequence",
        [guest.as_bytes()],
    )?;
    let mut moved = each_not_in_hand(work, pull, started, lost)?;
    let due = many(
        work.conn,
        "r.guest = ?1 AND r.step = 1 AND r.expires_at_ms IS NOT NULL AND r.state IN ('queued', 'offered', 'fetched')
         AND r.expires_at_ms <= ?2 ORDER BY r.sequence",
        params![guest.as_bytes(), work.now],
    )?;
    moved.extend(each_not_in_hand(work, pull, due, expire)?);
    let cancelled = many(
        work.conn,
        "r.guest = ?1 AND r.cancel_asked = 1 AND r.state IN ('queued', 'offered', 'fetched') ORDER BY r.sequence",
        [guest.as_bytes()],
    )?;
    moved.extend(each_not_in_hand(work, pull, cancelled, |work, row| {
        let why = Closing { happening: Happening::Cancelled, event: "request-cancelled", by: "manager" };
        close(work, row, &why, "it was cancelled before it had started")
    })?);
    Ok(moved)
}

/// What is in the guest's hands has its end from there.
fn each_not_in_hand(
    work: &mut Work<'_>,
    pull: &Pull,
    rows: Vec<RequestRow>,
    mut settle: impl FnMut(&mut Work<'_>, RequestRow) -> Result<RequestRow, StoreError>,
) -> Result<Vec<RequestRow>, StoreError> {
    rows.into_iter().filter(|row| !pull.in_hand.contains(&row.id)).map(|row| settle(work, row)).collect()
}

fn lost(work: &mut Work<'_>, row: RequestRow) -> Result<RequestRow, StoreError> {
    let due = row.expires_at_ms.is_some_and(|at| at <= work.now);
    if row.idempotent && !due && !row.cancel_asked && row.state == State::Started {
        let detail = "it had started, its guest no longer knows it, and it may be started again";
        return step(work, row, Happening::LostAgain, "manager", "request-queued-again", detail);
    }
    let why = Closing { happening: Happening::Lost, event: "request-interrupted", by: "manager" };
    close(work, row, &why, "it had started, and its guest no longer knows it")
}

fn offer(work: &mut Work<'_>, row: RequestRow, pull: &Pull) -> Result<RequestRow, StoreError> {
    let offers = row.offers.saturating_add(1);
    work.conn
        .prepare_cached("UPDATE requests SET offers = ?2 WHERE id = ?1")?
        .execute(params![row.id.as_bytes(), offers])?;
    if row.offers > 0 {
        begin_again(work.conn, row.id)?;
    }
    // A ring for an earlier request is not one for this.
    let rung = pull.rung_us.filter(|at| *at >= row.accepted_at_ms.saturating_mul(1000));
    let pulled = Some(Stamp::host(Station::Pulled, pull.pulled_us));
    for stamp in rung.map(|at| Stamp::host(Station::Rung, at)).into_iter().chain(pulled) {
        put(work.conn, row.id, &stamp)?;
    }
    work.when_durable(row.id, Station::Offered);
    let row = step(work, row, Happening::Offered, "manager", "request-offered", &format!("offer {offers}"))?;
    Ok(RequestRow { offers, ..row })
}

fn mark(
    work: &mut Work<'_>,
    guest: GuestId,
    request: RequestId,
    stage: Stage,
    stamps: &[Stamp],
) -> Result<Option<RequestRow>, StoreError> {
    let Some(row) = maybe(work.conn, request)?.filter(|row| row.guest_id == guest && !row.state.is_final())
    else {
        return Ok(None);
    };
    let Some(happening) = reached(stage).filter(|happening| next(row.state, *happening).is_some()) else {
        return Ok(None);
    };
    if happening == Happening::Started {
        started(work, guest, row.sequence)?;
    }
    for stamp in stamps {
        put(work.conn, row.id, stamp)?;
    }
    let by = format!("guest {}", row.guest);
    let at_us = stamps.last().and_then(|stamp| stamp.guest).map(|guest| guest.us);
    let detail = at_us.map_or_else(
        || "the guest came back with it in hand".to_owned(),
        |us| format!("{} ms after the guest's boot", us.checked_div(1000).unwrap_or_default()),
    );
    let event = if happening == Happening::Started { "request-started" } else { "request-fetched" };
    step(work, row, happening, &by, event, &detail).map(Some)
}

/// Moves a request to another open state.
pub(super) fn step(
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
