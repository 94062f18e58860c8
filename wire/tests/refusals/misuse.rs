//! Calls that a state does not have: a driver's own fault, told to the peer as such.

use crate::common::walk::{
    self, GUEST_ROWS, HOST_ROWS, applying_host, attaching, deciding, drained, drained_host, fetched,
    fetching, other, serving, settling, welcomed,
};
use crate::common::{START, samples};
use doorbell_wire::error::{Reason, SessionError};
use doorbell_wire::limits::{BULK_WINDOW, CHUNK_LEN_MAX, OUTPUT_LEN_MAX};
use doorbell_wire::message::action::Action;
use doorbell_wire::message::{FromHost, Offsets, Output, Progress, Stage, Stream};
use doorbell_wire::session::guest::Guest;
use std::fmt::Debug;

#[test]
fn a_call_that_a_state_does_not_have_is_misuse() {
    let guest_calls: [(&str, &[&str]); 6] = [
        ("introduce()", &["Introducing"]),
        ("pull()", &["Settling"]),
        ("attach()", &["Settling"]),
        ("fetch()", &["Deciding"]),
        ("apply()", &["Deciding", "Fetching"]),
        ("acknowledge()", &["Deciding", "Fetching", "Applying"]),
    ];
    for ((name, states), (same, call)) in guest_calls.into_iter().zip(walk::guest_calls()) {
        assert_eq!(name, same);
        for row in GUEST_ROWS.iter().filter(|row| !states.contains(&row.state)) {
            misused(call((row.make)()), name, row.state);
        }
    }
    let host_calls = [
        ("welcome()", "Judging"),
        ("offer()", "Asked"),
        ("nothing()", "Asked"),
        ("attached()", "Attaching"),
        ("noted()", "Storing"),
    ];
    for ((name, state), (same, call)) in host_calls.into_iter().zip(walk::host_calls()) {
        assert_eq!(name, same);
        for row in HOST_ROWS.iter().filter(|row| row.state != state) {
            misused(call((row.make)()), name, row.state);
        }
    }
}

#[test]
fn nothing_is_sent_before_the_guest_is_welcome() {
    for row in HOST_ROWS {
        let open = !matches!(row.state, "Greeted" | "Judging");
        assert_eq!((row.make)().is_open(), open, "{}", row.state);
        assert_eq!((row.make)().ring().is_ok(), open, "{}", row.state);
        assert_eq!((row.make)().cancel(other()).is_ok(), open, "{}", row.state);
    }
}

#[test]
fn a_program_is_not_applied_before_all_of_it_is_there() {
    misused(fetching().apply(), "apply()", "Fetching");
    assert!(fetched().apply().is_ok());
}

#[test]
fn a_program_without_bytes_is_not_fetched() {
    let offer = FromHost::Offer(Box::new(samples::offer(Action::LinkList)));
    let deciding = walk::host_says(walk::pulling(), offer);
    misused(deciding.fetch(START), "fetch()", "Deciding");
}

#[test]
fn staging_more_than_came_or_after_the_fetch_is_misuse() {
    misused(fetching().staged(301), "staged()", "Fetching");
    misused(fetching().staged(0), "staged()", "Fetching");
    assert!(fetching().staged(300).is_ok());
    misused(fetched().apply().unwrap().staged(1), "staged()", "Applying");
    misused(deciding().staged(1), "staged()", "Deciding");
}

#[test]
fn spooling_more_than_came_is_misuse() {
    misused(applying_host().spooled(1), "spooled()", "Applying");
    let printed = walk::guest_says(
        applying_host(),
        doorbell_wire::message::FromGuest::Output(samples::output(Stream::Stdout)),
    );
    misused(printed.spooled(7), "spooled()", "Applying");
}

#[test]
fn a_chunk_beyond_room_or_end_is_misuse() {
    assert_eq!(serving().chunk_room(), Some((300, 10)));
    misused(serving().chunk(vec![0; 11]), "chunk()", "Serving");
    misused(serving().chunk(Vec::new()), "chunk()", "Serving");
    misused(welcomed().chunk(vec![0]), "chunk()", "Settling");
    let done = drained_host(serving().chunk(vec![0; 10]).unwrap());
    assert_eq!(done.chunk_room(), None, "all is on its way");
    assert_eq!(welcomed().chunk_room(), None);
}

