//! The text that is signed: one way to write it, every field in it; and the root that stands for many guests.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a broken assumption of a test must end it"
)]
#![allow(dead_code, reason = "the samples serve several tests")]

mod common;

use common::samples;
use doorbell_wire::ids::{Digest, Fingerprint, Nonce, PublicKey};
use doorbell_wire::manifest::{Moment, Unsignable, manifest};
use doorbell_wire::merkle::Guests;
use doorbell_wire::message::action::{
    Action, Command, Executable, Form, Get, Input, LinkSelector, LinkSet, Mode, Payload, Program, Put,
    Reboot, Run, RunParts, RunReboot, Window,
};
use doorbell_wire::message::{Offer, Proof, SshSignature, Target, Terms};
use std::collections::BTreeMap;
use std::num::NonZeroU8;

fn terms() -> Terms {
    let target = Target::Guest(samples::fingerprint());
    Terms { target, not_before_s: None, expires_s: 1_800_000_000, nonce: Nonce::new([0x6e; 32]) }
}

fn text(action: &Action) -> String {
    manifest(action, Some(60_000), true, &terms()).unwrap()
}

fn parts() -> RunParts {
    RunParts { input: Input::None, ..samples::run(samples::program()).into() }
}

fn run(change: impl FnOnce(&mut RunParts)) -> Action {
    let mut parts = parts();
    change(&mut parts);
    Action::Run(Run::try_from(parts).unwrap())
}

fn put(change: impl FnOnce(&mut Put)) -> Action {
    let mut put = Put {
        path: "/srv/x".parse().unwrap(),
        payload: Payload::new(Digest::new([1; 32]), 5).unwrap(),
        form: Form::File,
        mode: None,
        owner: None,
        replace: false,
    };
    change(&mut put);
    Action::Put(put)
}

#[test]
fn a_manifest_reads_as_what_is_done() {
    let expected = "\
doorbell-request 1
action: run
program: sha256:4444444444444444444444444444444444444444444444444444444444444444
program-name: \"fix.sh\"
arguments: 1
argument: \"-a\"
variables: 1
variable: \"LANG\" = \"C\"
directory: \"/srv\"
user: \"www\"
input: none
memory-max: 268435456
processes-max: 64
cpu-percent-max: 150
output-max: 1048576
new-privileges: yes
timeout-ms: 60000
may-start-again: yes
guest: SHA256:ZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmY
not-before: none
expires: 2027-01-15T08:00:00Z
nonce: 6e6e6e6e6e6e6e6e6e6e6e6e6e6e6e6e6e6e6e6e6e6e6e6e6e6e6e6e6e6e6e6e
";
    let action = run(|parts| {
        parts.cwd = Some("/srv".parse().unwrap());
        parts.user = Some("www".parse().unwrap());
        parts.limits.output_len_max = 1_048_576;
    });
    assert_eq!(text(&action), expected);
}

