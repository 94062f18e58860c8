//! The gate: one test for each way a signature is not good, and for what is.

use super::super::tests::keys::{Key, NAMESPACE};
use super::*;
use crate::fetch::tests::Guest;
use crate::verify::tests::run;
use doorbell_wire::ids::{Digest, Nonce, PublicKey, Sequence};
use doorbell_wire::merkle::Guests;
use doorbell_wire::message::action::{Action, Get};
use doorbell_wire::message::{Proof, SshSignature, Target};

const NOW_S: u64 = 1_800_000_000;

fn fingerprint(number: u8) -> Fingerprint {
    Fingerprint::of(&PublicKey::new([number; 32]))
}

fn terms() -> Terms {
    let target = Target::Guest(fingerprint(1));
    Terms { target, not_before_s: Some(NOW_S - 60), expires_s: NOW_S + 60, nonce: Nonce::new([5; 32]) }
}

/// An offer that a key has signed in a namespace.
fn signed_in(namespace: &str, key: &Key, action: Action, terms: Terms) -> Offer {
    let placeholder = SshSignature::try_from(b"SSHSIG".to_vec()).unwrap();
    let mut offer = Offer {
        request: RequestId::new([1; 16]),
        sequence: Some(Sequence::try_from(1).unwrap()),
        floor: 0,
        action,
        timeout_ms: Some(1_000),
        idempotent: false,
        signed: Some(Box::new(Signed { terms, proof: Proof::default(), signature: placeholder })),
    };
    let text = offer.manifest().unwrap().unwrap();
    let signature = key.sign_as(namespace, text.as_bytes(), 1);
    offer.signed.as_mut().unwrap().signature = SshSignature::try_from(signature).unwrap();
    offer
}

fn signed(key: &Key, terms: Terms) -> Offer {
    signed_in(NAMESPACE, key, run(b"#!/bin/sh\n"), terms)
}

/// A guest whose owner allows what stands in a file.
struct Bench {
    guest: Guest,
    signers: PathBuf,
}

impl Bench {
    fn new(lines: &str) -> Self {
        let guest = Guest::new();
        let signers = guest.state.root().join("allowed_signers");
        std::fs::write(&signers, lines).unwrap();
        Self { guest, signers }
    }

    fn gate(&self) -> Gate {
        Gate::open(&self.guest.state, fingerprint(1), &self.signers)
    }

    fn judged(&self, offer: &Offer) -> Result<(), SignatureFault> {
        self.gate().judge(offer, false, true, NOW_S).map(drop)
    }
}

fn ann() -> (Key, Bench) {
    let key = Key::ed25519(1);
    let bench = Bench::new(&format!("ann {}\n", key.line()));
    (key, bench)
}

#[test]
fn a_good_signature_lets_a_request_begin_and_names_who_signed() {
    let (key, bench) = ann();
    for demanded in [false, true] {
        let permit = bench.gate().judge(&signed(&key, terms()), demanded, true, NOW_S).unwrap();
        let signer = permit.signer().unwrap();
        assert!(signer.is("ann") && !signer.is("bob"));
        assert_eq!(signer.key, Fingerprint::of_blob(&key.public()));
    }
}

#[test]
fn without_a_signature_nothing_begins_where_one_is_demanded() {
    let (key, bench) = ann();
    let plain = Offer { signed: None, ..signed(&key, terms()) };
    assert!(bench.gate().judge(&plain, false, true, NOW_S).unwrap().signer().is_none());
    assert_eq!(bench.gate().judge(&plain, true, true, NOW_S).unwrap_err(), SignatureFault::Missing);
}