#[test]
fn a_station_out_of_order_or_of_another_request_is_misuse() {
    let told = |stage| samples::progress(stage);
    misused(
        deciding().progress(Progress { request: other(), ..told(Stage::Journalled) }),
        "progress()",
        "Deciding",
    );
    misused(deciding().progress(told(Stage::Started)), "progress()", "Deciding");
    let started = fetched().apply().unwrap().progress(told(Stage::Started)).unwrap();
    misused(started.progress(told(Stage::Started)), "progress()", "Applying");
    misused(walk::settling().progress(told(Stage::Fetched)), "progress()", "Settling");
}

#[test]
fn output_out_of_place_is_misuse() {
    let print = |guest: Guest, offset, len| {
        guest.output(Output { offset, bytes: vec![0; len], ..samples::output(Stream::Stdout) })
    };
    let applying = || drained(fetched().apply().unwrap());
    assert_eq!(applying().output_room(), 0, "the start was not told");
    misused(print(applying(), 0, 1), "output()", "Applying");
    let started = || drained(applying().progress(samples::progress(Stage::Started)).unwrap());
    assert_eq!(started().output_room(), CHUNK_LEN_MAX);
    misused(print(started(), 1, 1), "output()", "Applying");
    misused(print(started(), 0, 0), "output()", "Applying");
    misused(print(started(), 0, CHUNK_LEN_MAX + 1), "output()", "Applying");
    let foreign = Output { request: other(), ..samples::output(Stream::Stdout) };
    misused(started().output(foreign), "output()", "Applying");
    misused(print(fetching(), 0, 1), "output()", "Fetching");
    // Six bytes of the request before are still without credit.
    let mut guest = started();
    let mut offset = 0;
    while guest.output_room() > 0 {
        let len = guest.output_room();
        guest = print(guest, offset, len).unwrap();
        offset += len as u64;
    }
    assert_eq!(offset, u64::from(BULK_WINDOW) - 6);
    misused(print(guest, offset, 1), "output()", "Applying");
}

#[test]
fn output_beyond_its_limit_or_that_nobody_wants_is_misuse() {
    let resumed = |from| {
        let attaching = drained(settling().attach(samples::request()).unwrap());
        walk::host_says(attaching, walk::attached(from))
    };
    let last = Offsets { stdout: OUTPUT_LEN_MAX - 1, stderr: 0 };
    let print = |guest: Guest, offset, len| {
        guest.output(Output { offset, bytes: vec![0; len], ..samples::output(Stream::Stdout) })
    };
    assert!(print(resumed(Some(last)), last.stdout, 1).is_ok());
    misused(print(resumed(Some(last)), last.stdout, 2), "output()", "Applying");
    misused(print(resumed(None), 0, 1), "output()", "Applying");
    // A start that is told after an attach changes neither place nor want.
    let told = resumed(None).progress(samples::progress(Stage::Started)).unwrap();
    misused(print(told, 0, 1), "output()", "Applying");
    let told = resumed(Some(last)).progress(samples::progress(Stage::Started)).unwrap();
    assert!(print(told, last.stdout, 1).is_ok());
}

#[test]
fn an_outcome_of_another_request_is_misuse() {
    let mut outcome = walk::acknowledgement();
    outcome.request = other();
    misused(deciding().acknowledge(outcome), "acknowledge()", "Deciding");
    assert_eq!(deciding().in_hand(), Some(samples::request()));
    assert_eq!(settling().in_hand(), None);
    assert_eq!(attaching().heard(), START);
}

#[track_caller]
fn misused<S: Debug>(result: Result<S, SessionError>, call: &str, expected: &str) {
    let error = result.expect_err(call);
    let SessionError::Misuse { call: told, state } = &error else {
        panic!("{call} while {expected}: {error}")
    };
    assert_eq!((format!("{told}()").as_str(), *state), (call, expected));
    assert_eq!(error.reason(), Some(Reason::INTERNAL));
}
