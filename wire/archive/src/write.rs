//! An archive of what its maker names: one entry after the other, from wherever the bytes come.
//!
//! Called by the manager for its backups; `pack` takes its headers from here. Names are the caller's own and
//! trusted. Any tar reads the result, and [`unpack()`](crate::unpack()) does.

use crate::header::{BLOCK, Fields, ID_MAX, NAME_MAX, SIZE_MAX, flag};
use crate::pax;
use std::io::{self, Read, Write};

/// An archive on its way out.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
}

impl<W: Write> Writer<W> {
    /// An archive without an entry.
    pub const fn new(out: W) -> Self {
        Self { out }
    }

    /// A directory that only its owner may enter.
    ///
    /// # Errors
    /// When the archive cannot be written.
    pub fn directory(&mut self, name: &str) -> io::Result<()> {
        let name = format!("{name}/").into_bytes();
        head(&mut self.out, Fields { name, flag: flag::DIRECTORY, mode: 0o700, ..Fields::default() })
    }

    /// A file for its owner alone, with the next `len` bytes of `from`; `mtime` in seconds since 1970.
    ///
    /// # Errors
    /// When there are fewer bytes, or the archive cannot be written. Nothing can follow then.
    pub fn file(&mut self, name: &str, len: u64, mtime: u64, from: &mut dyn Read) -> io::Result<()> {
        let name = name.as_bytes().to_vec();
        let fields = Fields { name, flag: flag::FILE, mode: 0o600, size: len, mtime, ..Fields::default() };
        head(&mut self.out, fields)?;
        let copied = io::copy(&mut from.take(len), &mut self.out)?;
        if copied < len {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it became shorter while it was read"));
        }
        pad(&mut self.out, len)
    }

    /// Ends the archive, and gives back what it was written to.
    ///
    /// # Errors
    /// When the end cannot be written.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.write_all(&[0; 2 * BLOCK])?;
        self.out.flush()?;
        Ok(self.out)
    }
}

/// A header, and in front of it what does not fit it.
pub(crate) fn head(out: &mut dyn Write, mut fields: Fields) -> io::Result<()> {
    let records = records(&fields);
    if !records.is_empty() {
        let size = records.len() as u64;
        let pax = Fields { name: b"pax".to_vec(), flag: flag::PAX, mode: 0o644, size, ..Fields::default() };
        out.write_all(&pax.to_block())?;
        out.write_all(&records)?;
        pad(out, size)?;
    }
    fields.name.truncate(NAME_MAX);
    out.write_all(&fields.to_block())
}

/// What fills the last block behind contents of this size.
pub(crate) fn pad(out: &mut dyn Write, size: u64) -> io::Result<()> {
    let tail = usize::try_from(size % BLOCK as u64).unwrap_or_default();
    let padding = if tail == 0 { 0 } else { BLOCK.saturating_sub(tail) };
    out.write_all([0; BLOCK].get(..padding).unwrap_or_default())
}

/// What of an entry does not fit its header.
fn records(fields: &Fields) -> Vec<u8> {
    let mut records = Vec::new();
    if fields.name.len() > NAME_MAX {
        pax::write(&mut records, "path", &fields.name);
    }
    if fields.link.len() > NAME_MAX {
        pax::write(&mut records, "linkpath", &fields.link);
    }
    if fields.size > SIZE_MAX {
        pax::write(&mut records, "size", fields.size.to_string().as_bytes());
    }
    for (key, number) in [("uid", fields.uid), ("gid", fields.gid)] {
        if number > ID_MAX {
            pax::write(&mut records, key, number.to_string().as_bytes());
        }
    }
    records
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Fault, Options, Owner, Watch, unpack};
    use std::fs::File;
    use std::os::fd::AsFd as _;

    struct Strict;

    impl Watch for Strict {
        fn fault(&mut self, fault: &Fault) {
            panic!("{fault:?}");
        }
    }

    #[test]
    fn what_is_written_is_unpacked_again_byte_for_byte() {
        let long = format!("top/{}/{}", "d".repeat(60), "f".repeat(80));
        let mut writer = Writer::new(Vec::new());
        writer.directory("top").unwrap();
        writer.file("top/small", 3, 1_000_000_000, &mut b"abcdef".as_slice()).unwrap();
        writer.file("top/none", 0, 0, &mut b"".as_slice()).unwrap();
        writer.file(&long, 1024, 7, &mut io::repeat(7)).unwrap();
        let bytes = writer.finish().unwrap();
        assert_eq!(bytes.len() % BLOCK, 0);

        let dir = tempfile::tempdir().unwrap();
        let opened = File::open(dir.path()).unwrap();
        let options = Options { owner: Owner::Own, umask: 0o077, bytes_max: 4096, entries_max: 9 };
        unpack(bytes.as_slice(), opened.as_fd(), b"out", &options, &mut Strict).unwrap();
        let read = |name: &str| std::fs::read(dir.path().join(name)).unwrap();
        assert_eq!(read("out/small"), b"abc");
        assert_eq!(read("out/none"), b"");
        assert_eq!(read(&long.replacen("top", "out", 1)), [7; 1024]);
        let small = dir.path().join("out/small").metadata().unwrap();
        let mtime = small.modified().unwrap().duration_since(std::time::UNIX_EPOCH).unwrap();
        assert_eq!(mtime.as_secs(), 1_000_000_000);
    }

    #[test]
    fn a_source_that_ends_too_early_is_an_error() {
        let mut writer = Writer::new(Vec::new());
        let error = writer.file("short", 4, 0, &mut b"abc".as_slice()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
