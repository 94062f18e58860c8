//! Who runs when in one guest: one after the other in order, as many at once as the operator says, the urgent before
//! and beside them; and a cancel in every state, which tells what really happened.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed step is a failed test"
)]

use doorbell_api::receipt::Ran;
use doorbell_api::request::{NewRequest, OnDisconnect, Request, State};
use doorbell_tests::daemon::{new_request, sh, uploaded};
use doorbell_tests::lab::{GUEST, Lab, System, fresh_id, gate};
use doorbell_tests::wait::{PATIENCE, on};

#[test]
fn requests_run_in_order_or_beside_each_other_as_they_were_told_to() {
    let lab = Lab::boot(System::Initramfs);
    one_runs_after_the_other(&lab);
    as_many_run_at_once_as_the_guest_is_given(&lab);
    an_urgent_one_overtakes_and_runs_beside(&lab);
    lab.daemon.assert_audit_intact();
}

fn one_runs_after_the_other(lab: &Lab) {
    let first = lab.submit(sh(&gate("order")));
    lab.await_output(&first, "up\n");
    let others = ["a", "b", "c"].map(|word| lab.submit(sh(&format!("echo {word} >>/run/order"))));
    // A request behind all of them has been done; they have not begun.
    assert_eq!(lab.look("cat /run/order 2>/dev/null || echo none"), "none\n");
    assert!(others.iter().all(|id| lab.daemon.request(id).state == State::Queued));
    lab.open_gate("order");
    let all: Vec<Ran> = [&first].into_iter().chain(&others).map(|id| ran(&succeeded(lab, id))).collect();
    for pair in all.windows(2) {
        let [one, next] = pair else { unreachable!("two at a time") };
        assert!(one.ended_us <= next.started_us, "{next:?} began before the end of {one:?}");
    }
    assert_eq!(lab.look("cat /run/order"), "a\nb\nc\n");
}

fn as_many_run_at_once_as_the_guest_is_given(lab: &Lab) {
    lab.set_concurrency(3);
    let names = ["one", "two", "three", "four"];
    let ids = names.map(|name| lab.submit(sh(&gate(name))));
    // Each waits for the test, so all three are there at the same time.
    for id in &ids[..3] {
        lab.await_output(id, "up\n");
    }
    let _ = lab.look("true");
    assert_eq!(lab.daemon.request(&ids[3]).state, State::Queued, "a fourth one runs");
    // The place of any of them is the next one's.
    lab.open_gate("two");
    lab.await_output(&ids[3], "up\n");
    for name in ["one", "three", "four"] {
        lab.open_gate(name);
    }
    let all = ids.each_ref().map(|id| ran(&succeeded(lab, id)));
    assert!(all[3].started_us >= all[1].ended_us, "{all:?}");
    lab.set_concurrency(1);
}

fn an_urgent_one_overtakes_and_runs_beside(lab: &Lab) {
    let running = lab.submit(sh(&gate("running")));
    lab.await_output(&running, "up\n");
    let waiting = lab.submit(sh("echo was not forgotten"));
    let doorbell = lab.run(&["--urgent", "--", "echo", "beside"]);
    assert_eq!(doorbell.ended().expect(0).stdout, "beside\n");
    let urgent = lab.submit_urgent(sh("echo beside"));
    let urgent = succeeded(lab, &urgent);
    assert_eq!(lab.daemon.request(&running).state, State::Started);
    let overtaken = lab.daemon.request(&waiting);
    assert_eq!(overtaken.state, State::Queued);
    assert!(urgent.sequence > overtaken.sequence, "it came later and was done before");
    // Several beside each other, with one that waits too.
    let more: Vec<String> = (0..6).map(|_| lab.submit_urgent(sh("true"))).collect();
    let _ = more.iter().map(|id| succeeded(lab, id)).collect::<Vec<_>>();
    lab.open_gate("running");
    let _ = succeeded(lab, &running);
    // Higher sequences were done before: to the agent this one is not stale.
    let _ = succeeded(lab, &waiting);
    assert_eq!(lab.output(&waiting), "was not forgotten\n");
}

#[test]
fn a_cancel_in_every_state_tells_what_really_happened() {
    let lab = Lab::boot(System::Initramfs);
    a_queued_one_never_runs(&lab);
    one_that_is_fetched_never_runs(&lab);
    a_started_one_is_ended(&lab);
    a_finished_one_stays_as_it_was(&lab);
    assert_eq!(lab.look("cat /run/effects 2>/dev/null || echo none"), "started\n");
    lab.daemon.assert_audit_intact();
}

