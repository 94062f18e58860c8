//! Requests that came through a spool directory: which file each came as, and whether its receipt has been put out.
//!
//! Called by the spool. The row is written in the transaction that accepts the request, so a crash leaves both or
//! neither. Trusts the spool about its files; a file's identity is looked up here before it becomes a request.

use super::requests::{accept, by_id, maybe};
use super::retention::ended_between;
use super::writer::Work;
use super::{AcceptRequest, RequestRow, Store, StoreError};
use crate::access::Scope;
use crate::actor::Actor;
use crate::request::{Admission, word};
use crate::time::unix_us;
use doorbell_api::request::State;
use doorbell_wire::ids::{GuestId, GuestName, RequestId};
use rusqlite::{Connection, OptionalExtension as _, params};
use std::collections::BTreeSet;

/// What the store knows of a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Known {
    /// It was taken: it is this request, and only its removal is left to be done.
    Taken(RequestId),
    /// It was not; this id is free for it.
    Free(RequestId),
}

/// How a file becomes a request.
#[derive(Clone, Debug)]
pub struct Spooling {
    /// The id that is free for it.
    pub id: RequestId,
    /// The number of the file in its file system.
    pub inode: u64,
    /// What its entries in the outbox are to be called.
    pub stem: String,
    /// What others there are called.
    pub used: BTreeSet<String>,
}

/// A receipt that is to be put out.
#[derive(Clone, Debug)]
pub struct Undelivered {
    /// Its request.
    pub row: RequestRow,
    /// What its entries in the outbox are called.
    pub stem: String,
}

/// A file that was taken and, for all the store knows, not removed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Lying {
    /// The request it became.
    pub request: RequestId,
    /// Its number in its file system.
    pub inode: u64,
}

impl Store {
    /// Looks for a file by the ids it may have, in their order. An id is passed over when its request came from an
    /// earlier file that looked the same and is gone.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when every id is used.
    pub async fn spool_look(&self, ids: Vec<RequestId>) -> Result<Known, StoreError> {
        self.read(move |conn| {
            for id in ids {
                match lies(conn, id)? {
                    Some(true) => return Ok(Known::Taken(id)),
                    None if is_free(conn, id)? => return Ok(Known::Free(id)),
                    Some(false) | None => {}
                }
            }
            Err(StoreError::conflict("the same file was put there too often: change anything in it"))
        })
        .await
    }

    /// Accepts a request that came as a file: when this returns, it survives a crash, and the file is known as taken.
    ///
    /// # Errors
    /// As for [`Store::accept`].
    pub async fn accept_spooled(
        &self,
        by: &Actor,
        guest: &GuestName,
        new: AcceptRequest,
        file: Spooling,
    ) -> Result<(Admission, RequestRow), StoreError> {
        let (by, guest, at_us) = (self.asker(by), guest.clone(), unix_us());
        self.write(move |work| {
            let accepted = accept(work, &by, &guest, new, at_us)?;
            note(work, &accepted.1, &file)?;
            Ok(accepted)
        })
        .await
    }

    /// Notes that these files are gone from their inboxes for good: what looks the same later is another one.
    ///
    /// # Errors
    /// When the data base cannot be written.
    pub async fn spool_gone(&self, requests: Vec<RequestId>) -> Result<(), StoreError> {
        self.write(move |work| {
            for id in requests {
                let sql = "UPDATE spooled SET gone = 1 WHERE request = ?1";
                work.conn.prepare_cached(sql)?.execute([id.as_bytes()])?;
                forget(work.conn, id)?;
            }
            // Of a request that is kept no longer nothing can be put out.
            let sql = "DELETE FROM spooled WHERE gone = 1 AND request NOT IN (SELECT id FROM requests)";
            Ok(work.conn.prepare_cached(sql)?.execute([]).map(drop)?)
        })
        .await
    }

    /// The files of a guest that were taken and may lie in its inbox.
    ///
    /// # Errors
    /// When the data base cannot be read.
    pub async fn spool_lying(&self, guest: GuestId) -> Result<Vec<Lying>, StoreError> {
        self.read(move |conn| {
            let sql = "SELECT request, inode FROM spooled WHERE guest = ?1 AND gone = 0";
            let lying = conn
                .prepare_cached(sql)?
                .query_map([guest.as_bytes()], |row| {
                    let inode = i64::cast_unsigned(row.get(1)?);
                    Ok(Lying { request: RequestId::new(row.get(0)?), inode })
                })?
                .collect::<Result<_, _>>()?;
            Ok(lying)
        })
        .await
    }

