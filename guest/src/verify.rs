//! The gate between bytes that arrived and a program that may run.
//!
//! Called by `pull` with what `fetch` staged. [`verify`] is the only way to a [`VerifiedProgram`] or a
//! [`VerifiedFile`], and `apply` starts and puts nothing else that came over the channel:
//!
//! Beside it stands the gate of signatures, [`signature`], through which a request has to pass before anything of it is
//! fetched, and again before it starts: `signers` is who may sign, `sshsig` the form, `nonces` what was begun, `owned` how files that only
//! root may write are read.
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

pub mod nonces;
pub mod owned;
pub mod signature;
pub mod signers;
pub mod sshsig;

use crate::fetch::{Part, Purpose, Staged};
use crate::journal::file::errno_of;
use doorbell_wire::ids::{Digest, RequestId, ShortText};
use doorbell_wire::message::outcome::{NotReceived, NotVerified, Outcome};
use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Bytes that are those that were named.
#[derive(Debug)]
pub enum Verified {
    /// A program.
    Program(VerifiedProgram),
    /// A file, or an archive of a tree.
    File(VerifiedFile),
}

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

/// A staged file whose bytes are those that were named. It stays until its request is cleared; which file it
/// is shows by its number, for it may lie in a directory of somebody else.
#[derive(Debug)]
pub struct VerifiedFile {
    pub(crate) request: RequestId,
    path: PathBuf,
    device: u64,
    inode: u64,
    len: u64,
    digest: Digest,
}

impl VerifiedFile {
    /// SHA-256 of its bytes.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// Where it is staged.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens it, and only it.
    ///
    /// # Errors
    /// The kernel's refusal, or `ESTALE` where another file has its name.
    pub fn open(&self) -> io::Result<File> {
        let mut options = File::options();
        let file = options.read(true).write(true).custom_flags(nix::libc::O_NOFOLLOW).open(&self.path)?;
        let found = file.metadata()?;
        let same = (found.dev(), found.ino(), found.len()) == (self.device, self.inode, self.len);
        // The number of a file that was removed is given to the next one; but nobody else's file is ours.
        if same && found.uid() == nix::unistd::geteuid().as_raw() {
            Ok(file)
        } else {
            Err(io::Error::from_raw_os_error(nix::libc::ESTALE))
        }
    }
}

/// Compares what arrived with what was named; a program is made executable.
///
/// # Errors
/// The outcome of the request: the bytes are others, or the file could not be put in place.
pub fn verify(staged: Staged) -> Result<Verified, Outcome> {
    let Staged { request, payload, purpose, part, file, got, len } = staged;
    if len != payload.len {
        return Err(Outcome::NotReceived(NotReceived::Length { expected: payload.len, got: len }));
    }
    if got != payload.digest {
        return Err(Outcome::NotVerified(NotVerified { expected: payload.digest, got }));
    }
    let unstageable =
        |error: io::Error| Outcome::NotReceived(NotReceived::Unstageable(errno_of(&error) as i32));
    match purpose {
        Purpose::Program(name) => {
            // A file that is open for writing cannot be started.
            drop(file);
            let place = part.0.with_extension("");
            put(&part.0, &place).map_err(unstageable)?;
            Ok(Verified::Program(VerifiedProgram { file: Part(place), name }))
        }
        Purpose::File(_) | Purpose::Archive(..) => {
            let found = file.metadata().map_err(unstageable)?;
            let (device, inode, digest) = (found.dev(), found.ino(), payload.digest);
            Ok(Verified::File(VerifiedFile { request, path: part.leave(), device, inode, len, digest }))
        }
    }
}

fn put(part: &Path, place: &Path) -> io::Result<()> {
    std::fs::set_permissions(part, Permissions::from_mode(0o700))?;
    std::fs::rename(part, place)
}

#[cfg(test)]
pub(crate) mod tests;
