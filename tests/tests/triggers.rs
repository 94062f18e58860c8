//! How requests come to a guest over its channel: rung, polled, pushed. And what a request does when its guest is away,
//! reboots for it, or has another time than the host.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed step is a failed test")]

use doorbell_api::guest::{GuestChange, Presence, Trigger};
use doorbell_api::request::{NewRequest, Reboot, Request, State};
use doorbell_client::Stream;
use doorbell_tests::daemon::{Daemon, new_request, sh, uploaded};
use doorbell_tests::guest::{Guest, Machine, await_cable, door};
use doorbell_tests::place::Place;
use doorbell_tests::proxy::{Proxy, Verdict};
use doorbell_tests::wait::{on, until, within};
use doorbell_wire::message::Kind;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const GUEST: &str = "web-3";

/// A manager and a guest with a proxy between them, all of whose frames are noted.
struct Pair {
    daemon: Daemon,
    proxy: Option<Proxy>,
    guest: Guest,
    // Last: it goes when nothing uses it.
    place: Place,
}

impl Pair {
    fn new() -> Self {
        let place = Place::new();
        let daemon = Daemon::start(&place);
        let (proxy, guest) = Proxy::between(&daemon, &place, GUEST);
        Self { daemon, proxy: Some(proxy), guest, place }
    }

    fn set(&self, change: &GuestChange) {
        on("the change of the guest", self.daemon.client().guest(GUEST).change(change)).unwrap();
        self.daemon.await_presence(GUEST, Presence::Connected);
    }

    fn proxy(&self) -> &Proxy {
        self.proxy.as_ref().unwrap()
    }

    /// The frames that go by from here on.
    fn frames(&self) -> Arc<Mutex<Vec<Kind>>> {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let there = Arc::clone(&seen);
        self.proxy().arm(move |frame| {
            there.lock().unwrap().push(frame.kind);
            Verdict::Pass
        });
        seen
    }

    /// Nobody gets through to the manager until [`Pair::join`].
    fn part(&mut self) {
        self.proxy = None;
        self.daemon.await_presence(GUEST, Presence::Gone);
    }

    fn join(&mut self) {
        let behind = self.place.join("behind");
        let here = door(&Guest::socket_of(&self.place, GUEST));
        self.proxy = Some(Proxy::start(&here, &door(&behind)));
    }

    fn output(&self, id: &str) -> String {
        String::from_utf8_lossy(&self.daemon.output(id, Stream::Stdout, 0)).into_owned()
    }
}

#[test]
fn a_rung_guest_pulls_and_a_pushed_one_has_it_in_one_write() {
    let pair = Pair::new();
    let program = pair.daemon.upload("small.sh", b"#!/bin/sh\necho \"ran $DOORBELL_REQUEST\"\n".to_vec());
    pair.proxy().await_quiet();
    let rung = pair.frames();
    let id = pair.daemon.submit(GUEST, uploaded(program.clone())).id;
    assert_eq!(pair.daemon.finished(&id).state, State::Succeeded);
    let kinds = rung.lock().unwrap().clone();
    assert_eq!(kinds[..4], [Kind::Ring, Kind::Pull, Kind::Offer, Kind::Fetch], "{kinds:?}");

    pair.set(&GuestChange { trigger: Some(Trigger::Push), ..GuestChange::default() });
    pair.proxy().await_quiet();
    let pushed = pair.frames();
    let id = pair.daemon.submit(GUEST, uploaded(program)).id;
    assert_eq!(pair.daemon.finished(&id).state, State::Succeeded);
    assert_eq!(pair.output(&id), format!("ran {id}\n"));
    let kinds = pushed.lock().unwrap().clone();
    assert_eq!(kinds[..2], [Kind::Ring, Kind::Push], "{kinds:?}");
    assert!(!kinds.contains(&Kind::Fetch) && !kinds.contains(&Kind::Offer), "{kinds:?}");

    // What is too large rides as far as it fits, and several at once are each run once.
    let large = pair.daemon.upload("large.sh", {
        let mut bytes = b"#!/bin/sh\necho large\nexit 0\n".to_vec();
        bytes.resize(100_000, b'#');
        bytes
    });
    let ids: Vec<String> = (0..6).map(|_| pair.daemon.submit(GUEST, uploaded(large.clone())).id).collect();
    for id in &ids {
        let ended = pair.daemon.finished(id);
        assert_eq!((ended.state, ended.starts), (State::Succeeded, 1), "{:?}", ended.receipt);
        assert_eq!(pair.output(id), "large\n");
    }
    pair.daemon.assert_audit_intact();
}

