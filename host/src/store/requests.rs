//! Requests in the store: accepted, cancelled, expired, looked up.
//!
//! Called by the API for operators and by the daemon's timer for expiries. Trusts actions, which are checked
//! types; a caller's own request id is taken for a repetition only when everything else is the same too.

use super::approvals::Asker;
use super::awaited::{read, same_action, told_source, written};
use super::guest_rows::label;
use super::guests::random;
use super::receipts::{Closing, close};
use super::retention::refuse_ended;
use super::stages::put;
use super::writer::Work;
use super::{AcceptRequest, GuestRow, RequestRow, Store, StoreError};
use crate::access::{Label, Scope};
use crate::actor::Actor;
use crate::cause::Cause;
use crate::request::{Admission, Happening, from_elsewhere, from_word, shown, summary, word};
use crate::time::unix_us;
use crate::trace::Stamp;
use doorbell_api::request::{OnDisconnect, State};
use doorbell_api::trace::Station;
use doorbell_wire::ids::{GuestId, GuestName, RequestId, Sequence, ShortText};
use doorbell_wire::message::Offsets;
use doorbell_wire::message::action::Action;
use rusqlite::{Connection, Params, Row, params};

impl Store {
    /// Accepts a request: when this returns, it survives a crash.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for the guest, [`StoreError::Conflict`] when another request has the id,
    /// [`StoreError::Invalid`] for a query and for times beyond all calendars.
    pub async fn accept(
        &self,
        by: &Actor,
        guest: &GuestName,
        new: AcceptRequest,
    ) -> Result<(Admission, RequestRow), StoreError> {
        let (by, guest, at_us) = (self.asker(by), guest.clone(), unix_us());
        self.write(move |work| accept(work, &by, &guest, new, at_us)).await
    }

    /// Cancels a request that is queued; for one that its guest may have, notes that it is to end. Final ones
    /// stay as they are.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn cancel(
        &self,
        by: &Actor,
        id: RequestId,
        why: Option<&'static str>,
    ) -> Result<RequestRow, StoreError> {
        let by = by.to_string();
        self.write(move |work| cancel(work, &by, id, why)).await
    }

    /// The open requests that are not to outlive their clients.
    ///
    /// # Errors
    /// When the data base cannot be read.
    pub async fn killed_without_client(&self) -> Result<Vec<RequestId>, StoreError> {
        self.read(|conn| {
            let sql = "SELECT id FROM requests WHERE on_disconnect = 'kill'
                 AND state IN ('unapproved', 'queued', 'offered', 'fetched', 'started')";
            let ids = conn
                .prepare_cached(sql)?
                .query_map([], |row| Ok(RequestId::new(row.get(0)?)))?
                .collect::<Result<_, _>>()?;
            Ok(ids)
        })
        .await
    }

    /// One request.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn request(&self, id: RequestId) -> Result<RequestRow, StoreError> {
        let scope = self.scope.clone();
        self.read(move |conn| {
            let row = by_id(conn, id)?;
            if scope.covers(row.tenant.as_ref()) { Ok(row) } else { Err(not_found(id.to_string())) }
        })
        .await
    }
}

/// The request of this id.
pub(super) fn by_id(conn: &Connection, id: RequestId) -> Result<RequestRow, StoreError> {
    if let Some(row) = maybe(conn, id)? {
        return Ok(row);
    }
    refuse_ended(conn, id, &Scope::All)?;
    Err(not_found(id.to_string()))
}

/// The request of this id, if there is one.
pub(super) fn maybe(conn: &Connection, id: RequestId) -> Result<Option<RequestRow>, StoreError> {
    Ok(many(conn, "r.id = ?1", [id.as_bytes()])?.pop())
}

/// The open requests of a guest, in order.
pub(super) fn open_of(conn: &Connection, guest: GuestId) -> Result<Vec<RequestRow>, StoreError> {
    many(
        conn,
        "r.guest = ?1 AND r.state IN ('unapproved', 'queued', 'offered', 'fetched', 'started') ORDER BY r.sequence",
        [guest.as_bytes()],
    )
}

