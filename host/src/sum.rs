//! SHA-256 of a file that grows: hashed while its bytes pass by, so that a long one is not read back.
//!
//! Used by `output`, `uploads` and `backup`. Trusts its caller that what is added is what the file has; what it did not
//! see, because a restart lies between, is read when the sum is asked for.

use doorbell_wire::ids::Digest;
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

/// The sum of the first bytes of a file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sum {
    hasher: Sha256,
    upto: u64,
}

impl Sum {
    /// Adds bytes that the file got at `offset`. Bytes behind a part that was not seen are read later.
    pub(crate) fn add(&mut self, offset: u64, bytes: &[u8]) {
        if offset == self.upto {
            self.hasher.update(bytes);
            self.upto = self.upto.saturating_add(bytes.len() as u64);
        }
    }

    /// The sum of the first `len` bytes of the file; may block for as long as it takes to read what was not seen.
    pub(crate) fn finish(mut self, file: Option<&File>, len: u64) -> io::Result<Digest> {
        if self.upto > len {
            self = Self::default();
        }
        let mut buffer = vec![0; READ_LEN];
        while let (Some(file), true) = (file, self.upto < len) {
            let left = usize::try_from(len.saturating_sub(self.upto)).unwrap_or(usize::MAX);
            let room = buffer.get_mut(..left.min(READ_LEN)).unwrap_or_default();
            let count = file.read_at(room, self.upto)?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let (at, read) = (self.upto, room.get(..count).unwrap_or_default());
            self.add(at, read);
        }
        Ok(Digest::new(self.hasher.finalize().into()))
    }
}

/// A reader whose bytes are hashed as they pass.
#[derive(Debug)]
pub(crate) struct Hashing<R> {
    inner: R,
    hasher: Sha256,
}

impl<R> Hashing<R> {
    /// Nothing has passed yet.
    pub(crate) fn of(inner: R) -> Self {
        Self { inner, hasher: Sha256::new() }
    }

    /// The sum of all that has passed, in hexadecimal digits.
    pub(crate) fn finish(self) -> String {
        hex::encode(self.hasher.finalize())
    }
}

impl<R: io::Read> io::Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(buffer.get(..count).unwrap_or_default());
        Ok(count)
    }
}

const READ_LEN: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    fn plain(bytes: &[u8]) -> Digest {
        Digest::new(Sha256::digest(bytes).into())
    }

    #[test]
    fn what_passed_by_is_not_read_again_and_the_rest_is() {
        let bytes = vec![7; 600_000];
        let on_disk = file(&bytes);
        let mut sum = Sum::default();
        sum.add(0, &bytes[..100]);
        sum.add(200, &bytes[200..300]);
        assert_eq!(sum.upto, 100, "bytes behind a gap were taken");
        assert_eq!(sum.finish(Some(&on_disk), 600_000).unwrap(), plain(&bytes));
        let mut whole = Sum::default();
        whole.add(0, b"abc");
        assert_eq!(whole.finish(None, 3).unwrap(), plain(b"abc"));
        assert_eq!(Sum::default().finish(None, 0).unwrap(), plain(b""));
    }

    #[test]
    fn a_sum_that_saw_more_than_there_is_starts_again() {
        let mut sum = Sum::default();
        sum.add(0, b"abcdef");
        assert_eq!(sum.finish(Some(&file(b"abc")), 3).unwrap(), plain(b"abc"));
    }
}
