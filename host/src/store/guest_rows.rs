//! Guests as they are read from the data base, and who may see them.
//!
//! Called by the rest of the store. A guest outside of a scope is answered as one that does not exist, by the same words.

use super::triggers::trigger_of;
use super::writer::Work;
use super::{GuestRow, Place, StoreError};
use crate::access::{Label, Scope};
use doorbell_wire::ids::{GuestCid, GuestId, GuestName, PublicKey};
use rusqlite::{Connection, Row};
use std::path::PathBuf;

impl Work<'_> {
    /// The guest of this name, where it is there for whoever asks.
    pub(super) fn guest(&self, name: &GuestName) -> Result<GuestRow, StoreError> {
        seen(self.conn, name, &self.scope)
    }
}

/// The guest of this name that is not removed, where the scope covers it.
pub(super) fn seen(conn: &Connection, name: &GuestName, scope: &Scope) -> Result<GuestRow, StoreError> {
    let mut rows = conn.prepare_cached(&select(&format!("g.name = ?1 AND {}", within("g.tenant", 2))))?;
    let found = rows.query_and_then((name.as_str(), scope.name()), read_guest)?.next().transpose()?;
    found.ok_or_else(|| not_found(name.to_string()))
}

/// The condition that a row's owner is in the scope whose name is this parameter; all are where it is NULL.
pub(super) fn within(owner: &str, parameter: u8) -> String {
    format!("(?{parameter} IS NULL OR {owner} = ?{parameter})")
}

/// A name of the data base.
pub(super) fn label(name: &str) -> Result<Label, StoreError> {
    name.parse().map_err(|error| StoreError::damaged("name", error))
}

/// What whoever asks for a guest that is not there is told.
pub(super) fn not_found(name: String) -> StoreError {
    StoreError::NotFound {
        what: "guest",
        name,
        hint: "`doorbell guest ls` shows all, `doorbell guest add` makes one",
    }
}

/// The guest of this id that is not removed.
pub(super) fn by_id(conn: &Connection, id: GuestId) -> Result<GuestRow, StoreError> {
    one(conn, "g.id = ?1", id.as_bytes(), id.to_string())
}

fn one(
    conn: &Connection,
    condition: &str,
    value: impl rusqlite::ToSql,
    asked: String,
) -> Result<GuestRow, StoreError> {
    let mut rows = conn.prepare_cached(&select(condition))?;
    let found = rows.query_and_then([value], read_guest)?.next().transpose()?;
    found.ok_or_else(|| not_found(asked))
}

pub(super) fn select(condition: &str) -> String {
    format!(
        "SELECT g.id, g.name, g.cid, g.hybrid_socket, g.qmp, g.public_key, g.copy, g.added_at_ms, g.last_seen_ms,
         g.agent, g.pending_key IS NOT NULL, g.concurrency,
         (SELECT count(*) FROM requests r
          WHERE r.guest = g.id AND r.state IN ('unapproved', 'queued', 'offered', 'fetched', 'started')),
         g.share, g.trigger, g.set_clock, g.tenant,
         (SELECT group_concat(hex(k.key)) FROM rejected_keys k WHERE k.guest = g.id),
         (SELECT max(e.expires_at_ms) FROM enrolments e WHERE e.guest = g.id AND e.used_at_ms IS NULL),
         g.trust_first_key
         FROM guests g WHERE g.removed_at_ms IS NULL AND {condition}"
    )
}

pub(super) fn read_guest(row: &Row<'_>) -> Result<GuestRow, StoreError> {
    let damaged = |error| StoreError::damaged("guest", error);
    let (cid, hybrid): (Option<u32>, Option<String>) = (row.get(2)?, row.get(3)?);
    let share = row.get::<_, Option<String>>(13)?.map(PathBuf::from);
    let place = match (cid, hybrid) {
        (Some(cid), _) => Place::Cid(GuestCid::try_from(cid).map_err(damaged)?),
        (None, Some(path)) => Place::Hybrid(path.into()),
        (None, None) => Place::Share(share.clone().unwrap_or_default()),
    };
    let copy: Option<String> = row.get(6)?;
    let trigger: String = row.get(14)?;
    let agent: Option<String> = row.get(9)?;
    Ok(GuestRow {
        id: GuestId::new(row.get(0)?),
        name: row.get::<_, String>(1)?.try_into().map_err(damaged)?,
        place,
        qmp: row.get::<_, Option<String>>(4)?.map(PathBuf::from),
        key: row.get::<_, Option<[u8; 32]>>(5)?.map(PublicKey::new),
        copy: copy
            .map(|text| serde_json::from_str(&text))
            .transpose()
            .map_err(|error| StoreError::damaged("copy", error))?,
        share,
        trigger: trigger_of(&trigger).ok_or_else(|| StoreError::damaged("trigger", trigger))?,
        set_clock: row.get(15)?,
        tenant: row.get::<_, Option<String>>(16)?.map(|name| label(&name)).transpose()?,
        added_at_ms: row.get(7)?,
        last_seen_ms: row.get(8)?,
        agent: agent
            .map(|text| serde_json::from_str(&text))
            .transpose()
            .map_err(|error| StoreError::damaged("agent", error))?,
        pending: row.get(10)?,
        rejected: rejected(row.get::<_, Option<String>>(17)?.as_deref())?,
        enrolment_until_ms: row.get(18)?,
        trusts_first_key: row.get(19)?,
        concurrency: row.get(11)?,
        open_requests: row.get(12)?,
    })
}

/// The keys of a list of hexadecimal digits with commas between.
fn rejected(list: Option<&str>) -> Result<Vec<PublicKey>, StoreError> {
    let read = |digits: &str| {
        let bytes = hex::decode(digits).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        bytes.map(PublicKey::new).ok_or_else(|| StoreError::damaged("rejected key", digits.to_owned()))
    };
    list.into_iter().flat_map(|list| list.split(',')).map(read).collect()
}