/// All requests for which a condition holds.
pub(super) fn many(
    conn: &Connection,
    condition: &str,
    values: impl Params,
) -> Result<Vec<RequestRow>, StoreError> {
    let sql = format!(
        "SELECT r.id, g.name, r.guest, r.sequence, r.action, r.state, r.asked_by, r.reason, r.accepted_at_ms,
         r.expires_in_ms, r.expires_at_ms, r.timeout_ms, r.idempotent, r.cancel_asked, r.offers, r.starts,
         c.receipt, r.urgent, r.on_disconnect, r.step, r.confirm_within_ms, r.stdout_base, r.stderr_base,
         r.output_removed_at_ms, r.source, r.awaits_program, r.ticket, r.signed, r.tenant, r.approved_by
         FROM requests r JOIN guests g ON g.id = r.guest LEFT JOIN receipts c ON c.request = r.id
         WHERE {condition}"
    );
    conn.prepare_cached(&sql)?.query_and_then(values, read_request)?.collect()
}

/// Accepts a request in a transaction.
pub(super) fn accept(
    work: &mut Work<'_>,
    by: &Asker,
    name: &GuestName,
    new: AcceptRequest,
    at_us: u64,
) -> Result<(Admission, RequestRow), StoreError> {
    let guest = work.guest(name)?;
    if let Some(known) = new.id.map(|id| maybe(work.conn, id)).transpose()?.flatten() {
        if !work.scope.covers(known.tenant.as_ref()) {
            return Err(id_taken(known.id));
        }
        return repeated(known, guest.id, &new).map(|row| (Admission::Unchanged, row));
    }
    if let Some(id) = new.id {
        refuse_ended(work.conn, id, &work.scope)?;
    }
    let shown = shown(&new.action).ok_or_else(|| {
        StoreError::invalid(format!("{} only reads: send it as a query", new.action.name()))
    })?;
    let id = new.id.map_or_else(|| random().map(RequestId::new), Ok)?;
    let sequence = take_sequence(work, &guest)?;
    let row = RequestRow {
        id,
        guest: guest.name,
        guest_id: guest.id,
        sequence,
        state: by.state(shown.name()),
        shown: from_elsewhere(shown, new.source.as_ref()),
        asked_by: by.name.clone(),
        approved_by: None,
        reason: new.reason,
        ticket: new.ticket,
        accepted_at_ms: work.now,
        expires_in_ms: new.expires_in_ms.map(|ms| bounded("expiry", ms)).transpose()?,
        expires_at_ms: new
            .expires_in_ms
            .map(|ms| bounded("expiry", work.now.saturating_add(ms)))
            .transpose()?,
        timeout_ms: new.timeout_ms.map(|ms| bounded("timeout", ms)).transpose()?,
        idempotent: new.idempotent,
        urgent: new.urgent,
        on_disconnect: new.on_disconnect,
        cancel_asked: false,
        source: new.source,
        awaits_program: new.awaits_program,
        signed: new.signed,
        offers: 0,
        starts: 0,
        step: 1,
        confirm_within_ms: bounded("confirm_within", new.confirm_within_ms.unwrap_or(CONFIRM_WITHIN_MS))?,
        output_base: Offsets::default(),
        receipt: None,
        output_removed_at_ms: None,
        tenant: guest.tenant,
        action: new.action,
    };
    insert(work.conn, &row, by)?;
    let urgent = if row.urgent { ", urgent" } else { "" };
    let signed = if row.signed.is_some() { ", signed" } else { "" };
    let from = row.source.as_ref().map(told_source).unwrap_or_default();
    let waits = if row.state == State::Unapproved { ", waits for a second person" } else { "" };
    let detail = format!("sequence {}: {}{from}{urgent}{signed}{waits}", row.sequence, summary(&row.action));
    put(work.conn, id, &Stamp::host(Station::Accepted, at_us))?;
    work.when_durable(id, Station::Durable);
    work.cause = Cause { reason: row.reason.clone(), ticket: row.ticket.clone() };
    work.audit(&by.name, "request-accepted", Some(row.guest.as_str()), Some(id), detail)?;
    Ok((Admission::Accepted, row))
}

