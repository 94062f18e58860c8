//! `doorbell-floor`: what a guest can do at best, measured in that guest, without anything of Doorbell in it.
//!
//! Started in a guest by the benchmark command, which it calls back over vsock; it then does what it is told and
//! answers with nanoseconds. Trusts its one peer. An order is a letter and a number of eight bytes:
//!
//! | order | it does, so many times or bytes | it answers |
//! |---|---|---|
//! | `P` | ping-pong of one byte, it begins | each round trip |
//! | `X` | fork, exec and wait of a program with pipes in a fresh cgroup | each |
//! | `W` | append 256 bytes and fdatasync, in its directory | each |
//! | `D` | receive, CRC32C and SHA-256 | one time |
//! | `R` | receive | one time |
//! | `T` | send, in pieces of 64 KiB that the peer answers with a byte each | one time |
//! | `H` | SHA-256, then CRC32C, of bytes in memory | two times |

mod child;
mod stream;

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};
use vsock::{VMADDR_CID_HOST, VsockAddr, VsockStream};

fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(port), Some(directory), Some(program)) =
        (arguments.next().and_then(|port| port.parse().ok()), arguments.next(), arguments.next())
    else {
        return Err(io::Error::other("usage: doorbell-floor PORT DIRECTORY PROGRAM"));
    };
    let mut peer = VsockStream::connect(&VsockAddr::new(VMADDR_CID_HOST, port))?;
    // Whoever started it shall not wait for it: the measurements come while other requests run.
    child::leave()?;
    serve(&mut peer, Path::new(&directory), &program)
}

fn serve(peer: &mut VsockStream, directory: &Path, program: &str) -> io::Result<()> {
    loop {
        let mut order = [0; 9];
        if peer.read_exact(&mut order).is_err() {
            return Ok(());
        }
        let [letter, number @ ..] = order;
        let number = u64::from_le_bytes(number);
        let times = match letter {
            b'P' => repeat(number, || ping(peer))?,
            b'X' => {
                let group = child::Group::fresh()?;
                repeat(number, || child::run(program, &group))?
            }
            b'W' => syncs(number, directory)?,
            b'D' => vec![stream::receive_and_check(peer, number)?],
            b'R' => vec![stream::receive(peer, number)?],
            b'T' => vec![stream::send(peer, number)?],
            b'H' => stream::digest(number).to_vec(),
            _ => return Err(io::Error::other("an unknown order")),
        };
        answer(peer, &times)?;
    }
}

fn answer(peer: &mut VsockStream, times: &[Duration]) -> io::Result<()> {
    let nanoseconds = |time: &Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).to_le_bytes();
    let bytes: Vec<u8> = times.iter().flat_map(nanoseconds).collect();
    peer.write_all(&bytes)
}

fn repeat(count: u64, mut one: impl FnMut() -> io::Result<()>) -> io::Result<Vec<Duration>> {
    (0..count)
        .map(|_| {
            let start = Instant::now();
            one()?;
            Ok(start.elapsed())
        })
        .collect()
}

fn ping(peer: &mut VsockStream) -> io::Result<()> {
    peer.write_all(&[1])?;
    peer.read_exact(&mut [0])
}

fn syncs(count: u64, directory: &Path) -> io::Result<Vec<Duration>> {
    let path = directory.join("floor");
    let mut file = File::options().create(true).append(true).mode(0o600).open(&path)?;
    let times = repeat(count, || {
        file.write_all(&[7; 256])?;
        file.sync_data()
    });
    std::fs::remove_file(&path)?;
    times
}
