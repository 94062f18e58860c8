//! Both halves in one struct with virtual time: lost rings, rings while busy, cuts at every byte, silence, and
//! random sequences of events beside a model.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a broken assumption of a test must end it, and a model looks at what it needs"
)]

#[path = "pair/agent.rs"]
mod agent;
mod common;
#[path = "pair/manager.rs"]
mod manager;
#[path = "pair/random.rs"]
mod random;
#[path = "pair/world.rs"]
mod world;

use common::walk::{self, drain, drained, drained_host, host_says, pulling, settling, welcomed};
use common::{START, samples};
use doorbell_wire::error::{Reason, SessionError};
use doorbell_wire::ids::Tick;
use doorbell_wire::limits::{FETCH_MS_MAX, HANDS_MAX, HANDSHAKE_MS_MAX, HEARTBEAT_MS, SILENCE_MS_MAX};
use doorbell_wire::message::action::Action;
use doorbell_wire::message::{Chunk, FromGuest, FromHost, Offer, Stage};
use doorbell_wire::session::guest::{Guest, Owed as GuestOwed};
use doorbell_wire::session::host::{Host, Owed as HostOwed};
use world::{Loss, World};

#[test]
fn a_request_goes_all_the_way() {
    let mut world = World::with_requests(&[300, 0, 200_000]);
    world.manager.concurrency = 1;
    world.connect();
    world.settle();
    world.all_done_exactly_once(false);
    world.no_credit_is_lost();
    assert_eq!(world.pulls, 4, "one for each request and one that finds nothing");
}

#[test]
fn as_many_requests_as_there_are_hands_go_side_by_side() {
    let mut world = World::with_requests(&[0; 2 * HANDS_MAX]);
    world.manager.concurrency = 2 * HANDS_MAX;
    world.connect();
    world.exchange();
    assert_eq!(world.agent.starts.len(), HANDS_MAX, "every hand is full, and no more was offered");
    world.settle();
    world.all_done_exactly_once(false);
    world.no_credit_is_lost();
    assert_eq!(world.agent.side_by_side, HANDS_MAX);
    assert!(world.pulls <= 2 * world.manager.store.len() + 1, "{} pulls", world.pulls);
}

#[test]
fn fetches_and_outputs_of_several_requests_take_turns() {
    let mut world = World::with_requests(&[600_000, 600_000, 600_000]);
    world.connect();
    world.exchange();
    assert_eq!(world.agent.starts.len(), 3, "all have started, and none has printed");
    world.settle();
    world.all_done_exactly_once(false);
    world.no_credit_is_lost();
    for (what, came) in [("program bytes", &world.served), ("output", &world.printed)] {
        let first = |id| came.iter().position(|request| *request == id).unwrap();
        let last = |id| came.iter().rposition(|request| *request == id).unwrap();
        let ids: Vec<_> = world.manager.store.iter().map(|stored| stored.id).collect();
        // While all three have bytes to go, none gets more than its share.
        let begin = ids.iter().map(|id| first(*id)).max().unwrap();
        let end = ids.iter().map(|id| last(*id)).min().unwrap();
        let shares: Vec<usize> =
            ids.iter().map(|id| came[begin..end].iter().filter(|request| *request == id).count()).collect();
        let (most, least) = (shares.iter().max().unwrap(), shares.iter().min().unwrap());
        assert!(*least >= 3 && most - least <= 2, "{what}: {shares:?} of {}", came.len());
    }
}

#[test]
fn a_cancel_of_a_request_that_waits_for_its_bytes_frees_its_hand_and_its_credit() {
    let mut world = World::with_requests(&[300_000, 300_000]);
    world.connect();
    while world.served.is_empty() {
        assert!(world.deliver_to_guest(1) + world.deliver_to_host(1) > 0);
    }
    world.cancel(0);
    world.settle();
    world.all_done_exactly_once(false);
    world.no_credit_is_lost();
    assert_eq!(world.agent.starts.len(), 1, "the cancelled one has not started");
}

#[test]
fn a_stream_cut_at_every_byte_loses_no_request_and_starts_none_twice() {
    let mut whole = World::with_requests(&[300, 0]);
    whole.connect();
    whole.settle();
    assert!(whole.delivered > 1500, "the story has {} bytes only", whole.delivered);
    for loss in [Loss::Link, Loss::Manager, Loss::Guest] {
        for cut in 0..=whole.delivered {
            let mut world = World::with_requests(&[300, 0]);
            world.connect();
            world.deliver_until(cut);
            world.lose(loss);
            world.connect();
            world.settle();
            world.all_done_exactly_once(loss == Loss::Guest);
        }
    }
}

