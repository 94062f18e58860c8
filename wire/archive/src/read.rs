//! An archive as a stream of entries.
//!
//! Called by `unpack`. Trusts nothing: an extension is read only up to a limit, sizes are counted, and where two
//! readers of tar could see two different archives, this one sees an error.

use crate::error::UnpackError;
use crate::header::{BLOCK, Extension, Fields, Kind, cut};
use crate::pax::Records;
use std::io::{ErrorKind, Read};

/// An entry whose contents come next.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) name: Vec<u8>,
    pub(crate) kind: Kind,
    pub(crate) fields: Fields,
    pub(crate) link: Vec<u8>,
    pub(crate) size: u64,
    /// The contents are not those of the file.
    pub(crate) is_map: bool,
}

/// The entries of an archive, one after the other.
#[derive(Debug)]
pub(crate) struct Entries<R> {
    input: R,
    left: u64,
    padding: usize,
}

impl<R: Read> Entries<R> {
    pub(crate) const fn new(input: R) -> Self {
        Self { input, left: 0, padding: 0 }
    }

    /// The next entry; `None` at the archive's end mark. What is left of the one before is passed over.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, UnpackError> {
        let mut records = Records::default();
        let (mut long_name, mut long_link) = (None, None);
        let mut extensions = 0_u32;
        loop {
            self.pass_over()?;
            let mut block = [0; BLOCK];
            self.fill(&mut block)?;
            if block == [0; BLOCK] {
                let whole = extensions == 0;
                return if whole { Ok(None) } else { Err(UnpackError::Malformed("an extension of nothing")) };
            }
            let fields = Fields::from_block(&block)?;
            self.begin(fields.size);
            extensions = extensions.saturating_add(1);
            if extensions > EXTENSIONS_MAX {
                return Err(UnpackError::Malformed("too many extensions in front of one entry"));
            }
            match fields.extension() {
                Some(Extension::Pax) => records.read(&self.extension()?)?,
                Some(Extension::PaxGlobal) => check_global(&self.extension()?)?,
                Some(Extension::GnuName) => long_name = Some(cut(&self.extension()?).to_vec()),
                Some(Extension::GnuLink) => long_link = Some(cut(&self.extension()?).to_vec()),
                None => return self.entry(fields, records, (long_name, long_link)).map(Some),
            }
        }
    }

    /// The next bytes of the entry's contents; 0 at their end.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Result<usize, UnpackError> {
        let want = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let Some(room) = buffer.get_mut(..want).filter(|room| !room.is_empty()) else { return Ok(0) };
        let count = loop {
            match self.input.read(room) {
                Ok(0) => return Err(UnpackError::Truncated),
                Ok(count) => break count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(UnpackError::Read(error)),
            }
        };
        self.left = self.left.saturating_sub(count as u64);
        Ok(count)
    }

    fn entry(
        &mut self,
        mut fields: Fields,
        records: Records,
        (long_name, long_link): (Option<Vec<u8>>, Option<Vec<u8>>),
    ) -> Result<Entry, UnpackError> {
        let kind = fields.kind();
        let size = records.size.unwrap_or(fields.size);
        self.begin(size);
        // Some readers take such bytes for contents and some for the next header.
        if size > 0 && matches!(kind, Kind::Directory | Kind::Link | Kind::HardLink | Kind::Device) {
            return Err(UnpackError::Malformed("contents behind what can have none"));
        }
        let name = records.path.or(long_name).unwrap_or_else(|| fields.name.clone());
        let link = records.link.or(long_link).unwrap_or_else(|| fields.link.clone());
        fields.uid = records.uid.unwrap_or(fields.uid);
        fields.gid = records.gid.unwrap_or(fields.gid);
        fields.mtime = records.mtime.unwrap_or(fields.mtime);
        Ok(Entry { name, kind, fields, link, size, is_map: records.is_map })
    }

    fn begin(&mut self, size: u64) {
        self.left = size;
        let tail = usize::try_from(size % BLOCK as u64).unwrap_or_default();
        self.padding = if tail == 0 { 0 } else { BLOCK.saturating_sub(tail) };
    }

    /// The contents of an extension, whole.
    fn extension(&mut self) -> Result<Vec<u8>, UnpackError> {
        let size = usize::try_from(self.left).ok().filter(|&size| size <= EXTENSION_LEN_MAX);
        let size = size.ok_or(UnpackError::Malformed("an extension that is too long"))?;
        let mut bytes = vec![0; size];
        self.fill(&mut bytes)?;
        self.left = 0;
        Ok(bytes)
    }

    fn pass_over(&mut self) -> Result<(), UnpackError> {
        let mut buffer = [0; 8 * 1024];
        while self.read(&mut buffer)? > 0 {}
        let mut padding = [0; BLOCK];
        let padding = padding.get_mut(..self.padding).unwrap_or_default();
        self.padding = 0;
        self.fill(padding)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), UnpackError> {
        self.input.read_exact(bytes).map_err(|error| {
            if error.kind() == ErrorKind::UnexpectedEof {
                UnpackError::Truncated
            } else {
                UnpackError::Read(error)
            }
        })
    }
}