#[test]
fn a_guest_that_polls_is_connected_only_while_there_is_something_to_do() {
    let place = Place::new();
    let daemon = Daemon::start(&place);
    let socket = Guest::socket_of(&place, GUEST);
    daemon.add(GUEST, &socket, None);
    let change = GuestChange { trigger: Some(Trigger::Poll), ..GuestChange::default() };
    on("the change of the guest", daemon.client().guest(GUEST).change(&change)).unwrap();
    let append = "doorbell.agent_args=--poll,1s".to_owned();
    let guest = Guest::boot(&place, GUEST, &Machine { append, ..Machine::default() });
    daemon.approve_key(&guest);
    daemon.await_presence(GUEST, Presence::Polling);
    let shown = on("the guest", daemon.client().guest(GUEST).show()).unwrap();
    assert_eq!(shown.agent.unwrap().polls_every_ms, Some(1000));
    for word in ["one", "two"] {
        let (request, output) = daemon.run_sh(GUEST, &format!("echo {word}"));
        assert_eq!((request.state, output), (State::Succeeded, format!("{word}\n")));
        daemon.await_presence(GUEST, Presence::Polling);
    }
    assert!(!daemon.log().contains("Rung"), "nobody rings a guest that polls");
}

#[test]
fn a_guest_that_vanishes_leaves_its_request_unconfirmed_and_amends_it_when_it_is_back() {
    let mut pair = Pair::new();
    let script = format!("echo before; {}; echo after", await_cable(false));
    let new = NewRequest { confirm_within_ms: Some(1500), ..new_request(sh(&script)) };
    let id = pair.daemon.submit_as(GUEST, new).id;
    until("the program", || (pair.output(&id) == "before\n").then_some(()));
    pair.part();
    let closed = pair.daemon.finished(&id);
    assert_eq!(closed.state, State::Unconfirmed);
    let first = closed.receipt.unwrap();
    assert!(first.detail.as_ref().unwrap().contains("amends this"), "{:?}", first.detail);

    pair.guest.plug(false);
    pair.join();
    until("the amended receipt", || (pair.daemon.request(&id).state == State::Succeeded).then_some(()));
    let receipt = pair.daemon.request(&id).receipt.unwrap();
    let amends = receipt.amends.unwrap();
    assert_eq!((amends.state, amends.audit_hash), (State::Unconfirmed, first.audit_hash));
    assert_eq!((receipt.exit_code, receipt.stdout.intact), (Some(0), Some(true)));
    assert_eq!(pair.output(&id), "before\nafter\n", "nothing of the output is lost in between");
    let (next, output) = pair.daemon.run_sh(GUEST, "echo next");
    assert_eq!((next.state, output.as_str()), (State::Succeeded, "next\n"));
    pair.guest.plug(true);
    pair.daemon.assert_audit_intact();

    // One whose guest went down meanwhile: it is back and knows that it was cut off.
    let new = NewRequest { confirm_within_ms: Some(1500), ..new_request(sh("echo began; sleep 600")) };
    let id = pair.daemon.submit_as(GUEST, new).id;
    until("the program", || (pair.output(&id) == "began\n").then_some(()));
    pair.part();
    assert_eq!(pair.daemon.finished(&id).state, State::Unconfirmed);
    let boots = pair.guest.boots();
    pair.guest.reset();
    pair.guest.await_boot(boots + 1);
    pair.join();
    until("the amended receipt", || (pair.daemon.request(&id).state == State::Interrupted).then_some(()));
    pair.daemon.assert_audit_intact();
}

