//! A backup becomes a state directory again: all of it or nothing, with no manager running.
//!
//! Called by `doorbelld --restore`. Trusts nothing of the archive but what its manifest's digests, SQLite's own
//! check and the audit trail agree on. Everything is put together beside its place and moved there at the end; a
//! manager does not start on a directory where that was cut off.

use super::DATA_BASE;
use super::manifest::{Entry, FORMAT, Manifest, NAME};
use crate::actor::Actor;
use crate::cause::Cause;
use crate::signer::FILE as KEY;
use crate::store::{StoreError, examine, in_hand, take_over};
use crate::sum::Hashing;
use crate::time::shown;
use doorbell_archive::{Fault, Options, Owner, UnpackError, Watch, unpack};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

/// What was restored.
#[derive(Clone, Debug, Serialize)]
pub struct Restored {
    /// When the backup was taken, milliseconds since the Unix epoch.
    pub taken_at_ms: u64,
    /// The archive's SHA-256.
    pub sha256: String,
    /// The hash of the audit trail's last record in it.
    pub audit_head: String,
    /// Guests; each is taken once by its key alone.
    pub guests: u64,
    /// Requests.
    pub requests: u64,
    /// Files beside the data base.
    pub files: u64,
    /// Output that was missing when the backup was taken.
    pub missing: Vec<String>,
}

impl fmt::Display for Restored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { taken_at_ms, sha256, audit_head, guests, requests, files, missing } = self;
        writeln!(
            f,
            "restored: {guests} guests, {requests} requests, {files} files, as of {}",
            shown(*taken_at_ms)
        )?;
        writeln!(f, "backup sha256 {sha256}, audit head {audit_head}")?;
        if !missing.is_empty() {
            writeln!(
                f,
                "{} outputs were missing when the backup was taken, as {}",
                missing.len(),
                missing.first().map_or("", String::as_str)
            )?;
        }
        f.write_str("each guest is taken once by its key alone: until it has come back, a copy of it could come first")
    }
}

/// Restores an archive into a directory that is not there yet or has nothing in it.
///
/// # Errors
/// [`StoreError::InUse`] and [`StoreError::Conflict`] for the directory, [`StoreError::Invalid`] for the archive,
/// [`StoreError::NoSpace`]. The directory is left as it was.
pub fn restore(
    archive: impl Read,
    state_dir: &Path,
    by: &Actor,
    cause: &Cause,
) -> Result<Restored, StoreError> {
    let was_there = state_dir.exists();
    let (lock, beside) = in_hand(state_dir)?;
    let restored = whole(archive, state_dir, &beside, (by, cause));
    if restored.is_err() {
        // What is told is why it was not restored; what cannot be removed either, the next try finds.
        let _ = std::fs::remove_dir_all(&beside);
        let _ = std::fs::remove_file(state_dir.join("lock"));
        if !was_there {
            let _ = std::fs::remove_dir(state_dir);
        }
    }
    drop(lock);
    restored
}

fn whole(
    archive: impl Read,
    state_dir: &Path,
    beside: &Path,
    by: (&Actor, &Cause),
) -> Result<Restored, StoreError> {
    let sha256 = unpacked(archive, state_dir, beside)?;
    let manifest = verified(beside)?;
    let check = examine(beside)?;
    if !check.intact || check.head != manifest.audit_head || check.records != manifest.audit_records {
        let broken = check.broken.unwrap_or_else(|| "it does not end where the manifest says".into());
        return Err(damaged(format!("its audit trail is broken: {broken}")));
    }
    let from = format!(
        "taken at {}, sha256 {sha256}, head {} {}",
        shown(manifest.taken_at_ms),
        check.records,
        check.head
    );
    let guests = take_over(beside, by, &from)?;
    settle(beside, state_dir)
        .map_err(|error| StoreError::io("put the restored state in its place", error))?;
    Ok(Restored {
        taken_at_ms: manifest.taken_at_ms,
        sha256,
        audit_head: manifest.audit_head,
        guests,
        requests: manifest.requests,
        files: (manifest.files.len() as u64).saturating_sub(1),
        missing: manifest.missing,
    })
}

