//! Keys of guests that are not let in yet: which one waits, and what the operator says of it.
//!
//! Called by a guest's session for a key that was proved and is not the guest's, and by the API for the operator's word.
//! Trusts that the bearer holds the key.

use super::guest_rows::{by_id, within};
use super::guests::{continue_sequences, fingerprint};
use super::places::check_key_free;
use super::tokens::Tokens;
use super::writer::Work;
use super::{AddGuest, GuestRow, PendingRow, Place, Store, StoreError};
use crate::actor::Actor;
use doorbell_wire::ids::{GuestId, GuestName, PublicKey};
use rusqlite::params;

impl Store {
    /// Notes a proved key that the guest does not have. At most one waits for each guest: the newest.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn pend_key(&self, guest: GuestId, key: PublicKey, met_at: &str) -> Result<(), StoreError> {
        let met_at = met_at.to_owned();
        self.write(move |work| pend(work, guest, &key, &met_at)).await
    }

    /// All keys that wait for the operator, by guest.
    ///
    /// # Errors
    /// When the data base cannot be read.
    pub async fn pending(&self) -> Result<Vec<PendingRow>, StoreError> {
        let scope = self.scope.clone();
        self.read(move |conn| {
            let mut rows = conn.prepare_cached(&format!(
                "SELECT name, pending_key, pending_met_at, pending_seen_ms FROM guests
                 WHERE removed_at_ms IS NULL AND pending_key IS NOT NULL AND {} ORDER BY name",
                within("tenant", 1)
            ))?;
            rows.query_and_then([scope.name()], |row| {
                Ok(PendingRow {
                    guest: row
                        .get::<_, String>(0)?
                        .try_into()
                        .map_err(|error| StoreError::damaged("guest", error))?,
                    key: PublicKey::new(row.get(1)?),
                    met_at: row.get(2)?,
                    seen_at_ms: row.get(3)?,
                })
            })?
            .collect()
        })
        .await
    }

    /// Approves the key that waits, or lets a fenced guest back in. Tokens start afresh.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when nothing waits, or when it is not clear which key is meant.
    pub async fn approve(
        &self,
        by: &Actor,
        name: &GuestName,
        fingerprint: Option<String>,
    ) -> Result<GuestRow, StoreError> {
        let (by, name) = (by.to_string(), name.clone());
        self.write(move |work| approve(work, &by, &name, fingerprint.as_deref())).await
    }

    /// Rejects the key that waits: its bearer is turned away until that very key is approved.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when no key waits, or another one than is asked for.
    pub async fn reject(
        &self,
        by: &Actor,
        name: &GuestName,
        fingerprint: Option<String>,
    ) -> Result<GuestRow, StoreError> {
        let (by, name) = (by.to_string(), name.clone());
        self.write(move |work| reject(work, &by, &name, fingerprint.as_deref())).await
    }
}

fn pend(work: &mut Work<'_>, guest: GuestId, key: &PublicKey, met_at: &str) -> Result<(), StoreError> {
    let row = by_id(work.conn, guest)?;
    let known = waiting(work, guest)?;
    work.conn
        .prepare_cached(
            "UPDATE guests SET pending_key = ?2, pending_met_at = ?3, pending_seen_ms = ?4 WHERE id = ?1",
        )?
        .execute(params![guest.as_bytes(), key.as_bytes(), met_at, work.now])?;
    if known != Some(*key) {
        let detail = format!("key {} met at {met_at}", fingerprint(key));
        work.refuse("key-pending", row.name.as_str(), detail)?;
    }
    Ok(())
}

fn approve(
    work: &mut Work<'_>,
    by: &str,
    name: &GuestName,
    asked: Option<&str>,
) -> Result<GuestRow, StoreError> {
    let guest = work.guest(name)?;
    let key = match rejected_as(&guest, asked) {
        // Whoever names a key that was rejected takes that back.
        Some(key) => key,
        None => choose_key(&guest, waiting(work, guest.id)?, asked)?,
    };
    check_key_free(work.conn, guest.id, &key)?;
    let taken_back = take_key(work, &guest, &key)?;
    let again = if guest.copy.is_some() { ", a copy of which was fenced" } else { "" };
    let before = if taken_back { ", which was rejected before" } else { "" };
    let detail = format!("key {}{again}{before}", fingerprint(&key));
    work.audit(by, "guest-approved", Some(name.as_str()), None, detail)?;
    by_id(work.conn, guest.id)
}

fn reject(
    work: &mut Work<'_>,
    by: &str,
    name: &GuestName,
    asked: Option<&str>,
) -> Result<GuestRow, StoreError> {
    let guest = work.guest(name)?;
    let Some(key) = waiting(work, guest.id)? else {
        return Err(StoreError::conflict(format!(
            "no key waits for guest {name}: there is nothing to reject; `doorbell guest rm {name}` ends a guest with its key"
        )));
    };
    let shown = fingerprint(&key);
    if let Some(asked) = asked.filter(|asked| *asked != shown) {
        return Err(StoreError::conflict(format!(
            "no key with fingerprint {asked:?} waits for guest {name}, but {shown}: say which one is to be rejected"
        )));
    }
    check_room(&guest)?;
    let (id, key) = (guest.id.as_bytes(), key.as_bytes());
    work.conn
        .prepare_cached("INSERT INTO rejected_keys (guest, key, rejected_at_ms) VALUES (?1, ?2, ?3)")?
        .execute(params![id, key, work.now])?;
    work.conn
        .prepare_cached(
            "UPDATE guests SET refused_key = NULL, pending_key = NULL, pending_met_at = NULL, pending_seen_ms = NULL
             WHERE id = ?1",
        )?
        .execute([id])?;
    work.audit(by, "key-rejected", Some(name.as_str()), None, format!("key {shown}"))?;
    by_id(work.conn, guest.id)
}