#[test]
fn what_was_altered_in_any_field_is_refused() {
    let (key, bench) = ann();
    let good = signed(&key, terms());
    let with = |change: &dyn Fn(&mut Offer)| {
        let mut offer = good.clone();
        change(&mut offer);
        bench.judged(&offer)
    };
    let altered = Err(SignatureFault::Altered);
    assert_eq!(with(&|_| {}), Ok(()));
    assert_eq!(with(&|offer| offer.action = run(b"#!/bin/sh\nrm\n")), altered);
    assert_eq!(
        with(&|offer| offer.action = Action::Get(Get { path: "/etc/shadow".parse().unwrap() })),
        altered
    );
    assert_eq!(with(&|offer| offer.timeout_ms = None), altered);
    assert_eq!(with(&|offer| offer.idempotent = true), altered);
    let of_terms = |change: fn(&mut Terms)| with(&|offer| change(&mut offer.signed.as_mut().unwrap().terms));
    assert_eq!(of_terms(|terms| terms.target = Target::Guest(fingerprint(2))), altered);
    assert_eq!(of_terms(|terms| terms.not_before_s = None), altered);
    assert_eq!(of_terms(|terms| terms.expires_s += 1), altered);
    assert_eq!(of_terms(|terms| terms.nonce = Nonce::new([6; 32])), altered);
    // Its place in the order is the manager's to give.
    assert_eq!(with(&|offer| offer.floor = 1), Ok(()));
}

#[test]
fn another_guests_signature_is_refused() {
    let (key, bench) = ann();
    let other = Terms { target: Target::Guest(fingerprint(2)), ..terms() };
    assert_eq!(bench.judged(&signed(&key, other)), Err(SignatureFault::OtherGuest));
}

#[test]
fn of_many_guests_each_needs_its_own_proof() {
    let (key, bench) = ann();
    let set = Guests::of((1..=5).map(fingerprint).collect()).unwrap();
    let mut offer = signed(&key, Terms { target: set.target(), ..terms() });
    let mut with = |proof| {
        offer.signed.as_mut().unwrap().proof = proof;
        bench.judged(&offer)
    };
    assert_eq!(with(set.proof(&fingerprint(1)).unwrap()), Ok(()));
    assert_eq!(with(set.proof(&fingerprint(2)).unwrap()), Err(SignatureFault::OtherGuest));
    assert_eq!(with(Proof::default()), Err(SignatureFault::OtherGuest));
    let strangers = Guests::of((2..=5).map(fingerprint).collect()).unwrap();
    let offer = signed(&key, Terms { target: strangers.target(), ..terms() });
    assert_eq!(bench.judged(&offer), Err(SignatureFault::OtherGuest));
}

#[test]
fn a_signature_is_good_within_its_time_and_a_little_around_it() {
    let (key, bench) = ann();
    let at = |now_s| bench.gate().judge(&signed(&key, terms()), false, true, now_s).map(drop);
    let (not_before_s, expires_s) = (NOW_S - 60, NOW_S + 60);
    assert_eq!(at(not_before_s - SIGNED_SKEW_S), Ok(()));
    assert_eq!(at(expires_s + SIGNED_SKEW_S), Ok(()));
    let now_s = not_before_s - SIGNED_SKEW_S - 1;
    assert_eq!(at(now_s), Err(SignatureFault::TooEarly { not_before_s, now_s }));
    let now_s = expires_s + SIGNED_SKEW_S + 1;
    assert_eq!(at(now_s), Err(SignatureFault::Expired { expires_s, now_s }));
}

#[test]
fn a_clock_that_cannot_be_right_judges_nothing() {
    let (key, bench) = ann();
    let old = signed(&key, Terms { not_before_s: None, ..terms() });
    for now_s in [0, 1_700_000_000, MADE_S - 1] {
        let judged = bench.gate().judge(&old, false, true, now_s).map(drop);
        assert_eq!(judged, Err(SignatureFault::NoClock(now_s)));
    }
}

#[test]
fn a_signature_that_expires_on_the_way_begins_nothing() {
    let (key, bench) = ann();
    let mut gate = bench.gate();
    let offer = signed(&key, terms());
    let permit = gate.judge(&offer, false, true, NOW_S).unwrap();
    let now_s = NOW_S + 60 + SIGNED_SKEW_S + 1;
    let begun = gate.begin(permit, offer.request, now_s);
    assert_eq!(begun, Err(SignatureFault::Expired { expires_s: NOW_S + 60, now_s }));
}