#[test]
fn ten_thousand_rings_while_a_pull_is_out_cause_at_most_one_further_pull() {
    // A manager that does not hold back: the agent's half alone bounds what rings cost.
    let pulls =
        |owed: &[GuestOwed]| owed.iter().filter(|owed| **owed == GuestOwed::Send(FromGuest::Pull)).count();
    for answer in [FromHost::Nothing, walk::offer_of(samples::in_guest())] {
        let mut guest = pulling();
        for _ in 0..10_000 {
            guest = guest.receive(START, FromHost::Ring).unwrap();
            assert_eq!(drain(&mut guest), [], "a ring while a pull is out asks for nothing");
        }
        let mut guest = guest.receive(START, answer).unwrap();
        assert_eq!(pulls(&drain(&mut guest)), 1);
        let mut guest = guest.receive(START, FromHost::Nothing).unwrap();
        assert_eq!((drain(&mut guest), guest.state()), (Vec::new(), "Working"), "and then rest");
    }
    // With a request in hand as without one.
    let mut guest = walk::printed().receive(START, FromHost::Ring).unwrap();
    assert_eq!(pulls(&drain(&mut guest)), 1);
    for _ in 0..10_000 {
        guest = host_says(guest, FromHost::Ring);
    }
    // A note that comes while a pull is out counts like the rings.
    let guest = walk::finished(guest);
    let mut guest = guest.receive(START, FromHost::Noted(samples::request())).unwrap();
    assert_eq!(drain(&mut guest), [GuestOwed::Forget(samples::request())]);
    let mut guest = guest.receive(START, FromHost::Nothing).unwrap();
    assert_eq!(pulls(&drain(&mut guest)), 1);
    let mut guest = guest.receive(START, FromHost::Nothing).unwrap();
    assert_eq!(drain(&mut guest), []);
    // With every hand full none goes out at all.
    let mut guest = walk::full();
    for _ in 0..10_000 {
        guest = guest.receive(START, FromHost::Ring).unwrap();
        assert_eq!(drain(&mut guest), []);
    }
}

#[test]
fn the_manager_rings_once_until_the_guest_pulls() {
    let mut host = welcomed();
    for round in 0..10_000 {
        host = host.ring().unwrap();
        let rings = walk::drain_host(&mut host);
        assert_eq!(rings.len(), usize::from(round == 0), "ring {round}");
    }
    let mut host = walk::guest_says(host, FromGuest::Pull).ring().unwrap();
    assert_eq!(
        walk::drain_host(&mut host),
        [HostOwed::Send(FromHost::Ring)],
        "after a pull it may ring again"
    );
}

#[test]
fn a_lost_ring_costs_one_heartbeat() {
    let mut world = World::with_requests(&[]);
    world.connect();
    world.settle();
    world.accept(300);
    world.lose_next_ring();
    world.settle();
    assert_eq!(world.finished(), 0, "the ring is lost");
    world.advance(HEARTBEAT_MS);
    world.settle();
    world.all_done_exactly_once(false);
}

#[test]
fn a_lost_ring_is_made_good_by_a_new_session() {
    let mut world = World::with_requests(&[]);
    world.connect();
    world.settle();
    world.accept(300);
    world.lose_next_ring();
    world.settle();
    world.lose(Loss::Link);
    world.connect();
    world.settle();
    world.all_done_exactly_once(false);
}

#[test]
fn the_ring_is_repeated_only_where_a_pull_is_due() {
    let rings = |host: Host| {
        let mut host = host.expire(START.after(HEARTBEAT_MS)).unwrap();
        walk::drain_host(&mut host)
            .iter()
            .filter(|owed| matches!(owed, HostOwed::Send(FromHost::Ring)))
            .count()
    };
    let quiet = || walk::drained_host(walk::asked().nothing().unwrap());
    assert_eq!(rings(quiet()), 0, "nobody asked for one");
    assert_eq!(rings(walk::drained_host(quiet().ring().unwrap())), 1);
    assert_eq!(
        rings(walk::drained_host(walk::serving().ring().unwrap())),
        1,
        "a request in hand is no reason"
    );
    assert_eq!(rings(walk::drained_host(walk::asked().ring().unwrap())), 0, "a pull is there");
    assert_eq!(rings(walk::drained_host(welcomed().ring().unwrap())), 0, "the first pull comes by itself");
}

