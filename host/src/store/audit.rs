//! The audit trail in the store: notes of other parts, the trail for readers, and its check.
//!
//! Called by the API. What the store itself decides is written by `Work::audit` in the deciding transaction.
//! The check trusts nothing of the data base but its form; see `doorbell_trail` for what it can find.

use super::receipts::SEAL;
use super::signed::signed_fault;
use super::writer::Work;
use super::{Store, StoreError};
use crate::access::Scope;
use crate::actor::Actor;
use doorbell_api::audit::{AuditCheck, AuditRecord};
use doorbell_api::receipt::Receipt;
use doorbell_trail::chain::{Entry, Head, Verifier};
use doorbell_wire::ids::{GuestName, RequestId};
use rusqlite::{Connection, Params, Row, params};

impl Store {
    /// Adds a decision that changed nothing else in the store.
    ///
    /// # Errors
    /// When the data base cannot be written.
    pub async fn audit_note(
        &self,
        by: &Actor,
        event: &'static str,
        guest: Option<&GuestName>,
        request: Option<RequestId>,
        detail: String,
    ) -> Result<(), StoreError> {
        let (by, guest) = (by.to_string(), guest.cloned());
        let note = move |work: &mut Work<'_>| {
            work.audit(&by, event, guest.as_ref().map(GuestName::as_str), request, detail).map(drop)
        };
        self.write(note).await
    }

    /// At most `limit` records behind record number `after`.
    ///
    /// # Errors
    /// When the data base cannot be read.
    pub async fn audit_records(&self, after: u64, limit: u32) -> Result<Vec<AuditRecord>, StoreError> {
        let (after, scope) = (after.min(i64::MAX as u64), self.scope.clone());
        self.read(move |conn| match scope.name() {
            None => records(conn, "number > ?1", params![after, limit]),
            Some(tenant) => {
                let own = "number IN (SELECT number FROM audit_owners
                     WHERE tenant = ?3 AND number > ?1 ORDER BY number LIMIT ?2)";
                let whole = records(conn, own, params![after, limit, tenant])?;
                Ok(whole.into_iter().map(without_neighbours).collect())
            }
        })
        .await
    }

    /// Checks the whole trail, and every receipt against its record. A long trail takes seconds, and keeps
    /// nobody waiting: the check has a connection of its own.
    ///
    /// # Errors
    /// When the data base cannot be read.
    pub async fn audit_check(&self) -> Result<AuditCheck, StoreError> {
        self.look_aside(check).await
    }
}

impl Work<'_> {
    /// Continues the audit trail.
    pub(super) fn audit(
        &mut self,
        actor: &str,
        event: &'static str,
        guest: Option<&str>,
        request: Option<RequestId>,
        detail: impl Into<String>,
    ) -> Result<AuditRecord, StoreError> {
        let (record, head) = self.head.seal(Entry {
            at_ms: self.now,
            actor: actor.to_owned(),
            event: event.to_owned(),
            guest: guest.map(str::to_owned),
            request: request.map(|id| id.to_string()),
            detail: detail.into(),
            reason: self.cause.reason.as_ref().map(ToString::to_string),
            ticket: self.cause.ticket.as_ref().map(ToString::to_string),
        });
        self.conn.prepare_cached(INSERT_RECORD)?.execute(params![
            record.number,
            record.at_ms,
            record.actor,
            record.event,
            record.guest,
            record.request,
            record.detail,
            record.reason,
            record.ticket,
            self.head.hash,
            head.hash
        ])?;
        self.head = head;
        self.note_owner(record.number, guest)?;
        Ok(record)
    }

    /// Whose the record is: that of whoever decided it, or else the guest's owner.
    fn note_owner(&self, number: u64, guest: Option<&str>) -> Result<(), StoreError> {
        if let Scope::Tenant(tenant) = &self.scope {
            let sql = "INSERT INTO audit_owners (number, tenant) VALUES (?1, ?2)";
            self.conn.prepare_cached(sql)?.execute(params![number, tenant.as_str()])?;
        } else if let Some(guest) = guest {
            let sql = "INSERT INTO audit_owners (number, tenant) SELECT ?1, tenant FROM guests
                 WHERE name = ?2 AND removed_at_ms IS NULL AND tenant IS NOT NULL";
            self.conn.prepare_cached(sql)?.execute(params![number, guest])?;
        }
        Ok(())
    }
}