fn repeated(known: RequestRow, guest: GuestId, new: &AcceptRequest) -> Result<RequestRow, StoreError> {
    let same = known.guest_id == guest
        && same_action(&known, new)
        && known.timeout_ms == new.timeout_ms
        && known.expires_in_ms == new.expires_in_ms
        && known.idempotent == new.idempotent
        && known.signed == new.signed
        && known.urgent == new.urgent
        && known.on_disconnect == new.on_disconnect
        && known.confirm_within_ms == new.confirm_within_ms.unwrap_or(CONFIRM_WITHIN_MS)
        && known.reason == new.reason
        && known.ticket == new.ticket;
    if same {
        return Ok(known);
    }
    Err(StoreError::conflict(format!(
        "request {} was accepted before for guest {} with other content: give this one an id of its own, or none",
        known.id, known.guest
    )))
}

/// No word of whose it is: whoever has an id of another tenant's learns that it was used, and nothing else.
pub(super) fn id_taken(id: RequestId) -> StoreError {
    StoreError::conflict(format!("request id {id} cannot be used: give this one an id of its own, or none"))
}

fn insert(conn: &Connection, row: &RequestRow, by: &Asker) -> Result<(), StoreError> {
    let unwritten = |error| StoreError::internal("write the action", error);
    let action = serde_json::to_string(&row.action).map_err(unwritten)?;
    conn.prepare_cached(
        "INSERT INTO requests (id, guest, sequence, action, timeout_ms, expires_in_ms, expires_at_ms, idempotent,
         reason, asked_by, accepted_at_ms, urgent, on_disconnect, confirm_within_ms, payload, source,
         awaits_program, ticket, signed, tenant, state, asker)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22)",
    )?
    .execute(params![
        row.id.as_bytes(),
        row.guest_id.as_bytes(),
        u64::from(row.sequence),
        action,
        row.timeout_ms,
        row.expires_in_ms,
        row.expires_at_ms,
        row.idempotent,
        row.reason.as_ref().map(ShortText::as_str),
        row.asked_by,
        row.accepted_at_ms,
        row.urgent,
        word_of(row.on_disconnect),
        row.confirm_within_ms,
        row.action.payload().as_ref().map(|payload| payload.digest.as_bytes()),
        row.source.as_ref().map(written).transpose()?,
        row.awaits_program,
        row.ticket.as_ref().map(ShortText::as_str),
        row.signed.as_ref().map(serde_json::to_string).transpose().map_err(unwritten)?,
        row.tenant.as_ref().map(Label::as_str),
        word(row.state),
        by.person
    ])?;
    Ok(())
}

const fn word_of(on_disconnect: OnDisconnect) -> &'static str {
    match on_disconnect {
        OnDisconnect::Keep => "keep",
        OnDisconnect::Kill => "kill",
    }
}

fn take_sequence(work: &Work<'_>, guest: &GuestRow) -> Result<Sequence, StoreError> {
    let left: bool = work
        .conn
        .prepare_cached("SELECT next_sequence < ?2 FROM guests WHERE id = ?1")?
        .query_row(params![guest.id.as_bytes(), i64::MAX], |row| row.get(0))?;
    if !left {
        return Err(StoreError::conflict(format!(
            "guest {0} says that it has finished every sequence there is, as only a damaged or hostile agent does:              look into it, then `doorbell guest rm {0}` and add it with a key of its own",
            guest.name
        )));
    }
    let sequence: u64 = work
        .conn
        .prepare_cached(
            "UPDATE guests SET next_sequence = next_sequence + 1 WHERE id = ?1 RETURNING next_sequence - 1",
        )?
        .query_row([guest.id.as_bytes()], |row| row.get(0))?;
    Sequence::try_from(sequence).map_err(|error| StoreError::damaged("sequence", error))
}

fn bounded(what: &str, ms: u64) -> Result<u64, StoreError> {
    if i64::try_from(ms).is_ok() {
        return Ok(ms);
    }
    Err(StoreError::invalid(format!(
        "{what} of {ms} ms is not valid: expected at most {} ms from 1970 on",
        i64::MAX
    )))
}

