//! Programs: every way they end, and what is left of them.

use super::rig::{Rig, await_gone, command, offer, processes, program, script, sh};
use crate::apply::cgroup::Cgroups;
use crate::clock::now_us;
use doorbell_wire::ids::Digest;
use doorbell_wire::message::action::{Action, LinkSelector, LinkSet};
use doorbell_wire::message::outcome::{
    Evidence, NotReceived, NotStarted, NotVerified, Outcome, Refusal, StartFault,
};
use doorbell_wire::message::{Offer, Stage};
use nix::libc::{EACCES, ENOENT, ENOEXEC};
use nix::sys::signal::{SigSet, Signal};
use sha2::{Digest as _, Sha256};
use std::num::NonZeroU8;

fn failed(code: u8) -> Outcome {
    Outcome::Failed(NonZeroU8::new(code).unwrap())
}

fn not_started(fault: StartFault, errno: i32) -> Outcome {
    Outcome::NotStarted(NotStarted { fault, errno })
}

fn timed(mut offer: (Offer, Vec<u8>), ms: u64) -> (Offer, Vec<u8>) {
    offer.0.timeout_ms = Some(ms);
    offer
}

#[test]
fn a_command_runs_and_is_forgotten_after_its_receipt() {
    let mut rig = Rig::new(script([offer(1, command(&["echo", "hello", "$HOME"]))]));
    assert_eq!(rig.outcomes(1), [Outcome::Succeeded]);
    assert_eq!(rig.stdout(), "hello $HOME\n");
    assert_eq!(rig.manager.seen.stages, [Stage::Journalled, Stage::Started]);
    let ran = rig.last().ran.unwrap();
    assert!(
        ran.started_us > 0
            && ran.exited_us >= ran.started_us
            && ran.ended_us >= ran.exited_us
            && ran.ended_us <= now_us()
    );
    rig.until(|rig| rig.manager.seen.pulls == 2);
    assert_eq!(std::fs::read_dir(rig.state().join("run")).unwrap().count(), 0);
    rig.reconnect(script([]));
    rig.until(|rig| rig.manager.seen.pulls == 1);
    assert_eq!(rig.manager.seen.sequence_max, 1);
    assert!(rig.manager.seen.token.is_some() && rig.manager.seen.attached.is_empty());
}

#[test]
fn exit_status_signal_and_not_started_are_three_things() {
    let actions = [
        sh("echo out; echo err >&2; exit 7"),
        sh("kill -9 $$"),
        command(&["no-such-command-here"]),
        command(&["/etc/passwd"]),
        sh("exit 255"),
    ];
    let offers = actions.into_iter().zip(1..).map(|(action, number)| offer(number, action));
    let mut rig = Rig::new(script(offers));
    let killed = Outcome::Killed(9.try_into().unwrap());
    let (missing, refused) =
        (not_started(StartFault::NotFound, ENOENT), not_started(StartFault::NotExecutable, EACCES));
    assert_eq!(rig.outcomes(5), [failed(7), killed, missing, refused, failed(255)]);
    assert_eq!((rig.stdout().as_str(), rig.manager.seen.stderr.as_slice()), ("out\n", b"err\n".as_slice()));
    assert_eq!(rig.manager.seen.outcomes[0].output.stdout.kept, 4);
}

#[test]
fn a_program_is_fetched_verified_and_run_with_its_arguments() {
    let mut bytes = b"#!/bin/sh\necho \"$0|$1|$2\"; exit 3\n".to_vec();
    bytes.resize(300_000, b'#');
    let mut rig = Rig::new(script([program(1, &bytes, &["a b", "*"])]));
    assert_eq!(rig.outcomes(1), [failed(3)]);
    let stages = [Stage::Fetched, Stage::Verified, Stage::Journalled, Stage::Started];
    assert_eq!(rig.manager.seen.stages, stages);
    assert!(rig.stdout().ends_with("|a b|*\n"), "{}", rig.stdout());
    rig.until(|rig| rig.manager.seen.pulls == 2);
    assert_eq!(std::fs::read_dir(rig.state().join("programs")).unwrap().count(), 0);
}

