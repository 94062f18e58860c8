//! What was begun by a signature: its nonce, and as which request, until it has expired.
//!
//! Called by the gate of signatures. On disk before the start, so that the same signature under another name begins
//! nothing, whatever goes down in between. Nothing here trusts the clock twice: what was dropped as expired is
//! refused for ever, by a floor that is in the file, also when the clock goes back.
//!
//! ```text
//! magic [8], floor u64 LE, CRC32C u32 LE; then records: nonce [32], request [16], expires u64 LE, CRC32C u32 LE
//! ```

use crate::journal::file::errno_of;
use crate::state::replace;
use doorbell_wire::ids::{Nonce, RequestId};
use doorbell_wire::limits::SIGNED_SKEW_S;
use doorbell_wire::message::Terms;
use nix::errno::Errno;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// The nonces of this guest.
#[derive(Debug)]
pub struct Nonces {
    path: PathBuf,
    kept: Vec<Kept>,
    /// What expired before it is not known any more, and not taken.
    floor_s: u64,
    /// Whole records on the disk, or why nothing can be said of what is there.
    file: Result<u64, Errno>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Kept {
    nonce: Nonce,
    request: RequestId,
    expires_s: u64,
}

/// Why a nonce is not taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Spent {
    /// It was, for this request.
    By(RequestId),
    /// It may have been: whatever expired by then is forgotten.
    Forgotten,
    /// It cannot be noted.
    Unrecorded(Errno),
}

impl Nonces {
    /// Those in a state directory; a file that cannot be understood lets nothing begin until it is looked into.
    #[must_use]
    pub fn open(root: &Path) -> Self {
        let path = root.join("nonces");
        match load(&path) {
            Ok((floor_s, kept)) => {
                let end = length(kept.len());
                Self { path, kept, floor_s, file: Ok(end) }
            }
            Err(errno) => Self { path, kept: Vec::new(), floor_s: 0, file: Err(errno) },
        }
    }

    /// Whether a request may begin by these terms.
    ///
    /// # Errors
    /// [`Spent`].
    pub fn check(&self, terms: &Terms, request: RequestId) -> Result<(), Spent> {
        self.file.map_err(Spent::Unrecorded)?;
        match self.kept.iter().find(|kept| kept.nonce == terms.nonce) {
            Some(kept) if kept.request == request => Ok(()),
            Some(kept) => Err(Spent::By(kept.request)),
            None if terms.expires_s.saturating_add(SIGNED_SKEW_S) < self.floor_s => Err(Spent::Forgotten),
            None => Ok(()),
        }
    }

    /// Notes that a request begins by these terms: when this returns, that survives a crash.
    ///
    /// # Errors
    /// [`Spent`].
    pub fn take(&mut self, terms: &Terms, request: RequestId, now_s: u64) -> Result<(), Spent> {
        self.check(terms, request)?;
        if self.kept.iter().any(|kept| kept.nonce == terms.nonce) {
            return Ok(());
        }
        self.drop_expired(now_s).map_err(|error| Spent::Unrecorded(errno_of(&error)))?;
        if self.kept.len() >= KEPT_MAX {
            return Err(Spent::Unrecorded(Errno::EDQUOT));
        }
        let kept = Kept { nonce: terms.nonce, request, expires_s: terms.expires_s };
        self.append(kept).map_err(|error| Spent::Unrecorded(errno_of(&error)))
    }

    /// When half of what is kept is of no use, what is left is written anew.
    fn drop_expired(&mut self, now_s: u64) -> io::Result<()> {
        let is_over = |kept: &Kept| kept.expires_s.saturating_add(SIGNED_SKEW_S) < now_s;
        let over = self.kept.iter().filter(|kept| is_over(kept)).count();
        if over < KEPT_AT_LEAST || over.saturating_mul(2) < self.kept.len() {
            return Ok(());
        }
        let left: Vec<Kept> = self.kept.iter().filter(|kept| !is_over(kept)).copied().collect();
        let floor_s = self.floor_s.max(now_s);
        replace(&self.path, &whole(floor_s, &left))?;
        (self.floor_s, self.file) = (floor_s, Ok(length(left.len())));
        self.kept = left;
        Ok(())
    }