#[test]
fn a_reboot_is_done_when_another_run_of_the_kernel_is_seen() {
    let place = Place::new();
    let daemon = Daemon::start(&place);
    let guest = daemon.boot(&place, GUEST, &Machine::default());
    let with = |reboot, script: &str| {
        let new = NewRequest { reboot: Some(reboot), ..new_request(sh(script)) };
        daemon.submit_as(GUEST, new).id
    };
    let effect = format!("echo \"step $DOORBELL_STEP\" >>{STEPS}; sync; echo \"said $DOORBELL_STEP\"");
    let id = with(Reboot::AfterSuccess, &effect);
    let ended = rebooted(&daemon, &id);
    assert_eq!((ended.state, guest.boots()), (State::Succeeded, 2), "{:?}", ended.receipt);
    let receipt = ended.receipt.unwrap();
    assert!(receipt.boot_before.is_some() && receipt.boot_before != receipt.boot_id, "{receipt:?}");
    assert_eq!(daemon.output(&id, Stream::Stdout, 0), b"said 1\n");

    let on_194 = |steps_max| Reboot::OnStatus { status: 194, steps_max };
    let id = with(on_194(5), &format!("{effect}; [ \"$DOORBELL_STEP\" -ge 3 ] || exit 194"));
    let ended = rebooted(&daemon, &id);
    assert_eq!((ended.state, ended.step, guest.boots()), (State::Succeeded, 3, 4), "{:?}", ended.receipt);
    assert_eq!(daemon.output(&id, Stream::Stdout, 0), b"said 1\nsaid 2\nsaid 3\n");

    let id = with(on_194(2), &format!("{effect}; exit 194"));
    let ended = rebooted(&daemon, &id);
    assert_eq!((ended.state, ended.step, guest.boots()), (State::Failed, 2, 5));
    assert_eq!(ended.receipt.unwrap().exit_code, Some(194), "the last step asks in vain");

    // A program that does not ask gets none.
    let id = with(Reboot::AfterSuccess, "exit 3");
    assert_eq!(rebooted(&daemon, &id).receipt.unwrap().exit_code, Some(3));
    assert_eq!(guest.boots(), 5);
    let (_, steps) = daemon.run_sh(GUEST, &format!("cat {STEPS}"));
    assert_eq!(steps, "step 1\nstep 1\nstep 2\nstep 3\nstep 1\nstep 2\n", "each once");
    daemon.assert_audit_intact();
}

#[test]
fn a_guest_with_another_time_is_served_and_its_clock_is_set_only_where_asked_for() {
    let place = Place::new();
    let daemon = Daemon::start(&place);
    let guest = daemon.boot(&place, GUEST, &Machine::default());
    let off_by = || -> i64 {
        let (_, said) = daemon.run_sh(GUEST, "date +%s");
        let host = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        said.trim().parse::<i64>().unwrap() - i64::try_from(host).unwrap()
    };
    for hours in [32_i64, -32] {
        let (set, _) = daemon.run_sh(GUEST, &format!("date -s @$(( $(date +%s) + {} ))", hours * 3600));
        assert_eq!(set.state, State::Succeeded);
        let off = off_by();
        assert!((off - hours * 3600).abs() < 3600, "it is {off} s off");
        // Judged by the host's clock: neither has it passed, nor is it far away.
        let new = NewRequest { expires_in_ms: Some(60_000), ..new_request(sh("echo served")) };
        assert_eq!(daemon.finished(&daemon.submit_as(GUEST, new).id).state, State::Succeeded);
        let boots = guest.boots();
        guest.reset();
        guest.await_boot(boots + 1);
        daemon.await_presence(GUEST, Presence::Connected);
        let (set, _) = daemon.run_sh(GUEST, &format!("date -s @$(( $(date +%s) + {} ))", hours * 3600));
        assert_eq!(set.state, State::Succeeded);
        let change = GuestChange { set_clock: Some(true), ..GuestChange::default() };
        on("the change of the guest", daemon.client().guest(GUEST).change(&change)).unwrap();
        until("the guest's clock to be set", || (off_by().abs() < 60).then_some(()));
        let change = GuestChange { set_clock: Some(false), ..GuestChange::default() };
        on("the change of the guest", daemon.client().guest(GUEST).change(&change)).unwrap();
    }
}

/// The request once it is final: a guest boots several times for it.
fn rebooted(daemon: &Daemon, id: &str) -> Request {
    within(Duration::from_secs(300), &format!("the end of request {id}"), || {
        let request = daemon.request(id);
        request.state.is_final().then_some(request)
    })
}

const STEPS: &str = "/var/lib/doorbell-agent/steps.log";
