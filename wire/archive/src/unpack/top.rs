//! The one entry that all others lie beneath, and the contents of files.
//!
//! Called by `unpack`. A top that cannot be made ends the archive, for there is nothing to put the rest into.

use super::later::Look;
use super::{Trouble, Unpacker, trouble};
use crate::error::{Fault, UnpackError};
use crate::header;
use crate::place::{self, remove_tree};
use crate::read::Entry;
use crate::{Kind, sparse};
use rustix::fs::{self, Mode, OFlags};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{BorrowedFd, OwnedFd};

/// The archive's own name of its top, in parts: none or one. `root` is open where the top is a directory.
pub(super) struct Top {
    pub(super) parts: Vec<Vec<u8>>,
    pub(super) root: Option<OwnedFd>,
}

impl<R: Read> Unpacker<'_, R> {
    pub(super) fn make_top(
        &mut self,
        entry: &Entry,
        directory: BorrowedFd<'_>,
        name: &[u8],
    ) -> Result<(), UnpackError> {
        self.count()?;
        let top = |why: &str| UnpackError::Top(Fault::new(&entry.name, why));
        let write = |source: io::Error| UnpackError::Write { path: entry.name.clone(), source };
        match entry.kind {
            header::Kind::File if entry.is_map => Err(top("a sparse file of another program")),
            header::Kind::File => {
                let file = place::create(directory, name).map_err(write)?;
                let filled = self.fill(entry, &file).and_then(|()| self.look(entry, &file));
                filled.map_err(|trouble| {
                    let _ = remove_tree(directory, name);
                    match trouble {
                        Trouble::Fault(fault) => UnpackError::Top(fault),
                        Trouble::End(error) => error,
                    }
                })
            }
            header::Kind::Directory => {
                fs::mkdirat(directory, name, Mode::RWXU).map_err(|errno| write(errno.into()))?;
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let root = fs::openat(directory, name, flags, Mode::empty());
                self.top.root = Some(root.map_err(|errno| write(errno.into()))?);
                self.unpacked.kind = Kind::Tree;
                self.later.directory(&[], entry)
            }
            header::Kind::Link => Err(top(&format!(
                "a link to {} and nothing else; ask for what it leads to",
                crate::escaped(&entry.link)
            ))),
            header::Kind::HardLink | header::Kind::Device | header::Kind::Other => {
                Err(top("neither a file nor a directory"))
            }
        }
    }

    pub(super) fn fill(&mut self, entry: &Entry, file: &File) -> Result<(), Trouble> {
        let max = self.options.bytes_max;
        let len = self.unpacked.len.checked_add(entry.size).filter(|&len| len <= max);
        self.unpacked.len = len.ok_or(UnpackError::TooLarge { max })?;
        let write = |source| UnpackError::Write { path: entry.name.clone(), source };
        let lone = self.top.root.is_none();
        let mut at = 0_u64;
        loop {
            let count = self.entries.read(&mut self.piece)?;
            let bytes = self.piece.get(..count).unwrap_or_default();
            if bytes.is_empty() {
                break;
            }
            sparse::write(file, at, bytes).map_err(write)?;
            at = at.saturating_add(count as u64);
            if lone {
                self.watch.content(bytes);
            }
        }
        Ok(file.set_len(at).map_err(write)?)
    }

    pub(super) fn look(&self, entry: &Entry, file: &File) -> Result<(), Trouble> {
        let look = Look::of(entry);
        look.put_on(file, self.options).map_err(|error| trouble(entry, error))
    }
}
