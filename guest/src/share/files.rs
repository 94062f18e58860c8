//! The files of the share and of the receipts.
//!
//! Used by [`super`] and by the desk. Nothing is mapped and no change is waited for: over 9p and virtiofs neither
//! can be relied on. What is read as a whole is of bounded length; what is placed appears by a rename.

use super::Fault;
use doorbell_wire::ids::Nonce;
use doorbell_wire::limits::{HEADER_LEN, PAYLOAD_LEN_MAX};
use doorbell_wire::message::{FromHost, Greeting};
use doorbell_wire::share::{ANSWER, MANAGER, SESSIONS, one_frame, read_manager, session};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Both directories.
#[derive(Clone, Debug)]
pub(super) struct Files {
    /// What the manager exports.
    pub(super) share: PathBuf,
    /// What the agent writes.
    pub(super) receipts: PathBuf,
}

/// Both directories of one session, and the share itself.
#[derive(Clone, Debug)]
pub(super) struct SessionFiles {
    pub(super) files: Files,
    pub(super) nonce: Nonce,
    /// From the manager.
    pub(super) from: PathBuf,
    /// To the manager.
    pub(super) to: PathBuf,
}

impl Files {
    /// What the next hello has to answer; `None` when the share is not there.
    pub(super) fn greeting(&self) -> Result<Option<Greeting>, Fault> {
        Ok(read(&self.share.join(MANAGER))?.map(|bytes| read_manager(&bytes)).transpose()?)
    }

    /// What the manager says to the hello with this nonce.
    pub(super) fn answer(&self, hello: &Nonce) -> Result<Option<FromHost>, Fault> {
        let Some(bytes) = read(&self.share.join(session(hello)).join(ANSWER))? else { return Ok(None) };
        Ok(Some(FromHost::from_frame(&one_frame(ANSWER, &bytes)?)?))
    }

    /// Makes the receipts' directory of a session and removes those of earlier ones.
    pub(super) fn begin(&self, hello: &Nonce) -> Result<(), Fault> {
        let sessions = self.receipts.join(SESSIONS);
        match std::fs::remove_dir_all(&sessions) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            removed => at("remove", &sessions, removed)?,
        }
        let path = self.receipts.join(session(hello));
        at("make", &path, DirBuilder::new().recursive(true).mode(0o700).create(&path))
    }

    pub(super) fn session(&self, nonce: Nonce) -> SessionFiles {
        let name = session(&nonce);
        let (from, to) = (self.share.join(&name), self.receipts.join(&name));
        SessionFiles { files: self.clone(), nonce, from, to }
    }
}

/// A whole file; `None` when there is none.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, Fault> {
    let Some(file) = open(path)? else { return Ok(None) };
    let mut bytes = Vec::new();
    at("read", path, file.take(FILE_LEN_MAX).read_to_end(&mut bytes))?;
    Ok(Some(bytes))
}

/// A file for reading; `None` when there is none.
pub(super) fn open(path: &Path) -> Result<Option<File>, Fault> {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK);
    match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        file => at("open", path, file).map(Some),
    }
}

/// The names in a directory, so many at most; `None` when there is no such directory.
pub(super) fn names(path: &Path) -> Result<Option<Vec<String>>, Fault> {
    let entries = match std::fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        entries => at("look into", path, entries)?,
    };
    let mut names = Vec::new();
    for entry in entries.take(NAMES_MAX) {
        names.extend(at("look into", path, entry)?.file_name().into_string());
    }
    names.sort();
    Ok(Some(names))
}

/// Puts a file in place, whole.
pub(super) fn place(path: &Path, bytes: &[u8]) -> Result<(), Fault> {
    let fresh = path.with_extension("new");
    let written = || {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        file.write_all(bytes)?;
        drop(file);
        std::fs::rename(&fresh, path)
    };
    at("write", path, written())
}

/// Removes a file, if it is there.
pub(super) fn remove(path: &Path) -> Result<(), Fault> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => at("remove", path, removed),
    }
}

/// Writes bytes of a file that grows, where they belong.
pub(super) fn write_at(path: &Path, offset: u64, bytes: &[u8]) -> Result<(), Fault> {
    let written = || {
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).mode(0o600).open(path)?;
        file.write_all_at(bytes, offset)
    };
    at("write", path, written())
}

/// Adds what was tried on which path to an error.
pub(super) fn at<T>(verb: &'static str, path: &Path, result: io::Result<T>) -> Result<T, Fault> {
    result.map_err(|source| Fault::Io { verb, path: path.to_owned(), source })
}

/// Bytes of the largest file that is read as a whole: two frames, and what stands in front or behind.
const FILE_LEN_MAX: u64 = (2 * (HEADER_LEN + PAYLOAD_LEN_MAX)) as u64;
/// Names that one look takes; there are no more than a few for each hand.
const NAMES_MAX: usize = 4096;
