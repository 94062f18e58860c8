//! Lost connections, crashes, cancels and rings: a request starts once and its outcome is never lost.

use super::manager::Script;
use super::rig::{Rig, command, offer, processes, program, script, sh};
use doorbell_wire::message::action::Action;
use doorbell_wire::message::outcome::{Outcome, Refusal};
use doorbell_wire::message::{Capabilities, Offer, Offsets, Stage};
use nix::libc::ENOSPC;
use std::io::Write;
use std::path::Path;

/// A command that leaves a line in a file each time it is started.
fn counting(file: &Path, rest: &str) -> (Offer, Vec<u8>) {
    offer(1, sh(&format!("echo started >> {}; {rest}", file.display())))
}

fn starts(file: &Path) -> usize {
    std::fs::read_to_string(file).unwrap_or_default().lines().count()
}

#[test]
fn ten_thousand_rings_while_busy_cause_one_further_pull() {
    let mut rig = Rig::new(script([offer(1, sh("sleep 0.5"))]));
    rig.until(|rig| rig.manager.seen.stages.contains(&Stage::Started));
    assert_eq!(rig.manager.seen.pulls, 1);
    rig.manager.stream.set_nonblocking(false).unwrap();
    rig.manager.stream.write_all(&[0x07; 10_000]).unwrap();
    rig.manager.stream.set_nonblocking(true).unwrap();
    // The pull that follows every receipt is the one that answers all of them.
    rig.outcomes(1);
    rig.until(|rig| rig.manager.seen.pulls == 2);
    rig.manager.ring();
    rig.until(|rig| rig.manager.seen.pulls >= 3);
    assert_eq!(rig.manager.seen.pulls, 3);
}

#[test]
fn a_ring_while_idle_is_a_pull() {
    let mut rig = Rig::new(script([]));
    rig.until(|rig| rig.manager.seen.pulls == 1);
    rig.manager.script.offers.push_back(offer(1, command(&["true"])));
    rig.manager.ring();
    assert_eq!(rig.outcomes(1), [Outcome::Succeeded]);
}

#[test]
fn a_running_program_outlives_the_connection() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("starts");
    let mut rig = Rig::new(script([counting(&file, "echo one; sleep 1; echo two")]));
    let request = rig.first();
    rig.until(|rig| rig.stdout() == "one\n");
    let attach_from = Some(Offsets { stdout: 4, stderr: 0 });
    rig.reconnect(Script { attach_from, ..Script::default() });
    assert_eq!(rig.outcomes(1), [Outcome::Succeeded]);
    assert_eq!(rig.manager.seen.attached, [request]);
    assert_eq!((rig.stdout().as_str(), starts(&file)), ("two\n", 1));
}

#[test]
fn an_outcome_that_was_not_stored_is_given_again() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("starts");
    let forgetful = || Script { forgetful: true, attach_from: Some(Offsets::default()), ..Script::default() };
    let mut rig = Rig::new(Script { offers: [counting(&file, "exit 9")].into(), ..forgetful() });
    let outcome = rig.outcomes(1);
    rig.reconnect(forgetful());
    assert_eq!(rig.outcomes(1), outcome);
    let mut rig = rig.crash(Script { forgetful: false, ..forgetful() });
    assert_eq!(rig.outcomes(1), outcome);
    rig.until(|rig| rig.manager.seen.pulls == 1);
    assert_eq!(starts(&file), 1);
    let mut rig = rig.crash(script([]));
    rig.until(|rig| rig.manager.seen.pulls == 1);
    assert!(rig.manager.seen.attached.is_empty() && rig.manager.seen.low_water == 1);
}

#[test]
fn an_outcome_is_given_to_a_manager_that_lost_the_request() {
    let mut rig = Rig::new(Script { forgetful: true, ..script([offer(1, sh("echo lost; exit 9"))]) });
    let outcome = rig.outcomes(1);
    rig.reconnect(Script { attach_from: None, ..Script::default() });
    assert_eq!(rig.outcomes(1), outcome);
    assert!(rig.manager.seen.stdout.is_empty());
}

