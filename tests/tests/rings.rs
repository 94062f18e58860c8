//! Ten thousand rings while the agent is busy cause at most one further pull; and a ring to a quiet agent one.

use doorbell_tests::guest::{Guest, Machine, await_cable, door};
use doorbell_tests::line::Line;
use doorbell_tests::place::Place;
use doorbell_tests::rogue::{Rogue, offer};
use doorbell_tests::wait::comes_within;
use doorbell_wire::message::{FromGuest, FromHost, Kind, Stage};
use std::time::Duration;

#[test]
fn ten_thousand_rings_while_busy_cause_at_most_one_further_pull() {
    let place = Place::new();
    let rogue = Rogue::listen(&door(&Guest::socket_of(&place, "busy")));
    let guest = Guest::boot(&place, "busy", &Machine::default());
    let mut line = rogue.welcome();
    let request = offer(1, &format!("{}; exit 0", await_cable(false)));
    line.order(&FromHost::Offer(Box::new(request.clone())));
    await_start(&mut line);
    for _ in 0..10_000 {
        line.order(&FromHost::Ring);
    }
    // Everything that was rung has been read when the agent answers what was sent behind it.
    line.order(&FromHost::Ping(1));
    let mut pulls = 0;
    until_pong(&mut line, 1, &mut pulls);
    assert_eq!(pulls, 1, "one pull is out, and until its answer there is no other");
    line.order(&FromHost::Nothing);
    // What was rung while it was out is worth one pull, and no more than one.
    let FromGuest::Pull = line.hear_guest() else { unexpected("pull") };
    line.order(&FromHost::Nothing);
    line.order(&FromHost::Ping(2));
    until_pong(&mut line, 2, &mut pulls);
    assert_eq!(pulls, 1, "the rings were worth more than one further pull");

    guest.plug(false);
    loop {
        if let FromGuest::Acknowledge(_) = line.hear_guest() {
            break;
        }
    }
    line.order(&FromHost::Noted(request.request));
    // The pull behind every receipt, and nothing of the rings.
    let FromGuest::Pull = line.hear_guest() else { unexpected("pull") };
    line.order(&FromHost::Nothing);
    let quiet = !comes_within(Duration::from_secs(2), || line.try_hear().is_some());
    assert!(quiet, "a further pull");

    // A ring to an agent that has nothing to do is one pull.
    line.order(&FromHost::Ring);
    let FromGuest::Pull = line.hear_guest() else { unexpected("pull") };
}

fn await_start(line: &mut Line) {
    loop {
        if let FromGuest::Progress(progress) = line.hear_guest()
            && progress.stage == Stage::Started
        {
            return;
        }
    }
}

fn until_pong(line: &mut Line, number: u64, pulls: &mut u32) {
    loop {
        let said = line.hear_guest();
        if said == FromGuest::Pong(number) {
            return;
        }
        *pulls += u32::from(said.kind() == Kind::Pull);
    }
}

fn unexpected(wanted: &str) -> ! {
    unreachable!("the agent did not {wanted}")
}
