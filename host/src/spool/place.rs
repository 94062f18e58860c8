//! The spool directory and what is below it: `DIR/GUEST/inbox`, `outbox` and `work`, opened so that no link and no
//! mount leads elsewhere.
//!
//! Made for each guest when it is added, and looked at again before each use. Trusts `DIR` and `DIR/GUEST`, which
//! only root and the manager's user may write, and sees to that; an inbox and an outbox are for their writers, and
//! nothing in them is trusted.

use crate::store::StoreError;
use doorbell_lease::{Leased, NoLease};
use doorbell_wire::ids::{GuestId, GuestName};
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::Uid;
use rustix::fs::{self, AtFlags, Mode, OFlags, RenameFlags, ResolveFlags, StatxFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The spool directory, which no other manager uses while this lasts.
#[derive(Clone, Debug)]
pub struct Spool {
    dir: Arc<Path>,
    root: Arc<Flock<File>>,
    // Held while directories are made or set aside: a guest may be removed and another one added at the same time.
    changing: Arc<Mutex<()>>,
}

/// The directories of one guest.
#[derive(Debug)]
pub(super) struct Rooms {
    /// Where its writers put programs and requests.
    pub(super) inbox: OwnedFd,
    /// Where they find receipts and refusals.
    pub(super) outbox: OwnedFd,
    /// The manager's own, on the same file system: what is between two places.
    pub(super) work: OwnedFd,
}

impl Spool {
    /// Takes the spool directory into use; it is made where there is none.
    ///
    /// # Errors
    /// When others can write it, another manager has it, or its file system cannot do what is needed.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let shown = dir.display();
        let unusable = |error: io::Error| {
            StoreError::invalid(format!(
                "spool directory {shown} cannot be used: {error}: make it usable, or leave spool-dir out"
            ))
        };
        if !dir.is_dir() {
            std::fs::DirBuilder::new().mode(0o711).recursive(true).create(dir).map_err(unusable)?;
            std::fs::set_permissions(dir, open_to_pass()).map_err(unusable)?;
        }
        let root = File::open(dir).map_err(unusable)?;
        let about = root.metadata().map_err(unusable)?;
        if !is_ours(about.uid()) || about.mode() & 0o022 != 0 {
            return Err(StoreError::invalid(format!(
                "spool directory {shown} has owner {} and mode {:04o}, expected root or the manager's user and nobody else who may write: `chown root` and `chmod 0711` it",
                about.uid(),
                about.mode() & 0o7777
            )));
        }
        let root = Flock::lock(root, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| {
            StoreError::InUse { message: format!("spool directory {shown} is in use by another doorbelld ({errno}): stop it, or give this one another spool-dir") }
        })?;
        let spool = Self { dir: dir.into(), root: Arc::new(root), changing: Arc::default() };
        spool.probe()?;
        Ok(spool)
    }

    /// Where the directories of a guest are.
    #[must_use]
    pub fn home(&self, guest: &GuestName) -> PathBuf {
        self.dir.join(guest.as_str())
    }

    /// Opens the directories of a guest, and makes those that are missing. What a removed guest of the same name
    /// left is set aside first: whoever could write there has no rights in this one.
    pub(super) fn rooms(&self, name: &GuestName, id: GuestId) -> io::Result<Rooms> {
        let _changing = self.changing();
        let mut home = self.made(name)?;
        match owner_of(&home)? {
            Some(other) if other != id.to_string() => {
                self.set_aside(name, &other, &home)?;
                home = self.made(name)?;
                sign(&home, id)?;
            }
            Some(_) => {}
            None => sign(&home, id)?,
        }
        rooms_in(&home)
    }

    /// Opens the directories that a removed guest left.
    pub(super) fn left_rooms(&self, name: &GuestName, id: GuestId) -> io::Result<Rooms> {
        rooms_in(&self.left(name, id)?)
    }

    /// Takes what a removed guest left out of the way of a later one with its name; nothing is left of what is empty.
    pub(super) fn leave(&self, name: &GuestName, id: GuestId) -> io::Result<()> {
        let _changing = self.changing();
        let home = self.left(name, id)?;
        self.set_aside(name, &id.to_string(), &home)
    }

    /// Every guest's name for which there is a directory, with the id of the guest it belongs to.
    pub(super) fn homes(&self) -> io::Result<Vec<(GuestName, GuestId)>> {
        let mut homes = Vec::new();
        for entry in fs::Dir::read_from(&**self.root)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            let Ok(name) = name.parse::<GuestName>() else { continue };
            let home = beneath(&**self.root, name.as_str(), DIRECTORY);
            let owner = home.and_then(|home| owner_of(&home)).ok().flatten();
            homes.extend(owner.and_then(|owner| owner.parse().ok()).map(|owner| (name, owner)));
        }
        Ok(homes)
    }

    /// The directory of a guest that was removed, if no other guest has its name by now.
    fn left(&self, name: &GuestName, id: GuestId) -> io::Result<OwnedFd> {
        let home = beneath(&**self.root, name.as_str(), DIRECTORY)?;
        if owner_of(&home)?.is_some_and(|owner| owner == id.to_string()) {
            return Ok(home);
        }
        Err(io::Error::other("another guest has this name and the directory"))
    }

    fn set_aside(&self, name: &GuestName, id: &str, home: &OwnedFd) -> io::Result<()> {
        let empty = [INBOX, OUTBOX, WORK].iter().try_for_each(|room| {
            match fs::unlinkat(home, *room, AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT) => Ok(()),
                Err(errno) => Err(errno),
            }
        });
        if empty.is_ok() {
            fs::unlinkat(home, OWNER, AtFlags::empty())?;
            fs::unlinkat(&**self.root, name.as_str(), AtFlags::REMOVEDIR)?;
        } else {
            let (root, aside) = (&**self.root, aside(name, id));
            fs::renameat_with(root, name.as_str(), root, aside, RenameFlags::NOREPLACE)?;
        }
        Ok(fs::fsync(&**self.root)?)
    }

    fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn made(&self, name: &GuestName) -> io::Result<OwnedFd> {
        let made = make(&**self.root, name.as_str(), 0o711)?;
        let home = beneath(&**self.root, name.as_str(), DIRECTORY)?;
        if made {
            fs::fchmod(&home, Mode::from_raw_mode(0o711))?;
            fs::fsync(&**self.root)?;
        }
        let about = fs::fstat(&home)?;
        if is_ours(about.st_uid) && about.st_mode & 0o022 == 0 {
            return Ok(home);
        }
        Err(io::Error::other(format!(
            "{} has owner {} and mode {:04o}, expected root or the manager's user and nobody else who may write",
            self.home(name).display(),
            about.st_uid,
            about.st_mode & 0o7777
        )))
    }

    /// Whether the kernel and the file system tell what is needed, before anything is taken.
    fn probe(&self) -> Result<(), StoreError> {
        let cannot = |why: String| {
            StoreError::invalid(format!(
                "spool directory {} cannot be used: {why}: put it on a local file system, or leave spool-dir out",
                self.dir.display()
            ))
        };
        let told = |error: io::Error| cannot(error.to_string());
        let path = self.dir.join(".probe");
        std::fs::write(&path, b"").map_err(told)?;
        let file = beneath(&**self.root, ".probe", OFlags::RDONLY | OFlags::CLOEXEC);
        std::fs::remove_file(&path).map_err(told)?;
        match Leased::take(File::from(file.map_err(told)?)) {
            Ok(_) => Ok(()),
            Err(NoLease::Written) => Err(cannot("somebody writes the probe file in it".into())),
            Err(NoLease::NotAllowed) => Err(cannot("the manager lacks CAP_LEASE".into())),
            Err(NoLease::NotKept(errno)) => Err(cannot(format!("it keeps no file leases ({errno})"))),
        }
    }
}

