//! Putting a file or a tree where it belongs, in one step: what was there before, or what was sent, and never
//! anything in between.
//!
//! Called by `apply` with bytes that `verify` has compared; runs under a supervisor, as a program would, so that
//! it has its limits and can be cancelled. Whatever goes wrong is one line on standard error, and status 1. What
//! it leaves behind when it is killed is removed by the agent.

use crate::fetch::{Target, hidden};
use crate::supervise::users::{self, Owner};
use crate::supervise::{OwnJob, OwnPlace};
use crate::verify::VerifiedFile;
use doorbell_archive::{self as archive, Fault, Options, UnpackError, Unpacked, Watch, escaped, remove_tree};
use doorbell_wire::limits::FILE_LEN_MAX;
use doorbell_wire::message::action::{Form, Mode, Put};
use doorbell_wire::message::outcome::{FileEvidence, FileKind};
use rustix::fs::{self, FileType, Gid, RenameFlags, Stat, Uid};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;

/// The job of a put.
#[must_use]
pub fn job(put: &Put, file: VerifiedFile) -> OwnJob {
    let put = put.clone();
    OwnJob::new(move |place: &mut OwnPlace| {
        let done = match put.form {
            Form::File => put_file(&put, &file),
            Form::Archive => put_tree(&put, &file),
        };
        let told = done.and_then(|(evidence, faults)| {
            place.evidence(&evidence).map_err(|error| of(&put, &error))?;
            Ok(faults)
        });
        match told {
            Ok(faults) => u8::from(faults > 0),
            Err(line) => {
                say(&line);
                1
            }
        }
    })
}

/// What was put and how many faults that had, or why nothing was: a line without its end.
type Done = Result<(FileEvidence, u64), String>;

fn put_file(put: &Put, staged: &VerifiedFile) -> Done {
    let file = staged.open().map_err(|error| of(put, &error))?;
    let target = Target::of(&put.path).map_err(|error| of(put, &error))?;
    let owner = owner(put)?;
    let placed = place_file(put, staged, &file, &target, owner);
    if placed.is_err() {
        // The part goes with the request; the disk it takes may be wanted at once.
        let _ = std::fs::remove_file(staged.path());
    }
    placed.map_err(|error| of(put, &error))?;
    let stat = read_back(&target).map_err(|error| of(put, &error))?;
    let len = u64::try_from(stat.st_size).unwrap_or_default();
    let evidence = evidence(put, FileKind::File, &stat)?;
    Ok((FileEvidence { len, digest: Some(staged.digest()), ..evidence }, 0))
}

/// Owner first: a change of it takes some permission bits away.
fn place_file(
    put: &Put,
    staged: &VerifiedFile,
    file: &File,
    target: &Target,
    owner: Option<Owner>,
) -> io::Result<()> {
    target.must_not_be(|kind| kind == FileType::Directory, Errno::ISDIR)?;
    if let Some(Owner { uid, gid }) = owner {
        fs::fchown(file, uid.map(Uid::from_raw), gid.map(Gid::from_raw))?;
    }
    let mode = u16::from(mode_of(put, target, file)?);
    fs::fchmod(file, fs::Mode::from_raw_mode(mode.into()))?;
    file.sync_all()?;
    let part = staged.path().file_name().unwrap_or_default();
    fs::renameat(target.directory(), part, target.directory(), target.name.as_os_str())?;
    Ok(fs::fsync(target.directory())?)
}

/// As was asked for, or as it was before, or as files are. Of somebody else's file no right to write and no
/// set-user-id is taken over: with the new owner they would mean something else.
fn mode_of(put: &Put, target: &Target, file: &File) -> io::Result<Mode> {
    let ours = fs::fstat(file)?;
    let is_file = |found: &Stat| FileType::from_raw_mode(found.st_mode) == FileType::RegularFile;
    let kept = |found: &Stat| {
        let same = (found.st_uid, found.st_gid) == (ours.st_uid, ours.st_gid);
        if same { 0o7777 } else { 0o755 }
    };
    match (put.mode, target.found()?.filter(is_file)) {
        (Some(mode), _) => Ok(mode),
        (None, Some(before)) => bits(before.st_mode & kept(&before)),
        (None, None) => bits(0o644),
    }
}

