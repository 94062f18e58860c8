//! Two copies of one guest that run at once: whoever holds the newest token is the guest, the other is turned away and
//! shown with the reason, and neither does what the other has done. What ran is counted on both consoles.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use doorbell_api::guest::{CopyMet, Presence};
use doorbell_api::request::{NewRequest, Request, State};
use doorbell_tests::command::Doorbell;
use doorbell_tests::daemon::{Daemon, new_request, sh};
use doorbell_tests::guest::{Guest, Machine, door};
use doorbell_tests::lab::{GUEST, fresh_id};
use doorbell_tests::place::Place;
use doorbell_tests::wait::{on, until};

#[test]
fn of_two_copies_one_is_fenced_both_are_shown_and_each_request_is_done_once() {
    let place = Place::new();
    let daemon = Daemon::start(&place);
    let mut guest = daemon.boot(&place, GUEST, &Machine { disk_mib: Some(16), ..Machine::default() });
    let over = done(&daemon, 1, "true");
    let interrupted = send(&daemon, 2, SLEEPS);
    until("a program that runs", || ran(&guest, &interrupted.id).then_some(()));

    // Copied as it lies there without power: with a key, a token, a journal, and a request in hand.
    guest.power_off();
    let disk = place.join("copy.ext4");
    let _ = std::fs::copy(guest.own_disk(), &disk).unwrap();
    guest.power_on();
    assert_eq!(daemon.finished(&interrupted.id).state, State::Interrupted);
    let receipt = daemon.request(&interrupted.id).receipt.unwrap().audit_hash;
    let boot = boot_id(&daemon);

    // The copy dials the same door as the guest.
    std::os::unix::fs::symlink(door(&guest.socket()), door(&Guest::socket_of(&place, COPY))).unwrap();
    let copy = Guest::boot(&place, COPY, &Machine { state: Some(disk), ..Machine::default() });
    let met = until("the copy to be turned away", || copy_met(&daemon));
    assert!(met.reason.starts_with("a stale session token"), "{}", met.reason);
    assert_ne!(met.boot_id, boot);
    assert_eq!(daemon.presence(GUEST), Some(Presence::Connected), "the guest is served beside it");
    let beside = done(&daemon, 3, "true");
    assert!(ran(&guest, &beside.id));
    assert_eq!(boot_id(&daemon), boot);
    let shown = Doorbell::new(&place, daemon.socket()).run(&["guest", "show", GUEST]).expect(0).stdout;
    assert!(shown.contains(&met.boot_id) && shown.contains(&boot) && shown.contains("connected"), "{shown}");

    // The operator decides for the copy.
    drop(guest);
    let _ = Doorbell::new(&place, daemon.socket()).run(&["guest", "approve", GUEST]).expect(0);
    until("the copy to be let in", || {
        (daemon.presence(GUEST)? == Presence::Connected && boot_id(&daemon) == met.boot_id).then_some(())
    });
    for (request, then) in [(&over, "true"), (&interrupted, SLEEPS), (&beside, "true")] {
        let again = on("the request", daemon.client().submit(GUEST, new(&request.id, then))).unwrap();
        assert!(again.state.is_final() && !ran(&copy, &request.id), "{again:?}");
    }
    let next = done(&daemon, 4, "true");
    assert!(ran(&copy, &next.id));
    let unchanged = daemon.request(&interrupted.id).receipt.unwrap().audit_hash;
    assert_eq!(unchanged, receipt, "what a copy says of a request takes no receipt's place");
    daemon.assert_audit_intact();
}

/// Sends a request that leaves its id on the console of whoever does it.
fn send(daemon: &Daemon, number: u8, then: &str) -> Request {
    daemon.submit_as(GUEST, new(&fresh_id(number), then))
}

fn done(daemon: &Daemon, number: u8, then: &str) -> Request {
    let request = daemon.finished(&send(daemon, number, then).id);
    assert_eq!(request.state, State::Succeeded, "{:?}", request.receipt);
    request
}

fn new(id: &str, then: &str) -> NewRequest {
    let action = sh(&format!("echo \"ran $DOORBELL_REQUEST\" >/dev/console; {then}"));
    NewRequest { id: Some(id.to_owned()), ..new_request(action) }
}

fn ran(guest: &Guest, id: &str) -> bool {
    guest.console().contains(&format!("ran {id}"))
}

fn boot_id(daemon: &Daemon) -> String {
    on("the guest", daemon.client().guest(GUEST).show()).unwrap().agent.unwrap().boot_id
}

fn copy_met(daemon: &Daemon) -> Option<CopyMet> {
    on("the guest", daemon.client().guest(GUEST).show()).unwrap().copy
}

const SLEEPS: &str = "exec sleep 1000";
const COPY: &str = "copy";
