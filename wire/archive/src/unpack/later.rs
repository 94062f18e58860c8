//! What is done when all files are there: links, and what directories are to look like.
//!
//! Called by `unpack`. A link that is made earlier could be led through, and a directory that may not be written
//! any more would take no further file. So both are remembered, within a limit.

use super::{Options, Owner};
use crate::error::{Fault, UnpackError};
use crate::place::open_beneath;
use crate::read::Entry;
use crate::sparse;
use rustix::fs::{self, AtFlags, Gid, Mode, Timespec, Timestamps, UTIME_OMIT, Uid};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

/// What waits for the end.
#[derive(Debug, Default)]
pub(super) struct Later {
    links: Vec<Link>,
    directories: Vec<(Vec<u8>, Look)>,
    len: usize,
}

#[derive(Debug)]
struct Link {
    path: Vec<u8>,
    target: Vec<u8>,
    look: Look,
}

/// Permission bits and time of an entry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    mode: u32,
    mtime: u64,
}

impl Later {
    pub(super) fn link(&mut self, parts: &[&[u8]], entry: &Entry) -> Result<(), UnpackError> {
        let path = parts.join(&b'/');
        self.remember(path.len().saturating_add(entry.link.len()))?;
        self.links.push(Link { path, target: entry.link.clone(), look: Look::of(entry) });
        Ok(())
    }

    pub(super) fn directory(&mut self, parts: &[&[u8]], entry: &Entry) -> Result<(), UnpackError> {
        let path = parts.join(&b'/');
        self.remember(path.len())?;
        self.directories.push((path, Look::of(entry)));
        Ok(())
    }

    fn remember(&mut self, len: usize) -> Result<(), UnpackError> {
        self.len = self.len.saturating_add(len).saturating_add(size_of::<Link>());
        if self.len > LATER_LEN_MAX {
            return Err(UnpackError::Malformed("more directories and links than can be remembered"));
        }
        Ok(())
    }

    pub(super) fn done(
        self,
        root: BorrowedFd<'_>,
        options: &Options,
        tell: &mut dyn FnMut(&Fault),
    ) -> Result<(), UnpackError> {
        let mut judge = |path: &[u8], done: io::Result<()>| match done {
            Err(source) if sparse::is_fatal(&source) => {
                Err(UnpackError::Write { path: path.to_vec(), source })
            }
            Err(error) => {
                tell(&Fault::kernel(path, &error));
                Ok(())
            }
            Ok(()) => Ok(()),
        };
        for link in &self.links {
            judge(&link.path, link.make(root, options))?;
        }
        // From the last to the first: what is beneath comes before what may shut it in.
        for (path, look) in self.directories.iter().rev() {
            let parts: Vec<&[u8]> =
                path.split(|&byte| byte == b'/').filter(|part| !part.is_empty()).collect();
            let done = open_beneath(root, &parts).and_then(|directory| look.put_on(directory, options));
            judge(path, done)?;
        }
        Ok(())
    }
}

impl Link {
    fn make(&self, root: BorrowedFd<'_>, options: &Options) -> io::Result<()> {
        let mut parts: Vec<&[u8]> = self.path.split(|&byte| byte == b'/').collect();
        let name = parts.pop().unwrap_or_default();
        let parent = open_beneath(root, &parts)?;
        fs::symlinkat(self.target.as_slice(), &parent, name)?;
        if let Owner::Given { uid, gid } = options.owner {
            fs::chownat(
                &parent,
                name,
                uid.map(Uid::from_raw),
                gid.map(Gid::from_raw),
                AtFlags::SYMLINK_NOFOLLOW,
            )?;
        }
        Ok(fs::utimensat(&parent, name, &self.look.times(), AtFlags::SYMLINK_NOFOLLOW)?)
    }
}

impl Look {
    /// That of a directory that has no entry of its own.
    pub(super) const UNSAID: Self = Self { mode: 0o755, mtime: u64::MAX };

    pub(super) const fn of(entry: &Entry) -> Self {
        Self { mode: entry.fields.mode, mtime: entry.fields.mtime }
    }

    /// Owner first: a change of it takes some permission bits away.
    pub(super) fn put_on(self, opened: impl AsFd, options: &Options) -> io::Result<()> {
        let kept = match options.owner {
            Owner::Own => 0o777,
            Owner::Given { uid, gid } => {
                fs::fchown(&opened, uid.map(Uid::from_raw), gid.map(Gid::from_raw))?;
                0o7777
            }
        };
        fs::fchmod(&opened, Mode::from_raw_mode(self.mode & kept & !options.umask))?;
        Ok(fs::futimens(&opened, &self.times())?)
    }

    fn times(self) -> Timestamps {
        let omitted = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
        let last_modification =
            i64::try_from(self.mtime).map_or(omitted, |tv_sec| Timespec { tv_sec, tv_nsec: 0 });
        Timestamps { last_access: omitted, last_modification }
    }
}

/// Whether a link in a directory so deep in the tree leads to something within it, whatever other links there
/// are: it may first go up to the top, and then only down. Behind a name a way up could start anywhere.
pub(super) fn stays_within(depth: usize, target: &[u8]) -> bool {
    if target.is_empty() || target.starts_with(b"/") {
        return false;
    }
    let mut parts = target.split(|&byte| byte == b'/').filter(|part| !matches!(*part, b"" | b".")).peekable();
    let mut ups = 0_usize;
    while parts.next_if_eq(&b"..".as_slice()).is_some() {
        ups = ups.saturating_add(1);
    }
    ups <= depth && !parts.any(|part| part == b"..")
}

/// Bytes of names and links that are remembered.
const LATER_LEN_MAX: usize = 64 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_goes_up_first_and_not_above_the_top() {
        for (depth, target, within) in [
            (0, "a", true),
            (0, "./a//b/.", true),
            (0, ".", true),
            (0, "..", false),
            (1, "..", true),
            (1, "../a", true),
            (2, ".././../a", true),
            (1, "../../a", false),
            (0, "a/..", false),
            (3, "a/../b", false),
            (3, "../a/..", false),
            (3, "/etc/passwd", false),
            (3, "", false),
            (0, "...", true),
        ] {
            assert_eq!(stays_within(depth, target.as_bytes()), within, "{target:?} at {depth}");
        }
    }
}