    /// How many requests of a guest came through the spool and are not over.
    ///
    /// # Errors
    /// When the data base cannot be read.
    pub async fn spool_open(&self, guest: GuestId) -> Result<usize, StoreError> {
        self.read(move |conn| {
            let sql = format!("SELECT count(*) FROM spooled s JOIN requests r ON r.id = s.request WHERE s.guest = ?1 AND s.delivered IS NULL AND r.state IN {OPEN}");
            Ok(conn.prepare_cached(&sql)?.query_row([guest.as_bytes()], |row| row.get(0))?)
        })
        .await
    }

    /// At most `limit` receipts of a guest that are not put out, or were before they changed; oldest first.
    ///
    /// # Errors
    /// When the data base cannot be read.
    pub async fn spool_undelivered(
        &self,
        guest: GuestId,
        limit: usize,
    ) -> Result<Vec<Undelivered>, StoreError> {
        self.read(move |conn| undelivered(conn, guest, limit)).await
    }

    /// Notes that these receipts have been put out, each as it was in this state, and forgets what nothing more
    /// comes of.
    ///
    /// # Errors
    /// When the data base cannot be written.
    pub async fn spool_delivered(&self, receipts: Vec<(RequestId, State)>) -> Result<(), StoreError> {
        self.write(move |work| {
            for (id, state) in receipts {
                work.conn
                    .prepare_cached("UPDATE spooled SET delivered = ?2 WHERE request = ?1")?
                    .execute(params![id.as_bytes(), word(state)])?;
                forget(work.conn, id)?;
            }
            Ok(())
        })
        .await
    }
}

/// Whether the file of this id may lie in its inbox; `None` when there was none.
fn lies(conn: &Connection, id: RequestId) -> Result<Option<bool>, StoreError> {
    let sql = "SELECT gone = 0 FROM spooled WHERE request = ?1";
    Ok(conn.prepare_cached(sql)?.query_row([id.as_bytes()], |row| row.get(0)).optional()?)
}

/// Whether no request has the id, or had it before it was removed.
fn is_free(conn: &Connection, id: RequestId) -> Result<bool, StoreError> {
    Ok(maybe(conn, id)?.is_none() && ended_between(conn, id, id, &Scope::All)?.is_none())
}

fn note(work: &Work<'_>, row: &RequestRow, file: &Spooling) -> Result<(), StoreError> {
    let stem = free_stem(work.conn, row.guest_id, file)?;
    work.conn
        .prepare_cached("INSERT INTO spooled (request, guest, stem, inode) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![row.id.as_bytes(), row.guest_id.as_bytes(), stem, file.inode.cast_signed()])?;
    Ok(())
}

/// Forgets a file of which nothing more comes. An unconfirmed request may still get another receipt.
fn forget(conn: &Connection, id: RequestId) -> Result<(), StoreError> {
    let sql = "DELETE FROM spooled WHERE request = ?1 AND gone = 1 AND delivered <> 'unconfirmed'";
    Ok(conn.prepare_cached(sql)?.execute([id.as_bytes()]).map(drop)?)
}

/// The first of `NAME`, `NAME.2`, `NAME.3` … under which nothing lies in the outbox and nothing is to come.
fn free_stem(conn: &Connection, guest: GuestId, file: &Spooling) -> Result<String, StoreError> {
    let mut awaited = conn.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM spooled WHERE guest = ?1 AND stem = ?2 AND delivered IS NULL)",
    )?;
    for number in 1..=STEMS_MAX {
        let stem = match number {
            1 => file.stem.clone(),
            _ => format!("{}.{number}", file.stem),
        };
        let taken: bool = awaited.query_row(params![guest.as_bytes(), stem], |row| row.get(0))?;
        if !taken && !file.used.contains(&stem) {
            return Ok(stem);
        }
    }
    Err(StoreError::conflict(format!("{} has {STEMS_MAX} entries in the outbox: remove some", file.stem)))
}

fn undelivered(conn: &Connection, guest: GuestId, limit: usize) -> Result<Vec<Undelivered>, StoreError> {
    let sql = format!(
        "SELECT s.request, s.stem FROM spooled s JOIN requests r ON r.id = s.request
         WHERE s.guest = ?1 AND r.state NOT IN {OPEN} AND s.delivered IS NOT r.state ORDER BY r.number LIMIT ?2"
    );
    let found: Vec<(RequestId, String)> = conn
        .prepare_cached(&sql)?
        .query_map(params![guest.as_bytes(), limit], |row| Ok((RequestId::new(row.get(0)?), row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    found.into_iter().map(|(id, stem)| Ok(Undelivered { row: by_id(conn, id)?, stem })).collect()
}

/// Entries of one name in an outbox.
const STEMS_MAX: u32 = 9_999;
const OPEN: &str = "('unapproved', 'queued', 'offered', 'fetched', 'started')";
