//! Whoever stands where a guest is expected and is not that guest: refused, told in the log with a remedy, and without
//! harm to the guest.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use doorbell_api::guest::Presence;
use doorbell_api::request::State;
use doorbell_tests::daemon::{Daemon, sh};
use doorbell_tests::guest::{Guest, Machine, door};
use doorbell_tests::image::Image;
use doorbell_tests::lab::GUEST;
use doorbell_tests::line::{Heard, Line, bytes};
use doorbell_tests::place::Place;
use doorbell_tests::proxy::{Proxy, Verdict};
use doorbell_tests::wait::until;
use doorbell_wire::error::Reason;
use doorbell_wire::message::{FromHost, Kind};
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

#[test]
fn guests_with_swapped_places_are_refused_and_served_again_at_their_own() {
    let place = Place::new();
    let daemon = Daemon::start(&place);
    let names = ["web-3", "web-4"];
    let own = names.map(|name| place.join(name));
    let guests = [0, 1].map(|at| {
        daemon.add(names[at], &own[at], None);
        symlink(door(&own[at]), door(&Guest::socket_of(&place, names[at]))).unwrap();
        let guest = Guest::boot(&place, names[at], &Machine::default());
        daemon.approve(&guest);
        guest
    });

    lead(&place, names, [&own[1], &own[0]]);
    let log = daemon.log().len();
    guests.iter().for_each(Guest::reset);
    for (name, other) in [("web-3", &guests[1]), ("web-4", &guests[0])] {
        let fingerprint = other.fingerprint();
        until("the other guest's key to be refused", || {
            let told = daemon.log();
            let mut lines = told.get(log..)?.lines();
            lines
                .any(|line| {
                    line.contains(&fingerprint)
                        && line.contains("which is not this guest's")
                        && line.contains(&format!("doorbell guest approve {name}"))
                })
                .then_some(())
        });
    }
    let waits = names.map(|name| daemon.submit(name, sh(&format!("echo {name}"))).id);
    for (name, id) in names.iter().zip(&waits) {
        // The session of before the reset ends when the guest that is there now is rung and knows nothing of it.
        until("the session to end", || (daemon.presence(name) != Some(Presence::Connected)).then_some(()));
        assert_eq!(daemon.request(id).state, State::Queued, "no guest has another's request");
    }

    lead(&place, names, [&own[0], &own[1]]);
    guests.iter().for_each(Guest::reset);
    for (name, id) in names.iter().zip(&waits) {
        assert_eq!(daemon.finished(id).state, State::Succeeded);
        let output = daemon.output(id, doorbell_client::Stream::Stdout, 0);
        assert_eq!(String::from_utf8(output).unwrap().trim(), *name);
    }
    daemon.assert_audit_intact();
}

/// One without privileges that says what it likes, and one of root that has an agent's program and another key, as a
/// container of the guest could.
#[test]
fn a_process_without_the_key_is_refused_and_the_agent_stays_connected() {
    let place = Place::new();
    let daemon = Daemon::start(&place);
    let _guest = daemon.boot(&place, GUEST, &Machine { image: Image::Sockets, ..Machine::default() });
    let nobody = "echo 'GET / HTTP/1.0' | su nobody -s /bin/sh -c 'socat -t 5 - VSOCK-CONNECT:2:707' | wc -c";
    let (run, greeted) = daemon.run_sh(GUEST, nobody);
    assert_eq!(run.state, State::Succeeded);
    assert_ne!(greeted.trim(), "0", "it has met the manager");

    let log = daemon.log().len();
    let agent = "mkdir -m 700 /run/other; timeout 5 /sbin/doorbell-agent --state-dir /run/other 2>&1 | \
                 grep -o 'SHA256:[A-Za-z0-9+/]*' | head -n 1";
    let (_, other) = daemon.run_sh(GUEST, agent);
    assert!(other.starts_with("SHA256:"), "{other}");
    let told = daemon.log();
    let told = told.get(log..).unwrap();
    assert!(
        told.contains(&format!("it proved the key {}, which is not this guest's", other.trim())),
        "{told}"
    );
    assert!(!told.contains("session ended"), "the guest's own session has lasted: {told}");

    let (run, output) = daemon.run_sh(GUEST, "echo served");
    assert_eq!((run.state, output.as_str()), (State::Succeeded, "served\n"));
    assert_eq!(daemon.log().matches("session open").count(), 1);
    daemon.assert_audit_intact();
}

#[test]
fn a_hello_that_was_heard_is_of_no_use_a_second_time() {
    let place = Place::new();
    let daemon = Daemon::start(&place);
    let (proxy, guest) = Proxy::between(&daemon, &place, GUEST);
    let heard = Arc::new(Mutex::new(None));
    let hearing = Arc::clone(&heard);
    proxy.arm(move |frame| {
        if frame.kind == Kind::Hello {
            *hearing.lock().unwrap() = Some(bytes(frame));
        }
        Verdict::Pass
    });
    guest.reset();
    let hello = until("the guest's hello", || heard.lock().unwrap().clone());
    // The session of before the reset counts as connected until the new one has proved the key.
    until("the guest's new session", || (daemon.log().matches("session open").count() == 2).then_some(()));

    let log = daemon.log().len();
    let mut line = Line::dial(&door(&place.join("behind")));
    assert!(matches!(line.hear_host(), FromHost::Greeting(_)));
    assert!(line.send(&hello));
    assert_eq!(line.hear_host(), FromHost::HostBye(Reason::NOT_PROVED));
    assert_eq!(line.hear(), Heard::Closed);
    daemon.await_log(log, "its signature does not match the key");
    assert!(!daemon.log().get(log..).unwrap().contains("session ended"));
    let (run, _) = daemon.run_sh(GUEST, "true");
    assert_eq!(run.state, State::Succeeded);
}

/// Leads what dials at each guest's door to the manager's door for another one.
fn lead(place: &Place, names: [&str; 2], to: [&PathBuf; 2]) {
    for (name, base) in names.iter().zip(to) {
        let own = door(&Guest::socket_of(place, name));
        std::fs::remove_file(&own).unwrap();
        symlink(door(base), own).unwrap();
    }
}
