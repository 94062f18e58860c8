//! The journal's file: records are appended and made durable.
//!
//! Called by the journal. After a failed sync nothing is known of what reached the disk, and a second sync
//! would report success for lost data, so such a file takes no more records: another one has to take its place.

use super::record::Record;
use super::recover::header;
use crate::state::sync_parent;
use nix::errno::Errno;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// An open journal file whose first `len` bytes are whole records on disk.
#[derive(Debug)]
pub struct JournalFile {
    file: File,
    len: u64,
    form: u8,
    broken: Option<Errno>,
}

/// A whole file beside the journal, on disk, that has not taken its place yet.
#[derive(Debug)]
pub struct Fresh {
    path: PathBuf,
    at: PathBuf,
    file: JournalFile,
}

impl Fresh {
    /// Takes the journal's place, so that after a crash it is the one or the other.
    ///
    /// # Errors
    /// The kernel's refusal; which of the two the journal then is after a crash is not known.
    pub fn take_place(self) -> io::Result<JournalFile> {
        std::fs::rename(&self.at, &self.path)?;
        sync_parent(&self.path)?;
        Ok(self.file)
    }
}

impl JournalFile {
    /// A new file that holds these records only, in the place of whatever was there.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn create(path: &Path, records: &[Record]) -> io::Result<Self> {
        Self::prepare(path, records)?.take_place()
    }

    /// Writes these records into a file beside the journal.
    ///
    /// # Errors
    /// The kernel's refusal; the journal is as it was, and the space is given back.
    pub fn prepare(path: &Path, records: &[Record]) -> io::Result<Fresh> {
        let form = records.iter().map(Record::form).max().unwrap_or(1);
        let mut bytes = header(form).to_vec();
        bytes.extend(bytes_of(records).map_err(io::Error::other)?);
        let at = path.with_extension("new");
        let written = write(&at, &bytes);
        if written.is_err() {
            let _ = std::fs::remove_file(&at);
        }
        let file = Self { file: written?, len: bytes.len() as u64, form, broken: None };
        Ok(Fresh { path: path.to_owned(), at, file })
    }

    /// An existing file of this form, cut to its first `good` bytes.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn open(path: &Path, form: u8, good: u64) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).open(path)?;
        if file.metadata()?.len() > good {
            file.set_len(good)?;
            file.sync_all()?;
        }
        Ok(Self { file, len: good, form, broken: None })
    }

    /// Appends records and makes them durable.
    ///
    /// # Errors
    /// The kernel's error number; none of them counts then.
    pub fn append(&mut self, records: &[Record]) -> Result<(), Errno> {
        let before = self.len;
        self.write(records)?;
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
        self.write(std::slice::from_ref(record))
    }

    /// Why no record can be appended any more, if so.
    #[must_use]
    pub const fn broken(&self) -> Option<Errno> {
        self.broken
    }

    /// Whether the file's form has this record.
    #[must_use]
    pub const fn holds(&self, record: &Record) -> bool {
        record.form() <= self.form
    }

    /// Bytes of the file.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.len
    }

    fn write(&mut self, records: &[Record]) -> Result<(), Errno> {
        if let Some(errno) = self.broken {
            return Err(errno);
        }
        let bytes = bytes_of(records).map_err(|_| Errno::EMSGSIZE)?;
        if let Err(error) = self.file.write_all_at(&bytes, self.len) {
            return Err(self.give_back(errno_of(&error)));
        }
        self.len = self.len.saturating_add(bytes.len() as u64);
        Ok(())
    }

    /// A record that did not fit leaves nothing behind, so that the next one can be tried when there is room.
    fn give_back(&mut self, errno: Errno) -> Errno {
        if let Err(error) = self.file.set_len(self.len) {
            self.broken = Some(errno_of(&error));
        }
        errno
    }
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<File> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    Ok(file)
}

fn bytes_of(records: &[Record]) -> Result<Vec<u8>, doorbell_wire::error::Malformed> {
    let mut bytes = Vec::new();
    for record in records {
        bytes.extend(record.to_bytes()?);
    }
    Ok(bytes)
}

/// The kernel's number for an error.
#[must_use]
pub fn errno_of(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}
