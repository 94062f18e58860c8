//! Lost connections, crashes, cancels and rings: a request starts once and its outcome is never lost.

use super::manager::Script;
use super::rig::{Rig, changed, command, offer, processes, program, script, sh};
use crate::clock::now;
use crate::ended::Ended;
use doorbell_wire::ids::RequestId;
use doorbell_wire::message::action::{Action, Input, Window};
use doorbell_wire::message::outcome::{Outcome, Refusal};
use doorbell_wire::message::{Capabilities, Offer, Offsets, Stage};
use nix::libc::EISDIR;
use nix::poll::{PollFd, PollFlags};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::Path;

/// A command that leaves a line in a file each time it is started.
fn counting(file: &Path, rest: &str) -> (Offer, Vec<u8>) {
    offer(1, sh(&format!("echo started >> {}; {rest}", file.display())))
}

fn starts(file: &Path) -> usize {
    std::fs::read_to_string(file).unwrap_or_default().lines().count()
}

#[test]
fn ten_thousand_rings_while_a_pull_is_out_cause_one_further_pull() {
    let mut rig = Rig::new(script([]));
    rig.until(|rig| rig.manager.seen.pulls == 1 && rig.link.is_working());
    // All of them are read before the answer to the first pull is.
    rig.manager.stream.set_nonblocking(false).unwrap();
    rig.manager.stream.write_all(&[0x07; 10_000]).unwrap();
    rig.manager.stream.set_nonblocking(true).unwrap();
    rig.until(|rig| rig.manager.seen.pulls == 3 && rig.link.is_working());
    rig.manager.ring();
    rig.until(|rig| rig.manager.seen.pulls >= 4);
    assert_eq!(rig.manager.seen.pulls, 4);
}

#[test]
fn only_what_the_sessions_version_has_is_claimed() {
    let mut rig = Rig::new(script([]));
    rig.until(|rig| rig.manager.seen.pulls == 1);
    let claimed = rig.manager.seen.capabilities;
    assert!(claimed.contains(Capabilities::RUN.with(Capabilities::FILES)));
    assert_eq!(claimed, rig.agent.capabilities().of_version(0), "this manager speaks version 0");
    assert!(!claimed.contains(Capabilities::REBOOT));
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
    // The first comes with the attach, the second when the outcome is forgotten.
    rig.until(|rig| rig.manager.seen.pulls == 2);
    assert_eq!(starts(&file), 1);
    let mut rig = rig.crash(script([]));
    rig.until(|rig| rig.manager.seen.pulls == 1);
    assert!(rig.manager.seen.attached.is_empty() && rig.manager.seen.sequence_max == 1);
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
fn a_program_outlives_the_agent_and_the_next_one_takes_it_up() {
    let dir = tempfile::tempdir().unwrap();
    let (file, go) = (dir.path().join("starts"), dir.path().join("go"));
    let slow = format!("echo one; until test -e {}; do sleep 0.02; done; echo two; exit 7", go.display());
    let mut rig = Rig::new(script([counting(&file, &slow)]));
    let request = rig.first();
    rig.until(|rig| rig.stdout() == "one\n");
    let attach_from = Some(Offsets { stdout: 4, stderr: 0 });
    let mut rig = rig.crash(Script { attach_from, ..script([]) });
    rig.until(|rig| rig.manager.seen.attached == [request]);
    std::fs::write(&go, "").unwrap();
    assert_eq!(rig.outcomes(1), [Outcome::Failed(7.try_into().unwrap())]);
    assert_eq!((rig.stdout().as_str(), starts(&file)), ("two\n", 1));
    assert_eq!(rig.last().output.stdout.kept, 8);
}

#[test]
fn a_program_that_ended_while_no_agent_was_there_is_acknowledged_by_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let done = dir.path().join("done");
    let mut rig = Rig::new(script([offer(1, sh(&format!("echo whole; echo > {}", done.display())))]));
    rig.until(|rig| rig.manager.seen.stages.contains(&Stage::Journalled));
    let mut rig = rig.crash(Script { attach_from: Some(Offsets::default()), ..script([]) });
    assert_eq!(rig.outcomes(1), [Outcome::Succeeded]);
    assert_eq!(rig.stdout(), "whole\n");
    assert!(done.exists() && rig.last().ran.is_some());
}

#[test]
fn a_supervisor_that_is_killed_is_interrupted_and_leaves_no_process() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("starts");
    let begun = counting(&file, "echo partly; exec sleep 100");
    let request = begun.0.request;
    let mut rig = Rig::new(script([begun.clone()]));
    rig.until(|rig| rig.stdout() == "partly\n");
    kill_supervisor(request);
    assert_eq!(rig.outcomes(1), [Outcome::Interrupted]);
    if rig.agent.capabilities().contains(Capabilities::CGROUP_KILL) {
        assert_eq!(processes(request), Vec::<String>::new());
    } else {
        processes(request).iter().for_each(|pid| kill_now(pid.parse().unwrap()));
    }
    assert_eq!(rig.last().output.stdout.kept, 7);
    // Offered once more, it is refused by its sequence and does not start.
    rig.manager.script.offers.push_back(begun);
    rig.manager.ring();
    assert!(matches!(rig.outcomes(2)[1], Outcome::Refused(Refusal::StaleSequence(1))));
    assert_eq!(starts(&file), 1);
}

