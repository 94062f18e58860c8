//! The agent's state directory: made, locked, and written so that a crash leaves the old or the new.
//!
//! Called by `main` at start and by everything that keeps something. The directory belongs to root alone;
//! what others could have written in it is not trusted, so a loose mode is refused.

use crate::clock::now;
use nix::errno::Errno;
use nix::unistd::geteuid;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Why the state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Another agent has it.
    #[error("state directory {} is in use by another agent; stop that one or give --state-dir", .0.display())]
    InUse(PathBuf),
    /// It belongs to somebody else.
    #[error("state directory {} belongs to uid {got} where the agent is uid {own}; chown it to {own} or give --state-dir", path.display())]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// Its owner.
        got: u32,
        /// Who runs the agent.
        own: u32,
    },
    /// Its mode lets others in.
    #[error("{} has mode {mode:04o} where others need to be shut out, expected {expected:04o}: chmod {expected:o} it", path.display())]
    Loose {
        /// The directory, or a file in it.
        path: PathBuf,
        /// Its mode.
        mode: u32,
        /// What it is to be.
        expected: u32,
    },
    /// The kernel refused.
    #[error("cannot {verb} {}", path.display())]
    Io {
        /// What was tried.
        verb: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

impl StateError {
    /// Whether the disk alone is the reason, so that another start may succeed without hands.
    #[must_use]
    pub fn is_of_disk(&self) -> bool {
        let Self::Io { source, .. } = self else { return false };
        let errno = source.raw_os_error().map(Errno::from_raw);
        matches!(errno, Some(Errno::EIO | Errno::ENOSPC | Errno::EROFS | Errno::EDQUOT))
    }
}

/// A directory that this agent alone uses.
#[derive(Debug)]
pub struct StateDir {
    root: PathBuf,
    _lock: File,
}

impl StateDir {
    /// Makes what is missing of it and takes its lock.
    ///
    /// # Errors
    /// [`StateError`] when it cannot be used.
    pub fn open(root: &Path) -> Result<Self, StateError> {
        make_dir(root)?;
        let found = io_at("look at", root, root.metadata())?;
        let (got, own, mode) = (found.uid(), geteuid().as_raw(), found.mode() & 0o7777);
        if got != own {
            return Err(StateError::Foreign { path: root.to_owned(), got, own });
        }
        if mode & 0o077 != 0 {
            return Err(StateError::Loose { path: root.to_owned(), mode, expected: 0o700 });
        }
        FILES.iter().try_for_each(|name| check_file(&root.join(name)))?;
        let lock = lock(root)?;
        let state = Self { root: root.to_owned(), _lock: lock };
        make_dir(&state.programs())?;
        make_dir(&state.run())?;
        Ok(state)
    }

    /// The directory itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where programs are staged.
    #[must_use]
    pub fn programs(&self) -> PathBuf {
        self.root.join("programs")
    }

    /// Where what runs has its directories.
    #[must_use]
    pub fn run(&self) -> PathBuf {
        self.root.join("run")
    }
}

/// Puts `bytes` at `path` so that after a crash either the old or the new content is there, whole.
///
/// # Errors
/// The kernel's refusal; the old content stays.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let fresh = path.with_extension("new");
    match std::fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&fresh, path)?;
    sync_parent(path)
}

/// Puts `bytes` over a file of that very length, where the disk has no room for a second one. For what fits a sector:
/// the kernel writes that whole or not at all.
///
/// # Errors
/// The kernel's refusal, or another length.
pub fn overwrite(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    if file.metadata()?.len() != bytes.len() as u64 {
        return Err(io::ErrorKind::InvalidData.into());
    }
    file.write_all_at(bytes, 0)?;
    file.sync_data()
}

/// Makes a name in the directory of `path` as durable as the file behind it.
///
/// # Errors
/// The kernel's refusal.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or_else(|| Path::new(".")))?.sync_all()
}

/// Adds what was tried on which path to an error.
pub(crate) fn io_at<T>(verb: &'static str, path: &Path, result: io::Result<T>) -> Result<T, StateError> {
    result.map_err(|source| StateError::Io { verb, path: path.to_owned(), source })
}

fn make_dir(path: &Path) -> Result<(), StateError> {
    if path.is_dir() {
        return Ok(());
    }
    io_at("make", path, DirBuilder::new().recursive(true).mode(0o700).create(path))?;
    // What is to outlive a crash in it does so by its name too.
    io_at("keep the name of", path, sync_parent(path))
}

/// What others could write is not the agent's own word, and what they could read is no secret.
fn check_file(path: &Path) -> Result<(), StateError> {
    let mode = match path.symlink_metadata() {
        Ok(found) => found.mode() & 0o7777,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return io_at("look at", path, Err(error)),
    };
    let loose = || StateError::Loose { path: path.to_owned(), mode, expected: 0o600 };
    if mode & 0o077 == 0 { Ok(()) } else { Err(loose()) }
}

/// A directory on a read-only file system can still be locked: the lock sits on the directory itself. An agent that
/// was killed while it forked a supervisor leaves the lock with that for a moment.
fn lock(root: &Path) -> Result<File, StateError> {
    let dir = io_at("open", root, File::open(root))?;
    let deadline = now().after(LOCK_MS_MAX);
    loop {
        match dir.try_lock() {
            Ok(()) => return Ok(dir),
            Err(TryLockError::WouldBlock) if now() < deadline => std::thread::sleep(LOCK_STEP),
            Err(TryLockError::WouldBlock) => return Err(StateError::InUse(root.to_owned())),
            Err(TryLockError::Error(source)) => return io_at("lock", root, Err(source)),
        }
    }
}

/// Milliseconds for a supervisor that was just forked to close what it does not need.
const LOCK_MS_MAX: u64 = 2_000;
const LOCK_STEP: Duration = Duration::from_millis(10);

/// The agent's files beside its key, which has a check of its own.
const FILES: &[&str] = &["journal", "token", "token-share"];

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_second_agent_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("state");
        let first = StateDir::open(&root).unwrap();
        assert!(matches!(StateDir::open(&root), Err(StateError::InUse(_))));
        drop(first);
        StateDir::open(&root).unwrap();
    }

    #[test]
    fn a_directory_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let error = StateDir::open(dir.path()).unwrap_err();
        assert!(error.to_string().contains("mode 0755"), "{error}");
    }

    #[test]
    fn a_file_of_the_agents_that_others_can_open_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("state");
        drop(StateDir::open(&root).unwrap());
        for name in FILES {
            let path = root.join(name);
            replace(&path, b"its content").unwrap();
            drop(StateDir::open(&root).unwrap());
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
            let error = StateDir::open(&root).unwrap_err().to_string();
            assert!(
                error.contains(&format!("{name} has mode 0644")) && error.contains("chmod 600"),
                "{error}"
            );
            std::fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn a_directory_of_somebody_else_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        // Only root can give a directory away; for anybody else there is one of root's.
        let path = if geteuid().is_root() {
            std::os::unix::fs::chown(dir.path(), Some(65_534), None).unwrap();
            dir.path()
        } else {
            Path::new("/")
        };
        assert!(matches!(StateDir::open(path), Err(StateError::Foreign { .. })));
    }

    #[test]
    fn replace_is_private_and_leaves_no_second_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        std::fs::write(dir.path().join("token.new"), b"left over").unwrap();
        replace(&path, b"one").unwrap();
        replace(&path, b"two").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
