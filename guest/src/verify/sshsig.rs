//! A signature as OpenSSH makes it (SSHSIG): read, and checked against a text.
//!
//! Called by the gate of signatures with bytes that came with an offer. Trusts none of them: each length is checked
//! against what is there, and only four kinds of key are known. Whose the key is, is asked elsewhere.

use doorbell_wire::ids::Fingerprint;
use ed25519_dalek::{Signature as Ed25519, VerifyingKey};
use p256::ecdsa::signature::Verifier as _;
use p256::ecdsa::{Signature as Ecdsa, VerifyingKey as EcdsaKey};
use sha2::{Digest as _, Sha256, Sha512};

/// A signature whose parts are where they belong; nothing of it is checked yet.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SshSig<'a> {
    key: &'a [u8],
    namespace: &'a [u8],
    reserved: &'a [u8],
    hash: Hash,
    signature: &'a [u8],
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Hash {
    Sha256,
    Sha512,
}

/// What is wrong with bytes that are no signature to be read here.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Unreadable {
    /// It ends too early, or goes on behind its end.
    #[error("its parts have other lengths than it says")]
    Lengths,
    /// Not the first bytes, or the version, of the form.
    #[error("it is not of OpenSSH's form SSHSIG, version 1")]
    Form,
    /// Its text was hashed otherwise.
    #[error("its hash is neither sha256 nor sha512")]
    Hash,
    /// A key of another kind.
    #[error("its key is of none of the kinds ssh-ed25519, ecdsa-sha2-nistp256 and their sk- variants")]
    Key,
    /// The hardware did not ask for a touch.
    #[error("its hardware key was not touched for it")]
    Untouched,
}

impl<'a> SshSig<'a> {
    /// Reads a whole signature.
    ///
    /// # Errors
    /// [`Unreadable`].
    pub fn read(bytes: &'a [u8]) -> Result<Self, Unreadable> {
        let rest = bytes.strip_prefix(MAGIC).ok_or(Unreadable::Form)?;
        let mut parts = Parts(rest);
        if parts.number()? != VERSION {
            return Err(Unreadable::Form);
        }
        let (key, namespace, reserved) = (parts.string()?, parts.string()?, parts.string()?);
        let hash = match parts.string()? {
            b"sha256" => Hash::Sha256,
            b"sha512" => Hash::Sha512,
            _ => return Err(Unreadable::Hash),
        };
        let signature = parts.string()?;
        parts.end()?;
        if !is_taken(key) {
            return Err(Unreadable::Key);
        }
        Ok(Self { key, namespace, reserved, hash, signature })
    }

    /// The public key that it names, whole.
    #[must_use]
    pub const fn key(&self) -> &'a [u8] {
        self.key
    }

    /// The key's fingerprint.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of_blob(self.key)
    }

    /// For which tool it was made.
    #[must_use]
    pub const fn namespace(&self) -> &'a [u8] {
        self.namespace
    }

    /// Whether it is a signature of its key over this text.
    ///
    /// # Errors
    /// [`Unreadable`] where key and signature are of no kind that is known.
    pub fn is_over(&self, text: &[u8]) -> Result<bool, Unreadable> {
        let mut signed = MAGIC.to_vec();
        let (name, sum) = match self.hash {
            Hash::Sha256 => (b"sha256", Sha256::digest(text).to_vec()),
            Hash::Sha512 => (b"sha512", Sha512::digest(text).to_vec()),
        };
        for part in [self.namespace, self.reserved, name, &sum] {
            signed.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
            signed.extend_from_slice(part);
        }
        Pair::read(self.key, self.signature)?.fit(&signed)
    }
}

/// Whether a public key, whole, is of a kind whose signatures are taken here.
#[must_use]
pub fn is_taken(key: &[u8]) -> bool {
    Parts(key).string().is_ok_and(|kind| KINDS.contains(&kind))
}

/// A key and a signature of the same kind.
enum Pair<'a> {
    Ed25519 { key: &'a [u8], signature: &'a [u8] },
    Ecdsa { point: &'a [u8], signature: &'a [u8] },
    SkEd25519 { key: &'a [u8], signature: &'a [u8], of: Hardware<'a> },
    SkEcdsa { point: &'a [u8], signature: &'a [u8], of: Hardware<'a> },
}

/// What a hardware key signs beside the text.
struct Hardware<'a> {
    application: &'a [u8],
    flags: u8,
    counter: u32,
}

impl<'a> Pair<'a> {
    fn read(key: &'a [u8], signature: &'a [u8]) -> Result<Self, Unreadable> {
        let (mut key, mut signature) = (Parts(key), Parts(signature));
        let kind = key.string()?;
        if signature.string()? != kind {
            return Err(Unreadable::Key);
        }
        let is_curve = kind == ECDSA || kind == SK_ECDSA;
        if is_curve && key.string()? != CURVE {
            return Err(Unreadable::Key);
        }
        let (bytes, signed) = (key.string()?, signature.string()?);
        let pair = match kind {
            ED25519 => Self::Ed25519 { key: bytes, signature: signed },
            ECDSA => Self::Ecdsa { point: bytes, signature: signed },
            SK_ED25519 | SK_ECDSA => {
                let of = Hardware::read(&mut key, &mut signature)?;
                if kind == SK_ECDSA {
                    Self::SkEcdsa { point: bytes, signature: signed, of }
                } else {
                    Self::SkEd25519 { key: bytes, signature: signed, of }
                }
            }
            _ => return Err(Unreadable::Key),
        };
        key.end()?;
        signature.end()?;
        Ok(pair)
    }

