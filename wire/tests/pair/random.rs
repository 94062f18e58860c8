//! Random sequences of what a host, a guest and the line between them can do.

use crate::world::{Loss, World};
use doorbell_wire::limits::HANDS_MAX;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Event {
    Accept(usize),
    Ring,
    ToGuest(usize),
    ToHost(usize),
    Work,
    Advance(u64),
    StandStill(u64),
    Cancel(usize),
    Lose(Loss),
    Connect,
}

fn event() -> impl Strategy<Value = Event> {
    let len = prop_oneof![Just(0_usize), 1..400_usize, 30_000..120_000_usize];
    let bytes = || prop_oneof![1..40_usize, Just(usize::MAX)];
    let loss = prop_oneof![Just(Loss::Link), Just(Loss::Manager), Just(Loss::Guest)];
    prop_oneof![
        2 => len.prop_map(Event::Accept),
        2 => Just(Event::Ring),
        8 => bytes().prop_map(Event::ToGuest),
        8 => bytes().prop_map(Event::ToHost),
        4 => Just(Event::Work),
        1 => (0..30_000_u64).prop_map(Event::Advance),
        1 => (0..200_000_u64).prop_map(Event::StandStill),
        1 => (0..20_usize).prop_map(Event::Cancel),
        1 => loss.prop_map(Event::Lose),
        2 => Just(Event::Connect),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// The world checks its invariants at every step: bulk in flight within the window, input of each request
    /// within its own, hands within their number, one ring (and one for each heartbeat) between pulls, both
    /// halves drained; and in the end nothing is lost or started twice, and no credit is gone.
    #[test]
    fn no_sequence_of_events_loses_a_request_or_starts_one_twice(
        events in proptest::collection::vec(event(), 1..120),
        concurrency in prop_oneof![1..4_usize, Just(HANDS_MAX)],
    ) {
        let mut world = World::with_requests(&[]);
        world.manager.concurrency = concurrency;
        world.connect();
        for event in events {
            apply(&mut world, &event);
        }
        world.connect();
        world.settle();
        world.all_done_exactly_once(true);
        world.no_credit_is_lost();
    }
}

fn apply(world: &mut World, event: &Event) {
    match *event {
        Event::Accept(len) if world.manager.store.len() < 20 => world.accept(len),
        Event::Accept(_) | Event::Ring => world.ring(),
        Event::ToGuest(count) => drop(world.deliver_to_guest(count)),
        Event::ToHost(count) => drop(world.deliver_to_host(count)),
        Event::Work => world.work(),
        Event::Advance(ms) => world.advance(ms),
        Event::StandStill(ms) => world.stand_still(ms),
        Event::Cancel(index) => world.cancel(index),
        Event::Lose(loss) => world.lose(loss),
        Event::Connect if !world.is_connected() => world.connect(),
        Event::Connect => {}
    }
}
