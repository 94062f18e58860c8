//! How requests come to a guest, and the directory it shares: checked together, for a trigger needs its place.
//!
//! Called where a guest is added or changed.

use super::guests::taken;
use super::places::checked_path;
use super::writer::Work;
use super::{Place, StoreError};
use doorbell_api::guest::Trigger;
use doorbell_wire::ids::{GuestId, GuestName};
use rusqlite::{Connection, params};
use std::path::PathBuf;

/// Share and trigger are checked together, behind a change of the place.
pub(super) fn change_trigger(
    work: &Work<'_>,
    name: &GuestName,
    share: Option<Option<PathBuf>>,
    trigger: Option<Trigger>,
    told: &mut Vec<String>,
) -> Result<(), StoreError> {
    let guest = work.guest(name)?;
    let before = guest.share.as_ref().map(|path| path.to_string_lossy().into_owned());
    let after = match share {
        None => before.clone(),
        Some(share) => share.map(|path| checked_path("share", &path, 0)).transpose()?,
    };
    let wanted = trigger.unwrap_or(guest.trigger);
    if after == before && wanted == guest.trigger {
        return Ok(());
    }
    check_share_free(work.conn, guest.id, after.as_deref())?;
    check_trigger(wanted, after.as_deref(), &guest.place)?;
    work.conn
        .prepare_cached("UPDATE guests SET share = ?2, trigger = ?3 WHERE id = ?1")?
        .execute(params![guest.id.as_bytes(), after, word_of(wanted)])?;
    if after != before {
        told.push(after.map_or_else(|| "no share".into(), |path| format!("share {path:?}")));
    }
    if wanted != guest.trigger {
        told.push(format!("trigger {} became {}", word_of(guest.trigger), word_of(wanted)));
    }
    Ok(())
}

/// A trigger needs the place it works by, and a guest one at least.
pub(super) fn check_trigger(trigger: Trigger, share: Option<&str>, place: &Place) -> Result<(), StoreError> {
    let shares = share.is_some();
    let dials = !matches!(place, Place::Share(_));
    let needs = match trigger {
        Trigger::Store if !shares => "a share: give one with --share",
        Trigger::RingStore if !shares || !dials => "a share, and a cid or a hybrid socket",
        Trigger::Ring | Trigger::Poll | Trigger::Push if !dials => "a cid or a hybrid socket",
        Trigger::Ring | Trigger::Poll | Trigger::Push | Trigger::Store | Trigger::RingStore => {
            if dials || shares {
                return Ok(());
            }
            return Err(StoreError::invalid(
                "the share of a guest that is met nowhere else cannot be taken away",
            ));
        }
    };
    Err(StoreError::invalid(format!("trigger {} needs {needs}", word_of(trigger))))
}

pub(super) fn check_share_free(
    conn: &Connection,
    guest: GuestId,
    share: Option<&str>,
) -> Result<(), StoreError> {
    let Some(share) = share else { return Ok(()) };
    let Some(other) = taken(conn, "share = ?1", share, guest)? else { return Ok(()) };
    Err(StoreError::conflict(format!(
        "share {share} belongs to guest {other}: give each guest one of its own"
    )))
}

pub(super) const fn word_of(trigger: Trigger) -> &'static str {
    match trigger {
        Trigger::Ring => "ring",
        Trigger::Poll => "poll",
        Trigger::Push => "push",
        Trigger::Store => "store",
        Trigger::RingStore => "ring-store",
    }
}

pub(super) fn trigger_of(text: &str) -> Option<Trigger> {
    let all = [Trigger::Ring, Trigger::Poll, Trigger::Push, Trigger::Store, Trigger::RingStore];
    all.into_iter().find(|trigger| word_of(*trigger) == text)
}