/// Unpacks, and gives the digest of the whole archive.
fn unpacked(archive: impl Read, state_dir: &Path, beside: &Path) -> Result<String, StoreError> {
    let keep = |error| StoreError::io("unpack the backup", error);
    let opened = File::open(state_dir).map_err(keep)?;
    let name = beside.file_name().unwrap_or_default().as_encoded_bytes();
    let mut archive = Hashing::of(io::BufReader::with_capacity(PIECE, archive));
    let options = Options { owner: Owner::Own, umask: 0o077, bytes_max: u64::MAX, entries_max: ENTRIES_MAX };
    let mut faults = Faults::default();
    let unpacked = unpack(&mut archive, opened.as_fd(), name, &options, &mut faults);
    unpacked.map_err(|error| {
        let told = error.to_string();
        if let UnpackError::Write { source, .. } = error { keep(source) } else { damaged(told) }
    })?;
    if let Some(fault) = faults.first {
        return Err(damaged(fault));
    }
    // What stands behind the archive's end belongs to its digest too.
    io::copy(&mut archive, &mut io::sink()).map_err(keep)?;
    Ok(archive.finish())
}

#[derive(Debug, Default)]
struct Faults {
    first: Option<String>,
}

impl Watch for Faults {
    fn fault(&mut self, fault: &Fault) {
        self.first.get_or_insert_with(|| fault.to_string());
    }
}

/// The manifest, once every file is as it says, on the disk, and there is no other one.
fn verified(beside: &Path) -> Result<Manifest, StoreError> {
    let look = |error| StoreError::io("read the unpacked backup", error);
    let text = crate::disk::absent_is_none(std::fs::read(beside.join(NAME))).map_err(look)?;
    let text = text.ok_or_else(|| damaged("its manifest, which comes last, is not there: it was cut off"))?;
    let version: serde_json::Value = serde_json::from_slice(&text)
        .map_err(|error| damaged(format!("its manifest cannot be read: {error}")))?;
    let format = version.get("format").and_then(serde_json::Value::as_u64);
    if format != Some(FORMAT.into()) {
        let format = format.map_or_else(|| "no form".into(), |format| format!("form {format}"));
        return Err(StoreError::invalid(format!(
            "the backup has {format}, expected form {FORMAT}: restore it with the doorbelld that wrote it"
        )));
    }
    let manifest: Manifest = serde_json::from_value(version)
        .map_err(|error| damaged(format!("its manifest cannot be read: {error}")))?;
    let mut listed: BTreeMap<&str, &Entry> =
        manifest.files.iter().map(|entry| (entry.path.as_str(), entry)).collect();
    let mut files = Vec::new();
    walk(beside, &mut files).map_err(look)?;
    for path in files {
        let name = path.strip_prefix(beside).unwrap_or(&path).to_string_lossy().into_owned();
        if name != NAME {
            let entry = listed.remove(name.as_str());
            let entry = entry.ok_or_else(|| damaged(format!("{name:?} is in it and not in its manifest")))?;
            compare(&path, entry)?;
        }
    }
    match listed.keys().next() {
        None if beside.join(DATA_BASE).is_file() => Ok(manifest),
        None => Err(damaged("it has no data base")),
        Some(name) => Err(damaged(format!("{name:?} is in its manifest and not in it"))),
    }
}

/// All files below a directory; the directories are on the disk then.
fn walk(dir: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in dir.read_dir()? {
        let path = entry?.path();
        if path.is_dir() { walk(&path, files)? } else { files.push(path) }
    }
    crate::disk::sync_dir(dir)
}

fn compare(path: &Path, entry: &Entry) -> Result<(), StoreError> {
    let sum = || {
        let file = File::open(path)?;
        let mut hashing = Hashing::of(&file);
        let len = io::copy(&mut hashing, &mut io::sink())?;
        file.sync_all()?;
        Ok((len, hashing.finish()))
    };
    let (len, sha256) = sum().map_err(|error| StoreError::io("read the unpacked backup", error))?;
    if len == entry.len && sha256 == entry.sha256 {
        return Ok(());
    }
    Err(damaged(format!(
        "{:?} has {len} bytes with sha256 {sha256}, expected {} bytes with {}",
        entry.path, entry.len, entry.sha256
    )))
}

/// Moves everything to its place, the data base last.
fn settle(beside: &Path, state_dir: &Path) -> io::Result<()> {
    for name in ["programs", "output", "input", KEY, DATA_BASE] {
        crate::disk::absent_is_none(std::fs::rename(beside.join(name), state_dir.join(name)))?;
    }
    crate::disk::sync_dir(state_dir)?;
    std::fs::remove_dir_all(beside)?;
    crate::disk::sync_dir(state_dir)
}

fn damaged(what: impl std::fmt::Display) -> StoreError {
    StoreError::invalid(format!("the backup is not whole or was altered: {what}; nothing was restored"))
}

const PIECE: usize = 256 * 1024;
/// More than any state directory has, and an end to an archive that has none.
const ENTRIES_MAX: u64 = 100_000_000;