fn cancel(
    work: &mut Work<'_>,
    by: &str,
    id: RequestId,
    why: Option<&'static str>,
) -> Result<RequestRow, StoreError> {
    let mut row = by_id(work.conn, id)?;
    if !work.scope.covers(row.tenant.as_ref()) {
        return Err(not_found(id.to_string()));
    }
    if row.state.is_final() || row.cancel_asked {
        return Ok(row);
    }
    work.conn
        .prepare_cached("UPDATE requests SET cancel_asked = 1 WHERE id = ?1")?
        .execute([id.as_bytes()])?;
    row.cancel_asked = true;
    let because = why.map(|why| format!(": {why}")).unwrap_or_default();
    let (guest, state) = (row.guest.clone(), row.state);
    let detail = format!("while {}{because}", word(state));
    work.audit(by, "request-cancel-asked", Some(guest.as_str()), Some(id), detail)?;
    if !matches!(state, State::Unapproved | State::Queued) {
        return Ok(row);
    }
    let before = if row.offers > 0 { "it was started again" } else { "its guest had seen it" };
    let why = Closing { happening: Happening::Cancelled, event: "request-cancelled", by };
    close(work, row, &why, &format!("it was cancelled before {before}{because}"))
}

pub(super) fn not_found(name: String) -> StoreError {
    StoreError::NotFound { what: "request", name, hint: "`doorbell request ls` shows them" }
}

fn read_request(row: &Row<'_>) -> Result<RequestRow, StoreError> {
    let damaged = |error| StoreError::damaged("request", error);
    let text = |error| StoreError::damaged("request", error);
    let action: Action = serde_json::from_str(&row.get::<_, String>(4)?).map_err(text)?;
    let state = row.get::<_, String>(5)?;
    let (receipt, signed): (Option<String>, Option<String>) = (row.get(16)?, row.get(27)?);
    let source = row.get::<_, Option<String>>(24)?.map(|text| read(&text)).transpose()?;
    let shown = shown(&action).ok_or_else(|| StoreError::damaged("request", "a query"))?;
    Ok(RequestRow {
        id: RequestId::new(row.get(0)?),
        guest: row.get::<_, String>(1)?.try_into().map_err(damaged)?,
        guest_id: GuestId::new(row.get(2)?),
        sequence: Sequence::try_from(row.get::<_, u64>(3)?).map_err(damaged)?,
        shown: from_elsewhere(shown, source.as_ref()),
        action,
        state: from_word(&state).ok_or_else(|| StoreError::damaged("state of a request", state))?,
        asked_by: row.get(6)?,
        approved_by: row.get(29)?,
        reason: row.get::<_, Option<String>>(7)?.map(ShortText::try_from).transpose().map_err(damaged)?,
        ticket: row.get::<_, Option<String>>(26)?.map(ShortText::try_from).transpose().map_err(damaged)?,
        accepted_at_ms: row.get(8)?,
        expires_in_ms: row.get(9)?,
        expires_at_ms: row.get(10)?,
        timeout_ms: row.get(11)?,
        idempotent: row.get(12)?,
        urgent: row.get(17)?,
        on_disconnect: if row.get::<_, String>(18)? == word_of(OnDisconnect::Kill) {
            OnDisconnect::Kill
        } else {
            OnDisconnect::Keep
        },
        cancel_asked: row.get(13)?,
        source,
        awaits_program: row.get(25)?,
        signed: signed.map(|text| serde_json::from_str(&text)).transpose().map_err(text)?,
        offers: row.get(14)?,
        starts: row.get(15)?,
        step: row.get(19)?,
        confirm_within_ms: row.get(20)?,
        output_base: Offsets { stdout: row.get(21)?, stderr: row.get(22)? },
        receipt: receipt.map(|text| serde_json::from_str(&text)).transpose().map_err(text)?,
        output_removed_at_ms: row.get(23)?,
        tenant: row.get::<_, Option<String>>(28)?.map(|name| label(&name)).transpose()?,
    })
}

/// Milliseconds a guest may be away once a request has started there, where the request does not say.
pub(super) const CONFIRM_WITHIN_MS: u64 = 3_600_000;
