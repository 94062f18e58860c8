//! Files whose runs of zeros take no room.
//!
//! Called by `unpack`, and by whoever else writes a file that arrives piece by piece. The file must be fresh:
//! what is passed over has to be a hole already.

use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

/// Writes `bytes` at `offset`, but for blocks that are zeros, as far as they are in `bytes`. The caller sets the file's length at the end.
///
/// # Errors
/// The kernel's refusal; bytes in front of it may have been written.
pub fn write(file: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
    // Blocks are those of the file: the first piece goes up to the next one's beginning.
    let into = usize::try_from(offset % PAGE as u64).unwrap_or_default();
    let (mut begun, mut at) = (0_usize, 0_usize);
    let mut room = PAGE.saturating_sub(into);
    while at < bytes.len() {
        let end = at.saturating_add(room).min(bytes.len());
        // Also where only a part of a block is here: in a fresh file it is zeros already.
        let piece = bytes.get(at..end).unwrap_or_default();
        if ZEROS.get(..piece.len()) == Some(piece) {
            put(file, offset, bytes, begun..at)?;
            begun = end;
        }
        (at, room) = (end, PAGE);
    }
    put(file, offset, bytes, begun..at)
}

fn put(file: &File, offset: u64, bytes: &[u8], range: Range<usize>) -> io::Result<()> {
    let offset = offset.saturating_add(range.start as u64);
    file.write_all_at(bytes.get(range).unwrap_or_default(), offset)
}

/// Whether an error means that nothing more can be written, rather than that one name is refused.
pub(crate) fn is_fatal(error: &io::Error) -> bool {
    let fatal = [
        Errno::NOSPC,
        Errno::DQUOT,
        Errno::IO,
        Errno::ROFS,
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOMEM,
        Errno::FBIG,
    ];
    fatal.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// What file systems allot at once, mostly.
const PAGE: usize = 4096;
static ZEROS: [u8; PAGE] = [0; PAGE];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::unix::fs::MetadataExt;

    proptest! {
        #[test]
        fn what_is_written_in_pieces_is_what_is_read(
            runs in proptest::collection::vec((any::<bool>(), 1_usize..10_000), 1..12),
            piece in 1_usize..20_000,
        ) {
            let bytes: Vec<u8> =
                runs.iter().flat_map(|&(zero, len)| vec![if zero { 0 } else { 7 }; len]).collect();
            let file = tempfile::tempfile().unwrap();
            let mut at = 0;
            for piece in bytes.chunks(piece) {
                write(&file, at, piece).unwrap();
                at += piece.len() as u64;
            }
            file.set_len(at).unwrap();
            let mut read = vec![1; bytes.len()];
            file.read_exact_at(&mut read, 0).unwrap();
            prop_assert!(read == bytes);
        }
    }

    #[test]
    fn zeros_take_no_room() {
        let file = tempfile::tempfile().unwrap();
        // Pieces as a pipe gives them: none ends with a block.
        for at in 0..64 {
            write(&file, at * 32_765, &[0; 32_765]).unwrap();
        }
        write(&file, 64 * 32_765, b"end").unwrap();
        assert!(file.metadata().unwrap().blocks() <= 16, "{:?}", file.metadata().unwrap().blocks());
    }
}
