//! The data base of a backup: copied from a running store, and taken over by a restored one.
//!
//! Called by `crate::backup`. A restored store knows less than its guests: they have had other session tokens
//! since, and other sequences. So it takes each guest once by its key alone, and counts on from where no manager
//! can have been.

use super::open::{FILE, RESTORING, claim, migrate_copy, prepare, reading};
use super::refusals::Refusals;
use super::writer::{UPDATE_HEAD, Work};
use super::{Store, StoreError, audit};
use crate::actor::Actor;
use crate::cause::Cause;
use doorbell_api::audit::AuditCheck;
use doorbell_trail::chain::Head;
use doorbell_wire::ids::{Digest, RequestId};
use nix::fcntl::Flock;
use rusqlite::{Connection, OpenFlags, Row, params};
use std::fs::File;
use std::path::{Path, PathBuf};

/// What a copy of the data base names.
#[derive(Clone, Debug, Default)]
pub struct Named {
    /// Guests.
    pub guests: u64,
    /// Requests.
    pub requests: u64,
    /// What requests name of the programs.
    pub programs: Vec<Digest>,
    /// Requests that can have output, and of which stream there must be some.
    pub outputs: Vec<(RequestId, bool, bool)>,
    /// Requests that can have input.
    pub inputs: Vec<RequestId>,
}

impl Store {
    /// Copies the data base as it is at one moment, and says what the copy names and where its trail ends. Nobody
    /// waits for it but its caller.
    ///
    /// # Errors
    /// When the data base cannot be read or the copy not be written.
    pub async fn copy_to(&self, copy: &Path) -> Result<(Named, Head), StoreError> {
        let (state_dir, copy) = (self.state_dir().to_owned(), copy.to_owned());
        crate::disk::blocking(move || {
            let to = copy
                .to_str()
                .ok_or_else(|| StoreError::invalid("the state directory's name is not UTF-8"))?;
            reading(&state_dir)?.execute("VACUUM INTO ?1", [to])?;
            let conn = Connection::open_with_flags(&copy, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
            Ok((named(&conn)?, audit::stored_head(&conn)?))
        })
        .await
    }
}

/// A directory for a restore, locked: it is there, belongs to us alone and has nothing in it. Gives where
/// everything goes until it is whole.
pub(crate) fn in_hand(state_dir: &Path) -> Result<(Flock<File>, PathBuf), StoreError> {
    let look = |error| StoreError::io(format!("look into {}", state_dir.display()), error);
    let names = crate::disk::absent_is_none(state_dir.read_dir()).map_err(look)?;
    let names = names.into_iter().flatten().map(|entry| entry.map(|entry| entry.file_name()));
    let names = names.collect::<Result<Vec<_>, _>>().map_err(look)?;
    // Nothing of ours is left in a directory that is somebody else's.
    let lock = if names.is_empty() || names.iter().any(|name| name == "lock") {
        Some(claim(state_dir)?)
    } else {
        None
    };
    let other = names.iter().find(|name| *name != "lock");
    let (Some(lock), None) = (lock, other) else {
        return Err(StoreError::conflict(format!(
            "state directory {} is not empty, {:?} is in it: give a directory that is not there yet or has nothing in it",
            state_dir.display(),
            other.cloned().unwrap_or_default()
        )));
    };
    Ok((lock, state_dir.join(RESTORING)))
}

/// Checks a data base that nobody has open: its form, SQLite's own structures, and the audit trail.
pub(crate) fn examine(dir: &Path) -> Result<AuditCheck, StoreError> {
    migrate_copy(dir)?;
    let conn = reading(dir)?;
    let found: String = conn.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    if found != "ok" {
        return Err(StoreError::invalid(format!("the data base is damaged: {found}")));
    }
    audit::check(&conn)
}

/// Makes a data base that was restored one that can be served from; gives how many guests it has.
pub(crate) fn take_over(dir: &Path, (by, cause): (&Actor, &Cause), from: &str) -> Result<u64, StoreError> {
    let conn = Connection::open(dir.join(FILE))?;
    prepare(&conn)?;
    let guests = alone(&conn, dir, |work| {
        work.cause = cause.clone();
        let guests = work.conn.execute(
            "UPDATE guests SET token_current = NULL, token_next = NULL, token_issued = 0 WHERE removed_at_ms IS NULL",
            [],
        )?;
        work.conn.execute("DELETE FROM share_tokens", [])?;
        let floor = work.now.saturating_mul(EACH_MS).min(i64::MAX as u64);
        work.conn.execute(
            "UPDATE guests SET next_sequence = max(min(next_sequence, ?2) + ?3, ?1)",
            params![floor, i64::MAX as u64 - LEAP, LEAP],
        )?;
        let detail = format!(
            "from a backup {from}; what was decided after it is not in this trail. The tokens of {guests} guests \
             start afresh: each is taken once by its key alone"
        );
        work.audit(&by.to_string(), "manager-restored", None, None, detail)?;
        Ok(guests as u64)
    })?;
    // All of it in the one file that is moved.
    conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    conn.close().map_err(|(_, error)| error)?;
    Ok(guests)
}

/// One job with an audit trail on a data base that no store has open.
fn alone<T>(
    conn: &Connection,
    state_dir: &Path,
    job: impl FnOnce(&mut Work<'_>) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let transaction = conn.unchecked_transaction()?;
    let head = audit::stored_head(&transaction)?;
    let mut work = Work::new(&transaction, state_dir, head, Refusals::default());
    let done = job(&mut work)?;
    let head = work.head;
    transaction.execute(UPDATE_HEAD, params![head.number, head.hash])?;
    transaction.commit()?;
    Ok(done)
}

fn named(conn: &Connection) -> Result<Named, StoreError> {
    let count = |sql| conn.query_row(sql, [], |row| row.get(0));
    let open = "state IN ('unapproved', 'queued', 'offered', 'fetched', 'started')";
    let outputs = format!(
        "SELECT r.id, NOT {open} AND ifnull(json_extract(c.receipt, '$.stdout.bytes'), 0) > 0,
         NOT {open} AND ifnull(json_extract(c.receipt, '$.stderr.bytes'), 0) > 0
         FROM requests r LEFT JOIN receipts c ON c.request = r.id
         WHERE r.output_removed_at_ms IS NULL AND (r.output_bytes > 0 OR {open} OR state = 'unconfirmed')"
    );
    let id = |row: &Row<'_>| Ok(RequestId::new(row.get(0)?));
    Ok(Named {
        guests: count("SELECT count(*) FROM guests WHERE removed_at_ms IS NULL")?,
        requests: count("SELECT count(*) FROM requests")?,
        programs: list(conn, "SELECT DISTINCT payload FROM requests WHERE payload IS NOT NULL", |row| {
            Ok(Digest::new(row.get(0)?))
        })?,
        outputs: list(conn, &outputs, |row| Ok((id(row)?, row.get(1)?, row.get(2)?)))?,
        inputs: list(conn, &format!("SELECT id FROM requests WHERE {open} OR state = 'unconfirmed'"), id)?,
    })
}

fn list<T>(
    conn: &Connection,
    sql: &str,
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>, StoreError> {
    Ok(conn.prepare(sql)?.query_map([], read)?.collect::<Result<_, _>>()?)
}

/// Sequences that a restored store leaves out at least.
const LEAP: u64 = 1 << 20;
/// And those that it has for each millisecond since 1970: more than any manager gives out, so that a later restore of
/// the same backup begins above an earlier one.
const EACH_MS: u64 = 1 << 10;