#[test]
fn what_was_begun_is_not_begun_under_another_name() {
    let (key, bench) = ann();
    let offer = signed(&key, terms());
    let other = Offer { request: RequestId::new([2; 16]), ..offer.clone() };
    let mut gate = bench.gate();
    let permits: Vec<_> = [&offer, &other].map(|offer| gate.judge(offer, false, true, NOW_S).unwrap()).into();
    let begun: Vec<_> = permits
        .into_iter()
        .zip([&offer, &other])
        .map(|(permit, offer)| gate.begin(permit, offer.request, NOW_S))
        .collect();
    assert_eq!(begun, [Ok(()), Err(SignatureFault::Replayed(offer.request))], "both were offered at once");
    for gate in [gate, bench.gate()] {
        assert!(gate.judge(&offer, false, true, NOW_S).is_ok(), "the journal decides about the same request");
        let judged = gate.judge(&other, false, true, NOW_S).map(drop);
        assert_eq!(judged, Err(SignatureFault::Replayed(offer.request)));
    }
}

#[test]
fn a_key_that_was_taken_out_signs_no_more() {
    let (key, bench) = ann();
    let offer = signed(&key, terms());
    let gate = bench.gate();
    assert!(gate.judge(&offer, false, true, NOW_S).is_ok());
    std::fs::write(&bench.signers, "# nobody\n").unwrap();
    let fault = gate.judge(&offer, false, true, NOW_S).unwrap_err();
    assert_eq!(fault, SignatureFault::UnknownKey(Fingerprint::of_blob(&key.public())));
    std::fs::remove_file(&bench.signers).unwrap();
    assert!(matches!(gate.judge(&offer, false, true, NOW_S), Err(SignatureFault::Signers(_))));
}

#[test]
fn a_key_outside_its_time_or_namespace_signs_nothing() {
    let key = Key::ed25519(1);
    let print = Fingerprint::of_blob(&key.public());
    let judged =
        |options: &str| Bench::new(&format!("ann {options} {}\n", key.line())).judged(&signed(&key, terms()));
    assert_eq!(
        judged("valid-after=\"20200101Z\",valid-before=\"20990101Z\",namespaces=\"doorbell-request\""),
        Ok(())
    );
    assert_eq!(judged("valid-before=\"20200101Z\""), Err(SignatureFault::KeyOutOfTime(print)));
    assert_eq!(judged("valid-after=\"20990101Z\""), Err(SignatureFault::KeyOutOfTime(print)));
    assert_eq!(judged("namespaces=\"git,file\""), Err(SignatureFault::KeyForOthers(print)));
}

#[test]
fn a_signature_for_another_tool_is_refused() {
    let (key, bench) = ann();
    let offer = signed_in("git", &key, run(b"#!/bin/sh\n"), terms());
    assert_eq!(bench.judged(&offer), Err(SignatureFault::OtherNamespace("git".parse().unwrap())));
}

#[test]
fn bytes_that_are_no_signature_are_refused() {
    let (key, bench) = ann();
    let mut offer = signed(&key, terms());
    let good = offer.signed.as_ref().unwrap().signature.as_bytes().to_vec();
    for broken in [good[..good.len() - 1].to_vec(), b"SSHSIG".to_vec(), [&good[..], b"x"].concat()] {
        offer.signed.as_mut().unwrap().signature = SshSignature::try_from(broken).unwrap();
        assert!(matches!(bench.judged(&offer), Err(SignatureFault::Unreadable(_))));
    }
}

#[test]
fn a_step_that_is_not_due_is_not_begun_by_a_signature() {
    let (key, bench) = ann();
    let judged = bench.gate().judge(&signed(&key, terms()), false, false, NOW_S);
    assert!(matches!(judged, Err(SignatureFault::NotSignable(_))));
}

#[test]
fn every_kind_of_key_lets_a_request_begin() {
    for key in [Key::ed25519(1), Key::ecdsa(2), Key::sk_ed25519(3), Key::sk_ecdsa(4)] {
        let bench = Bench::new(&format!("ann {}\n", key.line()));
        assert_eq!(bench.judged(&signed(&key, terms())), Ok(()), "{}", key.line());
        let digest = Digest::new([9; 32]);
        assert_ne!(Fingerprint::of_blob(&key.public()).digest(), &digest);
    }
}
