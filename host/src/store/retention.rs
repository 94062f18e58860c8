//! What retention finds and removes in the store, and what it leaves: the id of each request, so that one that
//! was removed is refused when it is sent again, and never run.
//!
//! Called by `crate::retention`, which removes the files after the rows say so. The audit trail is never
//! shortened; it says of each removal how much went.

use super::guest_rows::{label, within};
use super::requests::id_taken;
use super::{Store, StoreError, open, reader};
use crate::access::{Scope, TenantName};
use crate::actor::Actor;
use crate::retention::plan::{Bounds, Thing, over};
use crate::time::shown;
use doorbell_api::retention::{Total, Why};
use doorbell_wire::ids::{Digest, RequestId};
use rusqlite::{Connection, OptionalExtension as _, params};

/// How long and how much is kept of what the store knows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kept {
    /// Milliseconds that requests are kept after their end.
    pub requests_ms: Option<u64>,
    /// Output of requests that are over.
    pub outputs: Bounds,
    /// Milliseconds that the id of a removed request is refused.
    pub ids_ms: Option<u64>,
}

/// What is over.
#[derive(Clone, Debug, Default)]
pub struct Due {
    /// Requests, with what their output takes.
    pub requests: Vec<(RequestId, u64)>,
    /// Outputs of other requests.
    pub outputs: Vec<(RequestId, u64, Why)>,
    /// Ids of requests that were removed.
    pub ids: u64,
    /// Whether there is more than one look gives.
    pub more: bool,
}

/// What is removed in one transaction.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Requests.
    pub requests: Vec<RequestId>,
    /// Requests that stay and lose their output.
    pub outputs: Vec<RequestId>,
    /// Programs that are removed along with it, for the audit trail.
    pub programs: Total,
    /// Before when a request has to be removed for its id to be forgotten.
    pub ids_before: Option<u64>,
    /// When this is, by the host's clock.
    pub now: u64,
}

/// What a transaction has removed.
#[derive(Clone, Debug, Default)]
pub struct Retired {
    /// Requests whose output is to go from the disk, for they are gone or say so.
    pub outputs: Vec<RequestId>,
    /// Requests.
    pub requests: u64,
    /// Ids.
    pub ids: u64,
}

impl Store {
    /// What is over at `now`: at most [`LOOK_MAX`] of each kind. Nobody waits for this but its caller.
    ///
    /// # Errors
    /// When the data base cannot be read.
    pub async fn due(&self, kept: Kept, now: u64) -> Result<Due, StoreError> {
        self.look_aside(move |conn| due(conn, kept, now)).await
    }

    /// Removes what was found. What has changed meanwhile stays.
    ///
    /// # Errors
    /// When the data base cannot be written.
    pub async fn retire(&self, by: &Actor, batch: Batch) -> Result<Retired, StoreError> {
        let by = by.to_string();
        self.write(move |work| retire(work, &by, &batch)).await
    }

    /// Of these programs: until when each was needed, if at all; `u64::MAX` where an open request names it.
    ///
    /// # Errors
    /// When the data base cannot be read.
    pub async fn payload_needs(&self, digests: Vec<Digest>) -> Result<Vec<Option<u64>>, StoreError> {
        self.look_aside(move |conn| digests.iter().map(|digest| needed_until(conn, digest)).collect()).await
    }

    /// Those of these requests of which no output is to be on the disk.
    ///
    /// # Errors
    /// When the data base cannot be read.
    pub async fn without_output(&self, ids: Vec<RequestId>) -> Result<Vec<RequestId>, StoreError> {
        self.look_aside(move |conn| {
            let sql = "SELECT 1 FROM requests WHERE id = ?1 AND output_removed_at_ms IS NULL";
            let mut look = conn.prepare(sql)?;
            let mut without = Vec::new();
            for id in ids {
                if !look.exists([id.as_bytes()])? {
                    without.push(id);
                }
            }
            Ok(without)
        })
        .await
    }

    /// A look on a connection of its own: long ones keep nobody waiting.
    pub(super) async fn look_aside<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let state_dir = self.state_dir().to_owned();
        crate::disk::blocking(move || reader::on_one_state(&open::reading(&state_dir)?, look)).await
    }
}