#[test]
fn a_peer_that_is_silent_in_the_handshake_is_closed_at_its_deadline() {
    for (mut guest, state) in [
        (Guest::connected(START), "Greeting"),
        (walk::introducing(), "Introducing"),
        (walk::proving(), "Proving"),
    ] {
        assert_eq!(walk::deadline(&mut guest), START.after(HANDSHAKE_MS_MAX), "{state}");
        let guest = guest.expire(START.after(HANDSHAKE_MS_MAX - 1)).unwrap();
        closed_for_silence(guest.expire(START.after(HANDSHAKE_MS_MAX)), state, HANDSHAKE_MS_MAX);
    }
    for (mut host, state) in [(walk::greeted(), "Greeted"), (walk::judging(), "Judging")] {
        assert_eq!(walk::host_wakes(&mut host), START.after(HANDSHAKE_MS_MAX), "{state}");
        let host = host.expire(START.after(HANDSHAKE_MS_MAX - 1)).unwrap();
        closed_for_silence(host.expire(START.after(HANDSHAKE_MS_MAX)), state, HANDSHAKE_MS_MAX);
    }
}

#[test]
fn a_handshake_in_small_steps_has_no_longer_deadline() {
    let late = START.after(HANDSHAKE_MS_MAX - 1);
    let mut guest = Guest::connected(START).receive(late, FromHost::Greeting(samples::greeting())).unwrap();
    drain(&mut guest);
    let guest = drained(guest.introduce(samples::hello()).unwrap());
    closed_for_silence(guest.expire(START.after(HANDSHAKE_MS_MAX)), "Proving", HANDSHAKE_MS_MAX);
    let hello = FromGuest::Hello(Box::new(samples::hello()));
    let host = walk::drained_host(walk::greeted().receive(late, hello).unwrap());
    closed_for_silence(host.expire(START.after(HANDSHAKE_MS_MAX)), "Judging", HANDSHAKE_MS_MAX);
}

#[test]
fn a_peer_that_falls_silent_is_closed_at_its_deadline() {
    let mut guest = settling();
    assert_eq!(walk::deadline(&mut guest), START.after(SILENCE_MS_MAX));
    let guest = guest.expire(START.after(SILENCE_MS_MAX - 1)).unwrap();
    let guest = drained(guest.receive(START.after(10), FromHost::Ping(1)).unwrap());
    let guest = guest.expire(START.after(SILENCE_MS_MAX)).unwrap();
    closed_for_silence(guest.expire(START.after(SILENCE_MS_MAX + 10)), "Settling", SILENCE_MS_MAX);
    let mut host = welcomed().expire(START.after(HEARTBEAT_MS - 1)).unwrap();
    assert_eq!(walk::drain_host(&mut host), [], "a heartbeat is not early");
    for beat in 1..=2 {
        assert_eq!(walk::host_wakes(&mut host), START.after(beat * HEARTBEAT_MS));
        host = host.expire(START.after(beat * HEARTBEAT_MS)).unwrap();
        assert_eq!(walk::drain_host(&mut host), [HostOwed::Send(FromHost::Ping(beat))]);
    }
    assert_eq!(
        walk::host_wakes(&mut host),
        START.after(SILENCE_MS_MAX),
        "the deadline comes before the third ping"
    );
    let host = host.expire(START.after(SILENCE_MS_MAX - 1)).unwrap();
    closed_for_silence(host.expire(START.after(SILENCE_MS_MAX)), "Settling", SILENCE_MS_MAX);
}

#[test]
fn the_heartbeat_keeps_an_idle_session_open() {
    let mut world = World::with_requests(&[]);
    world.connect();
    world.settle();
    let before = world.pulls;
    for _ in 0..1000 {
        world.advance(HEARTBEAT_MS);
        world.settle();
    }
    assert!(world.is_connected(), "seven hours of nothing end no session");
    assert_eq!(world.pulls, before, "and cause no pull");
    assert_eq!(world.manager_heard(), world.now);
}

#[test]
fn a_guest_that_stands_still_is_not_given_up() {
    let (stops, hour) = (START.after(40_000), START.after(3_600_000));
    let host = drained_host(welcomed().expire(START.after(HEARTBEAT_MS)).unwrap());
    let mut host = host.suspend(stops).suspend(START.after(50_000));
    assert_eq!(walk::host_wakes(&mut host), Tick(u64::MAX), "nothing is due while it stands still");
    let host = host.expire(hour).unwrap();
    assert!(host.is_suspended());
    let mut host = host.resume(hour).resume(hour);
    assert_eq!(walk::drain_host(&mut host), [HostOwed::Send(FromHost::Ping(2))], "asked for at once");
    assert_eq!(walk::host_wakes(&mut host), hour.after(SILENCE_MS_MAX - 40_000), "silent for 40 s before");
    let deadline = hour.after(SILENCE_MS_MAX - 40_000);
    closed_for_silence(host.expire(deadline), "Settling", SILENCE_MS_MAX);
    // In the handshake nothing is asked, and its deadline is later by as long.
    let mut host = walk::greeted().suspend(START.after(1_000)).expire(hour).unwrap().resume(hour);
    assert_eq!(walk::host_wakes(&mut host), hour.after(HANDSHAKE_MS_MAX - 1_000));
    // What was on its way when it stopped is taken, and says nothing of the time behind.
    let host = welcomed().suspend(START.after(1_000));
    let host = walk::drained_host(host.receive(START.after(2_000), FromGuest::Pull).unwrap());
    let mut host = drained_host(host.nothing().unwrap().resume(hour));
    assert_eq!(walk::host_wakes(&mut host), hour.after(HEARTBEAT_MS));
    let host = host.expire(hour.after(SILENCE_MS_MAX - 1)).unwrap();
    closed_for_silence(drained_host(host).expire(hour.after(SILENCE_MS_MAX)), "Quiet", SILENCE_MS_MAX);
}

