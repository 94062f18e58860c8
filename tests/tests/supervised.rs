//! A program belongs to its request and to no process around it: the agent killed and replaced, the manager killed
//! and the client gone leave it running, its output whole and its status true. Only the end of the guest ends it,
//! and that is told. The agent's part in an initramfs and, by its unit, in Debian 13.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed step is a failed test"
)]

use doorbell_api::guest::Presence;
use doorbell_api::request::{Request, State};
use doorbell_client::Stream;
use doorbell_tests::daemon::sh;
use doorbell_tests::lab::{AGENT_PID, GUEST, Lab, System, fresh_id};
use doorbell_tests::process::read;
use doorbell_tests::wait::PATIENCE;

#[test]
fn a_program_outlives_its_agent_in_an_initramfs() {
    let lab = Lab::boot(System::Initramfs);
    outlives_its_agent(&lab);
    outlives_its_manager_and_client(lab);
}

#[test]
fn a_program_outlives_its_agent_on_debian_13() {
    let lab = Lab::boot(System::Debian13);
    outlives_its_agent(&lab);
    outlives_restarts_by_systemd(&lab);
}

/// Killed, and started again by the guest's init; then another build takes over; all during one program.
fn outlives_its_agent(lab: &Lab) {
    let id = begin_counting(lab);
    let first = lab.agent();
    lab.kill_agent();
    let second = lab.await_other_agent(first);
    lab.await_more_output(&id);
    assert_eq!(lab.daemon.request(&id).state, State::Started);

    let other = lab.replace_agent();
    lab.kill_agent();
    let _ = lab.await_other_agent(second);
    let running = lab.look(&format!("{AGENT_PID} && sha256sum /proc/$agent/exe"));
    assert!(running.starts_with(&other), "the build that runs now is {running}, and not {other}");
    lab.await_more_output(&id);
    stop_counting(lab);
    counted_whole(lab, &id);
}

fn outlives_restarts_by_systemd(lab: &Lab) {
    let id = begin_counting(lab);
    for _ in 0..2 {
        let before = lab.agent();
        let _ = lab.look("systemctl restart doorbell-agent");
        let _ = lab.await_other_agent(before);
        lab.await_more_output(&id);
    }
    // Stopped is not gone: the program waits for nobody, and is told of when the agent is back.
    let before = lab.agent();
    let _ = lab.look(
        "systemd-run --quiet --on-active=3 --timer-property=AccuracySec=100ms systemctl start doorbell-agent; systemctl stop doorbell-agent",
    );
    let _ = lab.await_other_agent(before);
    stop_counting(lab);
    counted_whole(lab, &id);
}

fn outlives_its_manager_and_client(mut lab: Lab) {
    // The manager is killed under a client that follows: both come back to each other at the very byte.
    let id = fresh_id(1);
    let mut running = lab.run(&["--id", &id, "--", "sh", "-c", COUNTING]);
    running.await_stdout(PATIENCE, "the program's output", |text| text.contains("line 40\n"));
    for _ in 0..2 {
        lab.daemon.kill();
        lab.daemon.restart();
        lab.daemon.await_presence(GUEST, Presence::Connected);
        lab.await_more_output(&id);
    }
    stop_counting(&lab);
    let ended = running.ended().expect(5);
    counted_whole(&lab, &id);
    assert_eq!(ended.stdout, lab.output(&id), "the client lost or doubled bytes");

    // The client is killed in the middle of a line of output, and another goes on behind its last byte.
    let id = fresh_id(2);
    let mut running = lab.run(&["--id", &id, "--", "sh", "-c", COUNTING]);
    running.await_stdout(PATIENCE, "the program's output", |text| text.contains("line 40\n"));
    let file = running.stdout_file().to_owned();
    drop(running);
    let seen = read(&file);
    assert_eq!(lab.daemon.request(&id).state, State::Started, "the program went with its client");
    let again =
        lab.doorbell().begin(&["request", "output", &id, "--offset", &seen.len().to_string(), "--follow"]);
    lab.await_more_output(&id);
    stop_counting(&lab);
    let rest = again.ended().expect(0).stdout;
    counted_whole(&lab, &id);
    assert!(seen + &rest == lab.output(&id), "the two clients lost or doubled bytes");
    let _ = lab.doorbell().run(&["request", "wait", &id]).expect(5);

    a_reset_is_told(&lab);
    lab.daemon.assert_audit_intact();
}

/// The guest's end is the program's, and nothing is made up about it; what was printed before is kept.
fn a_reset_is_told(lab: &Lab) {
    let boots = lab.guest.boots();
    let id = fresh_id(3);
    let mut running = lab.run(&["--id", &id, "--", "sh", "-c", "echo before; sleep 600; echo after"]);
    running.await_stdout(PATIENCE, "the first line", |text| text == "before\n");
    lab.guest.reset();
    lab.guest.await_boot(boots + 1);
    let request = lab.daemon.finished(&id);
    assert_eq!(request.state, State::Interrupted, "{:?}", request.receipt);
    let ended = running.ended().expect(126);
    assert_eq!(ended.stdout, "before\n");
    assert!(ended.stderr.contains("interrupted"), "{}", ended.stderr);
    assert_eq!(lab.daemon.output(&id, Stream::Stdout, 0), b"before\n");
    let (next, _) = lab.daemon.run_sh(GUEST, "true");
    assert_eq!(next.state, State::Succeeded, "the guest is of use again");
}

fn begin_counting(lab: &Lab) -> String {
    let id = lab.submit(sh(COUNTING));
    lab.await_output(&id, "line 40\n");
    id
}

fn stop_counting(lab: &Lab) {
    let _ = lab.look("touch /run/enough");
}

/// Every line once and in order, the program's own status, one start.
fn counted_whole(lab: &Lab, id: &str) -> Request {
    let request = lab.daemon.finished(id);
    assert_eq!(request.state, State::Failed, "{:?}", request.receipt);
    let receipt = request.receipt.clone().unwrap();
    assert_eq!((receipt.exit_code, receipt.stdout.lost, receipt.stdout.intact), (Some(5), 0, Some(true)));
    let output = lab.output(id);
    let lines = output.lines().count() - 1;
    let wanted: String = (1..=lines).map(|number| format!("line {number}\n")).collect();
    assert!(
        output == format!("{wanted}end {lines}\n"),
        "lines are missing, doubled or out of order: {output}"
    );
    assert_eq!(lab.output(id).len() as u64, receipt.stdout.bytes);
    let starts = lab.look(&format!("grep -c {id} /run/starts; rm /run/enough"));
    assert_eq!(starts, "1\n", "it was started more than once");
    request
}

/// Numbered lines until the test has seen enough; then a status that nothing else has.
const COUNTING: &str = "echo \"$DOORBELL_REQUEST\" >>/run/starts; n=0; \
    until [ -e /run/enough ]; do \
    i=0; while [ $i -lt 20 ]; do i=$((i+1)); n=$((n+1)); echo \"line $n\"; done; sleep 0.02; done; \
    echo \"end $n\"; exit 5";
