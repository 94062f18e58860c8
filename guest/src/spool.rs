//! What a program prints, on disk until the manager has it.
//!
//! Filled by a program's supervisor ([`Keeper`]) and read by the agent ([`read`]): two processes, one file per
//! stream, whose length is what is kept. What the manager has had for long is given back to the disk as a hole.
//! Nothing here logs: a supervisor has nobody to tell but its outcome.

use doorbell_wire::ids::Digest;
use doorbell_wire::message::outcome::StreamTotal;
use nix::fcntl::{FallocateFlags, fallocate};
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use tracing::warn;

/// The writing end of one stream.
#[derive(Debug)]
pub struct Keeper {
    file: File,
    limit: u64,
    space: Space,
    hash: Sha256,
    kept: u64,
    dropped: u64,
    stored: u64,
    /// Everything in front of it is a hole.
    hole: u64,
}

/// How much of a stream lies on the disk at once.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Space {
    /// Bytes on the disk, at most.
    pub len: u64,
    /// Bytes of them that stay behind what the manager has stored.
    pub behind: u64,
}

impl Keeper {
    /// Fills an empty file with at most `limit` bytes.
    #[must_use]
    pub fn new(file: File, limit: u64, space: Space) -> Self {
        Self { file, limit, space, hash: Sha256::new(), kept: 0, dropped: 0, stored: 0, hole: 0 }
    }

    /// Takes bytes. After the first dropped byte all others are dropped too: what is kept is a beginning, without
    /// holes.
    pub fn write(&mut self, bytes: &[u8]) {
        let room = if self.dropped > 0 { 0 } else { self.limit.saturating_sub(self.kept).min(self.room()) };
        let fits = usize::try_from(room).unwrap_or(usize::MAX).min(bytes.len());
        let kept = bytes.get(..fits).map_or(0, |bytes| self.keep(bytes));
        self.hash.update(bytes.get(..kept).unwrap_or_default());
        self.kept = self.kept.saturating_add(kept as u64);
        self.dropped = self.dropped.saturating_add(bytes.len().saturating_sub(kept) as u64);
    }

    /// How many bytes it is worth to wait for space for; 0 when there is no space now, and `None` when bytes are
    /// no longer kept and only counted.
    #[must_use]
    pub fn wants(&self) -> Option<u64> {
        let left = self.limit.saturating_sub(self.kept);
        (self.dropped == 0 && left > 0).then(|| left.min(self.room()))
    }

    /// The manager has this many bytes: what is far behind them becomes a hole.
    pub fn stored(&mut self, end: u64) {
        self.stored = self.stored.max(end.min(self.kept));
        let hole = self.stored.saturating_sub(self.space.behind);
        let hole = hole.saturating_sub(hole.checked_rem(HOLE_LEN).unwrap_or(0));
        let count = hole.saturating_sub(self.hole);
        if count == 0 {
            return;
        }
        let (Ok(offset), Ok(len)) = (self.hole.try_into(), count.try_into()) else { return };
        let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        // A file system without holes keeps the bytes; the program goes on all the same.
        let _ = fallocate(&self.file, flags, offset, len);
        self.hole = hole;
    }

    /// Bytes kept so far.
    #[must_use]
    pub const fn kept(&self) -> u64 {
        self.kept
    }

    /// What came of the stream.
    #[must_use]
    pub fn total(&self) -> StreamTotal {
        let digest = Digest::new(self.hash.clone().finalize().into());
        StreamTotal { kept: self.kept, dropped: self.dropped, digest: Some(digest) }
    }

    /// Has what is kept on the disk before anything that speaks of it.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn sync(&self) -> io::Result<()> {
        if self.kept == 0 { Ok(()) } else { self.file.sync_data() }
    }

    const fn room(&self) -> u64 {
        self.space.len.saturating_sub(self.kept.saturating_sub(self.hole))
    }

    fn keep(&self, mut bytes: &[u8]) -> usize {
        let mut kept = 0_usize;
        while !bytes.is_empty() {
            match self.file.write_at(bytes, self.kept.saturating_add(kept as u64)) {
                Ok(count @ 1..) => {
                    kept = kept.saturating_add(count);
                    bytes = bytes.get(count..).unwrap_or_default();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => break,
            }
        }
        kept
    }
}

