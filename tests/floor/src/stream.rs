//! Bytes in bulk: as they come, and with what a program transfer does to them.
//!
//! Called by `main`.

use sha2::{Digest as _, Sha256};
use std::hint::black_box;
use std::io::{self, Read as _, Write as _};
use std::time::{Duration, Instant};
use vsock::VsockStream;

/// Receives so many bytes.
pub(crate) fn receive(peer: &mut VsockStream, len: u64) -> io::Result<Duration> {
    pieces(peer, len, |_| {})
}

/// Receives so many bytes, and checks them as frames and as a whole.
pub(crate) fn receive_and_check(peer: &mut VsockStream, len: u64) -> io::Result<Duration> {
    let (mut sum, mut digest) = (0, Sha256::new());
    let start = Instant::now();
    pieces(peer, len, |piece| {
        sum ^= crc32c::crc32c(piece);
        digest.update(piece);
    })?;
    black_box((sum, digest.finalize()));
    Ok(start.elapsed())
}

fn pieces(peer: &mut VsockStream, len: u64, mut each: impl FnMut(&[u8])) -> io::Result<Duration> {
    let mut buffer = vec![0; PIECE];
    let mut left = len;
    let start = Instant::now();
    while left > 0 {
        let room = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
        let got = peer.read(buffer.get_mut(..room).unwrap_or_default())?;
        if got == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        each(buffer.get(..got).unwrap_or_default());
        left = left.saturating_sub(got as u64);
    }
    Ok(start.elapsed())
}

/// Sends so many bytes, two pieces of them on the way at most, and waits until the peer has them all.
pub(crate) fn send(peer: &mut VsockStream, len: u64) -> io::Result<Duration> {
    let buffer = vec![7; PIECE];
    let pieces = len.div_ceil(PIECE as u64);
    let start = Instant::now();
    for piece in 0..pieces {
        if piece >= ON_THE_WAY {
            peer.read_exact(&mut [0])?;
        }
        peer.write_all(&buffer)?;
    }
    for _ in 0..pieces.min(ON_THE_WAY) {
        peer.read_exact(&mut [0])?;
    }
    Ok(start.elapsed())
}

/// How long SHA-256 and CRC32C of so many bytes take, nothing else being done.
pub(crate) fn digest(len: u64) -> [Duration; 2] {
    let piece = vec![7; PIECE];
    let rounds = len.div_ceil(PIECE as u64);
    let mut digest = Sha256::new();
    let start = Instant::now();
    (0..rounds).for_each(|_| digest.update(&piece));
    black_box(digest.finalize());
    let sha256 = start.elapsed();
    let start = Instant::now();
    black_box((0..rounds).fold(0, |sum, _| crc32c::crc32c_append(sum, &piece)));
    [sha256, start.elapsed()]
}

const PIECE: usize = 65536;
const ON_THE_WAY: u64 = 2;
