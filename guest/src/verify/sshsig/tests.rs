//! Signatures that the real ssh-keygen made, and those of keys that are made here, which it takes too.

use super::super::tests::keys::{Key, NAMESPACE, blob, keygen, string};
use super::*;
use doorbell_wire::message::SshSignature;
use std::process::Stdio;

const TEXT: &[u8] = include_bytes!("../vectors/text");

fn vector(armor: &str) -> Vec<u8> {
    SshSignature::from_armor(armor).unwrap().as_bytes().to_vec()
}

#[test]
fn what_ssh_keygen_signed_is_taken_and_nothing_beside_it() {
    let vectors = [
        (include_str!("../vectors/ed25519.sig"), include_str!("../vectors/ed25519.pub")),
        (include_str!("../vectors/ed25519-sha256.sig"), include_str!("../vectors/ed25519.pub")),
        (include_str!("../vectors/ecdsa.sig"), include_str!("../vectors/ecdsa.pub")),
    ];
    for (armor, public) in vectors {
        let bytes = vector(armor);
        let signature = SshSig::read(&bytes).unwrap();
        assert_eq!(signature.namespace(), NAMESPACE.as_bytes());
        assert_eq!(signature.key(), blob(public));
        assert_eq!(signature.is_over(TEXT), Ok(true), "{public}");
        assert_eq!(signature.is_over(b"another text"), Ok(false), "{public}");
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            let taken = SshSig::read(&flipped).and_then(|signature| signature.is_over(TEXT));
            assert_ne!(taken, Ok(true), "byte {at} of {public}");
        }
        for len in 0..bytes.len() {
            assert!(SshSig::read(&bytes[..len]).is_err(), "the first {len} bytes");
        }
        assert_eq!(SshSig::read(&[&bytes[..], b"x"].concat()), Err(Unreadable::Lengths));
    }
}

#[test]
fn a_key_of_another_kind_is_refused_by_name() {
    let bytes = vector(include_str!("../vectors/rsa.sig"));
    assert_eq!(SshSig::read(&bytes), Err(Unreadable::Key));
    let bytes = vector(include_str!("../vectors/other-namespace.sig"));
    assert_eq!(SshSig::read(&bytes).unwrap().namespace(), b"file");
}

#[test]
fn hardware_keys_are_taken_when_they_were_touched() {
    for key in [Key::sk_ed25519(1), Key::sk_ecdsa(2)] {
        let over = |flags| {
            let bytes = key.sign_as(NAMESPACE, TEXT, flags);
            SshSig::read(&bytes).unwrap().is_over(TEXT)
        };
        assert_eq!((over(1), over(5), over(0)), (Ok(true), Ok(true), Err(Unreadable::Untouched)));
        let bytes = key.sign_as(NAMESPACE, TEXT, 1);
        assert_eq!(SshSig::read(&bytes).unwrap().is_over(b"another text"), Ok(false));
    }
}

#[test]
fn ssh_keygen_takes_what_the_keys_of_these_tests_sign() {
    let dir = tempfile::tempdir().unwrap();
    for key in [Key::ed25519(1), Key::ecdsa(2), Key::sk_ed25519(3), Key::sk_ecdsa(4)] {
        let (signers, signature) = (dir.path().join("signers"), dir.path().join("signature"));
        std::fs::write(&signers, format!("ann {}\n", key.line())).unwrap();
        let bytes = key.sign_as(NAMESPACE, TEXT, 1);
        std::fs::write(&signature, SshSignature::try_from(bytes.clone()).unwrap().to_armor()).unwrap();
        let said = keygen(&["-Y", "verify", "-n", NAMESPACE, "-I", "ann", "-f"])
            .arg(&signers)
            .arg("-s")
            .arg(&signature)
            .stdin(
                std::fs::File::open(concat!(env!("CARGO_MANIFEST_DIR"), "/src/verify/vectors/text")).unwrap(),
            )
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        assert!(said.status.success(), "{}: {}", key.line(), String::from_utf8_lossy(&said.stderr));
        assert_eq!(SshSig::read(&bytes).unwrap().is_over(TEXT), Ok(true), "{}", key.line());
    }
}

#[test]
fn a_length_beyond_the_end_reserves_nothing() {
    let huge = [b"SSHSIG".as_slice(), &1_u32.to_be_bytes(), &u32::MAX.to_be_bytes(), b"x"].concat();
    assert_eq!(SshSig::read(&huge), Err(Unreadable::Lengths));
    let version = [b"SSHSIG".as_slice(), &2_u32.to_be_bytes()].concat();
    assert_eq!(SshSig::read(&version), Err(Unreadable::Form));
    let parts: Vec<u8> = [b"k".as_slice(), b"n", b"", b"md5", b"s"].into_iter().flat_map(string).collect();
    let hash = [b"SSHSIG".as_slice(), &1_u32.to_be_bytes(), &parts].concat();
    assert_eq!(SshSig::read(&hash), Err(Unreadable::Hash));
}