/// A request that was removed.
#[derive(Debug)]
pub(super) struct Ended {
    id: RequestId,
    guest: String,
    state: String,
    ended_at_ms: u64,
    removed_at_ms: u64,
    tenant: Option<TenantName>,
}

impl Ended {
    /// What whoever asks for it is told.
    pub(super) fn gone(&self) -> StoreError {
        let Self { id, guest, state, ended_at_ms, removed_at_ms, .. } = self;
        let (ended, removed) = (shown(*ended_at_ms), shown(*removed_at_ms));
        StoreError::Gone {
            message: format!(
                "request {id} for guest {guest} ended as {state} at {ended} and was removed at {removed} by retention; \
                 it is not run again, and the audit trail still has it"
            ),
        }
    }
}

/// An id that was used before is not accepted once more, however long ago its request was removed.
pub(super) fn refuse_ended(conn: &Connection, id: RequestId, scope: &Scope) -> Result<(), StoreError> {
    match ended_between(conn, id, id, &Scope::All)? {
        None => Ok(()),
        Some(ended) if scope.covers(ended.tenant.as_ref()) => Err(ended.gone()),
        Some(_) => Err(id_taken(id)),
    }
}

/// A removed request whose id is in these bounds, if there is one.
pub(super) fn ended_between(
    conn: &Connection,
    low: RequestId,
    high: RequestId,
    scope: &Scope,
) -> Result<Option<Ended>, StoreError> {
    let sql = format!(
        "SELECT e.id, g.name, e.state, e.ended_at_ms, e.removed_at_ms, e.tenant
         FROM ended e JOIN guests g ON g.id = e.guest WHERE e.id BETWEEN ?1 AND ?2 AND {} LIMIT 1",
        within("e.tenant", 3)
    );
    let read = |row: &rusqlite::Row<'_>| {
        let id = RequestId::new(row.get(0)?);
        let (guest, state) = (row.get(1)?, row.get(2)?);
        let tenant = row.get::<_, Option<String>>(5)?.map(|name| label(&name)).transpose()?;
        Ok(Ended { id, guest, state, ended_at_ms: row.get(3)?, removed_at_ms: row.get(4)?, tenant })
    };
    let mut look = conn.prepare_cached(&sql)?;
    let mut rows = look.query_and_then(params![low.as_bytes(), high.as_bytes(), scope.name()], read)?;
    rows.next().transpose()
}

fn due(conn: &Connection, kept: Kept, now: u64) -> Result<Due, StoreError> {
    let before = kept.requests_ms.and_then(|ms| now.checked_sub(ms));
    let (requests, outputs) = (old_requests(conn, before)?, heavy_outputs(conn, kept, before, now)?);
    let sql = "SELECT count(*) FROM ended WHERE removed_at_ms < ?1";
    let ids = match kept.ids_ms.and_then(|ms| now.checked_sub(ms)) {
        Some(before) => conn.query_row(sql, [before], |row| row.get(0))?,
        None => 0,
    };
    let more = requests.len() >= LOOK_MAX || outputs.len() >= LOOK_MAX;
    Ok(Due { requests, outputs, ids, more })
}