#[test]
fn one_flipped_bit_is_refused_and_the_session_goes_on() {
    let good = b"#!/bin/sh\necho never\n".to_vec();
    let (offer_of_good, mut bytes) = program(1, &good, &[]);
    bytes[17] ^= 1;
    let got = Digest::new(Sha256::digest(&bytes).into());
    let expected = Digest::new(Sha256::digest(&good).into());
    let mut rig = Rig::new(script([(offer_of_good, bytes), offer(2, command(&["true"]))]));
    assert_eq!(rig.outcomes(2), [Outcome::NotVerified(NotVerified { expected, got }), Outcome::Succeeded]);
    assert!(rig.manager.seen.stdout.is_empty());
}

#[test]
fn no_bytes_are_a_program_that_the_kernel_does_not_take() {
    let mut rig = Rig::new(script([program(1, b"", &[]), program(2, b"echo no interpreter named\n", &[])]));
    assert_eq!(rig.outcomes(2), vec![not_started(StartFault::NotAProgram, ENOEXEC); 2]);
    assert!(!rig.manager.seen.stages.contains(&Stage::Started));
}

#[test]
fn a_program_that_cannot_be_staged_is_not_received() {
    let mut rig = Rig::new(script([program(1, b"#!/bin/true\n", &[]), offer(2, command(&["true"]))]));
    std::fs::remove_dir(rig.state().join("programs")).unwrap();
    let expected = [Outcome::NotReceived(NotReceived::Unstageable(ENOENT)), Outcome::Succeeded];
    assert_eq!(rig.outcomes(2), expected);
}

#[test]
fn a_time_limit_ends_what_ignores_the_polite_signal() {
    for cgroups in [Cgroups::find(), None] {
        let waits = cgroups.is_none();
        let stubborn = sh("trap '' TERM; (trap '' TERM; sleep 100) & echo up; while :; do sleep 1; done");
        let offers = [timed(offer(1, stubborn), 100), offer(2, command(&["true"]))];
        let mut rig = Rig::with_cgroups(script(offers), cgroups);
        let request = rig.first();
        assert_eq!(rig.outcomes(1), [Outcome::TimedOut]);
        assert_eq!(rig.stdout(), "up\n");
        let ran = rig.last().ran.unwrap();
        let took = (ran.ended_us - ran.started_us) / 1_000;
        assert!((2_100..10_000).contains(&took), "{took} ms");
        if waits {
            await_gone(request);
        }
        assert_eq!(processes(request), Vec::<String>::new());
        assert_eq!(rig.outcomes(2)[1], Outcome::Succeeded);
    }
}

#[test]
fn a_time_limit_ends_what_has_left_the_session() {
    let Some(cgroups) = Cgroups::find() else {
        eprintln!("skipped: no cgroup of version 2 that can be killed");
        return;
    };
    let escaping = sh("setsid sleep 100 >/dev/null 2>&1 </dev/null & exec sleep 100");
    let mut rig = Rig::with_cgroups(script([timed(offer(1, escaping), 200)]), Some(cgroups));
    let request = rig.first();
    assert_eq!(rig.outcomes(1), [Outcome::TimedOut]);
    assert_eq!(processes(request), Vec::<String>::new());
}

#[test]
fn an_orphan_that_holds_the_output_ends_with_the_drain() {
    for cgroups in [Cgroups::find(), None] {
        let waits = cgroups.is_none();
        let mut rig = Rig::with_cgroups(script([offer(1, sh("sleep 100 & echo hi"))]), cgroups);
        let request = rig.first();
        assert_eq!(rig.outcomes(1), [Outcome::Succeeded]);
        assert_eq!(rig.stdout(), "hi\n");
        let ran = rig.last().ran.unwrap();
        assert!((2_000..8_000).contains(&((ran.ended_us - ran.started_us) / 1_000)));
        if waits {
            await_gone(request);
        }
        assert_eq!(processes(request), Vec::<String>::new());
    }
}