    fn append(&mut self, kept: Kept) -> io::Result<()> {
        let at = self.file.map_err(io::Error::from)?;
        if self.kept.is_empty() {
            replace(&self.path, &whole(self.floor_s, &[kept]))?;
        } else {
            let file = OpenOptions::new().write(true).open(&self.path)?;
            if let Err(error) = write(&file, kept, at) {
                // Nobody knows what of it is there: written anew at the next one, or not at all.
                if replace(&self.path, &whole(self.floor_s, &self.kept)).is_err() {
                    self.file = Err(errno_of(&error));
                }
                return Err(error);
            }
        }
        self.kept.push(kept);
        self.file = Ok(length(self.kept.len()));
        Ok(())
    }
}

fn write(file: &File, kept: Kept, at: u64) -> io::Result<()> {
    file.write_all_at(&kept.bytes(), at)?;
    file.set_len(at.saturating_add(RECORD as u64))?;
    file.sync_data()
}

impl Kept {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.nonce.as_bytes().to_vec();
        bytes.extend_from_slice(self.request.as_bytes());
        bytes.extend_from_slice(&self.expires_s.to_le_bytes());
        sealed(bytes)
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (nonce, rest) = opened(bytes)?.split_at_checked(Nonce::LEN)?;
        let (request, expires) = rest.split_at_checked(RequestId::LEN)?;
        let expires_s = u64::from_le_bytes(expires.try_into().ok()?);
        Some(Self { nonce: nonce.try_into().ok()?, request: request.try_into().ok()?, expires_s })
    }
}

/// The file's floor and records. A last record that is cut, or of zeros alone, is one that was never noted.
fn load(path: &Path) -> Result<(u64, Vec<Kept>), Errno> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((0, Vec::new())),
        Err(error) => return Err(errno_of(&error)),
    };
    let (head, records) = bytes.split_at_checked(HEAD).ok_or(Errno::EBADMSG)?;
    let floor = opened(head).and_then(|head| head.strip_prefix(MAGIC)).ok_or(Errno::EBADMSG)?;
    let floor_s = u64::from_le_bytes(floor.try_into().map_err(|_| Errno::EBADMSG)?);
    let mut kept = Vec::new();
    for (at, record) in records.chunks(RECORD).enumerate() {
        let is_last = at.saturating_add(1).saturating_mul(RECORD) >= records.len();
        match Kept::read(record) {
            Some(record_read) => kept.push(record_read),
            None if is_last && (record.len() < RECORD || record.iter().all(|byte| *byte == 0)) => {}
            None => return Err(Errno::EBADMSG),
        }
    }
    Ok((floor_s, kept))
}

fn whole(floor_s: u64, kept: &[Kept]) -> Vec<u8> {
    let mut head = MAGIC.to_vec();
    head.extend_from_slice(&floor_s.to_le_bytes());
    let mut bytes = sealed(head);
    kept.iter().for_each(|kept| bytes.extend(kept.bytes()));
    bytes
}

fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let sum = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&sum.to_le_bytes());
    bytes
}

fn opened(bytes: &[u8]) -> Option<&[u8]> {
    let (body, sum) = bytes.split_last_chunk::<4>()?;
    (crc32c::crc32c(body).to_le_bytes() == *sum).then_some(body)
}

const fn length(records: usize) -> u64 {
    (HEAD as u64).saturating_add((records as u64).saturating_mul(RECORD as u64))
}

const MAGIC: &[u8] = b"dbnonce1";
const HEAD: usize = 8 + 8 + 4;
const RECORD: usize = Nonce::LEN + RequestId::LEN + 8 + 4;
/// More are not kept: whoever may sign can fill a megabyte and not the disk.
const KEPT_MAX: usize = 16_384;
/// Fewer expired ones are not worth a new file.
const KEPT_AT_LEAST: usize = 64;

#[cfg(test)]
mod tests;