fn old_requests(conn: &Connection, before: Option<u64>) -> Result<Vec<(RequestId, u64)>, StoreError> {
    let Some(before) = before else { return Ok(Vec::new()) };
    let sql = "SELECT id, iif(output_removed_at_ms IS NULL, output_bytes, 0) FROM requests
         WHERE ended_at_ms < ?1 ORDER BY ended_at_ms LIMIT ?2";
    let mut rows = conn.prepare(sql)?;
    let rows =
        rows.query_map(params![before, LOOK_MAX], |row| Ok((RequestId::new(row.get(0)?), row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Outputs of requests that stay. That of an unconfirmed request waits for the guest's word as the request does.
fn heavy_outputs(
    conn: &Connection,
    kept: Kept,
    before: Option<u64>,
    now: u64,
) -> Result<Vec<(RequestId, u64, Why)>, StoreError> {
    let before = before.unwrap_or(0);
    let sum = "SELECT ifnull(sum(output_bytes), 0) FROM requests
         WHERE output_bytes > 0 AND output_removed_at_ms IS NULL AND ended_at_ms >= ?1";
    let total: u64 = conn.query_row(sum, [before], |row| row.get(0))?;
    let sql = "SELECT id, output_bytes, ended_at_ms, state = 'unconfirmed' FROM requests
         WHERE output_bytes > 0 AND output_removed_at_ms IS NULL AND ended_at_ms >= ?1 ORDER BY ended_at_ms";
    let mut rows = conn.prepare(sql)?;
    let rows = rows.query_map([before], |row| {
        let key = RequestId::new(row.get(0)?);
        Ok(Thing { key, bytes: row.get(1)?, since_ms: row.get(2)?, in_use: row.get(3)? })
    })?;
    let mut fault = None;
    let things = rows.map_while(|thing| thing.map_err(|error| fault = Some(error)).ok());
    let found = over(things, total, kept.outputs, now, LOOK_MAX);
    match fault {
        Some(error) => Err(error.into()),
        None => Ok(found.into_iter().map(|(thing, why)| (thing.key, thing.bytes, why)).collect()),
    }
}

fn needed_until(conn: &Connection, digest: &Digest) -> Result<Option<u64>, StoreError> {
    let sql = "SELECT max(ifnull(ended_at_ms, ?2)) FROM requests WHERE payload = ?1";
    let until: Option<i64> =
        conn.prepare_cached(sql)?.query_row(params![digest.as_bytes(), i64::MAX], |row| row.get(0))?;
    Ok(until.map(|until| if until == i64::MAX { u64::MAX } else { u64::try_from(until).unwrap_or(0) }))
}

fn retire(work: &mut super::writer::Work<'_>, by: &str, batch: &Batch) -> Result<Retired, StoreError> {
    let mut retired = Retired::default();
    let mut removed = Total::default();
    for id in &batch.requests {
        if let Some(bytes) = remove(work.conn, *id, batch.now)? {
            retired.requests = retired.requests.saturating_add(1);
            retired.outputs.push(*id);
            removed.bytes = removed.bytes.saturating_add(bytes);
        }
    }
    let sql = "UPDATE requests SET output_removed_at_ms = ?2
         WHERE id = ?1 AND ended_at_ms IS NOT NULL AND output_removed_at_ms IS NULL AND state <> 'unconfirmed'
         RETURNING output_bytes";
    for id in &batch.outputs {
        let bytes: Option<u64> = work
            .conn
            .prepare_cached(sql)?
            .query_row(params![id.as_bytes(), batch.now], |row| row.get(0))
            .optional()?;
        if let Some(bytes) = bytes {
            removed.add(bytes);
            retired.outputs.push(*id);
        }
    }
    if let Some(before) = batch.ids_before {
        let forgotten =
            work.conn.prepare_cached("DELETE FROM ended WHERE removed_at_ms < ?1")?.execute([before])?;
        retired.ids = forgotten as u64;
    }
    let Total { count: programs, bytes } = batch.programs;
    if retired.requests > 0 || removed.count > 0 || programs > 0 || retired.ids > 0 {
        let detail = format!(
            "{} requests and {} more outputs, {} bytes of output; {programs} programs, {bytes} bytes; {} ids",
            retired.requests, removed.count, removed.bytes, retired.ids
        );
        work.audit(by, "retention-removed", None, None, detail)?;
    }
    Ok(retired)
}

/// Removes one request that is over, and keeps its id. Gives what its output took.
fn remove(conn: &Connection, id: RequestId, now: u64) -> Result<Option<u64>, StoreError> {
    let kept = "INSERT INTO ended (id, guest, sequence, state, ended_at_ms, removed_at_ms, tenant)
         SELECT id, guest, sequence, state, ended_at_ms, ?2, tenant FROM requests WHERE id = ?1 AND ended_at_ms IS NOT NULL";
    if conn.prepare_cached(kept)?.execute(params![id.as_bytes(), now])? == 0 {
        return Ok(None);
    }
    for sql in ["DELETE FROM stages WHERE request = ?1", "DELETE FROM receipts WHERE request = ?1"] {
        conn.prepare_cached(sql)?.execute([id.as_bytes()])?;
    }
    let sql =
        "DELETE FROM requests WHERE id = ?1 RETURNING iif(output_removed_at_ms IS NULL, output_bytes, 0)";
    Ok(Some(conn.prepare_cached(sql)?.query_row([id.as_bytes()], |row| row.get(0))?))
}

/// Things of one kind that one look gives: bounds its memory.
pub const LOOK_MAX: usize = 50_000;