#[test]
fn an_idempotent_request_starts_again_after_a_crash_of_everything() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("starts");
    let second = format!("test $(wc -l < {}) -gt 1 || exec sleep 100", file.display());
    let (offer, bytes) = counting(&file, &second);
    let offer = Offer { idempotent: true, ..offer };
    let mut rig = Rig::new(script([(offer.clone(), bytes.clone())]));
    rig.until(|rig| rig.manager.seen.stages.contains(&Stage::Started) && starts(&file) == 1);
    let programs = processes(offer.request);
    kill_supervisor(offer.request);
    let mut rig = rig.crash(script([(offer, bytes)]));
    assert_eq!(rig.outcomes(1), [Outcome::Succeeded]);
    assert_eq!((starts(&file), rig.manager.seen.attached.len()), (2, 0));
    programs.iter().for_each(|pid| kill_now(pid.parse().unwrap()));
}

#[test]
fn an_idempotent_request_starts_again_when_its_supervisor_alone_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("starts");
    let second = format!("test $(wc -l < {}) -gt 1 || exec sleep 100", file.display());
    let (offer, bytes) = counting(&file, &second);
    let offer = Offer { idempotent: true, ..offer };
    let mut rig = Rig::new(script([(offer.clone(), bytes.clone())]));
    rig.until(|rig| rig.manager.seen.stages.contains(&Stage::Started) && starts(&file) == 1);
    let programs = processes(offer.request);
    kill_supervisor(offer.request);
    assert!(matches!(rig.try_until(|_| false), Err(Ended::ComesBack)));
    rig.reconnect(script([(offer, bytes)]));
    assert_eq!(rig.outcomes(1), [Outcome::Succeeded]);
    assert_eq!((starts(&file), rig.manager.seen.attached.len()), (2, 0));
    programs.iter().for_each(|pid| kill_now(pid.parse().unwrap()));
}

fn kill_supervisor(request: RequestId) {
    let program = processes(request).first().cloned().unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{program}/stat")).unwrap();
    let parent = stat.rsplit(") ").next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    assert_ne!(parent, i32::try_from(std::process::id()).unwrap(), "the program has no supervisor");
    let parent = rustix::process::Pid::from_raw(parent).unwrap();
    let pidfd = rustix::process::pidfd_open(parent, rustix::process::PidfdFlags::empty()).unwrap();
    kill_now(parent.as_raw_nonzero().get());
    let mut gone = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    crate::wait::until(&mut gone, now().after(10_000)).unwrap();
    assert!(gone[0].any().unwrap(), "the supervisor is still there");
}

/// One that has gone by itself is as good.
fn kill_now(pid: i32) {
    let _ = nix::sys::signal::kill(Pid::from_raw(pid), Signal::SIGKILL);
}

#[test]
fn requests_run_side_by_side_and_each_keeps_its_output() {
    let dir = tempfile::tempdir().unwrap();
    let go = dir.path().join("go");
    let waits = format!("head -c 400000 /dev/zero; until test -e {}; do sleep 0.02; done", go.display());
    let mut rig = Rig::new(script([offer(1, sh(&waits)), offer(2, sh("head -c 300000 /dev/zero; exit 3"))]));
    let first = rig.first();
    rig.until(|rig| rig.manager.seen.stages.contains(&Stage::Started));
    rig.manager.ring();
    assert_eq!(rig.outcomes(1), [Outcome::Failed(3.try_into().unwrap())]);
    assert_eq!(rig.last().output.stdout.kept, 300_000);
    std::fs::write(&go, "").unwrap();
    assert_eq!(rig.outcomes(2)[1], Outcome::Succeeded);
    assert_eq!((rig.last().request, rig.last().output.stdout.kept), (first, 400_000));
    assert_eq!(rig.manager.seen.stdout.len(), 700_000);
}

#[test]
fn input_goes_to_its_program_through_a_lost_connection_without_a_hole() {
    let bytes: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let reads = changed(offer(1, sh("head -c 1000000 | cat; cat")), |parts| parts.input = Input::Stream);
    let request = reads.0.request;
    let input = |upto: usize, ends| Some((request, bytes[..upto].to_vec(), ends));
    let mut rig = Rig::new(Script { input: input(1_500_000, false), ..script([reads]) });
    rig.until(|rig| rig.manager.seen.stdout.len() >= 900_000);
    let had = rig.manager.seen.stdout.clone();
    let attach_from = Some(Offsets { stdout: had.len() as u64, stderr: 0 });
    rig.reconnect(Script { input: input(bytes.len(), true), attach_from, ..Script::default() });
    assert_eq!(rig.outcomes(1), [Outcome::Succeeded]);
    let whole = [had, rig.manager.seen.stdout.clone()].concat();
    assert!(whole == bytes, "{} bytes came of {}", whole.len(), bytes.len());
}

#[test]
fn a_terminal_has_the_size_it_is_given() {
    let look = sh("test -t 0 && test -t 1 && stty size; read -r line; stty size");
    let window = |rows, columns| Window { rows, columns };
    let shows = changed(offer(1, look), |parts| parts.input = Input::Terminal(window(24, 80)));
    let request = shows.0.request;
    let mut rig = Rig::new(script([shows]));
    rig.until(|rig| rig.stdout().contains("24 80"));
    rig.manager.resize(request, window(50, 132));
    rig.manager.script.input = Some((request, b"\n".to_vec(), false));
    assert_eq!(rig.outcomes(1), [Outcome::Succeeded]);
    assert!(rig.stdout().contains("50 132"), "{:?}", rig.stdout());
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
    let obstacle = rig.agent.break_journal(nix::errno::Errno::ENOSPC);
    rig.reconnect(script(offers));
    let refused = Outcome::Refused(Refusal::StateUnwritable(EISDIR));
    assert_eq!(rig.outcomes(2), [refused, Outcome::Succeeded]);
    std::fs::remove_dir(obstacle).unwrap();
    rig.reconnect(script([offer(3, command(&["true"]))]));
    assert_eq!(rig.outcomes(1), [Outcome::Succeeded], "it goes on without a restart");
}
