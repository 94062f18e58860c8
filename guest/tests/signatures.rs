//! What the real `ssh-keygen -Y sign` made, at the gate of a guest: begun once, and each way to misuse it refused.
//!
//! The vectors are `src/verify/vectors/request*`: a request's text, and what `ssh-keygen -Y sign -n doorbell-request`
//! (for one of them `-n git`) said to it with keys whose public halves lie beside; the private ones are gone.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a broken assumption of a test must end it"
)]

use doorbell_agent::state::StateDir;
use doorbell_agent::verify::signature::Gate;
use doorbell_wire::ids::{Digest, Fingerprint, Nonce, RequestId};
use doorbell_wire::limits::SIGNED_SKEW_S;
use doorbell_wire::message::action::{Action, Executable, Get, Input, Limits, Program, Run, RunParts};
use doorbell_wire::message::outcome::SignatureFault;
use doorbell_wire::message::{Offer, Proof, Signed, SshSignature, Target, Terms};
use std::path::PathBuf;
use tempfile::TempDir;

const TEXT: &str = include_str!("../src/verify/vectors/request");
const ED25519: [&str; 2] =
    [include_str!("../src/verify/vectors/request.sig"), include_str!("../src/verify/vectors/request.pub")];
const ECDSA: [&str; 2] = [
    include_str!("../src/verify/vectors/request-ecdsa.sig"),
    include_str!("../src/verify/vectors/request-ecdsa.pub"),
];
const RSA: [&str; 2] = [
    include_str!("../src/verify/vectors/request-rsa.sig"),
    include_str!("../src/verify/vectors/request-rsa.pub"),
];
const GIT: [&str; 2] = [
    include_str!("../src/verify/vectors/request-git.sig"),
    include_str!("../src/verify/vectors/request.pub"),
];

/// 2027-01-15T08:00:00Z, and an hour later the signature has expired.
const NOW_S: u64 = 1_800_000_000;
const EXPIRES_S: u64 = NOW_S + 3_600;

/// A guest that demands signatures of whoever has a key, and an offer with that key's signature.
struct Bench {
    _dir: TempDir,
    state: StateDir,
    signers: PathBuf,
    offer: Offer,
}

impl Bench {
    fn new([armour, public]: [&str; 2]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(&dir.path().join("state")).unwrap();
        let signers = dir.path().join("allowed_signers");
        std::fs::write(&signers, format!("ann {public}")).unwrap();
        Self { _dir: dir, state, signers, offer: offer(SshSignature::from_armor(armour).unwrap()) }
    }

    fn gate(&self, guest: u8) -> Gate {
        Gate::open(&self.state, fingerprint(guest), &self.signers)
    }

    fn judged(&self, offer: &Offer) -> Result<(), SignatureFault> {
        self.gate(1).judge(offer, true, true, NOW_S).map(drop)
    }

    /// What becomes of the offer when a part of it is another one.
    fn altered(&self, change: impl FnOnce(&mut Offer)) -> Result<(), SignatureFault> {
        let mut offer = self.offer.clone();
        change(&mut offer);
        assert_ne!(offer, self.offer, "nothing was altered");
        self.judged(&offer)
    }

    fn altered_run(&self, change: impl FnOnce(&mut RunParts)) -> Result<(), SignatureFault> {
        let mut parts = parts();
        change(&mut parts);
        self.altered(|offer| offer.action = Action::Run(Run::try_from(parts).unwrap()))
    }

    fn altered_terms(&self, change: impl FnOnce(&mut Terms)) -> Result<(), SignatureFault> {
        self.altered(|offer| change(&mut offer.signed.as_mut().unwrap().terms))
    }
}

fn fingerprint(guest: u8) -> Fingerprint {
    Fingerprint::new(Digest::new([guest; 32]))
}

fn parts() -> RunParts {
    let program = Program::new(Digest::new([4; 32]), 512, "fix.sh".parse().unwrap()).unwrap();
    RunParts {
        executable: Executable::Program(program),
        args: vec!["--all".into(), "a b".into()],
        env: vec![("LANG".into(), "C".into())],
        cwd: Some("/srv".parse().unwrap()),
        user: Some("www".parse().unwrap()),
        input: Input::None,
        limits: Limits { memory_max: Some(268_435_456), output_len_max: 1_048_576, ..Limits::default() },
        new_privileges: false,
    }
}

fn offer(signature: SshSignature) -> Offer {
    let target = Target::Guest(fingerprint(1));
    let nonce = Nonce::new([5; 32]);
    let terms = Terms { target, not_before_s: Some(NOW_S - 3_600), expires_s: EXPIRES_S, nonce };
    Offer {
        request: RequestId::new([1; 16]),
        sequence: Some(1.try_into().unwrap()),
        floor: 0,
        action: Action::Run(Run::try_from(parts()).unwrap()),
        timeout_ms: Some(60_000),
        idempotent: false,
        signed: Some(Box::new(Signed { terms, proof: Proof::default(), signature })),
    }
}

