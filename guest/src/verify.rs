//! The gate between bytes that arrived and a program that may run.
//!
//! Called by `pull` with what `fetch` staged. [`verify`] is the only way to a [`VerifiedProgram`], and `apply`
//! starts nothing else that came over the channel:
//!
//! ```compile_fail,E0451
//! // Only this module can put one together.
//! let forged = doorbell_agent::verify::VerifiedProgram { file: todo!(), name: todo!() };
//! ```
//! ```compile_fail,E0308
//! // Bytes are not a program.
//! fn start(run: &doorbell_wire::message::action::Run, bytes: Vec<u8>) {
//!     let _ = doorbell_agent::apply::program::Prepared::new(run, Some(bytes));
//! }
//! ```

use crate::fetch::{Part, Staged};
use crate::journal::file::errno_of;
use doorbell_wire::ids::ShortText;
use doorbell_wire::message::outcome::{NotReceived, NotVerified, Outcome};
use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// A program whose bytes are those that were named. Its file is removed when this is dropped.
#[derive(Debug)]
pub struct VerifiedProgram {
    file: Part,
    name: ShortText,
}

impl VerifiedProgram {
    /// The file to start.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.file.0
    }

    /// What the program is called.
    #[must_use]
    pub const fn name(&self) -> &ShortText {
        &self.name
    }
}

/// Compares what arrived with what was named, and makes it executable.
///
/// # Errors
/// The outcome of the request: the bytes are others, or the file could not be put in place.
pub fn verify(staged: Staged) -> Result<VerifiedProgram, Outcome> {
    let Staged { program, part, got, len } = staged;
    if len != program.len {
        return Err(Outcome::NotReceived(NotReceived::Length { expected: program.len, got: len }));
    }
    if got != program.digest {
        return Err(Outcome::NotVerified(NotVerified { expected: program.digest, got }));
    }
    let place = part.0.with_extension("");
    put(&part.0, &place)
        .map_err(|error| Outcome::NotReceived(NotReceived::Unstageable(errno_of(&error) as i32)))?;
    Ok(VerifiedProgram { file: Part(place), name: program.name })
}

fn put(part: &Path, place: &Path) -> io::Result<()> {
    std::fs::set_permissions(part, Permissions::from_mode(0o700))?;
    std::fs::rename(part, place)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fetch::Staging;
    use doorbell_wire::ids::Digest;
    use doorbell_wire::message::action::Program;
    use sha2::{Digest as _, Sha256};

    fn program(bytes: &[u8]) -> Program {
        let digest = Digest::new(Sha256::digest(bytes).into());
        Program::new(digest, bytes.len() as u64, "tool".parse().unwrap()).unwrap()
    }

    fn staged(dir: &Path, program: &Program, bytes: &[u8]) -> Staged {
        let mut staging = Staging::begin(dir, program).unwrap();
        for piece in bytes.chunks(7) {
            staging.add(piece).unwrap();
        }
        assert!(staging.is_whole());
        staging.finish().unwrap()
    }

    #[test]
    fn the_named_bytes_become_an_executable_of_root_alone() {
        let dir = tempfile::tempdir().unwrap();
        let bytes = b"#!/bin/sh\nexit 0\n";
        let verified = verify(staged(dir.path(), &program(bytes), bytes)).unwrap();
        assert_eq!(std::fs::read(verified.path()).unwrap(), bytes);
        let mode = verified.path().metadata().unwrap().permissions().mode();
        assert_eq!((mode & 0o777, verified.name().as_str()), (0o700, "tool"));
        drop(verified);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_flipped_bit_is_refused_and_both_digests_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let offered = program(b"good bytes");
        let Err(Outcome::NotVerified(refusal)) = verify(staged(dir.path(), &offered, b"gooe bytes")) else {
            panic!("a flipped bit was accepted");
        };
        assert_eq!(refusal, NotVerified { expected: offered.digest, got: program(b"gooe bytes").digest });
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn more_bytes_than_offered_are_refused_before_they_are_written() {
        let dir = tempfile::tempdir().unwrap();
        let mut staging = Staging::begin(dir.path(), &program(b"four")).unwrap();
        staging.add(b"fou").unwrap();
        assert_eq!(staging.add(b"rs"), Err(NotReceived::Length { expected: 4, got: 5 }));
        drop(staging);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn too_few_bytes_are_not_received() {
        let dir = tempfile::tempdir().unwrap();
        let mut staging = Staging::begin(dir.path(), &program(b"four")).unwrap();
        staging.add(b"fou").unwrap();
        let short = NotReceived::Length { expected: 4, got: 3 };
        assert_eq!(staging.finish().unwrap_err(), short);
    }

    #[test]
    fn a_directory_that_cannot_be_written_is_named_by_errno() {
        let missing = Path::new("/nonexistent/programs");
        let refusal = Staging::begin(missing, &program(b"x")).unwrap_err();
        assert_eq!(refusal, NotReceived::Unstageable(nix::libc::ENOENT));
    }
}
