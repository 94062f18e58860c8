//! Where bytes are staged, and what is removed when a request is over.
//!
//! Called by `fetch`, and by `pull` for requests that are over however they ended. A file is staged beside its
//! target, so that it can take the target's place in one step; a note in the state directory says where, so that
//! an agent that starts again finds what another one left. What lies beside a target may be in a directory of
//! somebody else: it is made where nothing was, and looked at again before it is used.

use super::Purpose;
use crate::state::{StateDir, replace};
use doorbell_archive::remove_tree;
use doorbell_wire::ids::{GuestPath, RequestId};
use rustix::fs::{self, AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use tracing::warn;

/// A staged file; removed on drop.
#[derive(Debug)]
pub(crate) struct Part(pub(crate) PathBuf);

impl Drop for Part {
    fn drop(&mut self) {
        if !self.0.as_os_str().is_empty() {
            remove(&self.0);
        }
    }
}

impl Part {
    pub(super) fn create(
        state: &StateDir,
        request: RequestId,
        purpose: &Purpose,
    ) -> io::Result<(Self, File)> {
        match purpose {
            Purpose::Program(_) => Self::in_state(state.programs().join(format!("{request}.part"))),
            Purpose::Archive(path, replace) => {
                let target = Target::of(path)?;
                target.must_not_be(|kind| kind != FileType::Directory, Errno::NOTDIR)?;
                target.must_be_replaceable(*replace)?;
                note(state, request, &target)?;
                Self::in_state(staging(state)?.join(format!("{request}.payload")))
            }
            Purpose::File(path) => {
                let target = Target::of(path)?;
                target.must_not_be(|kind| kind == FileType::Directory, Errno::ISDIR)?;
                note(state, request, &target)?;
                target.create(request)
            }
        }
    }

    /// From here on [`clear`] removes it.
    pub(crate) fn leave(mut self) -> PathBuf {
        std::mem::take(&mut self.0)
    }

    fn in_state(path: PathBuf) -> io::Result<(Self, File)> {
        remove(&path);
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        Ok((Self(path), file))
    }
}

/// A directory of the guest, and a name in it that is to be made or replaced.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) directory: PathBuf,
    pub(crate) name: OsString,
    opened: OwnedFd,
}

impl Target {
    /// Opens the directory that `path` is in; links on the way to it are the guest's own and are followed.
    ///
    /// # Errors
    /// The kernel's refusal; a path that ends in no name is a directory.
    pub(crate) fn of(path: &GuestPath) -> io::Result<Self> {
        let path = Path::new(path.as_str());
        let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Errno::ISDIR.into());
        };
        let directory = std::fs::canonicalize(directory)?;
        let opened = open_directory(&directory)?;
        Ok(Self { directory, name: name.to_owned(), opened })
    }

    pub(crate) fn directory(&self) -> &OwnedFd {
        &self.opened
    }

    /// What is there now, if anything; a link counts as a link.
    pub(crate) fn found(&self) -> io::Result<Option<fs::Stat>> {
        match fs::statat(&self.opened, self.name.as_os_str(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => Ok(Some(found)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// # Errors
    /// `errno` when what is there now is of a wrong kind.
    pub(crate) fn must_not_be(&self, wrong: fn(FileType) -> bool, errno: Errno) -> io::Result<()> {
        let found = self.found()?.map(|found| FileType::from_raw_mode(found.st_mode));
        if found.is_some_and(wrong) { Err(errno.into()) } else { Ok(()) }
    }

    /// `/etc`, `/usr` and the like are what the guest consists of: who names one as the place of a tree forgot the
    /// tree's own name.
    ///
    /// # Errors
    /// `EPERM` for a directory right below the root that is there, `EEXIST` for another one unless it is to be
    /// replaced.
    pub(crate) fn must_be_replaceable(&self, replace: bool) -> io::Result<()> {
        match self.found()? {
            None => Ok(()),
            Some(_) if self.directory == Path::new("/") => Err(Errno::PERM.into()),
            Some(_) if replace => Ok(()),
            Some(_) => Err(Errno::EXIST.into()),
        }
    }

    fn create(&self, request: RequestId) -> io::Result<(Part, File)> {
        let name = parted(request);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // One of the same request that an agent left which went down.
        remove_tree(&self.opened, name.as_bytes())?;
        let file = fs::openat(&self.opened, &name, flags, Mode::RUSR | Mode::WUSR)?;
        Ok((Part(self.directory.join(name)), File::from(file)))
    }
}

/// Removes what a put left beside its target and in the state directory: a hidden part, or a tree that was not
/// unpacked to its end. Nothing happens for a request that put nothing.
pub fn clear(state: &StateDir, request: RequestId) {
    let Ok(staging) = staging(state) else { return };
    let note = staging.join(request.to_string());
    remove(&staging.join(format!("{request}.payload")));
    let Ok(directory) = std::fs::read(&note) else { return };
    let directory = PathBuf::from(OsString::from_vec(directory));
    let removed = open_directory(&directory).and_then(|opened| {
        let tree = remove_tree(&opened, hidden(request).as_bytes());
        let part = remove_tree(&opened, parted(request).as_bytes());
        tree.and(part)
    });
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            warn!(%request, directory = %directory.display(), %error, "what a put left cannot be removed");
        }
        Ok(()) | Err(_) => {}
    }
    remove(&note);
}

/// At the agent's start: clears every request but those in `running`, which a supervisor still sees to.
pub fn sweep(state: &StateDir, running: &[RequestId]) {
    for entry in std::fs::read_dir(state.programs()).into_iter().flatten().flatten() {
        remove(&entry.path());
    }
    let staging = staging(state).and_then(std::fs::read_dir);
    for entry in staging.into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.split('.').next()).and_then(|id| id.parse().ok());
        match owner {
            Some(request) if running.contains(&request) => {}
            Some(request) => clear(state, request),
            None => remove(&entry.path()),
        }
    }
}

/// The hidden name that a tree is unpacked under, beside its target.
pub(crate) fn hidden(request: RequestId) -> OsString {
    format!(".doorbell-{request}").into()
}

/// The hidden name that a file is staged under, beside its target.
fn parted(request: RequestId) -> OsString {
    format!(".doorbell-{request}.part").into()
}

/// Removes a file that may be gone already.
fn remove(path: &Path) {
    match std::fs::remove_file(path) {
        // On a read-only file system it is refused for what is not there too.
        Err(error) if error.kind() != io::ErrorKind::NotFound && path.symlink_metadata().is_ok() => {
            warn!(path = %path.display(), %error, "a file that is done with cannot be removed");
        }
        Ok(()) | Err(_) => {}
    }
}

fn staging(state: &StateDir) -> io::Result<PathBuf> {
    let path = state.root().join("staging");
    DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
    Ok(path)
}

/// The note is on disk before what it speaks of.
fn note(state: &StateDir, request: RequestId, target: &Target) -> io::Result<()> {
    replace(&staging(state)?.join(request.to_string()), OsStr::as_bytes(target.directory.as_os_str()))
}

fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(fs::open(path, flags, Mode::empty())?)
}
