//! One-time tokens: made for one guest, proved once by whoever was given it, and then of no use.
//!
//! Called by the API with the public half of a token, and by a guest's session with one whose proof was checked. The other half is
//! never here.

use super::guest_rows::by_id;
use super::guests::fingerprint;
use super::keys::{is_rejected, take_key};
use super::places::check_key_free;
use super::writer::Work;
use super::{GuestRow, NewEnrolment, Store, StoreError};
use crate::actor::Actor;
use doorbell_wire::ids::{GuestId, GuestName, PublicKey};
use rusqlite::{OptionalExtension as _, params};

/// What came of a token.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Enrolled {
    /// The key is the guest's from now on.
    Taken,
    /// There was nothing to take: the key is judged as without a token.
    Nothing,
    /// It was not taken, for this reason.
    Refused(String),
}

impl Store {
    /// Notes a token for a guest. One that was made before and is not used is worth nothing from here on.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Invalid`] for a time out of bounds.
    pub async fn make_enrolment(
        &self,
        by: &Actor,
        name: &GuestName,
        new: NewEnrolment,
    ) -> Result<GuestRow, StoreError> {
        let (by, name) = (by.to_string(), name.clone());
        self.write(move |work| {
            let guest = work.guest(&name)?;
            let detail = note(work, guest.id, new)?;
            work.audit(&by, "enrolment-made", Some(name.as_str()), None, detail)?;
            by_id(work.conn, guest.id)
        })
        .await
    }

    /// Takes a key for the guest's by a token that its bearer has proved.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn enrol(
        &self,
        guest: GuestId,
        key: PublicKey,
        token: PublicKey,
        met_at: &str,
    ) -> Result<Enrolled, StoreError> {
        let met_at = met_at.to_owned();
        self.write(move |work| enrol(work, guest, &key, &token, &met_at)).await
    }
}

/// Writes a token down; says what of it stands in the trail.
pub(super) fn note(work: &Work<'_>, guest: GuestId, new: NewEnrolment) -> Result<String, StoreError> {
    let NewEnrolment { token, expires_in_ms } = new;
    if !(EXPIRES_MS_MIN..=EXPIRES_MS_MAX).contains(&expires_in_ms) {
        return Err(StoreError::invalid(format!(
            "a one-time token is good for 1 s to 30 days, not for {expires_in_ms} ms"
        )));
    }
    let expires = work.now.saturating_add(expires_in_ms);
    work.conn
        .prepare_cached("DELETE FROM enrolments WHERE guest = ?1 AND used_at_ms IS NULL")?
        .execute([guest.as_bytes()])?;
    let made = work
        .conn
        .prepare_cached(
            "INSERT OR IGNORE INTO enrolments (token, guest, made_at_ms, expires_at_ms) VALUES (?1, ?2, ?3, ?4)",
        )?
        .execute(params![token.as_bytes(), guest.as_bytes(), work.now, expires])?;
    if made == 0 {
        return Err(StoreError::conflict("this one-time token was given before: make another one"));
    }
    Ok(format!("one-time token {}, good until {}", fingerprint(&token), crate::time::shown(expires)))
}

fn enrol(
    work: &mut Work<'_>,
    guest: GuestId,
    key: &PublicKey,
    token: &PublicKey,
    met_at: &str,
) -> Result<Enrolled, StoreError> {
    let row = by_id(work.conn, guest)?;
    let is_its_key = row.key == Some(*key);
    if !is_its_key && is_rejected(work, guest, key)? {
        return Ok(Enrolled::Nothing);
    }
    if let Some(why) = fault(work, guest, key, token)? {
        // Its own key needs no token.
        if is_its_key {
            return Ok(Enrolled::Nothing);
        }
        let detail = format!("one-time token {}, key {}: {why}", fingerprint(token), fingerprint(key));
        work.refuse("enrolment-refused", row.name.as_str(), detail)?;
        return Ok(Enrolled::Refused(why));
    }
    work.conn
        .prepare_cached("UPDATE enrolments SET used_at_ms = ?2, key = ?3 WHERE token = ?1")?
        .execute(params![token.as_bytes(), work.now, key.as_bytes()])?;
    take_key(work, &row, key)?;
    let before = row.key.filter(|_| !is_its_key);
    let before = before.map(|key| format!(", in the place of {}", fingerprint(&key))).unwrap_or_default();
    let (key, token) = (fingerprint(key), fingerprint(token));
    let detail = format!("key {key}{before}, by the one-time token {token}, met at {met_at}");
    let actor = format!("guest {}", row.name);
    work.audit(&actor, "guest-enrolled", Some(row.name.as_str()), None, detail)?;
    Ok(Enrolled::Taken)
}

/// Why a token is not taken, if it is not.
fn fault(
    work: &Work<'_>,
    guest: GuestId,
    key: &PublicKey,
    token: &PublicKey,
) -> Result<Option<String>, StoreError> {
    type Found = ([u8; 16], u64, Option<u64>);
    let found: Option<Found> = work
        .conn
        .prepare_cached("SELECT guest, expires_at_ms, used_at_ms FROM enrolments WHERE token = ?1")?
        .query_row([token.as_bytes()], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    Ok(match found {
        None => Some("nobody made it, or a newer one has taken its place".to_owned()),
        Some((made_for, ..)) if made_for != *guest.as_bytes() => {
            Some("it was made for another guest".to_owned())
        }
        Some((_, _, Some(used))) => Some(format!("it was used at {}", crate::time::shown(used))),
        Some((_, expires, None)) if expires <= work.now => {
            Some(format!("it expired at {}", crate::time::shown(expires)))
        }
        Some(_) => check_key_free(work.conn, guest, key).err().map(|error| error.to_string()),
    })
}

const EXPIRES_MS_MIN: u64 = 1_000;
const EXPIRES_MS_MAX: u64 = 30 * 24 * 3_600_000;
