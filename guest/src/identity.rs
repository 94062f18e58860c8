//! Who this guest is: its key, the token of its last welcome, the run of its kernel.
//!
//! Called by `link` to answer a greeting and to keep a new token. The key never leaves the state directory;
//! the manager decides by it alone who was met.

pub mod launch;
pub mod once;
pub mod pin;
mod token;

use crate::hand::Way;
use crate::state::{StateDir, StateError, io_at, replace};
use doorbell_wire::error::Malformed;
use doorbell_wire::handshake::transcript;
use doorbell_wire::ids::{BootId, Fingerprint, InvalidId, Nonce, PublicKey, SessionToken, Signature, Tick};
use doorbell_wire::message::{Claims, Greeting, Hello};
use ed25519_dalek::{Signer, SigningKey};
use once::Once;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use token::Token;

/// Why the guest has no identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The kernel refused.
    #[error(transparent)]
    State(#[from] StateError),
    /// The key file is not one.
    #[error("key {} has {got} bytes where 32 make a key; move it away and approve the guest's new key", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Its length.
        got: usize,
    },
    /// What the guest was launched with is not a key.
    #[error("{} has {got} bytes where 32 make a key; have one made by: doorbell guest add --make-key FILE", path.display())]
    NotAKey {
        /// Where it was found.
        path: PathBuf,
        /// Its length.
        got: usize,
    },
    /// What is to be a one-time token is not one, or is one no longer.
    #[error("one-time token {} has {got} where 32 bytes for this guest's root alone are awaited; have one made by: doorbell guest enrol NAME --out FILE", path.display())]
    NotAToken {
        /// Where it was found.
        path: PathBuf,
        /// What was found.
        got: String,
    },
    /// What is to be the manager's key is not one.
    #[error(
        "{from} has {got} where the manager's key is awaited: SHA256:… or 64 hexadecimal digits, as `doorbell manager key` shows them on the host"
    )]
    NotAPin {
        /// Where it was found.
        from: String,
        /// What was found, or what is wrong with it.
        got: String,
    },
    /// Others can read the key.
    #[error("key {} has mode {mode:o} where others need to be shut out; replace the key, for it may be known", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The kernel gave no random bytes.
    #[error("no random bytes for a key")]
    NoRandom(#[source] getrandom::Error),
    /// The kernel did not tell its boot id.
    #[error("boot id {got:?} is not one; is /proc mounted?")]
    NoBootId {
        /// What was read.
        got: String,
    },
}

/// The guest's key and what goes with it. The key's bytes are wiped when this is dropped.
pub struct Identity {
    key: SigningKey,
    tokens: [Token; 2],
    boot_id: BootId,
    once: Option<Once>,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("fingerprint", &self.fingerprint()).finish_non_exhaustive()
    }
}

impl Identity {
    /// Reads the key, or makes one at the first start.
    ///
    /// # Errors
    /// [`IdentityError`] when there is no key to prove.
    pub fn open(state: &StateDir) -> Result<Self, IdentityError> {
        let root = state.root();
        let tokens = [
            Token::read(Way::Channel, root.join("token"))?,
            Token::read(Way::Share, root.join("token-share"))?,
        ];
        Ok(Self { key: key(&root.join("key"))?, tokens, boot_id: boot_id()?, once: None })
    }

    /// Shows this one-time token until the guest is let in.
    pub fn show_once(&mut self, once: Option<Once>) {
        self.once = once;
    }

