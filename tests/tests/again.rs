//! The same request sent again, whatever has happened since: it is not run again. What ran is counted on the
//! guest's disk, where each program leaves its request's id.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed step is a failed test"
)]

use doorbell_api::guest::Presence;
use doorbell_api::request::{Action, NewRequest, Request, State};
use doorbell_client::ClientError;
use doorbell_client::api::error::ErrorCode;
use doorbell_tests::daemon::{new_request, sh};
use doorbell_tests::lab::{AGENT_PID, GUEST, Lab, System, fresh_id, gate};
use doorbell_tests::wait::{on, until};

/// With the same manager: at once, after the journal was written anew, under another build of the agent, and when
/// housekeeping has removed the request.
#[test]
fn the_same_request_sent_again_is_not_run_again() {
    let lab = Lab::boot_with(System::Initramfs, "keep-requests-for = \"1s\"\n");
    let id = fresh_id(1);
    let first = send(&lab, &id, effect("")).unwrap();
    let ended = lab.daemon.finished(&first.id);
    assert_eq!(ended.state, State::Succeeded, "{:?}", ended.receipt);
    sent_again_is_the_same(&lab, &ended);

    let (before, after) = lab.compact_journal();
    assert!(before > 1 << 20 && after < 1 << 16, "the journal had {before} bytes and has {after}");
    sent_again_is_the_same(&lab, &ended);

    let agent = lab.agent();
    let other = lab.replace_agent();
    lab.kill_agent();
    let _ = lab.await_other_agent(agent);
    let running = lab.look(&format!("{AGENT_PID} && sha256sum /proc/$agent/exe"));
    assert!(running.starts_with(&other), "the build that runs now is {running}, and not {other}");
    sent_again_is_the_same(&lab, &ended);

    until("housekeeping to remove the request", || {
        let _ = lab.doorbell().run(&["gc"]).expect(0);
        lab.doorbell().run(&["request", "show", &id]).stderr.contains("removed").then_some(())
    });
    let refused = send(&lab, &id, effect("")).unwrap_err();
    let ClientError::Refused { code: ErrorCode::Gone, message, .. } = refused else { panic!("{refused:?}") };
    assert!(message.contains("it is not run again"), "{message}");
    assert_eq!(runs(&lab, &id), 1);
    a_new_one_runs(&lab, 2);
    lab.daemon.assert_audit_intact();
}

/// One was over when the backup was taken, one ran, one waited, and one was accepted after it: all have run once when
/// the restored manager is asked for them again, and none runs a second time, though the agent's journal was written
/// anew and the agent replaced in between. Restored twice from the same backup.
#[test]
fn a_manager_restored_from_a_backup_runs_nothing_twice() {
    let mut lab = Lab::boot(System::Initramfs);
    let [over, runs_then, waits, later] = [1, 2, 3, 4].map(fresh_id);
    let _ = send(&lab, &over, effect("")).unwrap();
    let ended = lab.daemon.finished(&over);
    let _ = send(&lab, &runs_then, effect(&gate("then"))).unwrap();
    lab.await_output(&runs_then, "up\n");
    let _ = send(&lab, &waits, effect("")).unwrap();
    let backup = lab.place.join("backup.tar");
    let _ = lab.doorbell().run(&["backup", backup.to_str().unwrap()]).expect(0);

    lab.open_gate("then");
    for id in [&runs_then, &waits] {
        assert_eq!(lab.daemon.finished(id).state, State::Succeeded);
    }
    let _ = send(&lab, &later, effect("")).unwrap();
    assert_eq!(lab.daemon.finished(&later).state, State::Succeeded);
    let _ = lab.compact_journal();
    let agent = lab.agent();
    let _ = lab.replace_agent();
    lab.kill_agent();
    let _ = lab.await_other_agent(agent);

    for round in 1..=2 {
        lab.daemon.stop();
        let state = lab.place.join(&format!("restored-{round}"));
        let words = ["restore", backup.to_str().unwrap(), "--state-dir", state.to_str().unwrap()];
        let told = lab.doorbell().run(&words).expect(0).stdout;
        assert!(told.contains("restored: 1 guests"), "{told}");
        lab.daemon.move_to(&state);
        lab.daemon.restart();
        // Accepted before the guest is back, and so before its sequences are known.
        let fresh = send(&lab, &fresh_id(10 + round), effect("")).unwrap();
        lab.daemon.await_presence(GUEST, Presence::Connected);
        sent_again_is_the_same(&lab, &ended);
        for id in [&runs_then, &waits, &later] {
            // The last one is not in the backup: it is accepted as if it were new.
            let action = effect(if *id == runs_then { gate("then") } else { String::new() }.as_str());
            let _ = send(&lab, id, action).unwrap();
            let request = lab.daemon.finished(id);
            assert_eq!(request.state, State::Interrupted, "{id}: {:?}", request.receipt);
            let _ = lab.doorbell().run(&["request", "wait", id]).expect(126);
        }
        assert_eq!(lab.daemon.finished(&fresh.id).state, State::Succeeded, "what is new runs");
        for id in [&over, &runs_then, &waits, &later, &fresh.id] {
            assert_eq!(runs(&lab, id), 1, "{id} in round {round}");
        }
        a_new_one_runs(&lab, 20 + round);
        lab.daemon.assert_audit_intact();
    }
}

/// A program that leaves its request's id on the guest's disk.
fn effect(then: &str) -> Action {
    sh(&format!("echo \"$DOORBELL_REQUEST\" >>{LOG}; sync; {}", if then.is_empty() { "true" } else { then }))
}

fn send(lab: &Lab, id: &str, action: Action) -> Result<Request, ClientError> {
    let new = NewRequest { id: Some(id.to_owned()), ..new_request(action) };
    on("the answer to a request", lab.daemon.client().submit(GUEST, new))
}

fn sent_again_is_the_same(lab: &Lab, ended: &Request) {
    let again = send(lab, &ended.id, effect("")).unwrap();
    let hash = |request: &Request| request.receipt.as_ref().map(|receipt| receipt.audit_hash.clone());
    assert_eq!((again.state, hash(&again)), (ended.state, hash(ended)));
    assert_eq!(runs(lab, &ended.id), 1);
}

fn runs(lab: &Lab, id: &str) -> usize {
    let text = lab.look(&format!("grep -c {id} {LOG} || true"));
    text.trim().parse().unwrap_or_else(|error| panic!("{error} in {text:?}"))
}

fn a_new_one_runs(lab: &Lab, number: u8) {
    let id = fresh_id(number);
    let _ = send(lab, &id, effect("")).unwrap();
    assert_eq!(lab.daemon.finished(&id).state, State::Succeeded);
    assert_eq!(runs(lab, &id), 1);
}

const LOG: &str = "/var/lib/doorbell-agent/effects.log";