/// Each change of one field, from a request of its kind.
fn changes() -> BTreeMap<&'static str, String> {
    let step = |reboot, step| {
        Action::RunReboot(RunReboot {
            run: Run::try_from(parts()).unwrap(),
            reboot,
            step: NonZeroU8::new(step).unwrap(),
        })
    };
    let number = |number| NonZeroU8::new(number).unwrap();
    let on = |status, steps| Reboot::OnStatus { status: number(status), steps_max: number(steps) };
    let program = |digest, name: &str| {
        Executable::Program(Program::new(Digest::new([digest; 32]), 5, name.parse().unwrap()).unwrap())
    };
    let command = |text: &str| Executable::InGuest(Command::try_from(text.to_owned()).unwrap());
    let link = |link| Action::LinkSet(LinkSet { link, up: false });
    let eth0 = || LinkSelector::Name("eth0".parse().unwrap());
    let with = |change: &dyn Fn(&mut Terms)| {
        let mut terms = terms();
        change(&mut terms);
        manifest(&run(|_| {}), Some(60_000), true, &terms).unwrap()
    };
    let plain = run(|_| {});
    BTreeMap::from([
        ("run", text(&plain)),
        ("digest", text(&run(|parts| parts.executable = program(1, "a")))),
        ("name", text(&run(|parts| parts.executable = program(1, "b")))),
        ("command", text(&run(|parts| parts.executable = command("a")))),
        ("another command", text(&run(|parts| parts.executable = command("b")))),
        ("argument", text(&run(|parts| parts.args = vec!["-b".into()]))),
        ("one argument of two", text(&run(|parts| parts.args = vec!["-a".into(), "b".into()]))),
        ("two in one", text(&run(|parts| parts.args = vec!["-a b".into()]))),
        ("a line in one", text(&run(|parts| parts.args = vec!["-a\"\nargument: \"b".into()]))),
        ("no variable", text(&run(|parts| parts.env = Vec::new()))),
        ("a variable", text(&run(|parts| parts.env = vec![("LANG".into(), "D".into())]))),
        ("its name", text(&run(|parts| parts.env = vec![("LANG ".into(), "C".into())]))),
        ("directory", text(&run(|parts| parts.cwd = Some("/srv".parse().unwrap())))),
        ("user", text(&run(|parts| parts.user = Some("www".parse().unwrap())))),
        ("user none", text(&run(|parts| parts.user = Some("none".parse().unwrap())))),
        ("memory", text(&run(|parts| parts.limits.memory_max = Some(1)))),
        ("processes", text(&run(|parts| parts.limits.processes_max = Some(1)))),
        ("processor", text(&run(|parts| parts.limits.cpu_percent_max = None))),
        ("output", text(&run(|parts| parts.limits.output_len_max = 1))),
        ("privileges", text(&run(|parts| parts.new_privileges = false))),
        ("timeout", manifest(&plain, None, true, &terms()).unwrap()),
        ("another timeout", manifest(&plain, Some(1), true, &terms()).unwrap()),
        ("once", manifest(&plain, Some(60_000), false, &terms()).unwrap()),
        ("guest", with(&|terms| terms.target = Target::Guest(Fingerprint::new(Digest::new([1; 32]))))),
        ("guests", with(&|terms| terms.target = Target::Guests { root: Digest::new([0x66; 32]), count: 2 })),
        ("root", with(&|terms| terms.target = Target::Guests { root: Digest::new([1; 32]), count: 2 })),
        ("count", with(&|terms| terms.target = Target::Guests { root: Digest::new([0x66; 32]), count: 3 })),
        ("from", with(&|terms| terms.not_before_s = Some(5))),
        ("until", with(&|terms| terms.expires_s = 1_800_000_001)),
        ("nonce", with(&|terms| terms.nonce = Nonce::new([1; 32]))),
        ("reboot", text(&step(Reboot::AfterSuccess, 1))),
        ("on status", text(&step(on(1, 2), 1))),
        ("another status", text(&step(on(3, 2), 1))),
        ("steps", text(&step(on(1, 3), 1))),
        ("link", text(&link(eth0()))),
        ("another link", text(&link(LinkSelector::Name("eth1".parse().unwrap())))),
        ("an address", text(&link(LinkSelector::Mac("52:54:00:12:34:56".parse().unwrap())))),
        ("link up", text(&Action::LinkSet(LinkSet { link: eth0(), up: true }))),
        ("get", text(&Action::Get(Get { path: "/srv/x".parse().unwrap() }))),
        ("get another", text(&Action::Get(Get { path: "/srv/y".parse().unwrap() }))),
        ("put", text(&put(|_| {}))),
        ("put elsewhere", text(&put(|put| put.path = "/srv/y".parse().unwrap()))),
        ("put others", text(&put(|put| put.payload = Payload::new(Digest::new([2; 32]), 5).unwrap()))),
        ("put a tree", text(&put(|put| put.form = Form::Archive))),
        ("mode", text(&put(|put| put.mode = Some(Mode::try_from(0o644).unwrap())))),
        ("owner", text(&put(|put| put.owner = Some("www".parse().unwrap())))),
        ("replace", text(&put(|put| put.replace = true))),
    ])
}

#[test]
fn every_field_that_changes_what_is_done_changes_the_text() {
    let changes = changes();
    for (name, text) in &changes {
        let alike = changes.iter().find(|(other, same)| *other != name && *same == text);
        assert_eq!(alike, None, "{name}");
        assert!(text.starts_with("doorbell-request 1\naction: ") && text.ends_with('\n'), "{text}");
        assert!(text.bytes().all(|byte| byte == b'\n' || (b' '..=b'~').contains(&byte)), "{text}");
    }
}