fn put_tree(put: &Put, staged: &VerifiedFile) -> Done {
    let input = staged.open().map_err(|error| of(put, &error))?;
    let target = Target::of(&put.path).map_err(|error| of(put, &error))?;
    let owner =
        owner(put)?.map_or(archive::Owner::Own, |Owner { uid, gid }| archive::Owner::Given { uid, gid });
    let options = Options { owner, umask: 0, bytes_max: FILE_LEN_MAX, entries_max: ENTRIES_MAX };
    let fresh = hidden(staged.request);
    remove_tree(target.directory(), fresh.as_bytes()).map_err(|error| of(put, &error))?;
    let unpacked =
        archive::unpack(input, target.directory().as_fd(), fresh.as_bytes(), &options, &mut StandardError);
    let unpacked = unpacked.map_err(|error| {
        let path = escaped(put.path.as_str().as_bytes());
        // Where in the hidden tree the disk was full tells nobody anything.
        if let UnpackError::Write { source, .. } = &error {
            of(put, source)
        } else {
            format!("{path}: {error}")
        }
    })?;
    let placed = place_tree(&target, fresh.as_bytes(), &unpacked, put.replace);
    // What was there before has the hidden name now; where nothing was placed, it is what was unpacked.
    let removed = remove_tree(target.directory(), fresh.as_bytes());
    placed.and(removed).map_err(|error| of(put, &error))?;
    let stat = read_back(&target).map_err(|error| of(put, &error))?;
    let Unpacked { len, entries, faults, .. } = unpacked;
    let evidence = evidence(put, FileKind::Tree, &stat)?;
    Ok((FileEvidence { len, entries, ..evidence }, faults))
}

fn place_tree(target: &Target, fresh: &[u8], unpacked: &Unpacked, replace: bool) -> io::Result<()> {
    if unpacked.kind != archive::Kind::Tree {
        return Err(Errno::NOTDIR.into());
    }
    target.must_not_be(|kind| kind != FileType::Directory, Errno::NOTDIR)?;
    target.must_be_replaceable(replace)?;
    // Everything below is on the disk before its name is.
    fs::syncfs(target.directory())?;
    let flags = if target.found()?.is_some() { RenameFlags::EXCHANGE } else { RenameFlags::NOREPLACE };
    fs::renameat_with(target.directory(), fresh, target.directory(), target.name.as_os_str(), flags)?;
    Ok(fs::fsync(target.directory())?)
}

fn read_back(target: &Target) -> io::Result<Stat> {
    target.found()?.ok_or_else(|| Errno::NOENT.into())
}

fn evidence(put: &Put, kind: FileKind, stat: &Stat) -> Result<FileEvidence, String> {
    let mode = bits(stat.st_mode).map_err(|error| of(put, &error))?;
    let (path, uid, gid) = (put.path.clone(), stat.st_uid, stat.st_gid);
    Ok(FileEvidence { path, kind, len: 0, digest: None, mode, uid, gid, entries: 1 })
}

/// The permission bits of a mode as the kernel has it.
pub(super) fn bits(mode: u32) -> io::Result<Mode> {
    let bits = u16::try_from(mode & 0o7777).map_err(io::Error::other)?;
    Mode::try_from(bits).map_err(io::Error::other)
}

fn owner(put: &Put) -> Result<Option<Owner>, String> {
    let Some(text) = &put.owner else { return Ok(None) };
    let found = users::owner(text.as_str());
    let path = escaped(put.path.as_str().as_bytes());
    found.map(Some).ok_or_else(|| format!("{path}: this guest has no user or group {:?}", text.as_str()))
}

/// One line for one fault: `/etc/x: no space left on device`.
fn of(put: &Put, error: &io::Error) -> String {
    format!("{}: {}", escaped(put.path.as_str().as_bytes()), archive::kernel(error))
}

/// Nobody may be left who reads it.
pub(super) fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Each fault is a line.
struct StandardError;

impl Watch for StandardError {
    fn fault(&mut self, fault: &Fault) {
        say(&fault.to_string());
    }
}

/// Files, directories and links of one tree, at most.
const ENTRIES_MAX: u64 = 4 * 1024 * 1024;

#[cfg(test)]
mod tests;
