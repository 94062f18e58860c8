//! The manager's key, as this guest pins it: nothing is done for anybody else who answers at the manager's place.
//!
//! Read once at start, from the command line, the state directory or the launch; asked with each welcome. Trusts the hypervisor as
//! `launch` does. What is no pin ends the agent: a guest that is to have one is not served without.

use super::IdentityError;
use super::launch::{GIVEN_PIN, given};
use crate::state::{StateDir, io_at, replace};
use doorbell_wire::handshake::manager_transcript;
use doorbell_wire::ids::{Fingerprint, PublicKey};
use doorbell_wire::message::{Claims, Greeting, Welcome};
use ed25519_dalek::{Signature, VerifyingKey};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use tracing::info;

/// The key that the manager has to prove.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Pin(Fingerprint);

/// Who was met in the place of the manager.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "{who} answers where the manager with the key {pinned} is awaited; nothing is done for it. Compare the pin with what `doorbell manager key` shows on the host; where that is right, find out who listens there"
)]
pub struct NotTheManager {
    pinned: Fingerprint,
    who: Stranger,
}

/// What is wrong with who was met.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
enum Stranger {
    #[error("somebody without a proof, or a manager that is too old for one,")]
    Unproved,
    #[error("a manager with the key {0}")]
    Other(Fingerprint),
    #[error("somebody who shows that key and does not hold it")]
    Forged,
}

impl Pin {
    /// The pin of this guest: what the command line says, else what is in the state directory, else what the guest was launched
    /// with, which is kept there.
    ///
    /// # Errors
    /// [`IdentityError::NotAPin`] and [`IdentityError::State`].
    pub fn find(asked: Option<&str>, state: &StateDir) -> Result<Option<Self>, IdentityError> {
        let kept = state.root().join(FILE);
        let pin = match asked {
            Some(asked) if asked.starts_with(FINGERPRINT) => Some(read(asked, asked)?),
            Some(file) => Some(read_file(Path::new(file))?),
            None if io_at("look at", &kept, kept.try_exists())? => Some(read_file(&kept)?),
            None => adopt(Path::new(GIVEN_PIN), &kept)?,
        };
        if let Some(pin) = &pin {
            info!(manager = %pin.0, "only the manager with this key is served");
        }
        Ok(pin)
    }

    /// Whether this welcome is the manager's.
    ///
    /// # Errors
    /// [`NotTheManager`].
    pub fn check(
        &self,
        greeting: &Greeting,
        claims: &Claims,
        welcome: &Welcome,
    ) -> Result<(), NotTheManager> {
        let no = |who| NotTheManager { pinned: self.0, who };
        let proof = welcome.proof.ok_or_else(|| no(Stranger::Unproved))?;
        let shown = Fingerprint::of(&proof.public_key);
        if shown != self.0 {
            return Err(no(Stranger::Other(shown)));
        }
        let forged = || no(Stranger::Forged);
        let said = manager_transcript(greeting, claims, welcome).map_err(|_| forged())?;
        let key = VerifyingKey::from_bytes(proof.public_key.as_bytes()).map_err(|_| forged())?;
        let signature = Signature::from_bytes(proof.signature.as_bytes());
        key.verify_strict(&said, &signature).map_err(|_| forged())
    }
}

/// The pin of the launch, kept for the starts that follow.
fn adopt(from: &Path, kept: &Path) -> Result<Option<Pin>, IdentityError> {
    let Some(bytes) = given(from)? else { return Ok(None) };
    let shown = from.display().to_string();
    let pin = read(&shown, &String::from_utf8_lossy(&bytes))?;
    io_at("write", kept, replace(kept, format!("{}\n", pin.0).as_bytes()))?;
    info!(from = shown, "the manager's key of the guest's launch is pinned");
    Ok(Some(pin))
}

fn read_file(path: &Path) -> Result<Pin, IdentityError> {
    let mode = io_at("look at", path, std::fs::metadata(path))?.mode() & 0o7777;
    let shown = path.display().to_string();
    if mode & 0o022 != 0 {
        let got = format!("mode {mode:o}, so that others can write it: chmod go-w");
        return Err(IdentityError::NotAPin { from: shown, got });
    }
    let bytes = io_at("read", path, std::fs::read(path))?;
    read(&shown, &String::from_utf8_lossy(&bytes))
}

/// A fingerprint, or the key itself in hexadecimal digits.
fn read(from: &str, text: &str) -> Result<Pin, IdentityError> {
    let word = text.trim();
    let key = || word.parse::<PublicKey>().map(|key| Fingerprint::of(&key));
    let pin = word.parse::<Fingerprint>().or_else(|_| key()).map(Pin);
    pin.map_err(|_| {
        let got = word.chars().take(SHOWN).flat_map(char::escape_debug).collect::<String>();
        IdentityError::NotAPin { from: from.to_owned(), got: format!("{got:?}") }
    })
}

