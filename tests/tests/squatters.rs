//! Whoever listens where the manager is awaited while that is down: a real guest's agent meets it, and what comes of that.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a failed step is a failed test"
)]

use doorbell_api::guest::Presence;
use doorbell_api::request::State;
use doorbell_tests::command::Doorbell;
use doorbell_tests::daemon::Daemon;
use doorbell_tests::guest::{Guest, Machine, door};
use doorbell_tests::lab::GUEST;
use doorbell_tests::line::{Heard, Line, bytes};
use doorbell_tests::place::Place;
use doorbell_tests::proxy::{Proxy, Verdict};
use doorbell_tests::rogue::{Rogue, greeting, offer};
use doorbell_tests::wait::{on, until};
use doorbell_wire::error::Reason;
use doorbell_wire::ids::{PublicKey, SessionToken, Signature};
use doorbell_wire::message::{FromGuest, FromHost, Kind, ManagerProof, Welcome};
use std::path::Path;
use std::sync::{Arc, Mutex};

#[test]
fn a_guest_that_pins_its_manager_asks_nothing_of_anybody_else() {
    let place = Place::new();
    let mut daemon = Daemon::start(&place);
    let (key, pin) = key_of(&place, &daemon);
    let socket = Guest::socket_of(&place, GUEST);
    daemon.add(GUEST, &socket, None);
    daemon.stop();

    let rogue = squat(&door(&socket));
    let machine =
        Machine { append: format!("doorbell.agent_args=--manager-key,{pin}"), ..Machine::default() };
    let guest = Guest::boot(&place, GUEST, &machine);
    let shown = |public_key: &str, byte| {
        let public_key = public_key.parse::<PublicKey>().unwrap();
        Some(ManagerProof { public_key, signature: Signature::new([byte; 64]) })
    };
    let strangers = [
        (None, "somebody without a proof"),
        (shown(&"07".repeat(32), 1), "a manager with the key SHA256:"),
        (shown(&key, 1), "somebody who shows that key and does not hold it"),
    ];
    for (proof, who) in strangers {
        let welcome = Welcome { token: SessionToken::new([4; 32]), host_time_ms: 0, proof };
        is_left(&rogue, &FromHost::Welcome(welcome));
        guest_says(&guest, who);
    }
    guest_says(&guest, &format!("where the manager with the key {pin} is awaited"));
    guest_says(&guest, "Compare the pin with what `doorbell manager key` shows on the host");
    assert!(!guest.console().contains(" connected "), "nobody was taken for the manager");

    drop(rogue);
    daemon.restart();
    daemon.approve(&guest);
    let (run, output) = daemon.run_sh(GUEST, "echo served; ls /var/lib/doorbell-agent");
    assert_eq!(run.state, State::Succeeded);
    assert!(output.starts_with("served\n"), "{output}");
    daemon.assert_audit_intact();
}

#[test]
fn a_welcome_that_was_heard_proves_nothing_a_second_time() {
    let place = Place::new();
    let daemon = Daemon::start(&place);
    let (_, pin) = key_of(&place, &daemon);
    let heard = Arc::new(Mutex::new(None));
    let machine =
        Machine { append: format!("doorbell.agent_args=--manager-key,{pin}"), ..Machine::default() };
    let (proxy, guest) = Proxy::between_machine(&daemon, &place, GUEST, &machine);
    let hearing = Arc::clone(&heard);
    proxy.arm(move |frame| {
        if frame.kind == Kind::Welcome {
            *hearing.lock().unwrap() = Some(bytes(frame));
        }
        Verdict::Pass
    });
    guest.reset();
    let welcome = until("the manager's welcome", || heard.lock().unwrap().clone());
    daemon.await_presence(GUEST, Presence::Connected);

    drop(proxy);
    let rogue = squat(&door(&Guest::socket_of(&place, GUEST)));
    let mut line = rogue.accept();
    line.order(&FromHost::Greeting(greeting()));
    assert!(matches!(line.hear_guest(), FromGuest::Hello(_)));
    assert!(line.send(&welcome));
    assert_eq!(line.hear_guest(), FromGuest::GuestBye(Reason::MANAGER_NOT_PROVED));
    assert_eq!(line.hear(), Heard::Closed);
    guest_says(&guest, "somebody who shows that key and does not hold it");
}

