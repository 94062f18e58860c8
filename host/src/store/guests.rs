//! Guests in the store: added, changed, removed, listed.
//!
//! Called by the API and, for one guest by its id, by the rest of the store. Trusts values of checked types;
//! paths come from operators and are looked at here.

use super::places::{check_key_free, check_place_free, checked_path, checked_place, columns, share_of};
use super::receipts::{Closing, close};
use super::requests::open_of;
use super::triggers::{change_trigger, check_share_free, check_trigger, trigger_of, word_of};
use super::writer::Work;
use super::{AddGuest, ChangeGuest, GuestRow, Place, Removed, Store, StoreError};
use crate::actor::Actor;
use crate::request::Happening;
use base64ct::{Base64Unpadded, Encoding};
use doorbell_api::guest::Trigger;
use doorbell_wire::ids::{GuestCid, GuestId, GuestName, PublicKey};
use doorbell_wire::limits::CONCURRENCY_MAX;
use rusqlite::{Connection, OptionalExtension, Row, params};
use sha2::{Digest as _, Sha256};
use std::path::PathBuf;

/// A key's fingerprint, exactly as `ssh-keygen -l` prints it.
#[must_use]
pub fn fingerprint(key: &PublicKey) -> String {
    let mut sum = Sha256::new();
    for part in [&b"ssh-ed25519"[..], key.as_bytes()] {
        sum.update(u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
        sum.update(part);
    }
    format!("SHA256:{}", Base64Unpadded::encode_string(&sum.finalize()))
}

impl Store {
    /// Adds a guest.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when another guest has the name, the place or the key.
    pub async fn add_guest(&self, by: &Actor, new: AddGuest) -> Result<GuestRow, StoreError> {
        let by = by.to_string();
        self.write(move |work| add(work, &by, new)).await
    }

    /// Changes where a guest is met, its QMP socket, or how much of it runs at once.
    ///
    /// # Errors
    /// As for adding one, and [`StoreError::NotFound`].
    pub async fn change_guest(
        &self,
        by: &Actor,
        name: &GuestName,
        asked: ChangeGuest,
    ) -> Result<GuestRow, StoreError> {
        let (by, name) = (by.to_string(), name.clone());
        self.write(move |work| change(work, &by, &name, asked)).await
    }

    /// Removes a guest. Its open requests become undeliverable; its receipts stay readable.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn remove_guest(&self, by: &Actor, name: &GuestName) -> Result<Removed, StoreError> {
        let (by, name) = (by.to_string(), name.clone());
        self.write(move |work| remove(work, &by, &name)).await
    }

    /// All guests, by name.
    ///
    /// # Errors
    /// When the data base cannot be read.
    pub async fn guests(&self) -> Result<Vec<GuestRow>, StoreError> {
        self.read(|conn| {
            let mut rows = conn.prepare_cached(&select("TRUE ORDER BY g.name"))?;
            rows.query_and_then([], read_guest)?.collect()
        })
        .await
    }

    /// All guests that are met at a hybrid socket.
    ///
    /// # Errors
    /// When the data base cannot be read.
    pub async fn guests_at_sockets(&self) -> Result<Vec<GuestRow>, StoreError> {
        self.read(|conn| {
            let mut rows = conn.prepare_cached(&select("g.hybrid_socket IS NOT NULL"))?;
            rows.query_and_then([], read_guest)?.collect()
        })
        .await
    }

    /// The guest that shares this directory, if there is one.
    ///
    /// # Errors
    /// When the data base cannot be read.
    pub async fn guest_sharing(&self, share: Option<PathBuf>) -> Result<Option<GuestRow>, StoreError> {
        let share = share.map(|path| path.to_string_lossy().into_owned());
        self.read(move |conn| {
            let mut rows = conn.prepare_cached(&select("g.share = ?1"))?;
            rows.query_and_then([share], read_guest)?.next().transpose()
        })
        .await
    }

    /// All guests that share a directory.
    ///
    /// # Errors
    /// When the data base cannot be read.
    pub async fn guests_with_share(&self) -> Result<Vec<GuestRow>, StoreError> {
        self.read(|conn| {
            let mut rows = conn.prepare_cached(&select("g.share IS NOT NULL"))?;
            rows.query_and_then([], read_guest)?.collect()
        })
        .await
    }

    /// How many guests there are.
    ///
    /// # Errors
    /// When the data base cannot be read.
    pub async fn guest_count(&self) -> Result<u64, StoreError> {
        self.read(|conn| {
            let sql = "SELECT count(*) FROM guests WHERE removed_at_ms IS NULL";
            Ok(conn.prepare_cached(sql)?.query_row([], |row| row.get(0))?)
        })
        .await
    }

    /// The guest that is met at a place, if there is one: one look in an index, however many guests there are.
    ///
    /// # Errors
    /// When the data base cannot be read.
    pub async fn guest_at(&self, place: &Place) -> Result<Option<GuestRow>, StoreError> {
        let (cid, hybrid) = columns(place);
        let share = share_of(place);
        self.read(move |conn| {
            let (condition, value): (_, &dyn rusqlite::ToSql) = match (&cid, &hybrid) {
                (Some(_), _) => ("g.cid = ?1", &cid),
                (None, Some(_)) => ("g.hybrid_socket = ?1", &hybrid),
                (None, None) => ("g.cid IS NULL AND g.hybrid_socket IS NULL AND g.share = ?1", &share),
            };
            let mut rows = conn.prepare_cached(&select(condition))?;
            rows.query_and_then([value], read_guest)?.next().transpose()
        })
        .await
    }

    /// One guest.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn guest(&self, name: &GuestName) -> Result<GuestRow, StoreError> {
        let name = name.clone();
        self.read(move |conn| by_name(conn, &name)).await
    }
}