/// Where the pin of the launch is kept in the state directory.
const FILE: &str = "manager";
/// What a fingerprint begins with, and the name of no file.
pub const FINGERPRINT: &str = "SHA256:";
/// Characters that are shown of what is no pin.
const SHOWN: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::tests::state;
    use doorbell_wire::ids::{BootId, Nonce, SessionToken};
    use doorbell_wire::message::{Capabilities, ManagerProof};
    use ed25519_dalek::{Signer as _, SigningKey};
    use std::fs::{Permissions, set_permissions, write};
    use std::os::unix::fs::PermissionsExt as _;

    fn key() -> SigningKey {
        SigningKey::from_bytes(&[5; 32])
    }

    fn pin() -> Pin {
        Pin(Fingerprint::of(&PublicKey::new(key().verifying_key().to_bytes())))
    }

    fn greeting(byte: u8) -> Greeting {
        Greeting { version_min: 0, version_max: 1, nonce: Nonce::new([byte; 32]), host_time_ms: 1 }
    }

    fn claims(byte: u8) -> Claims {
        Claims {
            version: 1,
            nonce: Nonce::new([byte; 32]),
            public_key: PublicKey::new([3; 32]),
            boot_id: BootId::new([4; 16]),
            generation: None,
            token: None,
            capabilities: Capabilities::MANAGER_PROOF,
            agent: "0".parse().unwrap(),
            sequence_max: 0,
            clock_us: 0,
        }
    }

    fn welcome(by: &SigningKey, greeting: &Greeting, claims: &Claims) -> Welcome {
        let plain = Welcome { token: SessionToken::new([6; 32]), host_time_ms: 2, proof: None };
        let said = manager_transcript(greeting, claims, &plain).unwrap();
        let proof = ManagerProof {
            public_key: PublicKey::new(by.verifying_key().to_bytes()),
            signature: doorbell_wire::ids::Signature::new(by.sign(&said).to_bytes()),
        };
        Welcome { proof: Some(proof), ..plain }
    }

    #[test]
    fn only_the_holder_of_the_pinned_key_is_the_manager_and_only_in_this_handshake() {
        let (greeting, claims) = (greeting(1), claims(2));
        let good = welcome(&key(), &greeting, &claims);
        pin().check(&greeting, &claims, &good).unwrap();

        let who = |greeting: &Greeting, claims: &Claims, welcome: &Welcome| {
            pin().check(greeting, claims, welcome).unwrap_err().who
        };
        let none = Welcome { proof: None, ..good.clone() };
        assert_eq!(who(&greeting, &claims, &none), Stranger::Unproved);
        let other = welcome(&SigningKey::from_bytes(&[7; 32]), &greeting, &claims);
        assert!(matches!(who(&greeting, &claims, &other), Stranger::Other(_)));
        // One that was heard before: of another nonce of either side, another guest, another version, another token.
        assert_eq!(who(&self::greeting(9), &claims, &good), Stranger::Forged);
        assert_eq!(who(&greeting, &self::claims(9), &good), Stranger::Forged);
        let guest = Claims { public_key: PublicKey::new([8; 32]), ..claims.clone() };
        assert_eq!(who(&greeting, &guest, &good), Stranger::Forged);
        assert_eq!(who(&greeting, &Claims { version: 0, ..claims.clone() }, &good), Stranger::Forged);
        let token = Welcome { token: SessionToken::new([7; 32]), ..good };
        assert_eq!(who(&greeting, &claims, &token), Stranger::Forged);
    }

    #[test]
    fn a_pin_is_a_fingerprint_a_key_or_a_file_that_nobody_else_can_write() {
        let (dir, state) = state();
        let find = |asked: &str| Pin::find(Some(asked), &state);
        assert_eq!(find(&pin().0.to_string()).unwrap(), Some(pin()));
        let file = dir.path().join("manager.key");
        write(&file, format!("{}\n", hex_of(key().verifying_key().as_bytes()))).unwrap();
        set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        assert_eq!(find(file.to_str().unwrap()).unwrap(), Some(pin()));
        set_permissions(&file, Permissions::from_mode(0o666)).unwrap();
        let error = find(file.to_str().unwrap()).unwrap_err();
        assert!(error.to_string().contains("has mode 666, so that others can write it"), "{error}");
        for wrong in ["SHA256:short", "SHA256:"] {
            assert!(matches!(find(wrong), Err(IdentityError::NotAPin { .. })), "{wrong}");
        }
        assert!(matches!(find("/nowhere/at/all"), Err(IdentityError::State(_))));
        assert_eq!(Pin::find(None, &state).unwrap(), None);
    }

    #[test]
    fn the_pin_of_the_launch_is_kept_and_what_is_none_is_refused() {
        let (dir, state) = state();
        let (given, kept) = (dir.path().join("raw"), state.root().join(FILE));
        assert_eq!(adopt(&given, &kept).unwrap(), None);
        write(&given, "no key\n").unwrap();
        assert!(matches!(adopt(&given, &kept), Err(IdentityError::NotAPin { .. })));
        assert!(!kept.exists());
        write(&given, pin().0.to_string()).unwrap();
        assert_eq!(adopt(&given, &kept).unwrap(), Some(pin()));
        assert_eq!(Pin::find(None, &state).unwrap(), Some(pin()), "also at the next start");
    }

    fn hex_of(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
