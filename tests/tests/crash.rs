//! The manager killed at each station and started again, and the guest reset at each station with its disk:
//! no accepted request is lost, none runs twice, each has a final state.
//!
//! A proxy in the channel stops at the frame that makes the station, so that a station is met and not guessed.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed step is a failed test"
)]

use doorbell_api::request::{Action, NewRequest, ProgramRef, State};
use doorbell_tests::daemon::{Daemon, new_request, sh, uploaded};
use doorbell_tests::guest::{Guest, Machine};
use doorbell_tests::place::Place;
use doorbell_tests::proxy::{Proxy, Verdict};
use doorbell_tests::skip::tell;
use doorbell_tests::wait::until;
use doorbell_wire::frame::Frame;
use doorbell_wire::message::{FromGuest, Kind, Stage};

/// A station, by the frame that makes it and whether that frame still arrives.
struct Station {
    name: &'static str,
    is: fn(&Frame) -> bool,
    verdict: Verdict,
    /// Whether the program may have begun when the guest goes down here.
    may_be_interrupted: bool,
}

const fn at(
    name: &'static str,
    is: fn(&Frame) -> bool,
    verdict: Verdict,
    may_be_interrupted: bool,
) -> Station {
    Station { name, is, verdict, may_be_interrupted }
}

fn stage(frame: &Frame, wanted: Stage) -> bool {
    matches!(FromGuest::from_frame(frame), Ok(FromGuest::Progress(progress)) if progress.stage == wanted)
}

const STATIONS: [Station; 12] = [
    at("accepted, ring lost", |frame| frame.kind == Kind::Ring, Verdict::Hold, false),
    at("rung", |frame| frame.kind == Kind::Ring, Verdict::HoldNext, false),
    at("pulled", |frame| frame.kind == Kind::Pull, Verdict::HoldNext, false),
    at("offered, offer lost", |frame| frame.kind == Kind::Offer, Verdict::Hold, false),
    at("offered", |frame| frame.kind == Kind::Offer, Verdict::HoldNext, false),
    at("fetching", |frame| frame.kind == Kind::Chunk, Verdict::HoldNext, false),
    at("fetched", |frame| stage(frame, Stage::Fetched), Verdict::HoldNext, true),
    at("started", |frame| stage(frame, Stage::Started), Verdict::HoldNext, true),
    at("output flowing", |frame| frame.kind == Kind::Output, Verdict::HoldNext, true),
    at("finished, not acknowledged", |frame| frame.kind == Kind::Acknowledge, Verdict::Hold, false),
    at("acknowledged, receipt stored", |frame| frame.kind == Kind::Noted, Verdict::Hold, false),
    at("receipt stored, noted", |frame| frame.kind == Kind::Noted, Verdict::HoldNext, false),
];

/// A manager and a guest with a proxy between them.
struct Pair {
    daemon: Daemon,
    proxy: Proxy,
    guest: Guest,
    program: ProgramRef,
    accepted: Vec<(String, &'static str, bool)>,
    // Last: it goes when nothing uses it.
    _place: Place,
}

impl Pair {
    fn new() -> Self {
        let place = Place::new();
        let daemon = Daemon::start(&place);
        let (proxy, guest) = Proxy::between(&daemon, &place, "web-3");
        let mut bytes = format!("#!/bin/sh\n{EFFECT}\nexit 0\n").into_bytes();
        // More than one window of chunks, so that a fetch can be met in the middle.
        bytes.resize(400_000, b'#');
        let program = daemon.upload("effect.sh", bytes);
        Self { daemon, proxy, guest, program, accepted: Vec::new(), _place: place }
    }

    /// Submits a program and stops the channel at the station.
    fn reach(&mut self, station: &Station) {
        // What came before has ended, so the station's frames are those of the new request.
        if let Some((id, ..)) = self.accepted.last() {
            let _ = self.daemon.finished(id);
        }
        self.proxy.await_quiet();
        let (is, verdict) = (station.is, station.verdict);
        self.proxy.arm(move |frame| if is(frame) { verdict } else { Verdict::Pass });
        let id = self.daemon.submit("web-3", uploaded(self.program.clone())).id;
        self.accepted.push((id, station.name, station.may_be_interrupted));
        self.proxy.await_reached(station.name);
    }