#[test]
fn a_crash_between_start_and_outcome_is_interrupted_and_leaves_no_process() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("starts");
    let begun = counting(&file, "echo partly; exec sleep 100");
    let request = begun.0.request;
    let mut rig = Rig::new(script([begun.clone()]));
    rig.until(|rig| rig.stdout() == "partly\n");
    let mut rig = rig.crash(Script { attach_from: Some(Offsets::default()), ..script([begun]) });
    if rig.agent.capabilities().contains(Capabilities::CGROUP_KILL) {
        assert_eq!(processes(request), Vec::<String>::new());
    } else {
        eprintln!("skipped: that no process is left: no cgroup of version 2 that can be killed");
    }
    assert_eq!(rig.outcomes(1), [Outcome::Interrupted]);
    assert_eq!(rig.stdout(), "partly\n");
    // Offered once more, it is refused by its sequence and does not start.
    assert!(matches!(rig.outcomes(2)[1], Outcome::Refused(Refusal::StaleSequence(1))));
    assert_eq!(starts(&file), 1);
}

#[test]
fn an_idempotent_request_starts_again_after_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("starts");
    let second = format!("test $(wc -l < {}) -gt 1 || exec sleep 100", file.display());
    let (offer, bytes) = counting(&file, &second);
    let offer = Offer { idempotent: true, ..offer };
    let mut rig = Rig::new(script([(offer.clone(), bytes.clone())]));
    rig.until(|rig| rig.manager.seen.stages.contains(&Stage::Started) && starts(&file) == 1);
    let mut rig = rig.crash(script([(offer, bytes)]));
    assert_eq!(rig.outcomes(1), [Outcome::Succeeded]);
    assert_eq!((starts(&file), rig.manager.seen.attached.len()), (2, 0));
}

#[test]
fn a_cancel_ends_a_program_and_the_next_request_is_served() {
    let mut rig = Rig::new(script([offer(1, sh("echo up; exec sleep 100")), offer(2, command(&["true"]))]));
    let request = rig.first();
    rig.until(|rig| rig.stdout() == "up\n");
    rig.manager.cancel(request);
    assert_eq!(rig.outcomes(2), [Outcome::Cancelled, Outcome::Succeeded]);
    assert_eq!(processes(request), Vec::<String>::new());
}

#[test]
fn a_cancel_during_a_fetch_takes_no_more_and_leaves_nothing() {
    let bytes = vec![b'#'; 500_000];
    let mut rig = Rig::new(script([program(1, &bytes, &[]), offer(2, command(&["true"]))]));
    let request = rig.first();
    rig.manager.script.holds_chunks = true;
    rig.until(|rig| rig.manager.seen.pulls == 1);
    rig.manager.cancel(request);
    rig.manager.script.holds_chunks = false;
    assert_eq!(rig.outcomes(2), [Outcome::Cancelled, Outcome::Succeeded]);
    assert_eq!(std::fs::read_dir(rig.state().join("programs")).unwrap().count(), 0);
}

#[test]
fn a_lost_fetch_is_begun_anew() {
    let offered = program(1, b"#!/bin/sh\nexit 0\n", &[]);
    let mut rig = Rig::new(Script { holds_chunks: true, ..script([offered.clone()]) });
    rig.until(|rig| rig.manager.seen.pulls == 1);
    rig.reconnect(script([offered]));
    assert_eq!(rig.outcomes(1), [Outcome::Succeeded]);
    assert!(rig.manager.seen.attached.is_empty());
}

#[test]
fn a_program_never_waits_for_a_manager_that_gives_no_credit() {
    let dir = tempfile::tempdir().unwrap();
    let done = dir.path().join("done");
    let flood = sh(&format!("head -c 5000000 /dev/zero; touch {}", done.display()));
    let mut rig = Rig::new(Script { holds_credit: true, ..script([offer(1, flood)]) });
    rig.until(|_| done.exists());
    assert!(rig.manager.seen.stdout.len() <= 128 * 1024);
}

#[test]
fn a_state_that_cannot_be_written_refuses_effects_and_answers_queries() {
    let mut rig = Rig::new(script([]));
    rig.until(|rig| rig.manager.seen.pulls == 1);
    let (query, bytes) = offer(2, Action::LinkList);
    let offers = [offer(1, command(&["true"])), (Offer { sequence: None, ..query }, bytes)];
    rig.agent.break_journal(nix::errno::Errno::ENOSPC);
    rig.reconnect(script(offers));
    let refused = Outcome::Refused(Refusal::StateUnwritable(ENOSPC));
    assert_eq!(rig.outcomes(2), [refused, Outcome::Succeeded]);
}