/// At most so many records for which the condition holds, oldest first.
fn records(conn: &Connection, condition: &str, values: impl Params) -> Result<Vec<AuditRecord>, StoreError> {
    let mut rows = conn.prepare_cached(&format!("{SELECT} WHERE {condition} ORDER BY number LIMIT ?2"))?;
    rows.query_and_then(values, read_record)?.collect()
}

/// A hash says whether a guess at the records before it is right, and those are others'.
fn without_neighbours(record: AuditRecord) -> AuditRecord {
    AuditRecord { previous: String::new(), hash: String::new(), ..record }
}

/// Where the stored trail says that it ends.
pub(super) fn stored_head(conn: &Connection) -> Result<Head, StoreError> {
    let sql = "SELECT number, hash FROM audit_head WHERE only = 1";
    Ok(conn.query_row(sql, [], |row| Ok(Head { number: row.get(0)?, hash: row.get(1)? }))?)
}

pub(super) fn check(conn: &Connection) -> Result<AuditCheck, StoreError> {
    let mut verifier = Verifier::default();
    let mut rows = conn.prepare(&format!("{SELECT} ORDER BY number"))?;
    for record in rows.query_and_then([], read_record)? {
        verifier.check(&record?);
    }
    let found = verifier.finish(Some(stored_head(conn)?));
    if !found.intact {
        return Ok(found);
    }
    let broken = match signed_fault(conn, found.records)? {
        Some(line) => Some(line),
        None => receipt_fault(conn)?,
    };
    Ok(AuditCheck { intact: broken.is_none(), broken, ..found })
}

/// The first receipt that is missing, or that is not the one its audit record seals.
fn receipt_fault(conn: &Connection) -> Result<Option<String>, StoreError> {
    let mut rows = conn.prepare(
        "SELECT lower(hex(r.id)), c.receipt, lower(hex(a.hash)), a.detail, a.request
         FROM requests r LEFT JOIN receipts c ON c.request = r.id LEFT JOIN audit a ON a.number = c.audit_number
         WHERE r.state NOT IN ('unapproved', 'queued', 'offered', 'fetched', 'started') ORDER BY r.number",
    )?;
    for fault in rows.query_and_then([], sealed_fault)? {
        if let Some(fault) = fault? {
            return Ok(Some(fault));
        }
    }
    Ok(None)
}

fn sealed_fault(row: &Row<'_>) -> Result<Option<String>, StoreError> {
    let id: String = row.get(0)?;
    let Some(text) = row.get::<_, Option<String>>(1)? else {
        return Ok(Some(format!("request {id} has a final state and no receipt")));
    };
    let fault = Some(format!("the receipt of request {id} is not the one that its audit record seals"));
    let Ok(receipt) = serde_json::from_str::<Receipt>(&text) else { return Ok(fault) };
    let seal = crate::receipt::seal(&receipt).map_err(|error| StoreError::damaged("receipt", error))?;
    let (hash, detail): (Option<String>, Option<String>) = (row.get(2)?, row.get(3)?);
    let sealed = hash.is_some_and(|hash| hash == receipt.audit_hash)
        && detail.is_some_and(|detail| detail.ends_with(&format!("{SEAL}{seal}")))
        && row.get::<_, Option<String>>(4)?.is_some_and(|request| request == id);
    Ok(fault.filter(|_| !sealed))
}

pub(super) fn read_record(row: &Row<'_>) -> Result<AuditRecord, StoreError> {
    Ok(AuditRecord {
        number: row.get(0)?,
        at_ms: row.get(1)?,
        actor: row.get(2)?,
        event: row.get(3)?,
        guest: row.get(4)?,
        request: row.get(5)?,
        detail: row.get(6)?,
        reason: row.get(7)?,
        ticket: row.get(8)?,
        previous: hex::encode(row.get::<_, [u8; 32]>(9)?),
        hash: hex::encode(row.get::<_, [u8; 32]>(10)?),
    })
}

pub(super) const SELECT: &str =
    "SELECT number, at_ms, actor, event, guest, request, detail, reason, ticket, previous, hash FROM audit";
const INSERT_RECORD: &str =
    "INSERT INTO audit (number, at_ms, actor, event, guest, request, detail, reason, ticket, previous, hash)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
