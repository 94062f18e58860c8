//! Directories that somebody else may write, opened so that no link, mount, pipe or device leads elsewhere.
//!
//! Used for both directories of a share: the guest writes one of them, and the user its machine runs as may reach both.
//! Everything is named from an open directory downwards; what is opened for reading is a plain file with one name.

use rustix::fs::{
    AtFlags, FallocateFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Uid, fallocate, fchown, fstat,
    mkdirat, openat2, renameat, statat, unlinkat,
};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;

/// An open directory.
#[derive(Debug)]
pub(super) struct Dir(OwnedFd);

/// Whom the files that the manager makes are to belong to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Owner {
    uid: u32,
    gid: u32,
}

impl Dir {
    /// The directory that the operator named.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(rustix::fs::open(path, DIRECTORY, Mode::empty())?))
    }

    /// Its owner.
    pub(super) fn owner(&self) -> io::Result<Owner> {
        let Stat { st_uid: uid, st_gid: gid, .. } = fstat(&self.0)?;
        Ok(Owner { uid, gid })
    }

    /// A directory in it, which may be a file system of its own; `None` when there is none.
    pub(super) fn room(&self, name: &str) -> io::Result<Option<Self>> {
        let resolve = RESOLVE.difference(ResolveFlags::NO_XDEV);
        absent(openat2(&self.0, name, DIRECTORY, Mode::empty(), resolve)).map(|dir| dir.map(Self))
    }

    /// A directory in it; `None` when there is none.
    pub(super) fn dir(&self, path: &str) -> io::Result<Option<Self>> {
        absent(openat2(&self.0, path, DIRECTORY, Mode::empty(), RESOLVE)).map(|dir| dir.map(Self))
    }

    /// A directory in it, made where there is none.
    pub(super) fn make(&self, name: &str, owner: Owner) -> io::Result<Self> {
        match mkdirat(&self.0, name, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
        let dir = self.dir(name)?.ok_or_else(|| io::Error::from(Errno::NOENT))?;
        give(&dir.0, owner)?;
        Ok(dir)
    }

    /// The same for one that may be a file system of its own; that keeps its owner.
    pub(super) fn make_room(&self, name: &str, owner: Owner) -> io::Result<Self> {
        match self.room(name)? {
            Some(room) => Ok(room),
            None => self.make(name, owner),
        }
    }

    /// A plain file in it; `None` when there is none. What it is shows before it is opened: opening a pipe or a
    /// device could already have an effect.
    pub(super) fn file(&self, path: &str) -> io::Result<Option<File>> {
        let found = absent(openat2(&self.0, path, LOOKED_AT, Mode::empty(), RESOLVE))?;
        let Some(found) = found else { return Ok(None) };
        let stat = fstat(&found)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(io::Error::other("it is no plain file"));
        }
        if stat.st_nlink != 1 {
            return Err(io::Error::other(format!("it has {} names where one is expected", stat.st_nlink)));
        }
        File::open(format!("/proc/self/fd/{}", found.as_raw_fd())).map(Some)
    }

    /// Puts a file in place, whole.
    pub(super) fn place(&self, name: &str, bytes: &[u8], owner: Owner) -> io::Result<()> {
        let fresh = format!("{name}.new");
        let mut file = self.create(&fresh, owner)?;
        file.write_all(bytes)?;
        drop(file);
        self.rename(&fresh, name)
    }

    /// A new file in the place of whatever is there.
    pub(super) fn create(&self, name: &str, owner: Owner) -> io::Result<File> {
        self.remove(name)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | CAREFUL;
        let file = openat2(&self.0, name, flags, Mode::RUSR | Mode::WUSR, RESOLVE)?;
        give(&file, owner)?;
        Ok(file.into())
    }

    /// Gives a file in it another name.
    pub(super) fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        Ok(renameat(&self.0, from, &self.0, to)?)
    }

    /// Removes a file, if it is there.
    pub(super) fn remove(&self, name: &str) -> io::Result<()> {
        absent(unlinkat(&self.0, name, AtFlags::empty())).map(|_| ())
    }

    /// Removes a directory in it with the files and the directories of files that are there.
    pub(super) fn clear(&self, name: &str) -> io::Result<()> {
        let Some(dir) = self.dir(name)? else { return Ok(()) };
        for entry in dir.names()? {
            match unlinkat(&dir.0, &*entry, AtFlags::empty()) {
                Err(Errno::ISDIR | Errno::PERM) => dir.clear(&entry)?,
                removed => absent(removed).map(|_| ())?,
            }
        }
        absent(unlinkat(&self.0, name, AtFlags::REMOVEDIR)).map(|_| ())
    }

    /// The names in it that are text, so many at most.
    pub(super) fn names(&self) -> io::Result<Vec<String>> {
        let entries = rustix::fs::Dir::read_from(&self.0)?;
        let mut names = Vec::new();
        for entry in entries.take(NAMES_MAX) {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name != "." && name != ".." {
                names.push(name);
            }
        }
        Ok(names)
    }

    /// How much lies in it and below it: entries and bytes on the disk, as far as one look goes.
    pub(super) fn weigh(&self, depth: u8) -> io::Result<Weight> {
        let mut weight = Weight::default();
        for name in self.names()? {
            weight.entries = weight.entries.saturating_add(1);
            let Some(stat) = absent(statat(&self.0, &*name, AtFlags::SYMLINK_NOFOLLOW))? else { continue };
            weight.bytes = weight.bytes.saturating_add(blocks(&stat));
            let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            if is_dir
                && depth > 0
                && let Ok(Some(below)) = self.dir(&name)
            {
                let below = below.weigh(depth.saturating_sub(1))?;
                weight.entries = weight.entries.saturating_add(below.entries);
                weight.bytes = weight.bytes.saturating_add(below.bytes);
            }
        }
        Ok(weight)
    }

    /// Gives back the disk of a file's first `len` bytes; its length stays.
    pub(super) fn give_back(&self, path: &str, len: u64) -> io::Result<()> {
        if self.file(path)?.is_none() {
            return Ok(());
        }
        let file = openat2(&self.0, path, OFlags::RDWR | CAREFUL, Mode::empty(), RESOLVE)?;
        Ok(fallocate(&file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 0, len)?)
    }
}

