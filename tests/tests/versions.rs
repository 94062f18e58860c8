//! Manager and agent of neighbouring protocol versions: each serves the other, and what only the newer one has is refused
//! or left out by name.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed step is a failed test")]

use doorbell_api::guest::{GuestChange, Presence, Trigger};
use doorbell_api::request::{NewRequest, Reboot, State};
use doorbell_tests::build::previous;
use doorbell_tests::daemon::{Daemon, new_request, sh, uploaded};
use doorbell_tests::guest::{Guest, Machine};
use doorbell_tests::image::Image;
use doorbell_tests::place::Place;
use doorbell_tests::wait::{on, until};

const GUEST: &str = "web-3";

#[test]
fn an_agent_of_the_version_before_is_served_by_this_manager() {
    let place = Place::new();
    let daemon = Daemon::start(&place);
    let guest = daemon.boot(&place, GUEST, &Machine { image: Image::Previous, ..Machine::default() });
    serves(&daemon, &guest, 0);

    // What it does not have is refused before anything begins, and said to be so.
    let new = NewRequest { reboot: Some(Reboot::AfterSuccess), ..new_request(sh("touch /run/began")) };
    let refused = daemon.finished(&daemon.submit_as(GUEST, new).id);
    assert_eq!((refused.state, refused.starts), (State::Refused, 0));
    assert!(refused.receipt.unwrap().detail.unwrap().contains("cannot reboot for a request"));

    // What it would decide it cannot say, and is not asked.
    let asked = NewRequest::of(sh("true"));
    let cannot = on("what it cannot say", daemon.client().guest(GUEST).can(&asked)).unwrap_err();
    assert!(cannot.to_string().contains("has no policy and cannot say"), "{cannot}");

    // A guest that is to be pushed to is rung where its agent takes no push; its clock is left alone.
    let change =
        GuestChange { trigger: Some(Trigger::Push), set_clock: Some(true), ..GuestChange::default() };
    on("the change of the guest", daemon.client().guest(GUEST).change(&change)).unwrap();
    daemon.await_presence(GUEST, Presence::Connected);
    serves(&daemon, &guest, 0);
}

#[test]
fn this_agent_is_served_by_a_manager_of_the_version_before() {
    let place = Place::new();
    let daemon = Daemon::start_other(&place, previous("doorbelld"));
    let guest = daemon.boot(&place, GUEST, &Machine::default());
    serves(&daemon, &guest, 0);
}

/// A command, a program over the channel, and both again behind a reset of the guest.
fn serves(daemon: &Daemon, guest: &Guest, protocol: u16) {
    let program = daemon.upload("fix.sh", b"#!/bin/sh\necho \"fixed $1\"\n".to_vec());
    for round in 0..2 {
        let shown = on("the guest", daemon.client().guest(GUEST).show()).unwrap();
        assert_eq!(shown.agent.unwrap().protocol, protocol);
        let (request, output) = daemon.run_sh(GUEST, "echo served; exit 3");
        assert_eq!((request.state, output.as_str()), (State::Failed, "served\n"));
        assert_eq!(request.receipt.unwrap().exit_code, Some(3));
        let fixed = daemon.finished(&daemon.submit(GUEST, uploaded(program.clone())).id);
        assert_eq!(fixed.state, State::Succeeded, "{:?}", fixed.receipt);
        if round == 0 {
            let boots = guest.boots();
            guest.reset();
            guest.await_boot(boots + 1);
            until("the guest to be back", || (daemon.presence(GUEST)? == Presence::Connected).then_some(()));
        }
    }
    daemon.assert_audit_intact();
}