#[test]
fn a_daemon_that_let_go_of_its_output_goes_on() {
    let daemon = sh("sleep 3 >/dev/null 2>&1 </dev/null & echo $!");
    let mut rig = Rig::new(script([offer(1, daemon)]));
    let request = rig.first();
    assert_eq!(rig.outcomes(1), [Outcome::Succeeded]);
    let ran = rig.last().ran.unwrap();
    assert!(ran.ended_us - ran.started_us < 2_000_000);
    assert_eq!(processes(request), [rig.stdout().trim()]);
}

#[test]
fn a_program_has_three_descriptors_its_environment_and_no_blocked_signal() {
    let look = "cd /proc/$$/fd; for fd in *; do test -e $fd && printf \"$fd \"; done; echo; readlink 0; cd -; umask; export -p | wc -l; echo $DOORBELL_REQUEST; \
                while read -r line; do case $line in SigBlk*|SigIgn*) echo $line;; esac; done < /proc/$$/status";
    let mut blocked = SigSet::empty();
    blocked.add(Signal::SIGTERM);
    blocked.thread_block().unwrap();
    let mut rig = Rig::new(script([offer(1, sh(look))]));
    let request = rig.first();
    rig.outcomes(1);
    blocked.thread_unblock().unwrap();
    let printed = rig.stdout();
    let lines: Vec<_> = printed.lines().collect();
    assert_eq!(&lines[..4], ["0 1 2 ", "/dev/null", "/", "0022"], "{printed}");
    let (ignored, lines) = lines.split_last().unwrap();
    assert_eq!(&lines[5..], [request.to_string().as_str(), "SigBlk: 0000000000000000"], "{printed}");
    // The C library keeps two signals behind the standard ones to itself.
    let ignored = u64::from_str_radix(ignored.trim_start_matches("SigIgn: "), 16).unwrap();
    assert_eq!(ignored & 0x7fff_ffff, 0, "{printed}");
}

#[test]
fn a_flood_of_output_arrives_whole() {
    let mut rig = Rig::new(script([offer(1, sh("head -c 3000000 /dev/zero; echo end >&2"))]));
    assert_eq!(rig.outcomes(1), [Outcome::Succeeded]);
    assert_eq!(rig.manager.seen.stdout.len(), 3_000_000);
    assert_eq!(rig.manager.seen.stderr, b"end\n");
    assert_eq!(rig.last().output.stdout.kept, 3_000_000);
}

#[test]
fn a_query_lists_links_and_an_effect_needs_a_sequence() {
    let query = |number, action| {
        let (offer, bytes) = offer(number, action);
        (Offer { sequence: None, ..offer }, bytes)
    };
    let mut rig = Rig::new(script([query(1, Action::LinkList), query(2, command(&["true"]))]));
    let outcomes = rig.outcomes(2);
    assert_eq!(outcomes[0], Outcome::Succeeded);
    let Evidence::Links(links) = &rig.manager.seen.outcomes[0].evidence else { panic!("no links") };
    assert!(links.list().iter().any(|link| link.name.as_str() == "lo"));
    assert!(matches!(outcomes[1], Outcome::Refused(Refusal::Unsupported(_))));
    assert!(rig.manager.seen.stages.is_empty());
}

#[test]
fn a_missing_link_is_refused_before_anything_starts() {
    let link = LinkSelector::Name("no-such-link".parse().unwrap());
    let mut rig = Rig::new(script([offer(1, Action::LinkSet(LinkSet { link, up: false }))]));
    assert_eq!(rig.outcomes(1), [Outcome::Refused(Refusal::NoSuchLink)]);
    assert!(rig.manager.seen.stages.is_empty());
}