/// What lies in a directory.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Weight {
    pub(super) entries: u64,
    pub(super) bytes: u64,
}

fn blocks(stat: &Stat) -> u64 {
    u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512)
}

/// Whoever may not give a file away keeps it.
fn give(file: &OwnedFd, owner: Owner) -> io::Result<()> {
    let Stat { st_uid, st_gid, .. } = fstat(file)?;
    if (Owner { uid: st_uid, gid: st_gid }) == owner {
        return Ok(());
    }
    match fchown(file, Some(Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid))) {
        Ok(()) | Err(Errno::PERM) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

fn absent<T>(result: Result<T, Errno>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

const CAREFUL: OFlags = OFlags::CLOEXEC.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);
const LOOKED_AT: OFlags = OFlags::PATH.union(OFlags::CLOEXEC).union(OFlags::NOFOLLOW);
const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
const RESOLVE: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);
/// Names that one look at a directory takes: a guest may make as many as its disk has inodes.
const NAMES_MAX: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;
    use std::os::unix::fs::symlink;

    fn dir() -> (tempfile::TempDir, Dir) {
        let dir = tempfile::tempdir().unwrap();
        let open = Dir::open(dir.path()).unwrap();
        (dir, open)
    }

    #[test]
    fn only_a_plain_file_with_one_name_is_read() {
        let (path, dir) = dir();
        let at = |name: &str| path.path().join(name);
        std::fs::write(at("plain"), b"words").unwrap();
        let mut text = String::new();
        dir.file("plain").unwrap().unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "words");
        assert!(dir.file("none").unwrap().is_none());
        symlink("plain", at("link")).unwrap();
        symlink("/etc", at("etc")).unwrap();
        symlink("none", at("dangling")).unwrap();
        std::fs::write(at("two"), b"").unwrap();
        std::fs::hard_link(at("two"), at("names")).unwrap();
        std::fs::create_dir(at("dir")).unwrap();
        nix::unistd::mkfifo(&at("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        for name in [
            "link",
            "etc",
            "etc/passwd",
            "dangling",
            "two",
            "names",
            "dir",
            "fifo",
            "socket",
            "../x",
            "/etc/passwd",
        ] {
            assert!(dir.file(name).is_err(), "{name} was opened");
        }
        assert!(dir.dir("etc").is_err() && dir.dir("dir").unwrap().is_some());
    }

    #[test]
    fn what_stands_in_the_way_of_a_file_is_replaced_and_never_followed() {
        let (path, dir) = dir();
        let victim = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(victim.path(), b"untouched").unwrap();
        let owner = dir.owner().unwrap();
        for name in ["answer.new", "answer"] {
            symlink(victim.path(), path.path().join(name)).unwrap();
        }
        dir.place("answer", b"bytes", owner).unwrap();
        assert_eq!(std::fs::read(path.path().join("answer")).unwrap(), b"bytes");
        assert_eq!(std::fs::read(victim.path()).unwrap(), b"untouched");
        symlink(victim.path().parent().unwrap(), path.path().join("sessions")).unwrap();
        assert!(dir.make("sessions", owner).is_err() && dir.clear("sessions").is_err());
    }

    #[test]
    fn a_tree_is_weighed_cleared_and_its_files_give_back_their_disk() {
        let (path, dir) = dir();
        let tree = path.path().join("sessions/one");
        std::fs::create_dir_all(&tree).unwrap();
        std::fs::write(tree.join("stdout"), vec![1; 1 << 20]).unwrap();
        let before = dir.weigh(3).unwrap();
        assert!(before.bytes >= 1 << 20 && before.entries == 3, "{before:?}");
        dir.give_back("sessions/one/stdout", 1 << 20).unwrap();
        assert!(dir.weigh(3).unwrap().bytes < 1 << 20);
        assert_eq!(tree.join("stdout").metadata().unwrap().len(), 1 << 20);
        dir.clear("sessions").unwrap();
        assert_eq!(dir.names().unwrap(), Vec::<String>::new());
    }
}
