//! A one-time token that the guest was given: it shows it until it is let in, and the manager takes the guest's own key by it.
//!
//! Found once at start, on the command line or in the launch; shown in each hello. The token is an Ed25519 seed; it is never said, only
//! signed with, and never put on the guest's disk by the agent.

use super::IdentityError;
use super::launch::{GIVEN_TOKEN, given};
use crate::state::{StateDir, io_at, replace};
use doorbell_wire::error::Malformed;
use doorbell_wire::handshake::enrolment_transcript;
use doorbell_wire::ids::{PublicKey, Signature};
use doorbell_wire::message::{Claims, Enrolment, Greeting};
use ed25519_dalek::{Signer as _, SigningKey};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use tracing::{info, warn};

/// A token that was not used yet. Its bytes are wiped when this is dropped.
pub struct Once {
    key: SigningKey,
    used: PathBuf,
}

impl std::fmt::Debug for Once {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Once").finish_non_exhaustive()
    }
}

impl Once {
    /// The token in this file, else that of the launch; none where it has let the guest in already.
    ///
    /// # Errors
    /// [`IdentityError::NotAToken`] and [`IdentityError::State`].
    pub fn find(asked: Option<&Path>, state: &StateDir) -> Result<Option<Self>, IdentityError> {
        let used = state.root().join(USED);
        if let Some(path) = asked {
            check_rights(path)?;
        }
        let from = asked.unwrap_or_else(|| Path::new(GIVEN_TOKEN));
        let Some(mut seed) = given(from)? else { return Ok(None) };
        let not =
            |got: usize| IdentityError::NotAToken { path: from.to_owned(), got: format!("{got} bytes") };
        let key = <&[u8; 32]>::try_from(seed.as_slice()).map(SigningKey::from_bytes);
        let key = key.map_err(|_| not(seed.len()));
        seed.fill(0);
        std::hint::black_box(&seed);
        let once = Self { key: key?, used };
        if once.is_used()? {
            return Ok(None);
        }
        info!(from = %from.display(), "a one-time token is shown until this guest is let in");
        Ok(Some(once))
    }

    /// Shows the token to the manager that said this greeting.
    ///
    /// # Errors
    /// [`Malformed`] when the claims do not fit.
    pub fn show(&self, greeting: &Greeting, claims: &Claims) -> Result<Enrolment, Malformed> {
        let said = enrolment_transcript(greeting, claims)?;
        Ok(Enrolment { token: self.public(), proof: Signature::new(self.key.sign(&said).to_bytes()) })
    }

    /// The guest was let in: the token is not shown again. Its public half is kept, for it may still lie where it was found.
    pub fn spend(self) {
        if let Err(error) = replace(&self.used, self.public().as_bytes()) {
            warn!(%error, path = %self.used.display(), "that the one-time token is used cannot be kept; it is shown again at the next start");
        }
    }

    fn public(&self) -> PublicKey {
        PublicKey::new(self.key.verifying_key().to_bytes())
    }

    fn is_used(&self) -> Result<bool, IdentityError> {
        match std::fs::read(&self.used) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            read => Ok(io_at("read", &self.used, read)? == self.public().as_bytes()),
        }
    }
}

/// A token that others can read is no secret of this guest's; one that is not there any more has done its part.
fn check_rights(path: &Path) -> Result<(), IdentityError> {
    let mode = match std::fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => io_at("look at", path, found)?.mode() & 0o7777,
    };
    if mode & 0o077 == 0 {
        return Ok(());
    }
    let got = format!("mode {mode:o}, so that others may know it,");
    Err(IdentityError::NotAToken { path: path.to_owned(), got })
}

/// The public half of the token that was used last, in the state directory.
const USED: &str = "enrolled";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::tests::state;
    use std::fs::{Permissions, set_permissions, write};
    use std::os::unix::fs::PermissionsExt as _;

    fn token(dir: &Path, byte: u8, mode: u32) -> PathBuf {
        let path = dir.join("token.once");
        write(&path, [byte; 32]).unwrap();
        set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn a_token_is_shown_until_it_is_spent_and_another_one_is_another() {
        let (dir, state) = state();
        let first = token(dir.path(), 1, 0o600);
        assert!(Once::find(Some(&first), &state).unwrap().is_some(), "not spent by being read");
        let once = Once::find(Some(&first), &state).unwrap().unwrap();
        assert!(!format!("{once:?}").contains('1'));
        once.spend();
        assert!(Once::find(Some(&first), &state).unwrap().is_none());
        let second = token(dir.path(), 2, 0o600);
        assert!(Once::find(Some(&second), &state).unwrap().is_some());
        std::fs::remove_file(&second).unwrap();
        assert!(Once::find(Some(&second), &state).unwrap().is_none(), "it has done its part");
    }

    #[test]
    fn a_token_that_others_can_read_or_that_is_none_is_refused() {
        let (dir, state) = state();
        let error = Once::find(Some(&token(dir.path(), 1, 0o644)), &state).unwrap_err();
        assert!(error.to_string().contains("mode 644, so that others may know it"), "{error}");
        let path = token(dir.path(), 1, 0o600);
        write(&path, [1; 31]).unwrap();
        let error = Once::find(Some(&path), &state).unwrap_err();
        assert!(error.to_string().contains("31 bytes"), "{error}");
    }
}
