//! What was begun by a signature stays known through crashes, and a damaged file begins nothing.

use super::*;
use doorbell_wire::ids::{Digest, Fingerprint};
use doorbell_wire::message::Target;

const NOW_S: u64 = 1_800_000_000;

fn terms(nonce: u32, expires_s: u64) -> Terms {
    let mut bytes = [7; 32];
    bytes[..4].copy_from_slice(&nonce.to_le_bytes());
    let target = Target::Guest(Fingerprint::new(Digest::new([1; 32])));
    Terms { target, not_before_s: None, expires_s, nonce: Nonce::new(bytes) }
}

fn request(number: u8) -> RequestId {
    RequestId::new([number; 16])
}

#[test]
fn a_nonce_is_taken_for_one_request_also_by_another_run() {
    let dir = tempfile::tempdir().unwrap();
    let mut nonces = Nonces::open(dir.path());
    for number in 0..3 {
        nonces.take(&terms(number, NOW_S + 60), request(1), NOW_S).unwrap();
    }
    for mut nonces in [nonces, Nonces::open(dir.path())] {
        assert_eq!(nonces.take(&terms(2, NOW_S + 60), request(1), NOW_S), Ok(()), "the same once more");
        assert_eq!(nonces.take(&terms(2, NOW_S + 60), request(2), NOW_S), Err(Spent::By(request(1))));
        assert_eq!(nonces.check(&terms(3, NOW_S + 60), request(2)), Ok(()));
    }
}

#[test]
fn what_expired_is_dropped_and_not_taken_again_when_the_clock_goes_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut nonces = Nonces::open(dir.path());
    for number in 0..100 {
        nonces.take(&terms(number, NOW_S), request(1), NOW_S).unwrap();
    }
    let later_s = NOW_S + 10 * SIGNED_SKEW_S;
    nonces.take(&terms(500, later_s), request(1), later_s).unwrap();
    assert_eq!(nonces.kept.len(), 1);
    for nonces in [nonces, Nonces::open(dir.path())] {
        assert_eq!(nonces.check(&terms(5, NOW_S), request(2)), Err(Spent::Forgotten));
        assert_eq!(nonces.check(&terms(501, later_s), request(2)), Ok(()));
    }
}

#[test]
fn an_append_that_a_crash_cut_was_never_noted_and_anything_else_begins_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("nonces");
    let mut nonces = Nonces::open(dir.path());
    nonces.take(&terms(1, NOW_S), request(1), NOW_S).unwrap();
    nonces.take(&terms(2, NOW_S), request(2), NOW_S).unwrap();
    let whole = std::fs::read(&path).unwrap();
    for cut in 1..RECORD {
        std::fs::write(&path, &whole[..whole.len() - cut]).unwrap();
        let mut nonces = Nonces::open(dir.path());
        assert_eq!(nonces.kept.len(), 1);
        nonces.take(&terms(3, NOW_S), request(3), NOW_S).unwrap();
        assert_eq!(Nonces::open(dir.path()).kept.len(), 2, "the next one takes its place");
    }
    let mut zeros = whole.clone();
    zeros[whole.len() - RECORD..].fill(0);
    std::fs::write(&path, &zeros).unwrap();
    assert_eq!(Nonces::open(dir.path()).kept.len(), 1);
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        std::fs::write(&path, damaged).unwrap();
        let refused = Nonces::open(dir.path()).take(&terms(9, NOW_S), request(9), NOW_S);
        assert_eq!(refused, Err(Spent::Unrecorded(Errno::EBADMSG)), "byte {at}");
    }
}

#[test]
fn what_cannot_be_noted_is_not_begun() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("state");
    let mut nonces = Nonces::open(&root);
    let refused = nonces.take(&terms(1, NOW_S), request(1), NOW_S);
    assert_eq!(refused, Err(Spent::Unrecorded(Errno::ENOENT)));
    std::fs::create_dir(&root).unwrap();
    assert_eq!(nonces.take(&terms(1, NOW_S), request(1), NOW_S), Ok(()), "as soon as it can be");
}