/// Bytes of a stream from `offset` on, at most `room`; `None` when there are none, or they cannot be read.
#[must_use]
pub fn read(file: &File, offset: u64, room: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; room];
    let mut count = 0_usize;
    while let Some(rest) = bytes.get_mut(count..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset.saturating_add(count as u64)) {
            Ok(0) => break,
            Ok(more) => count = count.saturating_add(more),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                warn!(offset, %error, "spooled output cannot be read back");
                return None;
            }
        }
    }
    bytes.truncate(count);
    (count > 0).then_some(bytes)
}

/// Holes are of whole steps of this length, so that they are few.
const HOLE_LEN: u64 = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::OpenOptions;
    use std::os::unix::fs::MetadataExt;

    const WIDE: Space = Space { len: 1 << 40, behind: 1 << 40 };
    const MIB: usize = 1024 * 1024;

    fn digest(bytes: &[u8]) -> Option<Digest> {
        Some(Digest::new(Sha256::digest(bytes).into()))
    }

    #[test]
    fn what_is_written_is_read_by_offset() {
        let file = tempfile::tempfile().unwrap();
        let mut keeper = Keeper::new(file.try_clone().unwrap(), 100, WIDE);
        keeper.write(b"hello ");
        keeper.write(b"world");
        assert_eq!(read(&file, 6, 100).unwrap(), b"world");
        assert_eq!(read(&file, 0, 4).unwrap(), b"hell");
        assert_eq!(read(&file, 11, 100), None);
        assert_eq!(read(&file, 99, 100), None);
        let total = StreamTotal { kept: 11, dropped: 0, digest: digest(b"hello world") };
        assert_eq!(keeper.total(), total);
    }

    #[test]
    fn beyond_the_limit_is_counted_and_dropped_for_good() {
        let file = tempfile::tempfile().unwrap();
        let mut keeper = Keeper::new(file.try_clone().unwrap(), 4, WIDE);
        keeper.write(b"abc");
        assert_eq!(keeper.wants(), Some(1));
        keeper.write(b"def");
        keeper.limit = 100;
        keeper.write(b"g");
        assert_eq!(keeper.wants(), None);
        assert_eq!(keeper.total(), StreamTotal { kept: 4, dropped: 3, digest: digest(b"abcd") });
        assert_eq!(read(&file, 0, 100).unwrap(), b"abcd");
    }

    #[test]
    fn a_full_disk_drops_and_goes_on() {
        let full = OpenOptions::new().read(true).write(true).open("/dev/full").unwrap();
        let mut keeper = Keeper::new(full, 100, WIDE);
        keeper.write(b"lost");
        assert_eq!(keeper.total(), StreamTotal { kept: 0, dropped: 4, digest: digest(b"") });
    }

    #[test]
    fn space_comes_back_behind_what_is_stored() {
        let file = tempfile::tempfile().unwrap();
        let space = Space { len: 8 * MIB as u64, behind: 2 * MIB as u64 };
        let mut keeper = Keeper::new(file.try_clone().unwrap(), 1 << 40, space);
        let bytes = vec![7; 8 * MIB];
        keeper.write(&bytes);
        assert_eq!(keeper.wants(), Some(0), "the space is full");
        let before = file.metadata().unwrap().blocks();
        keeper.stored(6 * MIB as u64 + 5);
        assert_eq!(keeper.wants(), Some(4 * MIB as u64));
        let after = file.metadata().unwrap();
        assert!(after.blocks() <= before / 2 + 16, "{} of {before} blocks are left", after.blocks());
        assert_eq!(after.len(), 8 * MIB as u64, "the length is what was kept");
        assert_eq!(read(&file, 4 * MIB as u64, 3).unwrap(), [7, 7, 7]);
        keeper.stored(1);
        assert_eq!(keeper.wants(), Some(4 * MIB as u64), "an older word changes nothing");
    }
}
