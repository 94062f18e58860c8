//! A file's header and contents: as long as the header said, whatever becomes of the file meanwhile.
//!
//! Called by `pack` for each file. A file that fits the buffer is read before its header is written, so that it
//! is whole; a larger one is cut where it was to end, or filled up with zeros, which is told.

use super::{Packer, Place, Trouble};
use crate::error::Fault;
use crate::header::flag;
use crate::{Kind, PIECE, write};
use rustix::fs::{self, FileType, OFlags, Stat};
use std::fs::File;
use std::io::{self, Read};

impl Packer<'_> {
    pub(super) fn file(&mut self, place: Place<'_>) -> Result<(), Trouble> {
        let opened = place.open(OFlags::NONBLOCK | OFlags::NOCTTY).map_err(|error| place.kernel(&error))?;
        let mut file = File::from(opened);
        let stat = fs::fstat(&file).map_err(|errno| place.kernel(&errno.into()))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(place.fault("became something else while it was read"));
        }
        let size = u64::try_from(stat.st_size).unwrap_or_default();
        let (count, is_end) = self.fill(&mut file).map_err(|error| place.kernel(&error))?;
        self.begin(place, &stat, Kind::File);
        let count = count as u64;
        if is_end || (size == 0 && count > 0) {
            // It is in memory as a whole: its length is what was read, whatever it says of itself. Files of
            // the kernel say nothing true.
            self.content(place, &stat, &mut file, count, count)?;
            if !is_end {
                self.tell(&Fault::new(place.path, "has more than it says; cut"));
            }
            return Ok(());
        }
        self.content(place, &stat, &mut file, size, count.min(size))
    }

    /// Header and contents of a file; `count` bytes of it are in the buffer.
    fn content(
        &mut self,
        place: Place<'_>,
        stat: &Stat,
        file: &mut File,
        size: u64,
        mut count: u64,
    ) -> Result<(), Trouble> {
        self.head(place.path, flag::FILE, stat, size, b"")?;
        let mut left = size;
        let mut told = false;
        loop {
            self.put(place, count)?;
            left = left.saturating_sub(count);
            if left == 0 {
                return write::pad(self.out, size).map_err(Trouble::Write);
            }
            let room = usize::try_from(left).unwrap_or(usize::MAX).min(PIECE);
            let got = if told { Ok(0) } else { read(file, self.piece.get_mut(..room).unwrap_or_default()) };
            count = match got {
                Ok(got @ 1..) => got as u64,
                // Its length stands in front of it and cannot be taken back.
                Ok(_) | Err(_) => {
                    if !told {
                        self.tell(&shrunk(place.path, got));
                    }
                    told = true;
                    self.piece.fill(0);
                    room as u64
                }
            };
        }
    }

    /// Writes the first `count` bytes of the buffer.
    fn put(&mut self, place: Place<'_>, count: u64) -> Result<(), Trouble> {
        let bytes = self.piece.get(..usize::try_from(count).unwrap_or_default()).unwrap_or_default();
        self.out.write_all(bytes).map_err(Trouble::Write)?;
        if place.depth == 0 {
            self.watch.content(bytes);
        }
        self.packed.len = self.packed.len.saturating_add(count);
        Ok(())
    }

    /// Fills the buffer from the file's beginning; true where that is all of it.
    fn fill(&mut self, file: &mut File) -> io::Result<(usize, bool)> {
        let mut count = 0_usize;
        loop {
            match read(file, self.piece.get_mut(count..).unwrap_or_default())? {
                0 => return Ok((count, count < PIECE)),
                more => count = count.saturating_add(more),
            }
        }
    }
}

fn shrunk(path: &[u8], got: io::Result<usize>) -> Fault {
    match got {
        Ok(_) => Fault::new(path, "became shorter while it was read; the rest is zeros"),
        Err(error) => Fault::new(path, format!("{}; the rest is zeros", crate::kernel(&error))),
    }
}

fn read(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match file.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}
