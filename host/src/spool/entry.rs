//! One entry of an inbox: looked at without opening it, then opened so that it is what was looked at, whole, and put
//! there by somebody who may.
//!
//! Called by the intake. Trusts nothing: an entry may be replaced between any two calls, by its own writer.

use super::place::{about, beneath, is_ours};
use doorbell_lease::{Leased, NoLease};
use nix::unistd::{Gid, Group, Uid, User};
use rustix::fs::{FileType, OFlags, Statx, StatxTimestamp};
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// An entry as the directory shows it.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// Its name, bytes that need not be text.
    pub(super) name: Vec<u8>,
    /// What the kernel says of it.
    pub(super) about: About,
}

/// What the kernel says of a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct About {
    /// Which file it is: nothing that is done to a file changes this.
    pub(super) same: Same,
    /// When it was last changed; any write changes this.
    pub(super) changed: (i64, u32),
    /// Its bytes.
    pub(super) len: u64,
    /// Its type and mode.
    pub(super) mode: u16,
    /// Under how many names it is known.
    pub(super) links: u32,
    /// Whose it is.
    pub(super) uid: u32,
}

/// Which file it is. The number alone is used again when a file is gone; the time it was made is not.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct Same {
    pub(super) inode: u64,
    pub(super) made: (i64, u32),
}

impl From<Statx> for About {
    fn from(stat: Statx) -> Self {
        let time = |at: StatxTimestamp| (at.tv_sec, at.tv_nsec);
        Self {
            same: Same { inode: stat.stx_ino, made: time(stat.stx_btime) },
            changed: time(stat.stx_ctime),
            len: stat.stx_size,
            mode: stat.stx_mode,
            links: stat.stx_nlink,
            uid: stat.stx_uid,
        }
    }
}

/// What the kernel says of an entry, or of an open file where the name is empty.
pub(super) fn about_of(dir: impl std::os::fd::AsFd, name: &[u8]) -> io::Result<About> {
    about(dir, name).map(About::from)
}

/// Why an entry is not taken.
#[derive(Debug)]
pub(super) enum Fault {
    /// It is not there or not whole yet.
    NotYet,
    /// It never will be, for this reason.
    Refused(String),
    /// The manager cannot look.
    Broken(io::Error),
}

/// All entries of a directory, up to a bound, in the order in which they came.
pub(super) fn list(dir: &OwnedFd) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for entry in rustix::fs::Dir::read_from(dir)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name == b"." || name == b".." {
            continue;
        }
        match about_of(dir, &name) {
            Ok(about) => entries.push(Entry { name, about }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        if entries.len() >= LISTED_MAX {
            break;
        }
    }
    entries.sort_by(|one, other| (one.about.changed, &one.name).cmp(&(other.about.changed, &other.name)));
    Ok(entries)
}

/// What is known of files that were written in place: each has to lie untouched for a while.
#[derive(Debug, Default)]
pub(super) struct Quiet {
    since: HashMap<Same, (About, Instant)>,
}

impl Quiet {
    /// Whether an entry has not been changed for long enough. A first look is the first moment.
    pub(super) fn is_settled(&mut self, about: &About, now: Instant) -> bool {
        let (known, since) = self.since.entry(about.same).or_insert((*about, now));
        if *known != *about {
            (*known, *since) = (*about, now);
        }
        now.saturating_duration_since(*since) >= SETTLED_IN
    }

    /// Forgets all but these.
    pub(super) fn keep(&mut self, entries: &[Entry]) {
        let there: std::collections::HashSet<Same> = entries.iter().map(|entry| entry.about.same).collect();
        self.since.retain(|same, _| there.contains(same));
    }
}

/// Opens an entry whose bytes are to be taken; while the lease holds, nobody has written.
pub(super) fn open(inbox: &OwnedFd, entry: &Entry, len_max: u64, writers: &Writers) -> Result<Leased, Fault> {
    if let Some(what) = foreign(&entry.about) {
        return Err(Fault::Refused(format!("it is {what}; only a regular file is taken")));
    }
    let file = match beneath(inbox, entry.name.as_slice(), OFlags::RDONLY) {
        Ok(opened) => File::from(opened),
        Err(error) => return Err(unopened(error)),
    };
    let opened: About = about_of(&file, b"").map_err(Fault::Broken)?;
    if opened.same != entry.about.same {
        return Err(Fault::NotYet);
    }
    // The lease first: what is not finished may still get the mode and the owner that it should have.
    let leased = match Leased::take(file) {
        Ok(leased) => leased,
        Err(NoLease::Written) => return Err(Fault::NotYet),
        Err(NoLease::NotAllowed) => {
            let uid = opened.uid;
            return Err(Fault::Refused(format!(
                "it belongs to uid {uid}, and the manager lacks CAP_LEASE to see whether its writer is done: \
                 run doorbelld as root"
            )));
        }
        Err(NoLease::NotKept(errno)) => return Err(Fault::Broken(errno.into())),
    };
    admit(&opened, len_max).map_err(Fault::Refused)?;
    writers.admit(opened.uid).map_err(Fault::Refused)?;
    Ok(leased)
}