#[test]
fn what_ssh_keygen_signed_is_let_in() {
    for vector in [ED25519, ECDSA] {
        let bench = Bench::new(vector);
        assert_eq!(bench.offer.manifest().unwrap().unwrap(), TEXT, "the vectors are over another text");
        assert_eq!(bench.judged(&bench.offer), Ok(()), "{}", vector[1]);
    }
}

#[test]
fn a_field_that_was_altered_is_refused_whichever_it_is() {
    let bench = Bench::new(ED25519);
    let program = |digest: u8, name: &str| {
        let program = Program::new(Digest::new([digest; 32]), 512, name.parse().unwrap()).unwrap();
        Executable::Program(program)
    };
    let found = [
        (
            "action",
            bench.altered(|offer| offer.action = Action::Get(Get { path: "/etc/shadow".parse().unwrap() })),
        ),
        ("program digest", bench.altered_run(|parts| parts.executable = program(5, "fix.sh"))),
        ("program name", bench.altered_run(|parts| parts.executable = program(4, "fix"))),
        ("argument", bench.altered_run(|parts| parts.args[0] = "--none".into())),
        ("one argument of two", bench.altered_run(|parts| parts.args = vec!["--all a b".into()])),
        ("environment", bench.altered_run(|parts| parts.env[0].1 = "de".into())),
        ("variable more", bench.altered_run(|parts| parts.env.push(("LD_PRELOAD".into(), "/x".into())))),
        ("directory", bench.altered_run(|parts| parts.cwd = None)),
        ("user", bench.altered_run(|parts| parts.user = None)),
        ("limit", bench.altered_run(|parts| parts.limits.memory_max = None)),
        ("output", bench.altered_run(|parts| parts.limits.output_len_max = 1)),
        ("timeout", bench.altered(|offer| offer.timeout_ms = None)),
        ("idempotent", bench.altered(|offer| offer.idempotent = true)),
        ("guest", bench.altered_terms(|terms| terms.target = Target::Guest(fingerprint(2)))),
        ("not before", bench.altered_terms(|terms| terms.not_before_s = None)),
        ("expiry", bench.altered_terms(|terms| terms.expires_s += 1)),
        ("nonce", bench.altered_terms(|terms| terms.nonce = Nonce::new([6; 32]))),
    ];
    for (what, judged) in found {
        assert_eq!(judged, Err(SignatureFault::Altered), "{what}");
    }
}

#[test]
fn input_that_nobody_signed_is_refused() {
    let bench = Bench::new(ED25519);
    let judged = bench.altered_run(|parts| parts.input = Input::Stream);
    assert!(matches!(judged, Err(SignatureFault::NotSignable(_))), "{judged:?}");
}

#[test]
fn an_expired_signature_is_refused() {
    let bench = Bench::new(ED25519);
    let at = |now_s| bench.gate(1).judge(&bench.offer, true, true, now_s).map(drop);
    let now_s = EXPIRES_S + SIGNED_SKEW_S;
    assert_eq!(at(now_s), Ok(()));
    let now_s = now_s + 1;
    assert_eq!(at(now_s), Err(SignatureFault::Expired { expires_s: EXPIRES_S, now_s }));
}

#[test]
fn a_signature_that_is_aimed_at_another_guest_is_refused() {
    let bench = Bench::new(ED25519);
    let judged = bench.gate(2).judge(&bench.offer, true, true, NOW_S).map(drop);
    assert_eq!(judged, Err(SignatureFault::OtherGuest));
}

#[test]
fn a_signature_that_is_replayed_is_refused() {
    let bench = Bench::new(ED25519);
    let mut gate = bench.gate(1);
    let permit = gate.judge(&bench.offer, true, true, NOW_S).unwrap();
    gate.begin(permit, bench.offer.request, NOW_S).unwrap();
    let again = Offer { request: RequestId::new([2; 16]), ..bench.offer.clone() };
    for gate in [gate, bench.gate(1)] {
        let judged = gate.judge(&again, true, true, NOW_S).map(drop);
        assert_eq!(judged, Err(SignatureFault::Replayed(bench.offer.request)));
    }
}

#[test]
fn a_signature_by_a_removed_key_is_refused() {
    let bench = Bench::new(ED25519);
    let gate = bench.gate(1);
    assert!(gate.judge(&bench.offer, true, true, NOW_S).is_ok());
    std::fs::write(&bench.signers, format!("ann {}", ECDSA[1])).unwrap();
    let judged = gate.judge(&bench.offer, true, true, NOW_S).map(drop);
    assert!(matches!(judged, Err(SignatureFault::UnknownKey(_))), "{judged:?}");
}

#[test]
fn a_signature_in_the_namespace_of_another_tool_is_refused() {
    let bench = Bench::new(GIT);
    assert_eq!(bench.judged(&bench.offer), Err(SignatureFault::OtherNamespace("git".parse().unwrap())));
}

#[test]
fn a_signature_by_an_rsa_key_is_refused_with_the_kinds_that_are_taken() {
    let bench = Bench::new(RSA);
    let Err(SignatureFault::Unreadable(why)) = bench.judged(&bench.offer) else { panic!("RSA was taken") };
    assert!(why.as_str().contains("ssh-ed25519, ecdsa-sha2-nistp256"), "{why}");
}
