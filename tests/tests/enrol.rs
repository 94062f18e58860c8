//! How a guest's key comes to be let in, and what becomes of one that is not: by the operator's word or by a one-time
//! token, with real guests.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a failed step is a failed test"
)]

use doorbell_api::guest::{NewEnrolment, Presence};
use doorbell_api::request::State;
use doorbell_tests::command::Doorbell;
use doorbell_tests::daemon::Daemon;
use doorbell_tests::guest::{Guest, Machine, door};
use doorbell_tests::honest::Identity;
use doorbell_tests::lab::GUEST;
use doorbell_tests::line::Line;
use doorbell_tests::place::Place;
use doorbell_tests::wait::{on, until};
use doorbell_wire::error::Reason;
use doorbell_wire::handshake::enrolment_transcript;
use doorbell_wire::ids::{PublicKey, Signature};
use doorbell_wire::message::{Enrolment, FromGuest, FromHost, Hello};
use ed25519_dalek::{Signer as _, SigningKey};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

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

#[test]
fn a_guest_is_let_in_by_its_one_time_token_and_nobody_else_is() {
    let place = Place::new();
    let daemon = Daemon::start(&place);
    let doorbell = Doorbell::new(&place, daemon.socket());
    let file = |name: &str| place.join(name).display().to_string();
    let add = |name: &str| {
        let socket = Guest::socket_of(&place, name).display().to_string();
        let words = ["guest", "add", name, "--hybrid-socket", &socket, "--enrol-token", &file(name)];
        doorbell.run(&words).expect(0).stdout
    };
    let told = add("web-3");
    let option = format!("-fw_cfg name=opt/org.doorbell.enrol,file={}", file("web-3"));
    assert!(told.contains(&option), "{told}");
    let secret = std::fs::read(file("web-3")).unwrap();
    let mode = place.join("web-3").metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((secret.len(), mode), (32, 0o600));
    let _ = doorbell.run(&["manager", "key", "--out", &file("manager.key")]).expect(0);

    let machine = Machine {
        enrol: Some(file("web-3").into()),
        manager: Some(file("manager.key").into()),
        disk_mib: Some(16),
        ..Machine::default()
    };
    let guest = Guest::boot(&place, "web-3", &machine);
    daemon.await_presence("web-3", Presence::Connected);
    let key = guest.fingerprint();
    let shown = on("the guest", daemon.client().guest("web-3").show()).unwrap();
    assert_eq!((shown.fingerprint.as_ref(), shown.enrolment_until_ms), (Some(&key), None));
    let (run, kept) = daemon.run_sh("web-3", "cd /var/lib/doorbell-agent; cat manager; wc -c < enrolled");
    assert_eq!(run.state, State::Succeeded);
    let pinned = std::fs::read_to_string(file("manager.key")).unwrap();
    assert_eq!(kept, format!("{pinned}32\n"), "the launch's pin, and the public half of what was used");
    told_nowhere(&daemon, &guest, &secret);

    // It lies in the launch still, and is not shown again.
    let log = daemon.log().len();
    guest.reset();
    daemon.await_log(log, "session open");
    daemon.await_presence("web-3", Presence::Connected);

    // Another guest with the same token waits like any other, and both sides say why.
    let socket = Guest::socket_of(&place, "web-4");
    daemon.add("web-4", &socket, None);
    let log = daemon.log().len();
    let thief =
        Guest::boot(&place, "web-4", &Machine { enrol: Some(file("web-3").into()), ..Machine::default() });
    daemon.await_log(log, "its one-time token was not taken: it was made for another guest");
    daemon.await_log(log, "doorbell guest enrol web-4 --out FILE");
    guest_says(&thief, "the one-time token was not taken; on the host: doorbell guest enrol NAME");
    assert_eq!(daemon.presence("web-4"), Some(Presence::Pending));
    drop(thief);

    // A new one for a guest that is there: the key of its next disk takes the place of the last one's.
    let _ = doorbell.run(&["guest", "enrol", "web-3", "--out", &file("again"), "--within", "1h"]).expect(0);
    drop(guest);
    let guest = Guest::boot(&place, "web-3", &Machine { enrol: Some(file("again").into()), ..machine });
    until("the guest's other key", || {
        let shown = on("the guest", daemon.client().guest("web-3").show()).ok()?;
        (shown.fingerprint == Some(guest.fingerprint())).then_some(())
    });
    daemon.await_presence("web-3", Presence::Connected);
    assert_ne!(guest.fingerprint(), key);
    let trail = on("the audit trail", daemon.client().audit(0, 1000)).unwrap();
    let enrolled: Vec<_> = trail.iter().filter(|record| record.event == "guest-enrolled").collect();
    assert_eq!(enrolled.len(), 2, "{trail:?}");
    assert!(enrolled[1].detail.contains(&format!("in the place of {key}")), "{enrolled:?}");
    assert!(trail.iter().any(|record| record.event == "enrolment-refused"), "{trail:?}");
    daemon.assert_audit_intact();
}