#[test]
fn what_is_not_known_when_it_is_signed_is_not_signed() {
    for input in [Input::Stream, Input::Terminal(Window { rows: 1, columns: 1 })] {
        let action = run(|parts| parts.input = input);
        assert_eq!(manifest(&action, None, false, &terms()), Err(Unsignable::Input));
    }
    assert_eq!(manifest(&Action::LinkList, None, false, &terms()), Err(Unsignable::Query));
    let unsigned: Offer = samples::offer(Action::LinkList);
    assert_eq!(unsigned.manifest(), None);
}

#[test]
fn a_moment_is_written_as_a_date() {
    let written = |seconds| Moment(seconds).to_string();
    assert_eq!(written(0), "1970-01-01T00:00:00Z");
    assert_eq!(written(951_782_400), "2000-02-29T00:00:00Z");
    assert_eq!(written(1_709_251_199), "2024-02-29T23:59:59Z");
    assert_eq!(written(1_709_251_200), "2024-03-01T00:00:00Z");
    assert_eq!(written(4_107_542_400), "2100-03-01T00:00:00Z");
    assert!(written(u64::MAX).ends_with("15Z"));
}

fn guests(count: u8) -> Vec<Fingerprint> {
    (0..count).map(|number| Fingerprint::of(&PublicKey::new([number; 32]))).collect()
}

#[test]
fn each_guest_of_any_number_has_a_proof_and_no_other_has() {
    let stranger = Fingerprint::of(&PublicKey::new([200; 32]));
    for count in 1..=33 {
        let all = guests(count);
        let set = Guests::of(all.clone()).unwrap();
        let target = set.target();
        for guest in &all {
            let proof = set.proof(guest).unwrap();
            assert!(target.names(guest, &proof), "{guest} of {count}");
            assert!(!target.names(&stranger, &proof), "the proof of another of {count}");
            let mut other = all.iter().filter(|other| *other != guest);
            assert!(other.all(|other| !target.names(other, &proof)), "{guest} of {count}");
            let mut longer = proof.clone();
            longer.path.push(Digest::new([0; 32]));
            assert!(count == 1 || !target.names(guest, &longer));
            let elsewhere = Proof { index: proof.index.wrapping_add(1), ..proof.clone() };
            assert!(count == 1 || !target.names(guest, &elsewhere));
        }
        assert_eq!(set.proof(&stranger), None);
    }
    assert!(Guests::of(Vec::new()).is_none());
}

#[test]
fn no_node_is_taken_for_a_guest() {
    let all = guests(4);
    let set = Guests::of(all).unwrap();
    let Target::Guests { root, .. } = set.target() else { panic!("several") };
    // The two nodes below the root, offered as if they were two guests.
    let proof = set.proof(&guests(1)[0]).unwrap();
    let node = Fingerprint::new(*proof.path.last().unwrap());
    let target = Target::Guests { root, count: 2 };
    for path in proof.path {
        for index in [0, 1] {
            assert!(!target.names(&node, &Proof { index, path: vec![path] }));
        }
    }
}

#[test]
fn an_armour_is_read_whole_or_refused() {
    let signature = SshSignature::try_from([b"SSHSIG".as_slice(), &[7; 300]].concat()).unwrap();
    let text = signature.to_armor();
    assert_eq!(SshSignature::from_armor(&text).unwrap(), signature);
    assert_eq!(
        SshSignature::from_armor(
            &text.replace('\n', "\r\n").replacen("-\r\n", "-\n", 1).replace("\r\n-", "\n-")
        )
        .unwrap(),
        signature
    );
    let large = "A".repeat(20_000);
    let broken = [
        String::new(),
        text.replace("BEGIN", "BEGUN"),
        text.replacen("-----END SSH SIGNATURE-----", "", 1),
        text.replacen("U1NIU0lH", "U1NIU0l!", 1),
        text.replacen("U1NIU0lH", "U1NIU0lI", 1),
        format!("-----BEGIN SSH SIGNATURE-----\n{large}\n-----END SSH SIGNATURE-----"),
    ];
    for text in broken {
        assert!(SshSignature::from_armor(&text).is_err(), "{text:.80}");
    }
    assert!(
        SshSignature::try_from([b"SSHSIG".as_slice(), &[0; 4091]].concat()).is_err(),
        "one byte too many"
    );
}