    /// The public key's fingerprint as OpenSSH writes it, for an operator to compare.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        self.key().to_string()
    }

    /// The public key by its fingerprint, which is what a signature names this guest by.
    #[must_use]
    pub fn key(&self) -> Fingerprint {
        Fingerprint::of(&PublicKey::new(self.key.verifying_key().to_bytes()))
    }

    /// The run of the kernel.
    #[must_use]
    pub const fn boot_id(&self) -> BootId {
        self.boot_id
    }

    /// Completes what the agent claims with key, token and a fresh nonce, and proves it.
    ///
    /// # Errors
    /// [`ProofError`] when there are no random bytes or the claims do not fit.
    pub fn hello(&self, way: Way, greeting: &Greeting, about: About) -> Result<Hello, ProofError> {
        let mut nonce = [0; Nonce::LEN];
        getrandom::fill(&mut nonce).map_err(ProofError::NoRandom)?;
        let claims = Claims {
            version: about.version,
            nonce: Nonce::new(nonce),
            public_key: PublicKey::new(self.key.verifying_key().to_bytes()),
            boot_id: self.boot_id,
            // Linux shows the hypervisor's generation id to no program.
            generation: None,
            token: self.tokens.iter().find(|token| token.way == way).and_then(|token| token.token),
            capabilities: about.capabilities,
            agent: about.agent,
            sequence_max: about.sequence_max,
            clock_us: about.clock_us,
        };
        let proof = self.sign(&transcript(greeting, &claims)?);
        let once = self.once.as_ref().filter(|_| claims.version > 0);
        let enrolment = once.map(|once| once.show(greeting, &claims)).transpose()?;
        Ok(Hello { claims, proof, enrolment })
    }

    /// Keeps the token of a welcome. Until it can be put on disk it holds for this run of the agent.
    pub fn keep(&mut self, way: Way, token: SessionToken) {
        self.tokens.iter_mut().filter(|kept| kept.way == way).for_each(|kept| kept.keep(token));
        self.once.take().into_iter().for_each(Once::spend);
    }

    /// Tries once in a while to save a token that the disk did not take.
    pub fn tend(&mut self, now: Tick) {
        self.tokens.iter_mut().for_each(|token| token.tend(now));
    }

    /// The key's signature.
    #[must_use]
    pub fn sign(&self, bytes: &[u8]) -> Signature {
        Signature::new(self.key.sign(bytes).to_bytes())
    }
}

/// What the agent says of itself beside its identity.
#[derive(Clone, Debug)]
pub struct About {
    /// The chosen protocol version.
    pub version: u16,
    /// What it can do here.
    pub capabilities: doorbell_wire::message::Capabilities,
    /// Its own version.
    pub agent: doorbell_wire::ids::ShortText,
    /// The highest sequence that left a trace here.
    pub sequence_max: u64,
    /// The clock since boot, in microseconds.
    pub clock_us: u64,
}

/// Why a greeting could not be answered.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    /// The kernel gave no random bytes.
    #[error("no random bytes for a nonce")]
    NoRandom(#[source] getrandom::Error),
    /// The claims do not fit.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// This build has a version that cannot be told.
    #[error(transparent)]
    Version(InvalidId),
}

fn key(path: &Path) -> Result<SigningKey, IdentityError> {
    match std::fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return new_key(path),
        metadata => {
            let mode = io_at("look at", path, metadata)?.mode() & 0o7777;
            if mode & 0o077 != 0 {
                return Err(IdentityError::Exposed { path: path.to_owned(), mode });
            }
        }
    }
    let bytes = io_at("read", path, std::fs::read(path))?;
    let damaged = |_| IdentityError::Damaged { path: path.to_owned(), got: bytes.len() };
    Ok(SigningKey::from_bytes(&<[u8; 32]>::try_from(bytes.as_slice()).map_err(damaged)?))
}

/// The file appears whole or not at all: half a key would lock the guest out for good.
fn new_key(path: &Path) -> Result<SigningKey, IdentityError> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(IdentityError::NoRandom)?;
    let key = SigningKey::from_bytes(&seed);
    keep_seed(path, &mut seed)?;
    Ok(key)
}

/// Puts the secret half of a key into its file, and wipes it here.
fn keep_seed(path: &Path, seed: &mut [u8]) -> Result<(), StateError> {
    let written = replace(path, seed);
    seed.fill(0);
    std::hint::black_box(&*seed);
    io_at("write", path, written)
}

