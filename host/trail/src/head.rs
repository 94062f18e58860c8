//! Where a trail ends, signed by the manager that wrote it: what is kept elsewhere, in a line or in JSON.
//!
//! Made by the daemon, read back by whoever checks a trail. A signature shows which manager's key said so, and nothing
//! about the records: those are checked by their chain.

use crate::chain::Head;
use base64ct::{Base64Unpadded, Encoding as _};
use doorbell_api::audit::SignedHead;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest as _, Sha256};

/// Signs a head.
#[must_use]
pub fn sign(key: &SigningKey, head: Head, at_ms: u64) -> SignedHead {
    SignedHead {
        number: head.number,
        hash: hex::encode(head.hash),
        at_ms,
        key: hex::encode(key.verifying_key().as_bytes()),
        signature: hex::encode(key.sign(&signed(head, at_ms)).to_bytes()),
    }
}

/// The head that was signed, if its own key signed it.
///
/// # Errors
/// One line that says what is wrong.
pub fn open(head: &SignedHead) -> Result<Head, String> {
    let wrong = || format!("the signature of head {} is not valid: it was altered", head.number);
    let opened = Head { number: head.number, hash: bytes(&head.hash).ok_or_else(wrong)? };
    let key = bytes(&head.key).and_then(|key| VerifyingKey::from_bytes(&key).ok()).ok_or_else(wrong)?;
    let signature = Signature::from_bytes(&bytes(&head.signature).ok_or_else(wrong)?);
    key.verify_strict(&signed(opened, head.at_ms), &signature).map_err(|_| wrong())?;
    Ok(opened)
}

/// The head in one word, for a log.
#[must_use]
pub fn word(head: &SignedHead) -> String {
    let SignedHead { number, hash, at_ms, key, signature } = head;
    format!("{WORD}{number}:{hash}:{at_ms}:{key}:{signature}")
}

/// The last head that stands in a text as such a word.
#[must_use]
pub fn find(text: &str) -> Option<SignedHead> {
    let (_, rest) = text.rsplit_once(WORD)?;
    let word = rest.split(|c: char| c != ':' && !c.is_ascii_alphanumeric()).next()?;
    let mut parts = word.split(':');
    let mut part = || parts.next();
    let head = SignedHead {
        number: part()?.parse().ok()?,
        hash: part()?.to_owned(),
        at_ms: part()?.parse().ok()?,
        key: part()?.to_owned(),
        signature: part()?.to_owned(),
    };
    part().is_none().then_some(head)
}

/// A key's fingerprint as OpenSSH writes it; the text itself where it is no key.
#[must_use]
pub fn fingerprint(key: &str) -> String {
    let Some(key) = bytes::<32>(key) else { return key.to_owned() };
    let mut sum = Sha256::new();
    for part in [b"ssh-ed25519".as_slice(), key.as_slice()] {
        sum.update(u32::try_from(part.len()).unwrap_or_default().to_be_bytes());
        sum.update(part);
    }
    format!("SHA256:{}", Base64Unpadded::encode_string(&sum.finalize()))
}

fn signed(head: Head, at_ms: u64) -> Vec<u8> {
    [DOMAIN, &head.number.to_le_bytes(), &head.hash, &at_ms.to_le_bytes()].concat()
}

/// Lower case only: a text that was changed is not the same text.
fn bytes<const LEN: usize>(text: &str) -> Option<[u8; LEN]> {
    let bytes: [u8; LEN] = hex::decode(text).ok()?.try_into().ok()?;
    (hex::encode(bytes) == text).then_some(bytes)
}

const DOMAIN: &[u8] = b"doorbell audit head, form 1\0";
const WORD: &str = "doorbell-head:1:";

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> SignedHead {
        sign(&SigningKey::from_bytes(&[7; 32]), Head { number: 5, hash: [3; 32] }, 1_000)
    }

    #[test]
    fn a_signed_head_opens_and_its_form_is_frozen() {
        let opened = open(&head()).unwrap();
        assert_eq!(opened, Head { number: 5, hash: [3; 32] });
        assert!(head().signature.starts_with("0a059a84046431325b53dc7cdf8e8e85"), "{}", head().signature);
        assert_eq!(fingerprint(&head().key), "SHA256:z/fSv0Z0RZS+Lccbc6ZoOWwt/fbj1VFJGSBKQbo4icE");
    }

    #[test]
    fn a_head_with_any_field_altered_does_not_open() {
        type Alteration = fn(&mut SignedHead);
        let other = hex::encode(SigningKey::from_bytes(&[8; 32]).verifying_key().as_bytes());
        let alterations: [(&str, Alteration); 6] = [
            ("number", |head| head.number += 1),
            ("hash", |head| head.hash = "0".repeat(64)),
            ("spelling", |head| head.hash = head.hash.to_uppercase() + "A"),
            ("at_ms", |head| head.at_ms += 1),
            ("signature", |head| head.signature = head.signature.replace('0', "1")),
            ("length", |head| head.signature.truncate(2)),
        ];
        for (what, alter) in alterations {
            let mut head = head();
            alter(&mut head);
            assert!(open(&head).unwrap_err().contains("is not valid"), "{what}");
        }
        assert!(open(&SignedHead { key: other, ..head() }).is_err());
    }

    #[test]
    fn a_head_is_found_in_a_line_of_a_log() {
        let word = word(&head());
        for text in [
            word.clone(),
            format!("2026-11-24T18:00:00Z  INFO doorbelld: audit head {word}\nmore"),
            format!("{{\"fields\":{{\"message\":\"audit head {word}\"}}}}"),
            format!("{} then {word}", word.replace(":5:", ":4:")),
        ] {
            assert_eq!(find(&text), Some(head()), "{text}");
        }
        for text in ["", "doorbell-head:1:5:00", "no head", &format!("{word}:more")] {
            assert_eq!(find(text), None, "{text}");
        }
    }
}
