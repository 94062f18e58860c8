//! What the manager puts into an outbox: files that appear whole, under names that nothing has, for its owner to read
//! and to remove.
//!
//! Called by the intake for refusals and by the delivery of receipts. Trusts nothing in an outbox, which others may
//! write: a file is made in the manager's own directory beside it and then renamed, so that no link is followed.

use super::entry::list;
use super::names::{label_of, stem_of};
use super::place::{Rooms, beneath};
use rustix::fs::{self, Mode, OFlags};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};

/// What lies in an outbox.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// What requests are called of which something lies there.
    pub(super) stems: BTreeSet<String>,
    labels: BTreeSet<String>,
    entries: usize,
    bytes: u64,
}

impl Contents {
    /// Looks.
    pub(super) fn of(rooms: &Rooms) -> io::Result<Self> {
        let mut contents = Self::default();
        for entry in list(&rooms.outbox)? {
            contents.entries = contents.entries.saturating_add(1);
            contents.bytes = contents.bytes.saturating_add(entry.about.len);
            let name = String::from_utf8_lossy(&entry.name);
            contents.stems.extend(stem_of(&name).map(str::to_owned));
            contents.labels.extend(label_of(&name).map(str::to_owned));
        }
        Ok(contents)
    }

    /// Why nothing more is put there, if so.
    pub(super) fn full(&self) -> Option<String> {
        let Self { entries, bytes, .. } = *self;
        (entries >= ENTRIES_MAX || bytes >= BYTES_MAX).then(|| {
            format!(
                "the outbox holds {entries} entries of {bytes} bytes, where {ENTRIES_MAX} and {BYTES_MAX} are allowed: \
                 nothing is taken or put there until some are removed"
            )
        })
    }

    /// The first of `LABEL`, `LABEL.2`, `LABEL.3` … under which no refusal lies there.
    pub(super) fn free_label(&mut self, label: &str) -> String {
        let mut free = label.to_owned();
        let mut number = 1_u32;
        while self.labels.contains(&free) {
            number = number.saturating_add(1);
            free = format!("{label}.{number}");
        }
        self.labels.insert(free.clone());
        free
    }

    /// Counts what was put there.
    pub(super) fn add(&mut self, entries: usize, bytes: u64) {
        self.entries = self.entries.saturating_add(entries);
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

/// It is for whoever the outbox is for. Without the right to give files away it stays the manager's, and goes to the
/// group where the manager is in it.
fn give(file: &File, user: fs::Uid, group: fs::Gid) -> io::Result<()> {
    match fs::fchown(file, Some(user), Some(group)) {
        Err(Errno::PERM) => {}
        given => return Ok(given?),
    }
    match fs::fchown(file, None, Some(group)) {
        Ok(()) | Err(Errno::PERM) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Puts a file there, whole, in place of one of the same name; says how many bytes it has. The caller syncs the
/// outbox when it has put all.
pub(super) fn put(rooms: &Rooms, name: &str, content: impl Read) -> io::Result<u64> {
    let fresh = format!("{FRESH}{name}");
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC;
    let mut file = File::from(beneath(&rooms.work, fresh.as_str(), flags)?);
    let len = io::copy(&mut { content }, &mut file)?;
    let outbox = fs::fstat(&rooms.outbox)?;
    give(&file, fs::Uid::from_raw(outbox.st_uid), fs::Gid::from_raw(outbox.st_gid))?;
    fs::fchmod(&file, Mode::from_raw_mode(0o640))?;
    file.sync_all()?;
    fs::renameat(&rooms.work, fresh.as_str(), &rooms.outbox, name)?;
    Ok(len)
}

/// What a file that is being made is called in the manager's own directory, in front of its name.
pub(super) const FRESH: &str = "out.";
/// Entries of one outbox, and their bytes.
const ENTRIES_MAX: usize = 8_192;
const BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;
