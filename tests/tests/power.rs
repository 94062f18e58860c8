//! What the hypervisor says of a guest: nothing is written to one that stands still, its requests are held, and all
//! goes on within a round trip; a reset and the end of QEMU are known at once, and not after a minute of silence.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use doorbell_api::event::Change;
use doorbell_api::guest::{GuestChange, PowerState, Presence};
use doorbell_api::request::State;
use doorbell_tests::command::Doorbell;
use doorbell_tests::daemon::{Daemon, sh};
use doorbell_tests::guest::{Guest, Machine};
use doorbell_tests::lab::GUEST;
use doorbell_tests::place::Place;
use doorbell_tests::proxy::{Proxy, Verdict};
use doorbell_tests::skip::tell;
use doorbell_tests::wait::{PATIENCE, comes_within, on, until, within};
use futures_util::StreamExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

#[test]
fn to_a_guest_that_stands_still_nothing_is_written_and_what_waits_is_served_when_it_goes_on() {
    let place = Place::new();
    let daemon = Daemon::start(&place);
    let (proxy, guest) = Proxy::between(&daemon, &place, GUEST);
    follow(&daemon, &guest);
    let runs = daemon.submit(GUEST, sh("for line in $(seq 100); do echo $line; usleep 100000; done")).id;
    until("a program that prints", || {
        daemon.output(&runs, doorbell_client::Stream::Stdout, 0).first().copied()
    });

    guest.pause();
    daemon.await_presence(GUEST, Presence::Paused);
    let written = count_written(&proxy);
    let waits = daemon.submit(GUEST, sh("echo served")).id;
    let said = Doorbell::new(&place, daemon.socket()).begin(&["request", "wait", &waits]);
    // Longer than a heartbeat, with a cancel and a query beside it.
    let cancelled = daemon.submit(GUEST, sh("echo never")).id;
    on("the cancel", daemon.client().cancel(&cancelled)).unwrap();
    let wrote = comes_within(Duration::from_secs(30), || written.load(Ordering::SeqCst) > 0);
    assert!(!wrote, "{} frames were written to a guest that stands still", written.load(Ordering::SeqCst));
    for id in [&runs, &waits] {
        assert_eq!(daemon.request(id).state, State::Held);
    }
    assert_eq!(daemon.request(&cancelled).state, State::Cancelled, "what never began needs no guest");

    let since = Instant::now();
    guest.resume();
    daemon.await_presence(GUEST, Presence::Connected);
    assert_eq!(daemon.finished(&runs).state, State::Succeeded);
    assert_eq!(daemon.finished(&waits).state, State::Succeeded);
    tell(&format!("stood still for 30 s; all was served {:?} after it went on", since.elapsed()));
    let lines = String::from_utf8(daemon.output(&runs, doorbell_client::Stream::Stdout, 0)).unwrap();
    assert_eq!(lines.lines().count(), 100, "the program's output is whole");
    assert_eq!(daemon.log().matches("session open").count(), 1, "the session outlived it");
    let told = said.ended_within(PATIENCE).expect(0).stderr;
    assert!(told.contains("web-3 is paused"), "{told}");
    daemon.assert_audit_intact();
}

#[test]
fn a_reset_and_the_end_of_qemu_are_known_at_once() {
    let place = Place::new();
    let daemon = Daemon::start(&place);
    let guest = daemon.boot(&place, GUEST, &Machine::default());
    follow(&daemon, &guest);
    let log = daemon.log().len();
    guest.reset();
    // An idle read never returns after a reset: without the hypervisor's word a minute of silence would pass.
    within(SOON, "the end of the session", || {
        daemon.log().get(log..)?.contains("session ended reason=its machine was reset").then_some(())
    });
    guest.await_boot(2);
    daemon.await_presence(GUEST, Presence::Connected);
    let (request, output) = daemon.run_sh(GUEST, "echo again");
    assert_eq!((request.state, output.as_str()), (State::Succeeded, "again\n"));

    let client = daemon.client();
    let mut events = Box::pin(on("the events", client.events()).unwrap());
    drop(guest);
    let held = daemon.submit(GUEST, sh("echo later")).id;
    within(SOON, "the guest to be off", || (daemon.presence(GUEST)? == Presence::Off).then_some(()));
    assert_eq!(daemon.request(&held).state, State::Held);
    let mut seen = Vec::new();
    while !matches!(seen.last(), Some(Change::Request { state: State::Held, .. })) {
        seen.push(on("an event", events.next()).unwrap().unwrap().change);
    }
    assert!(
        seen.iter().any(|change| matches!(change, Change::Presence { presence: Presence::Off, .. })),
        "{seen:?}"
    );
}

/// Names the guest's monitor to the manager.
fn follow(daemon: &Daemon, guest: &Guest) {
    let change = GuestChange { qmp: Some(guest.qmp().display().to_string()), ..GuestChange::default() };
    on("the change of the guest", daemon.client().guest(GUEST).change(&change)).unwrap();
    until("the guest's power to be known", || {
        let power = on("the guest", daemon.client().guest(GUEST).show()).unwrap().power?;
        (power.state == PowerState::Running).then_some(())
    });
}

/// Counts frames that go to the guest from here on.
fn count_written(proxy: &Proxy) -> Arc<AtomicUsize> {
    let written = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&written);
    proxy.arm(move |frame| {
        let of_host = frame.kind.byte() < FIRST_OF_GUEST;
        counting.fetch_add(usize::from(of_host), Ordering::SeqCst);
        Verdict::Pass
    });
    written
}

/// Far less than the minute of silence after which a guest is given up.
const SOON: Duration = Duration::from_secs(15);
/// Kinds below this one are the manager's.
const FIRST_OF_GUEST: u8 = 0x20;