/// A global header may carry a comment; what would change all entries behind it is refused.
fn check_global(bytes: &[u8]) -> Result<(), UnpackError> {
    let mut records = Records::default();
    records.read(bytes)?;
    let changes_nothing = Records { mtime: None, ..records } == Records::default();
    if changes_nothing { Ok(()) } else { Err(UnpackError::Malformed("a global header that renames")) }
}

/// Bytes of one extension: two longest paths and what else there may be, read into memory as a whole.
const EXTENSION_LEN_MAX: usize = 64 * 1024;
/// Extensions in front of one entry.
const EXTENSIONS_MAX: u32 = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::header::flag;

    fn header(flag: u8, name: &str, size: u64) -> Vec<u8> {
        Fields { name: name.into(), flag, size, ..Fields::default() }.to_block().to_vec()
    }

    fn padded(bytes: &[u8]) -> Vec<u8> {
        let mut padded = bytes.to_vec();
        padded.resize(bytes.len().next_multiple_of(BLOCK), 0);
        padded
    }

    fn extension(kind: u8, bytes: &[u8]) -> Vec<u8> {
        [header(kind, "x", bytes.len() as u64), padded(bytes)].concat()
    }

    fn all(bytes: &[u8]) -> Result<Vec<Entry>, UnpackError> {
        let mut entries = Entries::new(bytes);
        std::iter::from_fn(|| entries.next().transpose()).collect()
    }

    #[test]
    fn an_extended_size_is_that_of_the_file_and_of_no_extension_in_between() {
        let archive = [
            extension(b'x', b"13 size=1024\n"),
            extension(b'L', b"long\0"),
            header(flag::FILE, "short", 0),
            vec![7; 1024],
            header(flag::FILE, "next", 0),
            vec![0; 1024],
        ]
        .concat();
        let entries = all(&archive).unwrap();
        let seen: Vec<_> = entries.iter().map(|entry| (entry.name.as_slice(), entry.size)).collect();
        assert_eq!(seen, [(b"long".as_slice(), 1024), (b"next", 0)]);
    }

    #[test]
    fn what_two_readers_could_read_in_two_ways_is_refused() {
        let end = vec![0; 1024];
        for (what, archive) in [
            ("no end", header(flag::FILE, "a", 0)),
            ("cut contents", [header(flag::FILE, "a", 600), vec![1; 512]].concat()),
            ("cut header", header(flag::FILE, "a", 0)[..100].to_vec()),
            (
                "contents of a directory",
                [header(flag::DIRECTORY, "a", 512), vec![1; 512], end.clone()].concat(),
            ),
            ("contents of a hard link", [header(b'1', "a", 512), vec![1; 512], end.clone()].concat()),
            ("an extension of nothing", [extension(b'x', b"6 a=b\n"), end.clone()].concat()),
            ("a global size", [extension(b'g', b"9 size=1\n"), end.clone()].concat()),
            ("a huge extension", [header(b'L', "x", 1 << 33), end.clone()].concat()),
            ("many extensions", [extension(b'L', b"a\0").repeat(9), end.clone()].concat()),
            ("noise", vec![0x55; 4096]),
        ] {
            assert!(all(&archive).is_err(), "{what}");
        }
        let comment = extension(b'g', b"13 comment=a\n");
        assert!(all(&[comment, header(flag::FILE, "a", 0), end].concat()).unwrap().len() == 1);
    }
}