    fn fit(&self, signed: &[u8]) -> Result<bool, Unreadable> {
        Ok(match self {
            Self::Ed25519 { key, signature } => ed25519(key, signature, signed),
            Self::Ecdsa { point, signature } => ecdsa(point, signature, signed)?,
            Self::SkEd25519 { key, signature, of } => ed25519(key, signature, &of.around(signed)?),
            Self::SkEcdsa { point, signature, of } => ecdsa(point, signature, &of.around(signed)?)?,
        })
    }
}

impl<'a> Hardware<'a> {
    fn read(key: &mut Parts<'a>, signature: &mut Parts<'a>) -> Result<Self, Unreadable> {
        Ok(Self { application: key.string()?, flags: signature.byte()?, counter: signature.number()? })
    }

    fn around(&self, signed: &[u8]) -> Result<Vec<u8>, Unreadable> {
        if self.flags & TOUCHED == 0 {
            return Err(Unreadable::Untouched);
        }
        let mut around = Sha256::digest(self.application).to_vec();
        around.push(self.flags);
        around.extend_from_slice(&self.counter.to_be_bytes());
        around.extend_from_slice(&Sha256::digest(signed));
        Ok(around)
    }
}

fn ed25519(key: &[u8], signature: &[u8], signed: &[u8]) -> bool {
    let key = <&[u8; 32]>::try_from(key).ok().and_then(|key| VerifyingKey::from_bytes(key).ok());
    let signature = Ed25519::from_slice(signature).ok();
    key.zip(signature).is_some_and(|(key, signature)| key.verify_strict(signed, &signature).is_ok())
}

fn ecdsa(point: &[u8], signature: &[u8], signed: &[u8]) -> Result<bool, Unreadable> {
    let mut parts = Parts(signature);
    let (r, s) = (parts.scalar()?, parts.scalar()?);
    parts.end()?;
    // Only the form with both coordinates, as OpenSSH has it.
    let key = Some(point).filter(|point| point.first() == Some(&4));
    let key = key.and_then(|point| EcdsaKey::from_sec1_bytes(point).ok());
    let signature = Ecdsa::from_scalars(r, s).ok();
    Ok(key.zip(signature).is_some_and(|(key, signature)| key.verify(signed, &signature).is_ok()))
}

/// Bytes from which the values of OpenSSH's forms are taken one by one.
struct Parts<'a>(&'a [u8]);

impl<'a> Parts<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Unreadable> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Unreadable::Lengths)?;
        self.0 = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, Unreadable> {
        self.take(1)?.first().copied().ok_or(Unreadable::Lengths)
    }

    fn number(&mut self) -> Result<u32, Unreadable> {
        let bytes = <[u8; 4]>::try_from(self.take(4)?).map_err(|_| Unreadable::Lengths)?;
        Ok(u32::from_be_bytes(bytes))
    }

    fn string(&mut self) -> Result<&'a [u8], Unreadable> {
        let len = usize::try_from(self.number()?).map_err(|_| Unreadable::Lengths)?;
        self.take(len)
    }

    /// A positive number of at most 32 bytes, in the shortest form there is for it.
    fn scalar(&mut self) -> Result<[u8; 32], Unreadable> {
        let bytes = self.string()?;
        let digits = match bytes {
            [0, rest @ ..] if rest.first().is_some_and(|first| first & 0x80 != 0) => rest,
            [first, ..] if *first != 0 && first & 0x80 == 0 => bytes,
            _ => return Err(Unreadable::Lengths),
        };
        let mut scalar = [0; 32];
        let from = scalar.len().checked_sub(digits.len()).ok_or(Unreadable::Lengths)?;
        scalar.get_mut(from..).ok_or(Unreadable::Lengths)?.copy_from_slice(digits);
        Ok(scalar)
    }

    const fn end(&self) -> Result<(), Unreadable> {
        if self.0.is_empty() { Ok(()) } else { Err(Unreadable::Lengths) }
    }
}

const MAGIC: &[u8] = b"SSHSIG";
const VERSION: u32 = 1;
const ED25519: &[u8] = b"ssh-ed25519";
const ECDSA: &[u8] = b"ecdsa-sha2-nistp256";
const SK_ED25519: &[u8] = b"sk-ssh-ed25519@openssh.com";
const SK_ECDSA: &[u8] = b"sk-ecdsa-sha2-nistp256@openssh.com";
/// RSA is none of them: it costs too much of the agent's size for keys that need not be made any more.
const KINDS: [&[u8]; 4] = [ED25519, ECDSA, SK_ED25519, SK_ECDSA];
const CURVE: &[u8] = b"nistp256";
/// The flag of a hardware key that somebody was there.
const TOUCHED: u8 = 1;

#[cfg(test)]
mod tests;