fn a_queued_one_never_runs(lab: &Lab) {
    let before = lab.submit(sh(&gate("queued")));
    lab.await_output(&before, "up\n");
    let id = lab.submit(sh("echo queued >>/run/effects"));
    assert_eq!(lab.daemon.request(&id).state, State::Queued);
    let request = cancelled_twice(lab, &id);
    assert!(request.receipt.is_none_or(|receipt| receipt.ran.is_none()));
    lab.open_gate("queued");
    let _ = succeeded(lab, &before);
}

/// 64 MiB take the guest seconds to fetch and to hash.
fn one_that_is_fetched_never_runs(lab: &Lab) {
    let mut bytes = b"#!/bin/sh\necho fetched >>/run/effects\nexit 0\n".to_vec();
    bytes.resize(64 << 20, b'#');
    let program = lab.daemon.upload("large", bytes);
    let id = lab.submit(uploaded(program));
    lab.await_state(&id, State::Offered);
    let request = cancelled_twice(lab, &id);
    assert!(request.receipt.is_none_or(|receipt| receipt.ran.is_none()));
    // The guest goes on to the next one at once, with nothing of it in its way.
    let _ = succeeded(lab, &lab.submit(sh("true")));
}

fn a_started_one_is_ended(lab: &Lab) {
    let id = lab.submit(sh("echo started >>/run/effects; echo up; sleep 600; echo more >>/run/effects"));
    lab.await_output(&id, "up\n");
    let request = cancelled_twice(lab, &id);
    let receipt = request.receipt.unwrap();
    assert!(receipt.ran.is_some(), "it ran, and that is told: {receipt:?}");
    assert_eq!(lab.output(&id), "up\n");
    let _ = lab.doorbell().run(&["request", "wait", &id]).expect(123);
}

/// A cancel that comes too late changes nothing, and says how it ended.
fn a_finished_one_stays_as_it_was(lab: &Lab) {
    for (script, state, code) in [("true", State::Succeeded, 0), ("exit 9", State::Failed, 9)] {
        let id = lab.submit(sh(script));
        let before = lab.daemon.finished(&id);
        for _ in 0..2 {
            let after = cancel(lab, &id);
            assert_eq!((after.state, after.cancel_asked), (state, false));
            let hash = |request: &Request| request.receipt.as_ref().unwrap().audit_hash.clone();
            assert_eq!(hash(&after), hash(&before));
        }
        let _ = lab.doorbell().run(&["request", "cancel", &id]).expect(0);
        let _ = lab.doorbell().run(&["request", "wait", &id]).expect(code);
    }
}

/// Twice, and again when it is over: the answers agree with the end.
fn cancelled_twice(lab: &Lab, id: &str) -> Request {
    for _ in 0..2 {
        let asked = cancel(lab, id);
        assert!(asked.cancel_asked || asked.state == State::Cancelled, "{asked:?}");
    }
    let request = lab.daemon.finished(id);
    assert_eq!(request.state, State::Cancelled, "{:?}", request.receipt);
    assert_eq!(cancel(lab, id).state, State::Cancelled);
    request
}

fn cancel(lab: &Lab, id: &str) -> Request {
    on("the cancel", lab.daemon.client().cancel(id)).unwrap()
}

#[test]
fn a_client_that_is_gone_ends_what_was_to_end_with_it_and_nothing_else() {
    let lab = Lab::boot(System::Initramfs);
    let begin = |policy: &str, id: &str| {
        let words = ["--id", id, "--on-disconnect", policy, "--", "sh", "-c", "echo up; sleep 600"];
        let mut running = lab.run(&words);
        running.await_stdout(PATIENCE, "its start", |text| text == "up\n");
        running
    };
    lab.set_concurrency(2);
    let (keep, kill) = (fresh_id(1), fresh_id(2));
    let (kept, killed) = (begin("keep", &keep), begin("kill", &kill));
    drop(kept);
    let _ = lab.look("true");
    assert_eq!(lab.daemon.request(&kill).state, State::Started, "it has its client yet");
    drop(killed);
    let request = lab.daemon.finished(&kill);
    assert_eq!(request.state, State::Cancelled, "{:?}", request.receipt);
    assert_eq!(lab.daemon.request(&keep).state, State::Started, "what is kept went too");
    let _ = cancelled_twice(&lab, &keep);

    // One that nobody was ever attached to is not ended for that.
    let new = NewRequest { on_disconnect: OnDisconnect::Kill, ..new_request(sh(&gate("alone"))) };
    let alone = lab.daemon.submit_as(GUEST, new).id;
    lab.await_output(&alone, "up\n");
    lab.open_gate("alone");
    let _ = succeeded(&lab, &alone);
}

fn succeeded(lab: &Lab, id: &str) -> Request {
    let request = lab.daemon.finished(id);
    assert_eq!(request.state, State::Succeeded, "{:?}", request.receipt);
    request
}

fn ran(request: &Request) -> Ran {
    request.receipt.as_ref().and_then(|receipt| receipt.ran).unwrap()
}
