//! The key that a guest is launched with, or the one-time token: made here, its public half for the manager, its secret half in a file for the
//! guest's QEMU.
//!
//! Called by `doorbell guest add` and `enrol`. Trusts the file system with the file's mode. The secret half is never
//! printed, and never an argument.

use crate::exit::Exit;
use crate::failure::Failure;
use ed25519_dalek::SigningKey;
use std::fs::{File, OpenOptions, remove_file};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf, absolute};
use zeroize::Zeroizing;

/// Under what name QEMU hands a guest its key.
pub(crate) const KEY: &str = "opt/org.doorbell.key";
/// Under what name QEMU hands a guest its one-time token.
pub(crate) const TOKEN: &str = "opt/org.doorbell.enrol";

/// A key in a file of its own, which goes again unless it is kept.
#[derive(Debug)]
pub(crate) struct NewKey {
    public: String,
    file: Option<PathBuf>,
}

impl NewKey {
    /// Makes a key and the file with its secret half; one that is there is left alone.
    pub(crate) fn make(path: &Path) -> Result<Self, Failure> {
        let refuse = |error: io::Error| {
            Failure::new(Exit::Misused, format!("cannot make the key {}: {error}", path.display()))
        };
        let mut seed = Zeroizing::new([0; ed25519_dalek::SECRET_KEY_LENGTH]);
        getrandom::fill(&mut *seed).map_err(|error| refuse(io::Error::other(error)))?;
        let key = SigningKey::from_bytes(&seed);
        let path = absolute(path).map_err(refuse)?;
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(refuse)?;
        let made = Self { public: hex::encode(key.verifying_key().as_bytes()), file: Some(path.clone()) };
        let written = file.write_all(&*seed).and_then(|()| file.sync_all());
        drop(seed);
        written.map_err(refuse)?;
        let directory = path.parent().unwrap_or_else(|| Path::new("/"));
        File::open(directory).and_then(|directory| directory.sync_all()).map_err(refuse)?;
        Ok(made)
    }

    /// The public half, as the manager takes it.
    pub(crate) fn public(&self) -> String {
        self.public.clone()
    }

    /// Keeps the file; gives what QEMU is to be started with, so that the guest finds it under this name.
    pub(crate) fn keep(mut self, name: &str) -> String {
        let file = self.file.take().unwrap_or_default();
        // A comma in a value of QEMU's is written twice.
        format!("-fw_cfg name={name},file={}", file.display().to_string().replace(',', ",,"))
    }
}

impl Drop for NewKey {
    fn drop(&mut self) {
        if let Some(file) = &self.file {
            let _ = remove_file(file);
        }
    }
}
