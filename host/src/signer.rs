//! The manager's own key, with which it signs where its audit trail ends, and shows guests that pin it who it is.
//!
//! Made once, at the first start, in the state directory; in every backup, so that a restored manager goes on with it.
//! Each of the two signs bytes that begin with a word of its own. Whoever kept a head elsewhere knows by it that this manager said so. Trusts the file only with its rights.

use crate::store::StoreError;
use doorbell_api::audit::SignedHead;
use doorbell_trail::chain::Head;
use doorbell_trail::head::{fingerprint, sign};
use doorbell_wire::handshake::manager_transcript;
use doorbell_wire::ids::{PublicKey, Signature};
use doorbell_wire::message::{Claims, Greeting, ManagerProof, Welcome};
use ed25519_dalek::{Signer as _, SigningKey};
use std::fmt;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// The key. Its bytes are wiped when the last copy is dropped.
#[derive(Clone)]
pub struct Signer(SigningKey);

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Signer").field(&fingerprint(&self.public())).finish()
    }
}

impl Signer {
    /// The key of a state directory, which is made where there is none.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for a file that is no key or that others can read.
    pub fn open(state_dir: &Path) -> Result<Self, StoreError> {
        if let Some(signer) = Self::read(state_dir)? {
            return Ok(signer);
        }
        let seed: Zeroizing<[u8; LEN]> = Zeroizing::new(crate::judge::random()?);
        make(state_dir, seed.as_slice())
            .map_err(|error| StoreError::io("keep the key of the audit trail", error))?;
        Ok(Self(SigningKey::from_bytes(&seed)))
    }

    /// The key of a state directory, where there is one.
    ///
    /// # Errors
    /// As for [`Signer::open`].
    pub fn read(state_dir: &Path) -> Result<Option<Self>, StoreError> {
        let path = place(state_dir);
        let shown = path.display();
        let cannot = |error| StoreError::io(format!("read the key {shown}"), error);
        let Some(file) = crate::disk::absent_is_none(File::open(&path)).map_err(cannot)? else {
            return Ok(None);
        };
        let mode = file.metadata().map_err(cannot)?.mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(StoreError::invalid(format!(
                "the key {shown} has mode {mode:04o}, expected 0600: others may know it; move it away, and a new one is made"
            )));
        }
        let bytes = Zeroizing::new(std::fs::read(&path).map_err(cannot)?);
        let seed = <&[u8; LEN]>::try_from(bytes.as_slice()).map_err(|_| {
            StoreError::invalid(format!(
                "the key {shown} has {} bytes, expected {LEN}: put it back from a backup, or move it away, and a new one is made",
                bytes.len()
            ))
        })?;
        Ok(Some(Self(SigningKey::from_bytes(seed))))
    }

    /// The public half, 64 hexadecimal digits.
    #[must_use]
    pub fn public(&self) -> String {
        hex::encode(self.0.verifying_key().as_bytes())
    }

    /// Proves the key to the guest that said this hello, over all of the opening.
    ///
    /// # Errors
    /// [`StoreError::Internal`] for an opening that cannot be written, which no checked value causes.
    pub fn prove(
        &self,
        greeting: &Greeting,
        claims: &Claims,
        welcome: &Welcome,
    ) -> Result<ManagerProof, StoreError> {
        let said = manager_transcript(greeting, claims, welcome)
            .map_err(|error| StoreError::internal("write the opening of a session", error))?;
        Ok(ManagerProof {
            public_key: PublicKey::new(self.0.verifying_key().to_bytes()),
            signature: Signature::new(self.0.sign(&said).to_bytes()),
        })
    }

    /// Signs where the trail ends now.
    #[must_use]
    pub fn sign(&self, head: Head) -> SignedHead {
        sign(&self.0, head, crate::time::unix_ms())
    }
}

/// Whole or not there, also behind a crash.
fn make(state_dir: &Path, seed: &[u8]) -> io::Result<()> {
    let fresh = state_dir.join(format!("{FILE}.new"));
    let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    file.write_all(seed)?;
    file.sync_all()?;
    std::fs::rename(fresh, place(state_dir))?;
    crate::disk::sync_dir(state_dir)
}

fn place(state_dir: &Path) -> PathBuf {
    state_dir.join(FILE)
}

/// Where the key is in a state directory.
pub(crate) const FILE: &str = "audit.key";
const LEN: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{Permissions, set_permissions};
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn the_key_is_made_once_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Signer::read(dir.path()).unwrap().is_none());
        let first = Signer::open(dir.path()).unwrap();
        assert_eq!(Signer::open(dir.path()).unwrap().public(), first.public());
        assert_eq!(place(dir.path()).metadata().unwrap().mode() & 0o777, 0o600);
        assert!(!format!("{first:?}").contains(&hex::encode(first.0.to_bytes())));
        let head = Head { number: 3, hash: [9; 32] };
        assert_eq!(doorbell_trail::head::open(&first.sign(head)).unwrap(), head);
    }

    #[test]
    fn what_is_no_key_or_is_known_to_others_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        Signer::open(dir.path()).unwrap();
        set_permissions(place(dir.path()), Permissions::from_mode(0o640)).unwrap();
        let line = Signer::open(dir.path()).unwrap_err().to_string();
        assert!(line.contains("has mode 0640, expected 0600"), "{line}");
        set_permissions(place(dir.path()), Permissions::from_mode(0o600)).unwrap();
        std::fs::write(place(dir.path()), b"short").unwrap();
        let line = Signer::open(dir.path()).unwrap_err().to_string();
        assert!(line.contains("has 5 bytes, expected 32"), "{line}");
    }
}
