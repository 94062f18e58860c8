//! A stream into a fresh name of a directory.
//!
//! Called by the agent for what is pushed and by the command line for what is pulled. The archive is the other
//! side's and may be hostile. All of it has one top, which gets the name that the caller chose; what leads out
//! of it is refused, told, and the others go on. What ends an archive early leaves nothing behind.
//!
//! - Directories are opened so that the kernel refuses links and ways up; a file is made only where none is.
//! - Links are made when everything else is there, and only where they lead to something within the tree.
//! - `set-user-id`, `set-group-id` and `sticky` are kept only where the caller says whose the files are to be.
//!
//! - `top` the one entry that all others lie beneath, and the contents of files
//! - `later` what is done at the end: links, and what directories are to look like

mod later;
mod top;

use crate::error::{Fault, UnpackError};
use crate::header;
use crate::place::{self, open_beneath, remove_tree};
use crate::read::{Entries, Entry};
use crate::{DEPTH_MAX, FAULTS_MAX, Kind, PIECE, Watch, sparse};
use later::{Later, Look};
use rustix::fs::{self, Mode};
use rustix::io::Errno;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use top::Top;

/// How an archive is unpacked.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Whose everything is to be.
    pub owner: Owner,
    /// Permission bits that nothing gets.
    pub umask: u32,
    /// Bytes of all files, at most.
    pub bytes_max: u64,
    /// Files, directories and links, at most.
    pub entries_max: u64,
}

/// Whose the files are to be. An archive's own word on that is never taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Owner {
    /// Who unpacks.
    Own,
    /// These, where given; permission bits of set-user-id and the like are kept then.
    Given {
        /// The owner.
        uid: Option<u32>,
        /// The group.
        gid: Option<u32>,
    },
}

/// What was unpacked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Unpacked {
    /// What the top is.
    pub kind: Kind,
    /// Bytes of all files.
    pub len: u64,
    /// Files, directories and links.
    pub entries: u64,
    /// What was left out or is not as it should be: 0 is a success.
    pub faults: u64,
}

/// Unpacks `input` into `name`, which must not be in `directory` yet.
///
/// # Errors
/// [`UnpackError`] when the archive or the disk ends it; nothing is left behind then.
pub fn unpack(
    input: impl Read,
    directory: BorrowedFd<'_>,
    name: &[u8],
    options: &Options,
    watch: &mut dyn Watch,
) -> Result<Unpacked, UnpackError> {
    let mut entries = Entries::new(input);
    let Some(first) = entries.next()? else { return Err(UnpackError::Malformed("no entry")) };
    let top = parts_of(&first.name).map_err(UnpackError::Top)?;
    if top.len() > 1 {
        return Err(UnpackError::Malformed("no entry of its own for its top"));
    }
    let unpacked = Unpacked { kind: Kind::File, len: 0, entries: 0, faults: 0 };
    let piece = vec![0; PIECE];
    let later = Later::default();
    let top = Top { parts: top.iter().map(|part| part.to_vec()).collect(), root: None };
    let mut unpacker =
        Unpacker { entries, options, watch, piece, top, later, parent: None, unpacked, told: 0 };
    unpacker.make_top(&first, directory, name)?;
    match unpacker.rest() {
        Ok(()) => Ok(unpacker.unpacked),
        Err(error) => {
            drop(unpacker);
            // The first error is the one to tell; what could not be removed either shows beside the target.
            let _ = remove_tree(directory, name);
            Err(error)
        }
    }
}

struct Unpacker<'a, R> {
    entries: Entries<R>,
    options: &'a Options,
    watch: &'a mut dyn Watch,
    piece: Vec<u8>,
    top: Top,
    later: Later,
    /// The directory that the last entry was made in.
    parent: Option<(Vec<u8>, OwnedFd)>,
    unpacked: Unpacked,
    told: u64,
}

/// Why an entry is not made.
enum Trouble {
    /// It is this entry's own, and the others go on.
    Fault(Fault),
    /// The archive cannot be gone on with.
    End(UnpackError),
}

impl From<UnpackError> for Trouble {
    fn from(error: UnpackError) -> Self {
        Self::End(error)
    }
}