/// Opens what is right below a directory of ours. Neither a link nor a mount leads away, and nothing waits.
pub(super) fn beneath<N: rustix::path::Arg>(dir: impl AsFd, name: N, flags: OFlags) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH
        | ResolveFlags::NO_SYMLINKS
        | ResolveFlags::NO_MAGICLINKS
        | ResolveFlags::NO_XDEV;
    let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let mode = if flags.contains(OFlags::CREATE) { Mode::RUSR | Mode::WUSR } else { Mode::empty() };
    Ok(fs::openat2(dir, name, flags, mode, resolve)?)
}

/// What the kernel says of an entry, or of an open file where the name is empty. Follows nothing.
pub(super) fn about(dir: impl AsFd, name: &[u8]) -> io::Result<fs::Statx> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | AtFlags::EMPTY_PATH;
    Ok(fs::statx(dir, name, flags, StatxFlags::BASIC_STATS | StatxFlags::BTIME)?)
}

/// Whether a user may have what belongs to the manager.
pub(super) fn is_ours(uid: u32) -> bool {
    uid == 0 || uid == Uid::effective().as_raw()
}

fn rooms_in(home: &OwnedFd) -> io::Result<Rooms> {
    let rooms = Rooms { inbox: room(home, INBOX)?, outbox: room(home, OUTBOX)?, work: room(home, WORK)? };
    let work = fs::fstat(&rooms.work)?;
    if is_ours(work.st_uid) && work.st_mode & 0o077 == 0 {
        return Ok(rooms);
    }
    Err(io::Error::other("the directory work is open to others: remove it"))
}

fn room(home: &OwnedFd, name: &str) -> io::Result<OwnedFd> {
    let made = make(home, name, 0o700)?;
    let room = beneath(home, name, DIRECTORY)
        .map_err(|error| io::Error::new(error.kind(), format!("the directory {name}: {error}")))?;
    if made {
        fs::fsync(home)?;
    }
    Ok(room)
}

/// Whether the directory was not there.
fn make(dir: impl AsFd, name: &str, mode: u32) -> io::Result<bool> {
    match fs::mkdirat(dir, name, Mode::from_raw_mode(mode)) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// The id of the guest that a directory was made for.
fn owner_of(home: &OwnedFd) -> io::Result<Option<String>> {
    let file = match beneath(home, OWNER, OFlags::RDONLY) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => File::from(file?),
    };
    let mut id = String::new();
    file.take(64).read_to_string(&mut id)?;
    Ok(Some(id.trim().to_owned()))
}

fn sign(home: &OwnedFd, id: GuestId) -> io::Result<()> {
    let fresh = format!("{OWNER}.new");
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC;
    let mut file = File::from(beneath(home, fresh.as_str(), flags)?);
    writeln!(file, "{id}")?;
    file.sync_all()?;
    fs::renameat(home, fresh.as_str(), home, OWNER)?;
    Ok(fs::fsync(home)?)
}

fn aside(name: &GuestName, id: &str) -> String {
    let id: String = id.chars().filter(char::is_ascii_hexdigit).collect();
    format!(".removed-{name}-{id}")
}

fn open_to_pass() -> std::fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(0o711)
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY);
pub(super) const INBOX: &str = "inbox";
pub(super) const OUTBOX: &str = "outbox";
const WORK: &str = "work";
/// Holds the id of the guest that a directory belongs to.
const OWNER: &str = ".guest";