    /// Every request that was accepted ended, and left one effect, or at most one where its end is unknown.
    fn settle(&self) {
        let ends: Vec<_> = self.accepted.iter().map(|(id, ..)| self.daemon.finished(id)).collect();
        let (_, effects) = self.daemon.run_sh("web-3", "cat /var/lib/doorbell-agent/effects.log");
        for (request, (id, station, may_be_interrupted)) in ends.iter().zip(&self.accepted) {
            let ran = effects.lines().filter(|line| *line == format!("ran {id}")).count();
            tell(&format!("{station}: {:?}, ran {ran}, offered {}", request.state, request.offers));
            if request.state == State::Interrupted {
                assert!(
                    *may_be_interrupted,
                    "{station}: interrupted where nothing had begun or all was over"
                );
                assert!(ran <= 1, "{station}: ran {ran} times");
            } else {
                assert_eq!((request.state, ran), (State::Succeeded, 1), "{station}: {:?}", request.receipt);
            }
        }
        self.daemon.assert_audit_intact();
    }
}

#[test]
fn the_manager_killed_at_each_station_loses_nothing_and_runs_nothing_twice() {
    let mut pair = Pair::new();
    for station in &STATIONS {
        pair.reach(station);
        pair.daemon.kill();
        pair.proxy.cut();
        pair.daemon.restart();
    }
    pair.settle();
    let interrupted = |id| pair.daemon.request(id).state == State::Interrupted;
    assert!(
        !pair.accepted.iter().any(|(id, ..)| interrupted(id)),
        "the guest never went down, so every end is known"
    );
}

#[test]
fn the_guest_reset_at_each_station_loses_nothing_and_runs_nothing_twice() {
    let mut pair = Pair::new();
    for (boots, station) in (2..).zip(&STATIONS) {
        pair.reach(station);
        pair.guest.reset();
        pair.proxy.cut();
        pair.guest.await_boot(boots);
    }
    pair.settle();
    a_start_nobody_heard_of_is_not_repeated(&pair);
}

/// Only the guest's journal knows of this start: nothing the guest says behind its pull arrives. The program is
/// met in its middle, so that no outcome is on disk either.
fn a_start_nobody_heard_of_is_not_repeated(pair: &Pair) {
    let boots = pair.guest.boots();
    pair.proxy.await_quiet();
    pair.proxy.arm(|frame| if frame.kind == Kind::Pull { Verdict::HoldNext } else { Verdict::Pass });
    let repeated = format!("grep -q \"$DOORBELL_REQUEST\" {LOG} && exit 9");
    let script = format!("{repeated}; {EFFECT}; echo \"began $DOORBELL_REQUEST\" >/dev/console; sleep 600");
    let id = pair.daemon.submit("web-3", sh(&script)).id;
    pair.proxy.await_reached("pulled");
    until("the effect", || pair.guest.console().contains(&format!("began {id}")).then_some(()));
    assert_eq!(pair.daemon.request(&id).state, State::Offered, "the manager has not heard of the start");
    pair.guest.reset();
    pair.proxy.cut();
    pair.guest.await_boot(boots + 1);
    let ended = pair.daemon.finished(&id);
    assert_eq!(ended.state, State::Interrupted, "it began before the reset: {:?}", ended.receipt);
    pair.daemon.assert_audit_intact();
}

#[test]
fn what_is_accepted_while_the_guest_is_away_runs_once_after_the_manager_was_killed() {
    let place = Place::new();
    let mut daemon = Daemon::start(&place);
    daemon.add("web-3", &Guest::socket_of(&place, "web-3"), None);
    let accepted: Vec<String> = (0..5).map(|_| daemon.submit("web-3", sh(EFFECT)).id).collect();
    daemon.kill();
    daemon.restart();
    let guest = Guest::boot(&place, "web-3", &Machine::default());
    daemon.approve(&guest);
    for id in &accepted {
        assert_eq!(daemon.finished(id).state, State::Succeeded);
    }
    let (_, effects) = daemon.run_sh("web-3", "cat /var/lib/doorbell-agent/effects.log");
    let expected: String = accepted.iter().map(|id| format!("ran {id}\n")).collect();
    assert_eq!(effects, expected, "each once, in the order of acceptance");
    a_start_that_may_be_repeated_is_repeated(&daemon, &guest);
    daemon.assert_audit_intact();
}

/// The other half of the rule: what says that it may run again does, after a reset in the middle of it.
fn a_start_that_may_be_repeated_is_repeated(daemon: &Daemon, guest: &Guest) {
    let boots = guest.boots();
    let script = format!("{EFFECT}; [ \"$(grep -c \"$DOORBELL_REQUEST\" {LOG})\" -gt 1 ] || sleep 600");
    let action: Action = sh(&script);
    let id = daemon.submit_as("web-3", NewRequest { idempotent: true, ..new_request(action) }).id;
    until("the effect", || {
        (daemon.output(&id, doorbell_client::Stream::Stdout, 0) == b"effect\n").then_some(())
    });
    guest.reset();
    guest.await_boot(boots + 1);
    assert_eq!(daemon.finished(&id).state, State::Succeeded);
}

/// The effect, on the guest's disk before anything is said of it.
const EFFECT: &str =
    "echo \"ran $DOORBELL_REQUEST\" >>/var/lib/doorbell-agent/effects.log; sync; echo effect";
const LOG: &str = "/var/lib/doorbell-agent/effects.log";