/// Without a pin whoever has the place is the manager to the guest: that is what the directory's mode is for. What the guest tells
/// it opens nothing at the manager's.
#[test]
fn what_a_guest_tells_whoever_sits_in_the_managers_place_is_of_no_use_elsewhere() {
    let place = Place::new();
    let mut daemon = Daemon::start(&place);
    let guest = daemon.boot(&place, GUEST, &Machine::default());
    let (run, _) = daemon.run_sh(GUEST, "true");
    assert_eq!(run.state, State::Succeeded);
    let base = guest.socket();
    daemon.stop();

    let rogue = squat(&door(&base));
    let mut line = rogue.accept();
    line.order(&FromHost::Greeting(greeting()));
    let FromGuest::Hello(hello) = line.hear_guest() else { panic!("the agent does not introduce itself") };
    assert!(hello.claims.token.is_some(), "the token is told, and alone opens nothing");
    line.order(&FromHost::HostBye(Reason::GOODBYE));
    drop((line, rogue));

    daemon.restart();
    daemon.await_presence(GUEST, Presence::Connected);
    let log = daemon.log().len();
    // As it was heard, and over the manager's own greeting, with all that it says of itself.
    for _ in 0..2 {
        let mut line = Line::dial(&door(&base));
        assert!(matches!(line.hear_host(), FromHost::Greeting(_)));
        line.say(&FromGuest::Hello(hello.clone()));
        assert_eq!(line.hear_host(), FromHost::HostBye(Reason::NOT_PROVED));
    }
    daemon.await_log(log, "its signature does not match the key");
    assert!(
        !daemon.log().get(log..).unwrap().contains("session ended"),
        "the guest's own session has lasted"
    );
    let (run, _) = daemon.run_sh(GUEST, "true");
    assert_eq!(run.state, State::Succeeded);
}

#[test]
fn a_manager_that_finds_its_place_taken_says_so_and_takes_it_when_it_is_free() {
    let place = Place::new();
    let mut daemon = Daemon::start(&place);
    let guest = daemon.boot(&place, GUEST, &Machine::default());
    let base = guest.socket();
    daemon.stop();
    let rogue = squat(&door(&base));
    let log = daemon.log().len();
    daemon.restart();
    daemon.await_log(log, "another process listens there; end it or use another path");
    let doctor = Doorbell::new(&place, daemon.socket()).run(&["doctor"]);
    assert!(doctor.stdout.contains("hybrid socket"), "{}", doctor.stdout);
    assert_ne!(daemon.presence(GUEST), Some(Presence::Connected));
    drop(rogue);
    // What a squatter leaves has no listener any more, and is replaced.
    daemon.await_presence(GUEST, Presence::Connected);
    let (run, _) = daemon.run_sh(GUEST, "true");
    assert_eq!(run.state, State::Succeeded);
}

/// Meets the agent as its manager would, and sees it leave without a question.
fn is_left(rogue: &Rogue, welcome: &FromHost) {
    let mut line = rogue.accept();
    line.order(&FromHost::Greeting(greeting()));
    assert!(matches!(line.hear_guest(), FromGuest::Hello(_)));
    line.order(welcome);
    line.order(&FromHost::Offer(Box::new(offer(1, "touch /var/lib/doorbell-agent/ran"))));
    assert_eq!(line.hear_guest(), FromGuest::GuestBye(Reason::MANAGER_NOT_PROVED), "it asks for nothing");
    assert_eq!(line.hear(), Heard::Closed);
}

/// Listens in the manager's place, once that is free.
fn squat(door: &Path) -> Rogue {
    let _ = std::fs::remove_file(door);
    Rogue::listen(door)
}

/// The manager's key and its fingerprint, as its operator reads them.
fn key_of(place: &Place, daemon: &Daemon) -> (String, String) {
    let told = Doorbell::new(place, daemon.socket()).run(&["--json", "manager", "key"]).expect(0).json();
    let text = |name: &str| told[name].as_str().unwrap().to_owned();
    let head = on("the signed head", daemon.client().audit_head()).unwrap();
    assert_eq!(text("key"), head.key, "the key that signs the audit trail");
    (text("key"), text("fingerprint"))
}

fn guest_says(guest: &Guest, text: &str) {
    until(&format!("{text:?} on the guest's console"), || guest.console().contains(text).then_some(()));
}
