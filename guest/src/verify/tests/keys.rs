//! Keys of tests, of every kind that is taken, with signatures in OpenSSH's form; and the real ssh-keygen.

use base64ct::{Base64, Encoding as _};
use ed25519_dalek::{Signer as _, SigningKey};
use p256::ecdsa::{Signature as Ecdsa, SigningKey as EcdsaKey};
use sha2::{Digest as _, Sha256, Sha512};
use std::process::Command;

pub(crate) const NAMESPACE: &str = "doorbell-request";
const APPLICATION: &[u8] = b"ssh:";

/// A key that signs.
pub(crate) struct Key {
    kind: &'static str,
    is_hardware: bool,
    secret: Secret,
}

enum Secret {
    Ed25519(SigningKey),
    Ecdsa(EcdsaKey),
}

impl Key {
    pub(crate) fn ed25519(seed: u8) -> Self {
        Self::of("ssh-ed25519", false, Secret::Ed25519(SigningKey::from_bytes(&[seed; 32])))
    }

    pub(crate) fn ecdsa(seed: u8) -> Self {
        Self::of("ecdsa-sha2-nistp256", false, Secret::Ecdsa(EcdsaKey::from_slice(&[seed; 32]).unwrap()))
    }

    pub(crate) fn sk_ed25519(seed: u8) -> Self {
        Self { kind: "sk-ssh-ed25519@openssh.com", is_hardware: true, ..Self::ed25519(seed) }
    }

    pub(crate) fn sk_ecdsa(seed: u8) -> Self {
        Self { kind: "sk-ecdsa-sha2-nistp256@openssh.com", is_hardware: true, ..Self::ecdsa(seed) }
    }

    const fn of(kind: &'static str, is_hardware: bool, secret: Secret) -> Self {
        Self { kind, is_hardware, secret }
    }

    /// The public key, whole.
    pub(crate) fn public(&self) -> Vec<u8> {
        let mut bytes = string(self.kind.as_bytes());
        match &self.secret {
            Secret::Ed25519(key) => bytes.extend(string(key.verifying_key().as_bytes())),
            Secret::Ecdsa(key) => {
                bytes.extend(string(b"nistp256"));
                bytes.extend(string(key.verifying_key().to_sec1_point(false).as_bytes()));
            }
        }
        if self.is_hardware {
            bytes.extend(string(APPLICATION));
        }
        bytes
    }

    /// The key as a file of allowed signers has it.
    pub(crate) fn line(&self) -> String {
        format!("{} {}", self.kind, Base64::encode_string(&self.public()))
    }

    /// A signature over a text; `flags` are those of a hardware key.
    pub(crate) fn sign_as(&self, namespace: &str, text: &[u8], flags: u8) -> Vec<u8> {
        let sum = Sha512::digest(text);
        let parts = [namespace.as_bytes(), b"", b"sha512", &sum];
        let mut signed = b"SSHSIG".to_vec();
        parts.into_iter().for_each(|part| signed.extend(string(part)));
        let mut signature = string(self.kind.as_bytes());
        let counter = 9_u32.to_be_bytes();
        if self.is_hardware {
            let application = Sha256::digest(APPLICATION);
            let message = Sha256::digest(&signed);
            signed = [application.as_slice(), &[flags], &counter, &message].concat();
        }
        signature.extend(string(&self.raw(&signed)));
        if self.is_hardware {
            signature.push(flags);
            signature.extend(counter);
        }
        let mut bytes = b"SSHSIG\0\0\0\x01".to_vec();
        for part in [&self.public(), namespace.as_bytes(), b"", b"sha512", &signature] {
            bytes.extend(string(part));
        }
        bytes
    }

    fn raw(&self, signed: &[u8]) -> Vec<u8> {
        match &self.secret {
            Secret::Ed25519(key) => key.sign(signed).to_bytes().to_vec(),
            Secret::Ecdsa(key) => {
                let signature: Ecdsa = key.sign(signed);
                let (r, s) = signature.split_bytes();
                [number(&r), number(&s)].concat()
            }
        }
    }
}

fn number(bytes: &[u8]) -> Vec<u8> {
    let from = bytes.iter().position(|byte| *byte != 0).unwrap();
    let digits = &bytes[from..];
    if digits[0] & 0x80 == 0 { string(digits) } else { string(&[&[0], digits].concat()) }
}

/// Bytes behind their length.
pub(crate) fn string(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}

/// The key of a line as `ssh-keygen` writes it.
pub(crate) fn blob(line: &str) -> Vec<u8> {
    Base64::decode_vec(line.split(' ').nth(1).unwrap()).unwrap()
}

/// The real one, which the machine that tests has to have.
pub(crate) fn keygen(args: &[&str]) -> Command {
    let mut command = Command::new("ssh-keygen");
    command.args(args);
    command
}