/// Makes a key the guest's. Tokens start afresh. Whether it was rejected before.
pub(super) fn take_key(work: &mut Work<'_>, guest: &GuestRow, key: &PublicKey) -> Result<bool, StoreError> {
    work.conn
        .prepare_cached(
            "UPDATE guests SET public_key = ?2, trust_first_key = 0, copy = NULL, started_max = 0, token_current = NULL, token_next = NULL,
             token_issued = 0, refused_key = NULL, pending_key = NULL, pending_met_at = NULL, pending_seen_ms = NULL
             WHERE id = ?1",
        )?
        .execute(params![guest.id.as_bytes(), key.as_bytes()])?;
    let taken_back = work
        .conn
        .prepare_cached("DELETE FROM rejected_keys WHERE guest = ?1 AND key = ?2")?
        .execute(params![guest.id.as_bytes(), key.as_bytes()])?;
    Tokens::forget(work, guest.id)?;
    if guest.key != Some(*key) {
        continue_sequences(work.conn, guest.id, key)?;
    }
    Ok(taken_back > 0)
}

/// Takes the first key that is met, where that was asked for.
pub(super) fn trust_first(
    work: &mut Work<'_>,
    guest: &GuestRow,
    key: &PublicKey,
    met_at: &str,
) -> Result<(), StoreError> {
    take_key(work, guest, key)?;
    let detail = format!("key {}, the first that was met at {met_at}", fingerprint(key));
    let actor = format!("guest {}", guest.name);
    work.audit(&actor, "first-key-trusted", Some(guest.name.as_str()), None, detail).map(drop)
}

/// Whether the first key of a guest that is added is trusted: only where the kernel says who calls.
pub(super) fn check_trust(new: &AddGuest) -> Result<(), StoreError> {
    match (&new.place, &new.key, &new.enrolment) {
        _ if !new.trust_first_key => Ok(()),
        (Place::Cid(_), None, None) => Ok(()),
        (Place::Cid(_), ..) => Err(StoreError::invalid(
            "a first key is trusted where none is known and no one-time token was made: leave one of the two out",
        )),
        (Place::Hybrid(_) | Place::Share(_), ..) => Err(StoreError::invalid(
            "a first key is trusted on AF_VSOCK alone, never at a hybrid socket or in a share: give a CID, a key or a one-time token",
        )),
    }
}

/// The key that an approval means. Replacing an approved key takes its successor's fingerprint: what waits
/// there may be whoever else can reach the guest's place.
fn choose_key(
    guest: &GuestRow,
    pending: Option<PublicKey>,
    asked: Option<&str>,
) -> Result<PublicKey, StoreError> {
    let name = &guest.name;
    let fenced = guest.key.filter(|_| guest.copy.is_some());
    let waiting: Vec<PublicKey> = pending.into_iter().chain(fenced).collect();
    let shown = waiting.iter().map(fingerprint).collect::<Vec<_>>().join(" and ");
    match (asked, waiting.as_slice()) {
        (_, []) if guest.key.is_some() => Err(StoreError::conflict(format!(
            "guest {name} is approved already and no other key waits: there is nothing to do"
        ))),
        (_, []) => Err(StoreError::conflict(format!(
            "guest {name} has not been met at {}: start the agent in it, then approve{}",
            guest.place,
            if guest.rejected.is_empty() { "" } else { "; a key that was rejected is approved by its --fingerprint" }
        ))),
        (Some(asked), waiting) => {
            waiting.iter().find(|key| fingerprint(key) == asked).copied().ok_or_else(|| {
                StoreError::conflict(format!(
                    "no key with fingerprint {asked:?} waits for guest {name}, but {shown}: compare with what the agent printed"
                ))
            })
        }
        (None, [key]) if guest.key.is_none_or(|known| known == *key) => Ok(*key),
        (None, _) => Err(StoreError::conflict(format!(
            "guest {name} has an approved key already, and {shown} waits: say which one with --fingerprint"
        ))),
    }
}

/// A place where new keys are made without end is looked into; its keys are not collected.
fn check_room(guest: &GuestRow) -> Result<(), StoreError> {
    if guest.rejected.len() < REJECTED_MAX {
        return Ok(());
    }
    Err(StoreError::conflict(format!(
        "{REJECTED_MAX} keys of guest {} are rejected already, as many as are kept: find out who calls at {} with new ones",
        guest.name, guest.place
    )))
}

/// Whether the operator has rejected this key of a guest.
pub(super) fn is_rejected(work: &Work<'_>, guest: GuestId, key: &PublicKey) -> Result<bool, StoreError> {
    Ok(work
        .conn
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM rejected_keys WHERE guest = ?1 AND key = ?2)")?
        .query_row(params![guest.as_bytes(), key.as_bytes()], |row| row.get(0))?)
}

/// The key that waits.
fn waiting(work: &Work<'_>, guest: GuestId) -> Result<Option<PublicKey>, StoreError> {
    let key: Option<[u8; 32]> = work
        .conn
        .prepare_cached("SELECT pending_key FROM guests WHERE id = ?1")?
        .query_row([guest.as_bytes()], |row| row.get(0))?;
    Ok(key.map(PublicKey::new))
}

/// The rejected key with this fingerprint.
fn rejected_as(guest: &GuestRow, asked: Option<&str>) -> Option<PublicKey> {
    guest.rejected.iter().find(|key| Some(fingerprint(key).as_str()) == asked).copied()
}

/// Rejected keys that are kept of one guest.
const REJECTED_MAX: usize = 64;
