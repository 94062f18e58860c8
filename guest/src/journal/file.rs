//! The journal's file: records are appended and made durable one by one.
//!
//! Called by the journal. After a failed sync nothing is known of what reached the disk, and a second sync
//! would report success for lost data, so the file takes no more records until the agent has started again
//! and read back what is there.

use super::record::Record;
use super::recover::HEADER;
use crate::state::sync_parent;
use nix::errno::Errno;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// An open journal file whose first `len` bytes are whole records on disk.
#[derive(Debug)]
pub struct JournalFile {
    path: PathBuf,
    file: File,
    len: u64,
    broken: Option<Errno>,
}

impl JournalFile {
    /// A new file that holds these records only, in the place of whatever was there.
    ///
    /// # Errors
    /// The kernel's refusal; what was there stays.
    pub fn create(path: &Path, records: &[Record]) -> io::Result<Self> {
        let mut bytes = HEADER.to_vec();
        for record in records {
            bytes.extend(record.to_bytes().map_err(io::Error::other)?);
        }
        let fresh = path.with_extension("new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        std::fs::rename(&fresh, path)?;
        sync_parent(path)?;
        Ok(Self { path: path.to_owned(), file, len: bytes.len() as u64, broken: None })
    }

    /// An existing file, cut to its first `good` bytes.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn open(path: &Path, good: u64) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).open(path)?;
        if file.metadata()?.len() > good {
            file.set_len(good)?;
            file.sync_all()?;
        }
        Ok(Self { path: path.to_owned(), file, len: good, broken: None })
    }

    /// Appends a record and makes it durable.
    ///
    /// # Errors
    /// The kernel's error number; the record does not count then.
    pub fn append(&mut self, record: &Record) -> Result<(), Errno> {
        let before = self.len;
        self.append_lazily(record)?;
        if let Err(error) = self.file.sync_data() {
            self.len = before;
            return Err(*self.broken.insert(errno_of(&error)));
        }
        Ok(())
    }

    /// Appends a record that becomes durable with the next one.
    ///
    /// # Errors
    /// The kernel's error number; the record does not count then.
    pub fn append_lazily(&mut self, record: &Record) -> Result<(), Errno> {
        if let Some(errno) = self.broken {
            return Err(errno);
        }
        let bytes = record.to_bytes().map_err(|_| Errno::EMSGSIZE)?;
        if let Err(error) = self.file.write_all_at(&bytes, self.len) {
            return Err(self.give_back(errno_of(&error)));
        }
        self.len = self.len.saturating_add(bytes.len() as u64);
        Ok(())
    }

    /// Why no record can be appended any more, if so.
    #[must_use]
    pub const fn broken(&self) -> Option<Errno> {
        self.broken
    }

    /// Bytes of the file.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.len
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A record that did not fit leaves nothing behind, so that the next one can be tried when there is room.
    fn give_back(&mut self, errno: Errno) -> Errno {
        if let Err(error) = self.file.set_len(self.len) {
            self.broken = Some(errno_of(&error));
        }
        errno
    }
}

/// The kernel's number for an error.
#[must_use]
pub fn errno_of(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}
