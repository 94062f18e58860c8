//! Moves between the rooms of one guest: what was taken goes, what is refused is set out with its reason, and what a
//! crash left half-way is put right.
//!
//! Called by the intake on threads that may block. A name in an inbox may be another file by the time it is moved, so
//! a file is first moved into the manager's own directory, looked at there, and moved back if it is not the one.

use super::entry::{Entry, Same, about_of, foreign, list};
use super::names::{REFUSAL, REFUSED};
use super::outbox::{self, Contents, FRESH};
use super::place::Rooms;
use crate::store::Lying;
use doorbell_wire::ids::RequestId;
use rustix::fs::{self, AtFlags, RenameFlags};
use rustix::io::Errno;
use serde_json::json;
use std::io;

/// Removes a file that was taken. One that was put in its place meanwhile stays.
pub(super) fn remove(rooms: &Rooms, entry: &Entry, request: RequestId) -> io::Result<()> {
    let mut held = format!("{TAKEN}{request}.").into_bytes();
    held.extend_from_slice(&entry.name);
    match hold(rooms, entry, &held)? {
        Held::Yes => Ok(fs::unlinkat(&rooms.work, held.as_slice(), AtFlags::empty())?),
        Held::Gone | Held::Other => Ok(()),
    }
}

/// Makes removals survive a crash.
pub(super) fn sync(rooms: &Rooms) -> io::Result<()> {
    fs::fsync(&rooms.work)?;
    Ok(fs::fsync(&rooms.inbox)?)
}

/// Sets an entry out with the reason why it is refused. Says whether it has left the inbox: a directory stays, and
/// so does what cannot be moved.
pub(super) fn refuse(
    rooms: &Rooms,
    contents: &mut Contents,
    entry: &Entry,
    why: &Refusal<'_>,
) -> io::Result<bool> {
    let label = contents.free_label(why.label);
    let held = format!("{REFUSING}{label}");
    let moved = match foreign(&entry.about) {
        Some("a directory") => None,
        _ => match hold(rooms, entry, held.as_bytes()) {
            Ok(Held::Yes) => Some(held),
            Ok(Held::Gone | Held::Other) => return Ok(true),
            Err(error) => {
                tracing::warn!(%error, name = why.shown, "a file that is refused cannot be moved out of its inbox");
                None
            }
        },
    };
    let len = outbox::put(rooms, &format!("{label}{REFUSAL}"), why.text().as_bytes())?;
    contents.add(1, len);
    if let Some(held) = &moved {
        // A link or a device is not carried to where others look for files.
        if foreign(&entry.about).is_some() {
            fs::unlinkat(&rooms.work, held.as_str(), AtFlags::empty())?;
        } else {
            fs::renameat(&rooms.work, held.as_str(), &rooms.outbox, format!("{label}{REFUSED}"))?;
            contents.add(1, entry.about.len);
        }
    }
    fs::fsync(&rooms.outbox)?;
    sync(rooms)?;
    Ok(moved.is_some())
}

/// Why an entry is refused.
#[derive(Debug)]
pub(super) struct Refusal<'a> {
    /// What the refusal is called.
    pub(super) label: &'a str,
    /// The entry's name, readable.
    pub(super) shown: &'a str,
    /// One line.
    pub(super) line: &'a str,
    /// When, milliseconds since the Unix epoch.
    pub(super) at_ms: u64,
}

impl Refusal<'_> {
    fn text(&self) -> String {
        let Self { shown, line, at_ms, .. } = self;
        let mut text = format!("{:#}", json!({"name": shown, "refused": line, "at_ms": at_ms}));
        text.push('\n');
        text
    }
}

/// Puts right what a manager that went down left between two places, and gives the taken files that are gone.
pub(super) fn tidy(rooms: &Rooms, lying: &[Lying]) -> io::Result<Vec<RequestId>> {
    for entry in list(&rooms.work)? {
        let name = String::from_utf8_lossy(&entry.name).into_owned();
        if let Some((id, back)) = name.strip_prefix(TAKEN).and_then(|rest| rest.split_once('.')) {
            let taken = lying
                .iter()
                .any(|known| known.request.to_string() == id && known.inode == entry.about.same.inode);
            if taken {
                fs::unlinkat(&rooms.work, name.as_str(), AtFlags::empty())?
            } else {
                give_back(rooms, name.as_bytes(), back.as_bytes())?
            }
        } else if let Some(label) = name.strip_prefix(REFUSING) {
            set_out(rooms, &name, label)?;
        } else if name.starts_with(FRESH) {
            fs::unlinkat(&rooms.work, name.as_str(), AtFlags::empty())?;
        }
    }
    sync(rooms)?;
    let there: Vec<u64> = list(&rooms.inbox)?.iter().map(|entry| entry.about.same.inode).collect();
    let gone = lying.iter().filter(|known| !there.contains(&known.inode));
    Ok(gone.map(|known| known.request).collect())
}

/// Of a refusal that a crash cut; its reason may not be there.
fn set_out(rooms: &Rooms, held: &str, label: &str) -> io::Result<()> {
    let mut contents = Contents::of(rooms)?;
    let label = contents.free_label(label);
    let line = "it was refused when the manager went down; put it there again to see why";
    let why = Refusal { label: &label, shown: &label, line, at_ms: crate::time::unix_ms() };
    let _ = outbox::put(rooms, &format!("{label}{REFUSAL}"), why.text().as_bytes())?;
    fs::renameat(&rooms.work, held, &rooms.outbox, format!("{label}{REFUSED}"))?;
    Ok(fs::fsync(&rooms.outbox)?)
}

enum Held {
    Yes,
    /// Its writer took it back.
    Gone,
    /// Its writer put another file in its place, which is there again.
    Other,
}

/// Moves an entry into the manager's own directory, if it is still the one that was looked at.
fn hold(rooms: &Rooms, entry: &Entry, held: &[u8]) -> io::Result<Held> {
    match fs::renameat(&rooms.inbox, entry.name.as_slice(), &rooms.work, held) {
        Ok(()) => {}
        Err(Errno::NOENT) => return Ok(Held::Gone),
        Err(errno) => return Err(errno.into()),
    }
    let Same { inode, made } = about_of(&rooms.work, held)?.same;
    if (Same { inode, made }) == entry.about.same {
        return Ok(Held::Yes);
    }
    give_back(rooms, held, &entry.name)?;
    Ok(Held::Other)
}

/// Puts a file back that was moved by mistake. Where its writer has put yet another one there by now, that one would
/// have taken its place.
fn give_back(rooms: &Rooms, held: &[u8], name: &[u8]) -> io::Result<()> {
    match fs::renameat_with(&rooms.work, held, &rooms.inbox, name, RenameFlags::NOREPLACE) {
        Err(Errno::EXIST) => Ok(fs::unlinkat(&rooms.work, held, AtFlags::empty())?),
        done => Ok(done?),
    }
}

/// What entries are called in the manager's own directory, in front of what they are.
const TAKEN: &str = "taken.";
const REFUSING: &str = "in.";
