//! The program that goes wrong on purpose: `tests/programs/misfit.rs`, built static once per test process, and
//! what is to be seen of it.
//!
//! Called by suites of running programs. The compiler alone builds it, so that it is there in a second.

use crate::build::{root, run};
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The program's file.
#[must_use]
pub fn misfit() -> &'static Path {
    BUILT.get_or_init(build)
}

/// Its bytes.
#[must_use]
pub fn bytes() -> Vec<u8> {
    std::fs::read(misfit()).expect("the program")
}

/// Its bytes as of a program for another machine.
#[must_use]
pub fn for_another_machine() -> Vec<u8> {
    let mut bytes = bytes();
    // e_machine of an ELF header: AArch64.
    bytes[18..20].copy_from_slice(&183_u16.to_le_bytes());
    bytes
}

/// How many bytes there are, and their SHA-256.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Sum {
    /// How many.
    pub len: u64,
    /// Their digest, in hexadecimal.
    pub sha256: String,
}

/// The sum of bytes.
#[must_use]
pub fn sum(bytes: &[u8]) -> Sum {
    Sum { len: bytes.len() as u64, sha256: hex::encode(Sha256::digest(bytes)) }
}

/// The sum of a file's bytes.
#[must_use]
pub fn sum_of_file(path: &Path) -> Sum {
    let (mut file, mut digest) = (File::open(path).expect("a file"), Sha256::new());
    let (mut buffer, mut len) = (vec![0; 1 << 20], 0);
    loop {
        let count = file.read(&mut buffer).expect("a file that can be read");
        if count == 0 {
            return Sum { len, sha256: hex::encode(digest.finalize()) };
        }
        digest.update(&buffer[..count]);
        len += count as u64;
    }
}

/// The sum of the first `mib` MiB that `misfit flood` prints.
#[must_use]
pub fn sum_of_flood(mib: u64) -> Sum {
    let (mut piece, mut digest) = (vec![b'.'; PIECE], Sha256::new());
    let len = mib << 20;
    for at in 0..len / PIECE as u64 {
        let head = format!("piece {at}\n");
        piece[..head.len()].copy_from_slice(head.as_bytes());
        digest.update(&piece);
    }
    Sum { len, sha256: hex::encode(digest.finalize()) }
}

fn build() -> PathBuf {
    let directory = root().join("target/tests").join(format!("{}-misfit", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a directory for the program");
    let file = directory.join("misfit");
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    run(Command::new(rustc)
        .args(["--edition", "2024", "-O", "-C", "target-feature=+crt-static", "-C", "strip=symbols", "-o"])
        .arg(&file)
        .arg(root().join("tests/programs/misfit.rs")));
    file
}

const PIECE: usize = 64 * 1024;
static BUILT: OnceLock<PathBuf> = OnceLock::new();
