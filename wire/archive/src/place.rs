//! A directory of ours, and names beneath it that never lead out.
//!
//! Called by `unpack` and by those who remove what it made. Directories are opened so that the kernel itself
//! refuses links and ways up; where it is too old for that, step by step, each step without following.

use rustix::fs::{self, AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Opens a directory beneath `root`: `parts` are names without `/`, none of them `.` or `..`.
pub(crate) fn open_beneath(root: BorrowedFd<'_>, parts: &[&[u8]]) -> io::Result<OwnedFd> {
    let path = if parts.is_empty() { b".".to_vec() } else { parts.join(&b'/') };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match fs::openat2(root, path.as_slice(), DIRECTORY, Mode::empty(), resolve) {
        // Before Linux 5.6, and where a filter of system calls does not know it.
        Err(Errno::NOSYS | Errno::PERM) => step_by_step(root, parts),
        opened => Ok(opened?),
    }
}

fn step_by_step(root: BorrowedFd<'_>, parts: &[&[u8]]) -> io::Result<OwnedFd> {
    let mut at = fs::openat(root, c".", DIRECTORY, Mode::empty())?;
    for part in parts {
        at = fs::openat(&at, *part, DIRECTORY, Mode::empty())?;
    }
    Ok(at)
}

/// A file that was not there before.
pub(crate) fn create(directory: impl AsFd, name: &[u8]) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(File::from(fs::openat(directory, name, flags, Mode::RUSR | Mode::WUSR)?))
}

/// Removes `name` in `directory`, with all beneath it where it is a directory. Follows no link. A name that
/// is not there is removed already.
///
/// # Errors
/// The kernel's first refusal; what can be removed is removed all the same.
pub fn remove_tree(directory: impl AsFd, name: &[u8]) -> io::Result<()> {
    match remove(directory.as_fd(), name, 0) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

fn remove(directory: BorrowedFd<'_>, name: &[u8], depth: usize) -> io::Result<()> {
    match fs::unlinkat(directory, name, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) => {}
        done => return Ok(done?),
    }
    let mut first = Ok(());
    // What is deeper than that is not ours, and stays; the directory above it then says so.
    if depth < crate::DEPTH_MAX {
        let opened = open_listed(directory, name)?;
        let mut list = Dir::read_from(&opened)?;
        while let Some(entry) = list.read() {
            let entry = entry?;
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                let removed = remove(opened.as_fd(), entry.file_name().to_bytes(), depth.saturating_add(1));
                first = first.and(removed);
            }
        }
    }
    first?;
    Ok(fs::unlinkat(directory, name, AtFlags::REMOVEDIR)?)
}

/// A directory of ours may have been left without the right to enter it.
fn open_listed(directory: BorrowedFd<'_>, name: &[u8]) -> io::Result<OwnedFd> {
    match fs::openat(directory, name, DIRECTORY, Mode::empty()) {
        Err(Errno::ACCESS) if is_directory(directory, name) => {
            // Between look and change only root or ourselves could have swapped it, in a directory of ours.
            fs::chmodat(directory, name, Mode::RWXU, AtFlags::empty())?;
            Ok(fs::openat(directory, name, DIRECTORY, Mode::empty())?)
        }
        opened => Ok(opened?),
    }
}

fn is_directory(directory: BorrowedFd<'_>, name: &[u8]) -> bool {
    let seen = fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW);
    seen.is_ok_and(|seen| FileType::from_raw_mode(seen.st_mode) == FileType::Directory)
}

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn no_way_out_by_either_walk() {
        let outside = tempfile::tempdir().unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("a/b")).unwrap();
        symlink(outside.path(), dir.path().join("a/out")).unwrap();
        symlink("b", dir.path().join("a/in")).unwrap();
        let root = File::open(dir.path()).unwrap();
        for open in [open_beneath, step_by_step] {
            assert!(open(root.as_fd(), &[b"a", b"b"]).is_ok());
            assert!(open(root.as_fd(), &[]).is_ok());
            for leads_out in [[b"a".as_slice(), b"out"], [b"a", b"in"], [b"a", b"gone"]] {
                assert!(open(root.as_fd(), &leads_out).is_err(), "{leads_out:?}");
            }
        }
        assert!(open_beneath(root.as_fd(), &[b".."]).is_err());
    }

    #[test]
    fn a_tree_is_removed_and_what_its_links_lead_to_is_not() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("kept"), "x").unwrap();
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().join("top");
        std::fs::create_dir_all(top.join("a/b/c")).unwrap();
        std::fs::write(top.join("a/b/file"), "x").unwrap();
        symlink(outside.path(), top.join("a/link")).unwrap();
        let root = File::open(dir.path()).unwrap();
        remove_tree(&root, b"top").unwrap();
        remove_tree(&root, b"top").unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        assert!(outside.path().join("kept").exists());
    }
}