impl<R: Read> Unpacker<'_, R> {
    fn rest(&mut self) -> Result<(), UnpackError> {
        while let Some(entry) = self.entries.next()? {
            self.count()?;
            match self.make(&entry) {
                Ok(()) => {}
                Err(Trouble::Fault(fault)) => self.tell(&fault),
                Err(Trouble::End(error)) => return Err(error),
            }
        }
        self.parent = None;
        let Some(root) = self.top.root.take() else { return Ok(()) };
        let later = std::mem::take(&mut self.later);
        later.done(root.as_fd(), self.options, &mut |fault| self.tell(fault))
    }

    fn make(&mut self, entry: &Entry) -> Result<(), Trouble> {
        let refuse = |why: &str| Err(Trouble::Fault(Fault::new(&entry.name, why)));
        let parts = parts_of(&entry.name).map_err(Trouble::Fault)?;
        let (front, parts) = parts.split_at_checked(self.top.parts.len()).unwrap_or((&parts, &[]));
        if front != self.top.parts {
            let (top, other) = (self.top.parts.concat(), entry.name.clone());
            return Err(UnpackError::SeveralTops { top, other }.into());
        }
        if self.top.root.is_none() {
            return refuse("lies beneath a file");
        }
        let Some((name, above)) = parts.split_last() else {
            // Its own entry came first: that one counts.
            return if entry.kind == header::Kind::Directory { Ok(()) } else { refuse("comes twice") };
        };
        if parts.len() > DEPTH_MAX {
            return refuse("too deep");
        }
        match entry.kind {
            header::Kind::File if entry.is_map => refuse("a sparse file of another program: left out"),
            header::Kind::File => self.file(entry, above, name),
            header::Kind::Directory => self.directory(entry, above, name),
            header::Kind::Link => self.link(entry, parts, above),
            header::Kind::HardLink => refuse("a hard link: left out"),
            header::Kind::Device => refuse("a device or pipe: left out"),
            header::Kind::Other => refuse("of a kind that is not known: left out"),
        }
    }

    fn file(&mut self, entry: &Entry, above: &[&[u8]], name: &[u8]) -> Result<(), Trouble> {
        let parent = self.parent(entry, above)?;
        let file = place::create(parent, name).map_err(|error| trouble(entry, error))?;
        self.fill(entry, &file)?;
        self.look(entry, &file)
    }

    fn directory(&mut self, entry: &Entry, above: &[&[u8]], name: &[u8]) -> Result<(), Trouble> {
        let parent = self.parent(entry, above)?;
        match fs::mkdirat(&parent, name, Mode::RWXU) {
            // It was made for something beneath it before its own entry came.
            Err(Errno::EXIST) => {
                open_beneath(parent.as_fd(), &[name])
                    .map_err(|_| Trouble::Fault(Fault::new(&entry.name, "comes twice")))?;
            }
            made => made.map_err(|errno| trouble(entry, errno.into()))?,
        }
        Ok(self.later.directory(&[above, &[name]].concat(), entry)?)
    }

    fn link(&mut self, entry: &Entry, parts: &[&[u8]], above: &[&[u8]]) -> Result<(), Trouble> {
        if !later::stays_within(above.len(), &entry.link) {
            let target = crate::escaped(&entry.link);
            let why = format!("a link that leads out of the tree, to {target}: left out");
            return Err(Trouble::Fault(Fault::new(&entry.name, why)));
        }
        self.parent(entry, above)?;
        Ok(self.later.link(parts, entry)?)
    }

    /// The directory above an entry; what is missing of it is made.
    fn parent(&mut self, entry: &Entry, above: &[&[u8]]) -> Result<OwnedFd, Trouble> {
        let path = above.join(&b'/');
        if self.parent.as_ref().is_none_or(|(open, _)| *open != path) {
            self.parent = Some((path, self.open_or_make(entry, above)?));
        }
        let Some((_, parent)) = &self.parent else { return Err(trouble(entry, Errno::NOENT.into())) };
        parent.try_clone().map_err(|error| trouble(entry, error))
    }

    fn open_or_make(&mut self, entry: &Entry, above: &[&[u8]]) -> Result<OwnedFd, Trouble> {
        let root = self.top.root.as_ref().map_or(Err(Errno::NOTDIR.into()), OwnedFd::try_clone);
        let mut at = root.map_err(|error| trouble(entry, error))?;
        match open_beneath(at.as_fd(), above) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            opened => return opened.map_err(|error| trouble(entry, error)),
        }
        for part in above {
            let made = fs::mkdirat(&at, *part, Mode::RWXU);
            at = open_beneath(at.as_fd(), &[part]).map_err(|error| trouble(entry, error))?;
            if made.is_ok() {
                self.count()?;
                Look::UNSAID.put_on(&at, self.options).map_err(|error| trouble(entry, error))?;
            }
        }
        Ok(at)
    }

    fn count(&mut self) -> Result<(), UnpackError> {
        let max = self.options.entries_max;
        self.unpacked.entries = self.unpacked.entries.saturating_add(1);
        if self.unpacked.entries > max { Err(UnpackError::TooMany { max }) } else { Ok(()) }
    }

    fn tell(&mut self, fault: &Fault) {
        self.unpacked.faults = self.unpacked.faults.saturating_add(u64::from(fault.fails));
        self.told = self.told.saturating_add(1);
        if self.told <= FAULTS_MAX {
            self.watch.fault(fault);
        }
    }
}

/// The parts of a name; none of them leads up, and none is empty.
fn parts_of(name: &[u8]) -> Result<Vec<&[u8]>, Fault> {
    if name.starts_with(b"/") {
        return Err(Fault::new(name, "an absolute name: left out"));
    }
    let parts: Vec<&[u8]> =
        name.split(|&byte| byte == b'/').filter(|part| !matches!(*part, b"" | b".")).collect();
    if parts.contains(&b"..".as_slice()) {
        return Err(Fault::new(name, "a name that leads out of the tree: left out"));
    }
    Ok(parts)
}

fn trouble(entry: &Entry, error: io::Error) -> Trouble {
    if sparse::is_fatal(&error) {
        Trouble::End(UnpackError::Write { path: entry.name.clone(), source: error })
    } else {
        Trouble::Fault(Fault::kernel(&entry.name, &error))
    }
}
