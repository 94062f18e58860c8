//! Where a guest is met, and by which key: one spelling of each place, and neither for two guests.
//!
//! Called where a guest is added, changed or looked up by its place. Paths come from operators and are looked at here.

use super::guests::{fingerprint, taken};
use super::{Place, StoreError};
use doorbell_wire::ids::{GuestId, PublicKey};
use doorbell_wire::limits::MANAGER_PORT;
use rusqlite::Connection;
use std::path::{Component, Path, PathBuf};

pub(super) fn share_of(place: &Place) -> Option<String> {
    match place {
        Place::Share(path) => Some(path.to_string_lossy().into_owned()),
        Place::Cid(_) | Place::Hybrid(_) => None,
    }
}

pub(super) fn check_place_free(conn: &Connection, guest: GuestId, place: &Place) -> Result<(), StoreError> {
    let other = match columns(place) {
        (Some(cid), _) => taken(conn, "cid = ?1", cid, guest)?,
        (None, Some(path)) => taken(conn, "hybrid_socket = ?1", path, guest)?,
        (None, None) => None,
    };
    let Some(other) = other else { return Ok(()) };
    Err(StoreError::conflict(format!(
        "{place} belongs to guest {other}: give another one, or move that guest with `doorbell guest set {other}`"
    )))
}

pub(super) fn columns(place: &Place) -> (Option<u32>, Option<String>) {
    match place {
        Place::Cid(cid) => (Some((*cid).into()), None),
        Place::Hybrid(path) => (None, Some(path.to_string_lossy().into_owned())),
        Place::Share(_) => (None, None),
    }
}

pub(super) fn checked_place(place: Place) -> Result<Place, StoreError> {
    match place {
        Place::Cid(_) => Ok(place),
        Place::Share(path) => checked_path("share", &path, 0).map(|path| Place::Share(path.into())),
        Place::Hybrid(path) => {
            let suffix = format!("_{MANAGER_PORT}").len();
            checked_path("hybrid socket", &path, suffix).map(|path| Place::Hybrid(path.into()))
        }
    }
}

/// One way to write a path, so that two guests cannot share a socket under two spellings.
pub(super) fn checked_path(what: &str, path: &Path, suffix: usize) -> Result<String, StoreError> {
    let plain: PathBuf = path.components().collect();
    let max = SOCKET_PATH_MAX.saturating_sub(suffix);
    let is_direct = plain.is_absolute() && plain.components().all(|part| part != Component::ParentDir);
    match plain.to_str() {
        Some(text) if is_direct && text.len() <= max && !text.chars().any(char::is_control) => {
            Ok(text.to_owned())
        }
        Some(_) | None => Err(StoreError::invalid(format!(
            "{what} {path:?} is not valid: expected an absolute path of at most {max} bytes of UTF-8 without `..` and control characters"
        ))),
    }
}

/// Refuses a key that another guest has: a guest is its key, so two that share one are one and its copy.
pub(super) fn check_key_free(conn: &Connection, guest: GuestId, key: &PublicKey) -> Result<(), StoreError> {
    let Some(other) = taken(conn, "public_key = ?1", key.as_bytes(), guest)? else { return Ok(()) };
    Err(StoreError::conflict(format!(
        "key {} is the key of guest {other}: remove the agent's state in the copy, so that it makes a key of its own",
        fingerprint(key)
    )))
}

/// Bytes of a Unix socket's path without its final NUL.
const SOCKET_PATH_MAX: usize = 107;