/// The guest of this name that is not removed.
pub(super) fn by_name(conn: &Connection, name: &GuestName) -> Result<GuestRow, StoreError> {
    one(conn, "g.name = ?1", name.as_str(), name.to_string())
}

/// The guest of this id that is not removed.
pub(super) fn by_id(conn: &Connection, id: GuestId) -> Result<GuestRow, StoreError> {
    one(conn, "g.id = ?1", id.as_bytes(), id.to_string())
}

/// Sequences of a guest go on where those of a removed guest with the same key ended: the agent is the
/// same one and refuses every sequence that it has left behind.
pub(super) fn continue_sequences(
    conn: &Connection,
    guest: GuestId,
    key: &PublicKey,
) -> Result<(), StoreError> {
    let used: Option<u64> = conn
        .prepare_cached(
            "SELECT max(next_sequence) FROM guests WHERE public_key = ?1 AND removed_at_ms IS NOT NULL",
        )?
        .query_row([key.as_bytes()], |row| row.get(0))?;
    let shift = used.unwrap_or(1).saturating_sub(1);
    if shift == 0 {
        return Ok(());
    }
    // From the highest down, so that no step takes a number that is still in use.
    let queued: Vec<(u64, u64)> = conn
        .prepare_cached("SELECT number, sequence FROM requests WHERE guest = ?1 ORDER BY sequence DESC")?
        .query_map([guest.as_bytes()], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    for (number, sequence) in queued {
        conn.prepare_cached("UPDATE requests SET sequence = ?2 WHERE number = ?1")?
            .execute(params![number, sequence.saturating_add(shift)])?;
    }
    conn.prepare_cached("UPDATE guests SET next_sequence = next_sequence + ?2 WHERE id = ?1")?
        .execute(params![guest.as_bytes(), shift])?;
    Ok(())
}

fn add(work: &mut Work<'_>, by: &str, new: AddGuest) -> Result<GuestRow, StoreError> {
    let id = GuestId::new(random()?);
    let place = checked_place(new.place)?;
    let qmp = new.qmp.map(|path| checked_path("QMP socket", &path, 0)).transpose()?;
    let share = new.share.map(|path| checked_path("share", &path, 0)).transpose()?;
    let trigger =
        new.trigger.unwrap_or(if let Place::Share(_) = place { Trigger::Store } else { Trigger::Ring });
    check_trigger(trigger, share.as_deref(), &place)?;
    if taken(work.conn, "name = ?1", new.name.as_str(), id)?.is_some() {
        return Err(StoreError::conflict(format!(
            "there is a guest {0} already: choose another name, or remove that one with `doorbell guest rm {0}`",
            new.name
        )));
    }
    check_place_free(work.conn, id, &place)?;
    check_share_free(work.conn, id, share.as_deref())?;
    if let Some(key) = &new.key {
        check_key_free(work.conn, id, key)?;
    }
    let (cid, hybrid) = columns(&place);
    work.conn
        .prepare_cached(
            "INSERT INTO guests (id, name, cid, hybrid_socket, qmp, public_key, added_at_ms, concurrency,
             share, trigger, set_clock)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        )?
        .execute(params![
            id.as_bytes(),
            new.name.as_str(),
            cid,
            hybrid,
            qmp,
            new.key.as_ref().map(PublicKey::as_bytes),
            work.now,
            bounded(new.concurrency.unwrap_or(1))?,
            share,
            word_of(trigger),
            new.set_clock
        ])?;
    if let Some(key) = &new.key {
        continue_sequences(work.conn, id, key)?;
    }
    let key = new.key.map_or_else(|| "no key yet".into(), |key| format!("key {}", fingerprint(&key)));
    let qmp = qmp.map(|path| format!(", qmp {path:?}")).unwrap_or_default();
    let trigger =
        if trigger == Trigger::Ring { String::new() } else { format!(", trigger {}", word_of(trigger)) };
    let detail = format!("id {id}, {place}, {key}{qmp}{trigger}");
    work.audit(by, "guest-added", Some(new.name.as_str()), None, detail)?;
    by_id(work.conn, id)
}