/// Whoever speaks at the guest's door by hand: with a token that he has heard of, or has heard used.
#[test]
fn a_token_that_was_heard_used_or_is_over_lets_nobody_in() {
    let place = Place::new();
    let daemon = Daemon::start(&place);
    let base = place.join("web-3");
    daemon.add(GUEST, &base, None);
    let (owner, thief) = (Identity::fresh(), Identity::fresh());
    let token = SigningKey::from_bytes(&[9; 32]);
    let new = |expires_in_ms| NewEnrolment {
        token: hex::encode(token.verifying_key().as_bytes()),
        expires_in_ms: Some(expires_in_ms),
    };
    let enrol = |new| on("a token", daemon.client().guest(GUEST).enrol(&new));
    assert!(enrol(new(999)).is_err() && enrol(new(31 * 24 * 3_600_000)).is_err());
    enrol(new(3_600_000)).unwrap();

    // Its public half is no secret, and no token.
    let forged = show(&door(&base), &thief, |said| SigningKey::from_bytes(&[1; 32]).sign(said), &token);
    assert_eq!(forged.0, FromHost::HostBye(Reason::NOT_ENROLLED));
    let (welcome, heard) = show(&door(&base), &owner, |said| token.sign(said), &token);
    assert!(matches!(welcome, FromHost::Welcome(_)), "{welcome:?}");

    let log = daemon.log().len();
    let again = show(&door(&base), &thief, |_| heard, &token);
    assert_eq!(again.0, FromHost::HostBye(Reason::NOT_ENROLLED), "what was heard is of one handshake");
    daemon.await_log(log, "it shows a one-time token that it does not hold");
    let log = daemon.log().len();
    let used = show(&door(&base), &thief, |said| token.sign(said), &token);
    assert_eq!(used.0, FromHost::HostBye(Reason::NOT_ENROLLED), "nor does its holder use it twice");
    daemon.await_log(log, "its one-time token was not taken: it was used at");
    let (own, _) = show(&door(&base), &owner, |said| token.sign(said), &token);
    assert!(
        matches!(own, FromHost::HostBye(Reason::FENCED) | FromHost::Welcome(_)),
        "judged by its key: {own:?}"
    );

    let trail = on("the audit trail", daemon.client().audit(0, 1000)).unwrap();
    let count = |event: &str| trail.iter().filter(|record| record.event == event).count();
    assert_eq!((count("guest-enrolled"), count("enrolment-refused")), (1, 1), "{trail:?}");
    daemon.assert_audit_intact();
}

/// Answers the manager's greeting as this guest, with a token that somebody signs with.
fn show(
    door: &Path,
    guest: &Identity,
    sign: impl FnOnce(&[u8]) -> ed25519_dalek::Signature,
    token: &SigningKey,
) -> (FromHost, ed25519_dalek::Signature) {
    let mut line = Line::dial(door);
    let FromHost::Greeting(greeting) = line.hear_host() else { panic!("the manager does not greet") };
    let hello = guest.hello(&greeting);
    let signature = sign(&enrolment_transcript(&greeting, &hello.claims).unwrap());
    let enrolment = Enrolment {
        token: PublicKey::new(token.verifying_key().to_bytes()),
        proof: Signature::new(signature.to_bytes()),
    };
    line.say(&FromGuest::Hello(Box::new(Hello { enrolment: Some(enrolment), ..hello })));
    (line.hear_host(), signature)
}

/// The secret half stands in no argument, no log and no audit record.
fn told_nowhere(daemon: &Daemon, guest: &Guest, secret: &[u8]) {
    let text = hex::encode(secret);
    for process in std::fs::read_dir("/proc").unwrap().flatten() {
        let line = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        assert!(!line.windows(secret.len()).any(|part| part == secret), "{:?}", process.path());
        assert!(!String::from_utf8_lossy(&line).contains(&text), "{:?}", process.path());
    }
    let trail = on("the audit trail", daemon.client().audit(0, 1000)).unwrap();
    for said in [daemon.log(), guest.console(), format!("{trail:?}")] {
        assert!(!said.contains(&text), "{said}");
    }
}

/// Waits until the agent's log on the console holds a text.
fn guest_says(guest: &Guest, text: &str) {
    until(&format!("{text:?} on the guest's console"), || guest.console().contains(text).then_some(()));
}
