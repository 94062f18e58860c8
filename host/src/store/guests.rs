//! Guests in the store: added, changed, removed, listed.
//!
//! Called by the API and, for one guest by its id, by the rest of the store. Trusts values of checked types;
//! paths come from operators and are looked at here.

use super::enrol::note;
use super::guest_rows::{by_id, read_guest, seen, select, within};
use super::keys::check_trust;
use super::places::{check_key_free, check_place_free, checked_path, checked_place, columns, share_of};
use super::receipts::{Closing, close};
use super::requests::open_of;
use super::tenants::{change_tenant, check_tenant};
use super::triggers::{change_trigger, check_share_free, check_trigger, word_of};
use super::writer::Work;
use super::{AddGuest, ChangeGuest, GuestRow, Place, Removed, Store, StoreError};
use crate::access::Label;
use crate::actor::Actor;
use crate::request::Happening;
use base64ct::{Base64Unpadded, Encoding};
use doorbell_api::guest::Trigger;
use doorbell_wire::ids::{GuestId, GuestName, PublicKey};
use doorbell_wire::limits::CONCURRENCY_MAX;
use rusqlite::{Connection, OptionalExtension, params};
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
        let scope = self.scope.clone();
        self.read(move |conn| {
            let condition = format!("{} ORDER BY g.name", within("g.tenant", 1));
            let mut rows = conn.prepare_cached(&select(&condition))?;
            rows.query_and_then([scope.name()], read_guest)?.collect()
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
        let scope = self.scope.clone();
        self.read(move |conn| {
            let within = within("tenant", 1);
            let sql = format!("SELECT count(*) FROM guests WHERE removed_at_ms IS NULL AND {within}");
            Ok(conn.prepare_cached(&sql)?.query_row([scope.name()], |row| row.get(0))?)
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
        let (name, scope) = (name.clone(), self.scope.clone());
        self.read(move |conn| seen(conn, &name, &scope)).await
    }
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
    check_trust(&new)?;
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
    if let Some(tenant) = &new.tenant {
        check_tenant(work.conn, tenant)?;
    }
    let (cid, hybrid) = columns(&place);
    work.conn
        .prepare_cached(
            "INSERT INTO guests (id, name, cid, hybrid_socket, qmp, public_key, added_at_ms, concurrency,
             share, trigger, set_clock, tenant, trust_first_key)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
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
            new.set_clock,
            new.tenant.as_ref().map(Label::as_str),
            new.trust_first_key
        ])?;
    if let Some(key) = &new.key {
        continue_sequences(work.conn, id, key)?;
    }
    let enrolment = new.enrolment.map(|new| note(work, id, new)).transpose()?;
    let none = if new.trust_first_key { "the first key is trusted" } else { "no key yet" };
    let key = new.key.map_or_else(|| none.into(), |key| format!("key {}", fingerprint(&key)));
    let qmp = qmp.map(|path| format!(", qmp {path:?}")).unwrap_or_default();
    let trigger =
        if trigger == Trigger::Ring { String::new() } else { format!(", trigger {}", word_of(trigger)) };
    let tenant = new.tenant.map(|tenant| format!(", of tenant {tenant}")).unwrap_or_default();
    let enrolment = enrolment.map(|told| format!(", {told}")).unwrap_or_default();
    let detail = format!("id {id}, {place}, {key}{enrolment}{qmp}{trigger}{tenant}");
    work.audit(by, "guest-added", Some(new.name.as_str()), None, detail)?;
    by_id(work.conn, id)
}

fn change(
    work: &mut Work<'_>,
    by: &str,
    name: &GuestName,
    asked: ChangeGuest,
) -> Result<GuestRow, StoreError> {
    let ChangeGuest { place, qmp, concurrency, share, trigger, set_clock, tenant } = asked;
    let guest = work.guest(name)?;
    let mut told = Vec::new();
    if let Some(place) = place.map(checked_place).transpose()?.filter(|place| *place != guest.place) {
        check_place_free(work.conn, guest.id, &place)?;
        if guest.trusts_first_key && !matches!(place, Place::Cid(_)) {
            return Err(StoreError::conflict(format!(
                "guest {name} is to trust its first key, which is for AF_VSOCK alone: remove it, and add it at {place} without that"
            )));
        }
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
    if let Some(tenant) = tenant.filter(|tenant| *tenant != guest.tenant) {
        change_tenant(work, &guest, tenant.as_ref(), &mut told)?;
    }
    if !told.is_empty() {
        work.audit(by, "guest-changed", Some(name.as_str()), None, told.join(", "))?;
    }
    by_id(work.conn, guest.id)
}

fn remove(work: &mut Work<'_>, by: &str, name: &GuestName) -> Result<Removed, StoreError> {
    let guest = work.guest(name)?;
    let closed = open_of(work.conn, guest.id)?
        .into_iter()
        .map(|row| {
            let why = Closing { happening: Happening::GuestRemoved, event: "request-undeliverable", by };
            close(work, row, &why, "its guest was removed")
        })
        .collect::<Result<Vec<_>, _>>()?;
    // As long as it is there, the trail knows whose it is.
    let detail = format!("id {}, {}, {} open requests", guest.id, guest.place, closed.len());
    work.audit(by, "guest-removed", Some(name.as_str()), None, detail)?;
    work.conn
        .prepare_cached(
            "UPDATE guests SET removed_at_ms = ?2, token_current = NULL, token_next = NULL,
             pending_key = NULL, pending_met_at = NULL, pending_seen_ms = NULL WHERE id = ?1",
        )?
        .execute(params![guest.id.as_bytes(), work.now])?;
    Ok(Removed { id: guest.id, closed })
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

/// Fresh random bytes.
pub(super) fn random() -> Result<[u8; 16], StoreError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| StoreError::internal("draw a random id", error))?;
    Ok(bytes)
}
