//! How a guest's key comes to be let in, and what becomes of one that is not: by the operator's word, with real guests.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use doorbell_api::guest::Presence;
use doorbell_api::request::State;
use doorbell_tests::command::Doorbell;
use doorbell_tests::daemon::Daemon;
use doorbell_tests::guest::{Guest, Machine};
use doorbell_tests::lab::GUEST;
use doorbell_tests::place::Place;
use doorbell_tests::wait::{on, until};

#[test]
fn a_rejected_key_is_told_so_and_served_only_when_it_is_approved_after_all() {
    let place = Place::new();
    let daemon = Daemon::start(&place);
    let doorbell = Doorbell::new(&place, daemon.socket());
    daemon.add(GUEST, &Guest::socket_of(&place, GUEST), None);
    doorbell.run(&["guest", "reject", GUEST]).refused(2, &["no key waits for guest web-3"]);
    let guest = Guest::boot(&place, GUEST, &Machine::default());
    let key = guest.fingerprint();
    until("the key to wait", || {
        let pending = on("the pending keys", daemon.client().pending()).unwrap();
        pending.iter().any(|waiting| waiting.fingerprint == key).then_some(())
    });

    let other = format!("SHA256:{}", "A".repeat(43));
    let wrong = ["guest", "reject", GUEST, "--fingerprint", &other];
    doorbell.run(&wrong).refused(2, &[&key, "say which one"]);
    let log = daemon.log().len();
    let told = doorbell.run(&["guest", "reject", GUEST, "--fingerprint", &key]).expect(0).stdout;
    assert!(told.contains(&key), "{told}");
    daemon.await_log(log, &format!("its key {key} was rejected"));
    daemon.await_log(log, &format!("doorbell guest approve {GUEST} --fingerprint {key}"));
    guest_says(
        &guest,
        "the guest's key was rejected; on the host: doorbell guest approve NAME --fingerprint",
    );
    assert!(on("the pending keys", daemon.client().pending()).unwrap().is_empty());
    let shown = doorbell.run(&["guest", "show", GUEST]).expect(0).stdout;
    let has = |line: &str| line.starts_with("rejected ") && line.contains(&key);
    assert!(shown.lines().any(has), "{shown}");

    // It is refused for good: a fresh start of the guest changes nothing, and asks nobody anything.
    let log = daemon.log().len();
    guest.reset();
    daemon.await_log(log, &format!("its key {key} was rejected"));
    assert!(on("the pending keys", daemon.client().pending()).unwrap().is_empty());
    assert_eq!(daemon.presence(GUEST), Some(Presence::Never));

    let _ = doorbell.run(&["guest", "approve", GUEST, "--fingerprint", &key]).expect(0);
    daemon.await_presence(GUEST, Presence::Connected);
    let (run, _) = daemon.run_sh(GUEST, "true");
    assert_eq!(run.state, State::Succeeded);
    let trail = on("the audit trail", daemon.client().audit(0, 1000)).unwrap();
    let events: Vec<_> = trail.iter().map(|record| record.event.as_str()).collect();
    for event in ["key-pending", "key-rejected", "session-refused", "guest-approved", "session-admitted"] {
        assert!(events.contains(&event), "{event}: {events:?}");
    }
    daemon.assert_audit_intact();
}

/// Waits until the agent's log on the console holds a text.
fn guest_says(guest: &Guest, text: &str) {
    until(&format!("{text:?} on the guest's console"), || guest.console().contains(text).then_some(()));
}
