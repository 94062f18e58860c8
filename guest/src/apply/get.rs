//! Reading a file or a tree: a tar archive on standard output.
//!
//! Called by `apply`; runs under a supervisor, as a program would, so that it waits while nobody takes its output
//! and can be cancelled. What cannot be read is one line on standard error each, and status 1.

use super::put::{bits, say};
use crate::supervise::{OwnJob, OwnPlace};
use doorbell_archive::{self as archive, Fault, Kind, PackError, Packed, Watch};
use doorbell_wire::ids::Digest;
use doorbell_wire::message::action::Get;
use doorbell_wire::message::outcome::{FileEvidence, FileKind};
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::{self, BufWriter};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The job of a get.
#[must_use]
pub fn job(get: &Get) -> OwnJob {
    let get = get.clone();
    OwnJob::new(move |place: &mut OwnPlace| {
        let read = standard_output().map_err(PackError::Write).and_then(|output| read(&get, output));
        let (packed, digest) = match read {
            Ok(read) => read,
            Err(error) => {
                say(&error.to_string());
                return 1;
            }
        };
        match evidence(&get, &packed, digest).and_then(|evidence| place.evidence(&evidence)) {
            Ok(()) => u8::from(packed.faults > 0),
            Err(error) => {
                say(&format!("the evidence cannot be kept: {}", archive::kernel(&error)));
                1
            }
        }
    })
}

fn read(get: &Get, output: File) -> Result<(Packed, Digest), PackError> {
    let path = Path::new(get.path.as_str());
    let top = path.file_name().map_or(b"root".as_slice(), OsStrExt::as_bytes);
    let mut watcher = Watcher { content: Sha256::new() };
    let packed = archive::pack(path, top, &mut BufWriter::with_capacity(BUFFER, output), &mut watcher)?;
    Ok((packed, Digest::new(watcher.content.finalize().into())))
}

/// Not the standard library's, which flushes at each line end.
fn standard_output() -> io::Result<File> {
    Ok(File::from(io::stdout().as_fd().try_clone_to_owned()?))
}

fn evidence(get: &Get, packed: &Packed, digest: Digest) -> io::Result<FileEvidence> {
    let (kind, digest) = match packed.kind {
        Kind::File => (FileKind::File, Some(digest)),
        Kind::Tree => (FileKind::Tree, None),
        Kind::Link => (FileKind::Link, None),
    };
    let mode = bits(packed.mode)?;
    let Packed { len, uid, gid, entries, .. } = *packed;
    Ok(FileEvidence { path: get.path.clone(), kind, len, digest, mode, uid, gid, entries })
}

/// Faults are lines; the content of a lone file is hashed as it goes by.
struct Watcher {
    content: Sha256,
}

impl Watch for Watcher {
    fn fault(&mut self, fault: &Fault) {
        say(&fault.to_string());
    }

    fn content(&mut self, bytes: &[u8]) {
        self.content.update(bytes);
    }
}

/// Bytes that are written at once, where headers and small files come one after the other.
const BUFFER: usize = 64 * 1024;
