//! Tokens: made here, shown once, and kept only as a hash.
//!
//! Called by the API when one is given and when one is shown. A token is `dbt_<id>_<secret>`: the id is public and finds the row,
//! the secret has 256 random bits. Plain SHA-256 is right for it: there is nothing to guess that a slow hash would
//! have to protect, and a slow one would be a lever for whoever sends tokens that do not exist.

use crate::store::StoreError;
use doorbell_api::secret::Secret;
use sha2::{Digest as _, Sha256};
use std::fmt;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

/// The public name of a principal: the first part of its token.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct PrincipalId([u8; 8]);

impl PrincipalId {
    /// A fresh one.
    ///
    /// # Errors
    /// When there are no random bytes.
    pub fn draw() -> Result<Self, StoreError> {
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes).map_err(|error| StoreError::internal("draw a random id", error))?;
        Ok(Self(bytes))
    }

    /// Reads 16 hexadecimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 8];
        hex::decode_to_slice(text, &mut bytes).ok().map(|()| Self(bytes))
    }

    /// From the data base.
    #[must_use]
    pub const fn new(bytes: [u8; 8]) -> Self {
        Self(bytes)
    }

    /// For the data base.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 8] {
        &self.0
    }
}

impl fmt::Display for PrincipalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// What is kept of a token's secret.
#[derive(Clone, Copy)]
pub struct SecretHash([u8; 32]);

impl SecretHash {
    /// Of a secret.
    #[must_use]
    pub fn of(secret: &[u8]) -> Self {
        Self(Sha256::digest(secret).into())
    }

    /// From the data base.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// For the data base.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Whether it is of the same secret, in a time that does not depend on where they differ.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash")
    }
}

/// What somebody shows: the public part, and the hash of the other one.
#[derive(Clone, Copy, Debug)]
pub struct Shown {
    /// Whose it claims to be.
    pub id: PrincipalId,
    /// Of the secret it has.
    pub hash: SecretHash,
}

impl Shown {
    /// Reads a token; nothing of the secret is kept.
    #[must_use]
    pub fn read(token: &str) -> Option<Self> {
        let (id, secret) = token.strip_prefix(PREFIX)?.split_once('_')?;
        let mut bytes = Zeroizing::new([0; SECRET_LEN]);
        hex::decode_to_slice(secret, &mut *bytes).ok()?;
        Some(Self { id: PrincipalId::parse(id)?, hash: SecretHash::of(&*bytes) })
    }
}

/// Makes a token for a principal, and what is kept of it.
///
/// # Errors
/// When there are no random bytes.
pub fn make(id: PrincipalId) -> Result<(Secret, SecretHash), StoreError> {
    let mut bytes = Zeroizing::new([0; SECRET_LEN]);
    getrandom::fill(&mut *bytes).map_err(|error| StoreError::internal("draw a token", error))?;
    let digits = Zeroizing::new(hex::encode(bytes.as_slice()));
    // All at once: a text that grows leaves parts of itself behind.
    let mut text = String::with_capacity(PREFIX.len() + 16 + 1 + 2 * SECRET_LEN);
    for part in [PREFIX, &id.to_string(), "_", &digits] {
        text.push_str(part);
    }
    Ok((Secret::from(text), SecretHash::of(&*bytes)))
}

/// By it a token is found where one was left by mistake: in a log, in a repository.
const PREFIX: &str = "dbt_";
const SECRET_LEN: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_known_again_by_its_hash_and_another_one_is_not() {
        let id = PrincipalId::draw().unwrap();
        let (token, kept) = make(id).unwrap();
        let shown = Shown::read(token.expose()).unwrap();
        assert_eq!(shown.id, id);
        assert!(shown.hash.is(&kept));
        let (other, _) = make(id).unwrap();
        assert_ne!(other.expose(), token.expose());
        assert!(!Shown::read(other.expose()).unwrap().hash.is(&kept));
        assert_eq!(token.expose().len(), 4 + 16 + 1 + 64);
        assert!(!format!("{kept:?} {shown:?}").contains(&hex::encode(kept.as_bytes())));
    }

    #[test]
    fn what_is_no_token_is_not_read_as_one() {
        let whole = format!("dbt_{}_{}", "01".repeat(8), "02".repeat(32));
        assert!(Shown::read(&whole).is_some());
        let without = |cut: usize| whole.get(..whole.len() - cut).unwrap();
        for bad in
            ["", "dbt_", without(1), without(2), &whole[1..], &format!("{whole}0"), &whole.replace('1', "g")]
        {
            assert!(Shown::read(bad).is_none(), "{bad:?}");
        }
    }
}