#[test]
fn a_guest_that_stood_still_goes_on_within_one_round_trip() {
    let mut world = World::with_requests(&[200_000]);
    world.connect();
    world.deliver_until(100_000);
    world.stand_still(86_400_000);
    world.settle();
    world.all_done_exactly_once(false);
    world.accept(0);
    world.stand_still(86_400_000);
    world.settle();
    world.all_done_exactly_once(false);
    assert!(world.is_connected());
}

#[test]
fn a_fetch_without_progress_is_closed_at_its_deadline() {
    let mut guest = drained(walk::deciding().fetch(START.after(5), samples::request(), 0).unwrap());
    assert_eq!(walk::deadline(&mut guest), START.after(5 + FETCH_MS_MAX));
    let bytes = vec![0; 300];
    let first = FromHost::Chunk(Chunk { request: samples::request(), offset: 0, bytes });
    let mut guest = drained(guest.receive(START.after(10), first).unwrap());
    assert_eq!(walk::deadline(&mut guest), START.after(10 + FETCH_MS_MAX));
    // A heartbeat is life, not progress.
    let guest = drained(guest.receive(START.after(20), FromHost::Ping(1)).unwrap());
    closed_for_silence(guest.expire(START.after(10 + FETCH_MS_MAX)), "Fetching", FETCH_MS_MAX);
    let mut fetched = walk::fetched();
    assert_eq!(walk::deadline(&mut fetched), START.after(SILENCE_MS_MAX), "nothing more is awaited");
}

#[test]
fn of_several_fetches_the_one_that_stands_still_counts() {
    let second =
        Offer { request: walk::other(), ..samples::offer(Action::Run(samples::run(samples::program()))) };
    let guest = drained(walk::deciding().fetch(START, samples::request(), 0).unwrap());
    let guest = host_says(host_says(guest, FromHost::Ring), FromHost::Offer(Box::new(second)));
    let guest = drained(guest.fetch(START.after(5), walk::other(), 0).unwrap());
    let chunk = Chunk { request: samples::request(), offset: 0, bytes: vec![0; 300] };
    let mut guest = drained(guest.receive(START.after(10), FromHost::Chunk(chunk)).unwrap());
    assert_eq!(walk::deadline(&mut guest), START.after(5 + FETCH_MS_MAX));
    let mut guest = walk::finished(guest);
    assert_eq!(walk::deadline(&mut guest), START.after(5 + FETCH_MS_MAX), "the other one was given up");
}

#[test]
fn a_silent_network_ends_both_halves() {
    let mut world = World::with_requests(&[300]);
    world.connect();
    world.advance(HANDSHAKE_MS_MAX);
    assert!(!world.is_connected(), "a handshake of which no byte arrives");
    world.connect();
    world.settle();
    for _ in 0..3 {
        world.advance(HEARTBEAT_MS);
    }
    assert!(!world.is_connected(), "a session of which no byte arrives");
    world.connect();
    world.settle();
    world.all_done_exactly_once(false);
}

#[test]
fn a_station_is_told_with_its_request() {
    let mut applying = walk::applying(walk::fetched());
    applying = applying.progress(samples::progress(Stage::Started)).unwrap();
    let told = GuestOwed::Send(FromGuest::Progress(samples::progress(Stage::Started)));
    assert_eq!(drain(&mut applying), [told]);
}

#[track_caller]
fn closed_for_silence<S: std::fmt::Debug>(result: Result<S, SessionError>, state: &str, ms: u64) {
    let error = result.expect_err("the deadline has passed");
    let SessionError::Silent(silent) = &error else { panic!("{error}") };
    assert_eq!((silent.state, silent.ms), (state, ms));
    assert_eq!(error.reason(), Some(Reason::SILENT));
}