fn boot_id() -> Result<BootId, IdentityError> {
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    let got = io_at("read", path, std::fs::read_to_string(path))?;
    let digits: String = got.trim().chars().filter(|&c| c != '-').collect();
    digits.parse().map_err(|_| IdentityError::NoBootId { got: got.trim().to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use doorbell_wire::message::Capabilities;
    use ed25519_dalek::VerifyingKey;
    use std::os::unix::fs::PermissionsExt;

    pub(super) fn state() -> (tempfile::TempDir, StateDir) {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(&dir.path().join("state")).unwrap();
        (dir, state)
    }

    fn about() -> About {
        let agent = "0".parse().unwrap();
        About { version: 0, capabilities: Capabilities::RUN, agent, sequence_max: 3, clock_us: 4 }
    }

    fn greeting() -> Greeting {
        Greeting { version_min: 0, version_max: 0, nonce: Nonce::new([9; 32]), host_time_ms: 1 }
    }

    #[test]
    fn the_key_stays_and_proves_the_greeting() {
        let (_dir, state) = state();
        let first = Identity::open(&state).unwrap();
        let second = Identity::open(&state).unwrap();
        assert_eq!(first.fingerprint(), second.fingerprint());
        assert_eq!(state.root().join("key").metadata().unwrap().mode() & 0o777, 0o600);
        let hello = second.hello(Way::Channel, &greeting(), about()).unwrap();
        let key = VerifyingKey::from_bytes(hello.claims.public_key.as_bytes()).unwrap();
        let said = transcript(&greeting(), &hello.claims).unwrap();
        let proof = ed25519_dalek::Signature::from_bytes(hello.proof.as_bytes());
        key.verify_strict(&said, &proof).unwrap();
        let other = Greeting { nonce: Nonce::new([8; 32]), ..greeting() };
        assert!(key.verify_strict(&transcript(&other, &hello.claims).unwrap(), &proof).is_err());
    }

    #[test]
    fn the_fingerprint_is_that_of_openssh() {
        let dir = tempfile::tempdir().unwrap();
        let identity = Identity {
            key: SigningKey::from_bytes(&[1; 32]),
            tokens: [Way::Channel, Way::Share].map(|way| Token::none(way, dir.path().join("token"))),
            boot_id: BootId::new([0; 16]),
            once: None,
        };
        // ssh-keygen -lf of the public key of the seed of 32 bytes 01.
        assert_eq!(identity.fingerprint(), OPENSSH);
    }

    #[test]
    fn a_token_survives_a_restart_and_is_not_shown() {
        let (_dir, state) = state();
        let mut identity = Identity::open(&state).unwrap();
        assert_eq!(identity.hello(Way::Channel, &greeting(), about()).unwrap().claims.token, None);
        identity.keep(Way::Channel, SessionToken::new([5; 32]));
        let again = Identity::open(&state).unwrap();
        let by = |way| again.hello(way, &greeting(), about()).unwrap().claims;
        let claims = by(Way::Channel);
        assert_eq!(by(Way::Share).token, None, "each way has its own");
        assert_eq!(claims.token, Some(SessionToken::new([5; 32])));
        assert!(!format!("{again:?}{claims:?}").contains("5, 5"));
    }

    #[test]
    fn a_token_takes_the_place_of_the_last_where_no_second_file_can_be_made() {
        let (_dir, state) = state();
        let mut identity = Identity::open(&state).unwrap();
        identity.keep(Way::Channel, SessionToken::new([5; 32]));
        std::fs::create_dir(state.root().join("token.new")).unwrap();
        identity.keep(Way::Channel, SessionToken::new([6; 32]));
        let claims =
            Identity::open(&state).unwrap().hello(Way::Channel, &greeting(), about()).unwrap().claims;
        assert_eq!(claims.token, Some(SessionToken::new([6; 32])));
    }

    #[test]
    fn a_damaged_or_exposed_key_is_refused_and_kept() {
        let (_dir, state) = state();
        let path = state.root().join("key");
        std::fs::write(&path, [1; 31]).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        assert!(matches!(Identity::open(&state), Err(IdentityError::Damaged { got: 31, .. })));
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
        assert!(matches!(Identity::open(&state), Err(IdentityError::Exposed { .. })));
        assert_eq!(std::fs::read(&path).unwrap(), [1; 31]);
    }

    const OPENSSH: &str = "SHA256:fe85JkIjo8VPe+XqXJGH5Mau1EMFdK1OdKvJUFicyA8";
}