fn change(
    work: &mut Work<'_>,
    by: &str,
    name: &GuestName,
    asked: ChangeGuest,
) -> Result<GuestRow, StoreError> {
    let ChangeGuest { place, qmp, concurrency, share, trigger, set_clock } = asked;
    let guest = by_name(work.conn, name)?;
    let mut told = Vec::new();
    if let Some(place) = place.map(checked_place).transpose()?.filter(|place| *place != guest.place) {
        check_place_free(work.conn, guest.id, &place)?;
        let (cid, hybrid) = columns(&place);
        work.conn
            .prepare_cached("UPDATE guests SET cid = ?2, hybrid_socket = ?3 WHERE id = ?1")?
            .execute(params![guest.id.as_bytes(), cid, hybrid])?;
        told.push(format!("{} became {place}", guest.place));
    }
    if let Some(qmp) = qmp.filter(|qmp| *qmp != guest.qmp) {
        let qmp = qmp.map(|path| checked_path("QMP socket", &path, 0)).transpose()?;
        work.conn
            .prepare_cached("UPDATE guests SET qmp = ?2 WHERE id = ?1")?
            .execute(params![guest.id.as_bytes(), qmp])?;
        told.push(qmp.map_or_else(|| "no qmp".into(), |path| format!("qmp {path:?}")));
    }
    if let Some(count) = concurrency.map(bounded).transpose()?.filter(|count| *count != guest.concurrency) {
        work.conn
            .prepare_cached("UPDATE guests SET concurrency = ?2 WHERE id = ?1")?
            .execute(params![guest.id.as_bytes(), count])?;
        told.push(format!("concurrency {} became {count}", guest.concurrency));
    }
    change_trigger(work, name, share, trigger, &mut told)?;
    if let Some(set) = set_clock.filter(|set| *set != guest.set_clock) {
        work.conn
            .prepare_cached("UPDATE guests SET set_clock = ?2 WHERE id = ?1")?
            .execute(params![guest.id.as_bytes(), set])?;
        told.push(format!("its clock is {}set", if set { "" } else { "no longer " }));
    }
    if !told.is_empty() {
        work.audit(by, "guest-changed", Some(name.as_str()), None, told.join(", "))?;
    }
    by_id(work.conn, guest.id)
}

