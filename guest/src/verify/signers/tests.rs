//! The file of allowed signers, held against what the real ssh-keygen says of the same lines.

use super::super::tests::keys::{Key, NAMESPACE, keygen};
use super::*;
use doorbell_wire::manifest::Moment;
use doorbell_wire::message::SshSignature;
use nix::unistd::geteuid;
use std::fs::File;
use std::os::unix::fs::PermissionsExt;

const TEXT: &[u8] = b"a text\n";
/// 2026-12-24, noon.
const NOW_S: u64 = 1_798_113_600;

/// What ssh-keygen says of a signature of Ann by this file at that time.
fn keygen_takes(file: &str, key: &Key, at_s: u64) -> bool {
    let dir = tempfile::tempdir().unwrap();
    let (signers, signature, text) = (dir.path().join("f"), dir.path().join("s"), dir.path().join("t"));
    std::fs::write(&signers, file).unwrap();
    std::fs::write(&text, TEXT).unwrap();
    let armor = SshSignature::try_from(key.sign_as(NAMESPACE, TEXT, 1)).unwrap().to_armor();
    std::fs::write(&signature, armor).unwrap();
    let at: String = Moment(at_s).to_string().chars().filter(|sign| !"-:TZ".contains(*sign)).collect();
    let time = format!("verify-time={at}Z");
    keygen(&["-Y", "verify", "-n", NAMESPACE, "-I", "ann", "-O", &time, "-f"])
        .arg(&signers)
        .arg("-s")
        .arg(&signature)
        .stdin(File::open(&text).unwrap())
        .output()
        .unwrap()
        .status
        .success()
}

fn found(file: &str, key: &Key, at_s: u64) -> Result<Signer, SignatureFault> {
    Signers::read(file.as_bytes()).find(&key.public(), NAMESPACE, at_s)
}

#[test]
fn a_line_lets_in_whom_ssh_keygen_lets_in() {
    let (key, other) = (Key::ed25519(1), Key::ecdsa(2));
    let (line, stranger) = (key.line(), other.line());
    let files = [
        format!("ann {line}\n"),
        format!("ann {line} a comment\n"),
        format!("# a comment\n\n  ann\t{line}"),
        format!("bob,ann {line}\n"),
        format!("a* {line}\n"),
        format!("a?n {line}\n"),
        format!("*,!ann {line}\n"),
        format!("bob {line}\n"),
        format!("\"ann\" {line}\n"),
        format!("ann {stranger}\n"),
        format!("ann {stranger}\nann {line}\n"),
        format!("ann namespaces=\"doorbell-request\" {line}\n"),
        format!("ann namespaces=\"file,doorbell-*\" {line}\n"),
        format!("ann namespaces=\"file\" {line}\n"),
        format!("ann namespaces=\"*,!doorbell-request\" {line}\n"),
        format!("ann NameSpaces=\"doorbell-request\" {line}\n"),
        format!("ann valid-after=\"20261224Z\" {line}\n"),
        format!("ann valid-after=\"202612241200Z\" {line}\n"),
        format!("ann valid-after=\"20261224120001Z\" {line}\n"),
        format!("ann valid-before=\"20261224120000Z\" {line}\n"),
        format!("ann valid-before=\"20261224115959Z\" {line}\n"),
        format!(
            "ann valid-after=\"20260101Z\",valid-before=\"20270101Z\",namespaces=\"doorbell-request\" {line}\n"
        ),
        format!("ann valid-after=\"20270101Z\",valid-before=\"20260101Z\" {line}\n"),
        format!("ann namespaces=doorbell-request {line}\n"),
        format!("ann namespaces=\"doorbell-request\",namespaces=\"file\" {line}\n"),
        format!("ann no-such-option {line}\n"),
        format!("ann namespaces=\"doorbell-request\"x {line}\n"),
        format!("ann valid-after=\"20261324Z\" {line}\n"),
        format!("ann valid-after=\"2026Z\" {line}\n"),
        format!("ann {}\n", line.replace("ssh-ed25519", "ssh-rsa")),
        "ann\n".to_owned(),
        String::new(),
    ];
    for file in files {
        let ours = found(&file, &key, NOW_S).is_ok_and(|signer| signer.is("ann"));
        assert_eq!(ours, keygen_takes(&file, &key, NOW_S), "{file}");
    }
}

#[test]
fn why_a_key_is_not_let_in_is_told() {
    let key = Key::ed25519(1);
    let line = key.line();
    let why = |options: &str| found(&format!("ann {options} {line}"), &key, NOW_S).unwrap_err();
    let print = Fingerprint::of_blob(&key.public());
    assert_eq!(why("namespaces=\"git\""), SignatureFault::KeyForOthers(print));
    assert_eq!(why("valid-before=\"20200101Z\""), SignatureFault::KeyOutOfTime(print));
    assert_eq!(why("valid-after=\"20300101Z\""), SignatureFault::KeyOutOfTime(print));
    assert_eq!(found("", &key, NOW_S), Err(SignatureFault::UnknownKey(print)));
}

#[test]
fn a_certificate_authority_and_a_time_of_no_zone_let_nobody_in() {
    let key = Key::ed25519(1);
    for options in
        ["cert-authority", "cert-authority,namespaces=\"doorbell-request\"", "valid-after=\"20200101\""]
    {
        let file = format!("# first\nann {options} {}\n", key.line());
        let signers = Signers::read(file.as_bytes());
        let [(2, why)] = signers.refused[..] else { panic!("{:?}", signers.refused) };
        assert!(why.contains("cert-authority") || why.contains("without Z"), "{why}");
        assert!(found(&file, &key, NOW_S).is_err());
    }
}

#[test]
fn a_key_of_another_kind_is_told_where_the_file_is_read() {
    let rsa = include_str!("../vectors/rsa.pub");
    let signers = Signers::read(format!("ann {rsa}").as_bytes());
    let [(1, why)] = signers.refused[..] else { panic!("{:?}", signers.refused) };
    assert!(why.contains("another kind than ssh-ed25519"), "{why}");
}

#[test]
fn a_file_that_others_can_write_lets_nobody_in() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("allowed_signers");
    assert!(Signers::open(&path).unwrap_err().contains("cannot be opened"));
    std::fs::write(&path, format!("ann {}\n", Key::ed25519(1).line())).unwrap();
    let set = |path: &Path, mode| std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    set(&path, 0o644);
    assert_eq!(Signers::open(&path).unwrap().lines.len(), 1);
    for mode in [0o664, 0o646] {
        set(&path, mode);
        assert!(Signers::open(&path).unwrap_err().contains("chmod go-w"));
    }
    set(&path, 0o644);
    set(dir.path(), 0o777);
    assert!(Signers::open(&path).unwrap_err().contains("its directory has mode"));
    set(dir.path(), 0o755);
    if geteuid().is_root() {
        std::os::unix::fs::chown(&path, Some(65_534), None).unwrap();
        assert!(Signers::open(&path).unwrap_err().contains("uid 65534"));
    }
}

#[test]
fn no_bytes_end_the_reading_otherwise_than_by_a_refusal() {
    let line = Key::ed25519(1).line();
    let good = format!("ann namespaces=\"a\\\"b\",valid-after=\"20200101Z\" {line}\n").into_bytes();
    for at in 0..good.len() {
        for byte in [0, b'"', b'\\', b',', b'\n', 0xff] {
            let mut bytes = good.clone();
            bytes[at] = byte;
            let _ = Signers::read(&bytes);
            let _ = Signers::read(&good[..at]);
        }
    }
}