/// Whether the bytes that were read are those of the entry: nobody has begun to write, and nothing has changed.
pub(super) fn is_unchanged(leased: &Leased, entry: &Entry) -> bool {
    let now = about_of(leased.file(), b"");
    leased.holds() && now.is_ok_and(|now| now == entry.about)
}

/// What it is, if it is no regular file.
pub(super) fn foreign(about: &About) -> Option<&'static str> {
    match FileType::from_raw_mode(about.mode.into()) {
        FileType::RegularFile => None,
        FileType::Directory => Some("a directory"),
        FileType::Symlink => Some("a symbolic link"),
        FileType::Fifo => Some("a FIFO"),
        FileType::Socket => Some("a socket"),
        FileType::CharacterDevice | FileType::BlockDevice => Some("a device"),
        FileType::Unknown => Some("of no known type"),
    }
}

fn admit(about: &About, len_max: u64) -> Result<(), String> {
    let About { links, mode, len, .. } = *about;
    if links != 1 {
        return Err(format!("it has {links} names, expected one: copy it instead of linking it"));
    }
    if mode & 0o6000 != 0 {
        return Err(format!(
            "its mode {:04o} sets a user or group, which holds nowhere: take that off",
            mode & 0o7777
        ));
    }
    if len == 0 {
        return Err("it is empty".into());
    }
    if len > len_max {
        return Err(format!("it has {len} bytes, {len_max} are allowed"));
    }
    Ok(())
}

fn unopened(error: io::Error) -> Fault {
    use rustix::io::Errno;
    match Errno::from_io_error(&error) {
        Some(Errno::ACCESS | Errno::PERM) => Fault::Refused("the manager may not read it".into()),
        // Gone, or replaced by a link, a mount, a FIFO or a device since it was looked at: the next look tells.
        Some(Errno::NOENT | Errno::LOOP | Errno::XDEV | Errno::NXIO | Errno::NODEV | Errno::AGAIN) => {
            Fault::NotYet
        }
        _ => Fault::Broken(error),
    }
}

/// Who may put files into an inbox, by its owner, group and mode.
#[derive(Clone, Copy, Debug)]
pub(super) struct Writers {
    uid: u32,
    gid: u32,
    mode: u32,
    in_group: fn(u32, u32) -> bool,
}

impl Writers {
    /// Who may write into this directory.
    pub(super) fn of(inbox: &OwnedFd) -> io::Result<Self> {
        let about = rustix::fs::fstat(inbox)?;
        Ok(Self { uid: about.st_uid, gid: about.st_gid, mode: about.st_mode, in_group })
    }

    /// Whether anything is taken from there at all.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.mode & 0o002 == 0 {
            return Ok(());
        }
        Err(format!(
            "the inbox has mode {:04o}: everybody on this host may write there; `chmod o-w` it",
            self.mode & 0o7777
        ))
    }

    /// Whether a file's owner is one of them. Whoever may write into a directory can also move a file of another
    /// there, and would then ask in that one's name.
    fn admit(&self, uid: u32) -> Result<(), String> {
        let shared = self.mode & 0o020 != 0;
        if is_ours(self.uid) && !shared {
            return if is_ours(uid) { Ok(()) } else { Err(stranger(uid)) };
        }
        if is_ours(uid) {
            return Err(format!(
                "it belongs to uid {uid}, in whose name others who may write here could ask: use `doorbell run`"
            ));
        }
        if uid == self.uid || (shared && (self.in_group)(uid, self.gid)) {
            Ok(())
        } else {
            Err(stranger(uid))
        }
    }
}

fn stranger(uid: u32) -> String {
    format!(
        "it belongs to uid {uid}, who is neither the owner of the inbox nor in the group that may write there"
    )
}

/// By the user and group data bases: nobody can be asked which groups a file's owner had.
fn in_group(uid: u32, gid: u32) -> bool {
    let Some(user) = User::from_uid(Uid::from_raw(uid)).ok().flatten() else { return false };
    let listed = || {
        Group::from_gid(Gid::from_raw(gid)).ok().flatten().is_some_and(|group| group.mem.contains(&user.name))
    };
    user.gid.as_raw() == gid || listed()
}

/// Entries that are looked at in one pass: more are seen when these are gone.
const LISTED_MAX: usize = 16_384;
/// How long a file that was written in place has to lie untouched: its writer may open it again.
pub(super) const SETTLED_IN: Duration = Duration::from_secs(1);