fn remove(work: &mut Work<'_>, by: &str, name: &GuestName) -> Result<Removed, StoreError> {
    let guest = by_name(work.conn, name)?;
    let closed = open_of(work.conn, guest.id)?
        .into_iter()
        .map(|row| {
            let why = Closing { happening: Happening::GuestRemoved, event: "request-undeliverable", by };
            close(work, row, &why, "its guest was removed")
        })
        .collect::<Result<Vec<_>, _>>()?;
    work.conn
        .prepare_cached(
            "UPDATE guests SET removed_at_ms = ?2, token_current = NULL, token_next = NULL,
             pending_key = NULL, pending_met_at = NULL, pending_seen_ms = NULL WHERE id = ?1",
        )?
        .execute(params![guest.id.as_bytes(), work.now])?;
    let detail = format!("id {}, {}, {} open requests", guest.id, guest.place, closed.len());
    work.audit(by, "guest-removed", Some(name.as_str()), None, detail)?;
    Ok(Removed { id: guest.id, closed })
}

fn one(
    conn: &Connection,
    condition: &str,
    value: impl rusqlite::ToSql,
    asked: String,
) -> Result<GuestRow, StoreError> {
    let mut rows = conn.prepare_cached(&select(condition))?;
    let found = rows.query_and_then([value], read_guest)?.next().transpose()?;
    found.ok_or(StoreError::NotFound {
        what: "guest",
        name: asked,
        hint: "`doorbell guest ls` shows all, `doorbell guest add` makes one",
    })
}

/// The name of another guest for which the condition holds.
pub(super) fn taken(
    conn: &Connection,
    condition: &str,
    value: impl rusqlite::ToSql,
    guest: GuestId,
) -> Result<Option<String>, StoreError> {
    let sql = format!("SELECT name FROM guests WHERE removed_at_ms IS NULL AND id <> ?2 AND {condition}");
    Ok(conn.prepare_cached(&sql)?.query_row(params![value, guest.as_bytes()], |row| row.get(0)).optional()?)
}

fn bounded(concurrency: u8) -> Result<u8, StoreError> {
    if (1..=CONCURRENCY_MAX).contains(&concurrency) {
        return Ok(concurrency);
    }
    Err(StoreError::invalid(format!(
        "concurrency {concurrency} is not valid: expected 1 to {CONCURRENCY_MAX} requests at once"
    )))
}

fn select(condition: &str) -> String {
    format!(
        "SELECT g.id, g.name, g.cid, g.hybrid_socket, g.qmp, g.public_key, g.copy, g.added_at_ms, g.last_seen_ms,
         g.agent, g.pending_key IS NOT NULL, g.concurrency,
         (SELECT count(*) FROM requests r
          WHERE r.guest = g.id AND r.state IN ('queued', 'offered', 'fetched', 'started')),
         g.share, g.trigger, g.set_clock
         FROM guests g WHERE g.removed_at_ms IS NULL AND {condition}"
    )
}

fn read_guest(row: &Row<'_>) -> Result<GuestRow, StoreError> {
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
        added_at_ms: row.get(7)?,
        last_seen_ms: row.get(8)?,
        agent: agent
            .map(|text| serde_json::from_str(&text))
            .transpose()
            .map_err(|error| StoreError::damaged("agent", error))?,
        pending: row.get(10)?,
        concurrency: row.get(11)?,
        open_requests: row.get(12)?,
    })
}

/// Fresh random bytes.
pub(super) fn random() -> Result<[u8; 16], StoreError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| StoreError::internal("draw a random id", error))?;
    Ok(bytes)
}
