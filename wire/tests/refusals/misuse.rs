//! Calls that a state does not have: a driver's own fault, told to the peer as such.

use crate::common::walk::{
    self, GUEST_HANDS, GUEST_ROWS, HOST_HANDS, HOST_ROWS, applying_host, asked, attaching, begun, deciding,
    drained, drained_host, fetched, fetching, guest_says, host_says, introducing, offered, other, printed,
    resumed, serving, settling, welcomed,
};
use crate::common::{START, id, samples};
use doorbell_wire::error::{Reason, SessionError};
use doorbell_wire::limits::{
    BULK_WINDOW, CHUNK_LEN_MAX, HANDS_MAX, INPUT_LEN_MAX, INPUT_WINDOW, OUTPUT_LEN_MAX,
};
use doorbell_wire::message::action::Action;
use doorbell_wire::message::{Attach, FromGuest, FromHost, Offer, Offsets, Output, Progress, Stage, Stream};
use doorbell_wire::session::guest::Guest;
use doorbell_wire::session::host::{Host, Owed};
use std::fmt::Debug;

#[test]
fn a_call_that_a_state_does_not_have_is_misuse() {
    all_but(GUEST_ROWS, walk::guest_calls(), &[("introduce()", &["Introducing"]), ("pull()", &["Settling"])]);
    let allowed: &[(&str, &[&str])] =
        &[("welcome()", &["Judging"]), ("offer()", &["Asked"]), ("nothing()", &["Asked"])];
    all_but(HOST_ROWS, walk::host_calls(), allowed);
    let allowed: &[(&str, &[&str])] = &[
        ("attach()", &[walk::NOWHERE]),
        ("fetch()", &["Deciding"]),
        ("apply()", &["Deciding", "Fetching"]),
        ("acknowledge()", &["Deciding", "Fetching", "Applying"]),
    ];
    all_but(GUEST_HANDS, walk::guest_hand_calls(), allowed);
    let allowed: &[(&str, &[&str])] = &[
        ("offer()", &[walk::NOWHERE]),
        ("push()", &[walk::NOWHERE]),
        ("attached()", &["Attaching"]),
        ("noted()", &["Storing"]),
    ];
    all_but(HOST_HANDS, walk::host_hand_calls(), allowed);
}

#[test]
fn nothing_is_sent_before_the_guest_is_welcome() {
    for row in HOST_ROWS {
        let open = !matches!(row.state, "Greeted" | "Judging");
        let (_, resize) = samples::from_host().into_iter().find(|(name, _)| *name == "resize").unwrap();
        let FromHost::Resize(resize) = resize else { panic!("{resize:?}") };
        assert_eq!((row.make)().is_open(), open, "{}", row.state);
        assert_eq!((row.make)().ring().is_ok(), open, "{}", row.state);
        assert_eq!((row.make)().cancel(other()).is_ok(), open, "{}", row.state);
        assert_eq!((row.make)().resize(resize).is_ok(), open, "{}", row.state);
    }
}

#[test]
fn nothing_is_offered_or_presented_beyond_the_hands() {
    let mut host = welcomed();
    for number in 0..HANDS_MAX {
        host = drained_host(guest_says(host, FromGuest::Pull).offer(query(number)).unwrap());
    }
    assert_eq!(host.in_hand().count(), HANDS_MAX);
    let error = host.receive(START, FromGuest::Pull).unwrap_err();
    assert_eq!(
        error.reason(),
        Some(Reason::MISBEHAVED),
        "a guest with every hand full does not pull: {error}"
    );
    // A guest that presents as many while an offer is due.
    let full = walk::full_host();
    assert_eq!(full.in_hand().count(), HANDS_MAX);
    let mut guest = settling();
    for number in 0..HANDS_MAX {
        guest = drained(guest.attach(hand(number), 0, 0).unwrap());
    }
    misused(guest.attach(other(), 0, 0), "attach()", "Settling");
}

#[test]
fn a_request_is_offered_once_while_it_is_in_hand() {
    let again = |host| guest_says(host, FromGuest::Pull).offer(samples::offer(Action::LinkList));
    misused(again(offered()), "offer()", "Asked");
    misused(again(attaching()), "offer()", "Asked");
    let stored = guest_says(applying_host(), walk::acknowledge());
    misused(again(drained_host(stored)), "offer()", "Asked");
    // Noted, it is free again: one that may be repeated is offered anew.
    let stored = guest_says(applying_host(), walk::acknowledge());
    assert!(again(drained_host(stored.noted(samples::request()).unwrap())).is_ok());
}

#[test]
fn an_offer_whose_floor_settles_itself_is_misuse() {
    for (sequence, floor, fine) in [(Some(7), 7, true), (Some(7), 8, false), (None, 1 << 63, false)] {
        let sequence = sequence.map(|number| doorbell_wire::ids::Sequence::try_from(number).unwrap());
        let offer = Offer { sequence, floor, ..samples::offer(Action::LinkList) };
        assert_eq!(offer.floor_is_valid(), fine);
        assert_eq!(asked().offer(offer).is_ok(), fine, "floor {floor} of {sequence:?}");
    }
}

#[test]
fn a_hello_of_a_sequence_that_no_request_has_is_misuse() {
    let mut hello = samples::hello();
    hello.claims.sequence_max = 1 << 63;
    misused(introducing().introduce(hello), "introduce()", "Introducing");
}

#[test]
fn a_program_is_not_applied_before_all_of_it_is_there() {
    misused(fetching().apply(samples::request()), "apply()", "Working");
    assert!(fetched().apply(samples::request()).is_ok());
}

#[test]
fn a_fetch_begins_within_the_payload() {
    let offer = FromHost::Offer(Box::new(samples::offer(Action::LinkList)));
    let query = host_says(walk::pulling(), offer);
    misused(query.fetch(START, samples::request(), 0), "fetch()", "Working");
    misused(deciding().fetch(START, samples::request(), 310), "fetch()", "Working");
    assert!(deciding().fetch(START, samples::request(), 309).is_ok());
    misused(deciding().fetch(START, other(), 0), "fetch()", "Working");
}

#[test]
fn staging_more_than_came_is_misuse() {
    misused(fetching().staged(301), "staged()", "Working");
    misused(fetching().staged(0), "staged()", "Working");
    misused(deciding().staged(1), "staged()", "Working");
    assert!(fetching().staged(300).is_ok());
}

#[test]
fn spooling_more_than_came_or_where_nothing_came_is_misuse() {
    let request = samples::request();
    let spool = |host: Host, end, bytes| host.spooled(request, Stream::Stdout, end, bytes);
    misused(spool(applying_host(), 0, 1), "spooled()", "Settling");
    let printed = || guest_says(applying_host(), FromGuest::Output(samples::output(Stream::Stdout)));
    misused(spool(printed(), 6, 7), "spooled()", "Settling");
    misused(spool(printed(), 7, 6), "spooled()", "Settling");
    misused(spool(printed(), 6, 0), "spooled()", "Settling");
    misused(printed().spooled(request, Stream::Stderr, 6, 6), "spooled()", "Settling");
    misused(printed().spooled(other(), Stream::Stdout, 6, 6), "spooled()", "Settling");
    let spooled = drained_host(spool(printed(), 6, 6).unwrap());
    misused(spool(spooled, 6, 1), "spooled()", "Settling");
    // The outcome may be there already; but not the note of it.
    let acknowledged = || guest_says(printed(), walk::acknowledge());
    assert!(spool(acknowledged(), 6, 6).is_ok());
    misused(spool(drained_host(acknowledged().noted(request).unwrap()), 6, 6), "spooled()", "Settling");
}

#[test]
fn a_chunk_beyond_room_or_end_is_misuse() {
    let request = samples::request();
    assert_eq!(serving().chunk_room(), Some((request, 300, 10)));
    misused(serving().chunk(request, vec![0; 11]), "chunk()", "Quiet");
    misused(serving().chunk(request, Vec::new()), "chunk()", "Quiet");
    misused(serving().chunk(other(), vec![0]), "chunk()", "Quiet");
    misused(welcomed().chunk(request, vec![0]), "chunk()", "Settling");
    let done = drained_host(serving().chunk(request, vec![0; 10]).unwrap());
    assert_eq!(done.chunk_room(), None, "all is on its way");
    assert_eq!(welcomed().chunk_room(), None);
}

#[test]
fn input_out_of_place_is_misuse() {
    let request = samples::request();
    assert_eq!(offered().input_room(request), None, "it has not started");
    misused(offered().input(request, vec![0]), "input()", "Quiet");
    misused(offered().input_end(request), "input_end()", "Quiet");
    let applying = || resumed(None);
    assert_eq!(applying().input_room(request), Some((0, CHUNK_LEN_MAX)));
    assert_eq!(applying().input_room(other()), None);
    misused(applying().input(request, Vec::new()), "input()", "Settling");
    misused(applying().input(request, vec![0; CHUNK_LEN_MAX + 1]), "input()", "Settling");
    let ended = || drained_host(applying().input_end(request).unwrap());
    assert_eq!(ended().input_room(request), None);
    misused(ended().input(request, vec![0]), "input()", "Settling");
    misused(ended().input_end(request), "input_end()", "Settling");
    let full =
        (0..2).fold(applying(), |host, _| drained_host(host.input(request, vec![0; CHUNK_LEN_MAX]).unwrap()));
    assert_eq!(full.input_room(request), None);
    misused(full.input(request, vec![0]), "input()", "Settling");
    let stored = guest_says(applying(), walk::acknowledge());
    assert_eq!(stored.input_room(request), None, "its outcome is there");
}

#[test]
fn input_ends_at_its_limit() {
    let request = samples::request();
    let last = Attach { request, input: INPUT_LEN_MAX - 2, taken: INPUT_LEN_MAX - 2 };
    let applying = || {
        let attaching = guest_says(welcomed(), FromGuest::Attach(last));
        drained_host(attaching.attached(request, None, 0).unwrap())
    };
    assert_eq!(applying().input_room(request), Some((INPUT_LEN_MAX - 2, 2)));
    misused(applying().input(request, vec![0; 3]), "input()", "Settling");
    let all = drained_host(applying().input(request, vec![0; 2]).unwrap());
    assert_eq!(all.input_room(request), None);
    assert!(all.input_end(request).is_ok());
}

#[test]
fn an_action_that_reads_nothing_has_no_input() {
    let request = samples::request();
    let list = drained_host(asked().offer(samples::offer(Action::LinkList)).unwrap());
    let started = || {
        let list = drained_host(asked().offer(samples::offer(Action::LinkList)).unwrap());
        guest_says(list, FromGuest::Progress(samples::progress(Stage::Started)))
    };
    assert_eq!((list.input_room(request), started().input_room(request)), (None, None));
    misused(started().input(request, vec![0]), "input()", "Quiet");
    misused(started().input_end(request), "input_end()", "Quiet");
}

#[test]
fn more_input_taken_than_came_is_misuse() {
    let request = samples::request();
    misused(printed().input_taken(request, 1), "input_taken()", "Working");
    let fed = || host_says(printed(), FromHost::Input(samples::input(0)));
    misused(fed().input_taken(request, 7), "input_taken()", "Working");
    misused(fed().input_taken(request, 0), "input_taken()", "Working");
    misused(fed().input_taken(other(), 6), "input_taken()", "Working");
    assert!(fed().input_taken(request, 6).is_ok());
    misused(deciding().input_taken(request, 1), "input_taken()", "Working");
    let reads_nothing = walk::given(samples::in_guest());
    misused(reads_nothing.input_taken(request, 1), "input_taken()", "Working");
    // What waits for the program fits the window.
    let window = u64::from(INPUT_WINDOW);
    for (input, taken) in [(window + 1, 0), (1, 2), (u64::MAX, u64::MAX), (INPUT_LEN_MAX + 1, INPUT_LEN_MAX)]
    {
        misused(settling().attach(request, input, taken), "attach()", "Settling");
    }
    assert!(settling().attach(request, window, 0).is_ok());
    assert!(settling().attach(request, INPUT_LEN_MAX, INPUT_LEN_MAX).is_ok());
}

#[test]
fn a_station_out_of_order_or_of_another_request_is_misuse() {
    let told = |stage| samples::progress(stage);
    let foreign = Progress { request: other(), ..told(Stage::Journalled) };
    misused(deciding().progress(foreign), "progress()", "Working");
    misused(deciding().progress(told(Stage::Started)), "progress()", "Working");
    misused(begun(walk::applying(fetched())).progress(told(Stage::Started)), "progress()", "Working");
    misused(settling().progress(told(Stage::Fetched)), "progress()", "Settling");
    misused(walk::presented().progress(told(Stage::Fetched)), "progress()", "Working");
}

#[test]
fn output_out_of_place_is_misuse() {
    let print = |guest: Guest, offset, len| {
        guest.output(Output { offset, bytes: vec![0; len], ..samples::output(Stream::Stdout) })
    };
    let room = |guest: &Guest| guest.output_room(samples::request());
    let applying = || walk::applying(fetched());
    assert_eq!(room(&applying()), 0, "the start was not told");
    misused(print(applying(), 0, 1), "output()", "Working");
    let started = || begun(applying());
    assert_eq!(room(&started()), CHUNK_LEN_MAX);
    assert_eq!(started().output_room(other()), 0);
    misused(print(started(), 1, 1), "output()", "Working");
    misused(print(started(), 0, 0), "output()", "Working");
    misused(print(started(), 0, CHUNK_LEN_MAX + 1), "output()", "Working");
    let foreign = Output { request: other(), ..samples::output(Stream::Stdout) };
    misused(started().output(foreign), "output()", "Working");
    misused(print(fetching(), 0, 1), "output()", "Working");
    let mut guest = started();
    let mut offset = 0;
    while room(&guest) > 0 {
        let len = room(&guest);
        guest = drained(print(guest, offset, len).unwrap());
        offset += len as u64;
    }
    assert_eq!(offset, u64::from(BULK_WINDOW));
    misused(print(guest, offset, 1), "output()", "Working");
}

#[test]
fn output_beyond_its_limit_or_that_nobody_wants_is_misuse() {
    let resumed = |from| {
        let attaching = drained(settling().attach(samples::request(), 0, 0).unwrap());
        host_says(attaching, walk::attached(from))
    };
    let last = Offsets { stdout: OUTPUT_LEN_MAX - 1, stderr: 0 };
    let print = |guest: Guest, offset, len| {
        guest.output(Output { offset, bytes: vec![0; len], ..samples::output(Stream::Stdout) })
    };
    assert!(print(resumed(Some(last)), last.stdout, 1).is_ok());
    misused(print(resumed(Some(last)), last.stdout, 2), "output()", "Settling");
    misused(print(resumed(None), 0, 1), "output()", "Settling");
    // A start that is told after an attach changes neither place nor want.
    let told = resumed(None).progress(samples::progress(Stage::Started)).unwrap();
    misused(print(told, 0, 1), "output()", "Settling");
    let told = resumed(Some(last)).progress(samples::progress(Stage::Started)).unwrap();
    assert!(print(told, last.stdout, 1).is_ok());
    let beyond = Offsets { stdout: 0, stderr: OUTPUT_LEN_MAX + 1 };
    misused(attaching().attached(samples::request(), Some(beyond), 0), "attached()", "Settling");
    misused(attaching().attached(other(), None, 0), "attached()", "Settling");
}

#[test]
fn an_offered_request_prints_no_more_than_it_asked_for() {
    let mut guest = begun(walk::applying(fetched()));
    let mut offset = 0;
    let output =
        |offset, len: usize| Output { offset, bytes: vec![0; len], ..samples::output(Stream::Stdout) };
    while offset < samples::OUTPUT_MAX {
        guest = drained(guest.output(output(offset, CHUNK_LEN_MAX)).unwrap());
        offset += CHUNK_LEN_MAX as u64;
        let credit = samples::spooled(offset, u32::try_from(CHUNK_LEN_MAX).unwrap());
        guest = host_says(guest, FromHost::OutputCredit(credit));
    }
    misused(guest.output(output(offset, 1)), "output()", "Working");
}

#[test]
fn an_outcome_of_another_request_is_misuse() {
    let mut outcome = walk::acknowledgement();
    outcome.request = other();
    misused(deciding().acknowledge(outcome), "acknowledge()", "Working");
    assert!(deciding().has_in_hand(samples::request()) && !deciding().has_in_hand(other()));
    assert!(!settling().has_in_hand(samples::request()));
    assert!(!walk::finished(printed()).has_in_hand(samples::request()), "its outcome is told");
    assert_eq!(attaching().heard(), START);
    misused(applying_host().noted(samples::request()), "noted()", "Settling");
}

#[test]
fn a_size_is_told_while_a_program_runs_and_to_nobody_else() {
    let (_, frame) = samples::from_host().into_iter().find(|(name, _)| *name == "resize").unwrap();
    let FromHost::Resize(resize) = frame.clone() else { panic!("{frame:?}") };
    for row in HOST_HANDS {
        let mut host = (row.make)().resize(resize).unwrap();
        let told = walk::drain_host(&mut host) == [Owed::Send(frame.clone())];
        assert_eq!(told, row.state == "Applying", "{} {}", row.state, row.when);
    }
}

fn hand(number: usize) -> doorbell_wire::ids::RequestId {
    id(u8::try_from(number).unwrap())
}

fn query(number: usize) -> Offer {
    Offer { request: hand(number), sequence: None, ..samples::offer(Action::LinkList) }
}

/// Each call is misuse in every state but those that are named beside it.
fn all_but<S: Debug>(rows: &[walk::Row<S>], calls: Vec<walk::Call<S>>, allowed: &[(&str, &[&str])]) {
    let names: Vec<&str> = calls.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, allowed.iter().map(|(name, _)| *name).collect::<Vec<_>>());
    for ((name, states), (_, call)) in allowed.iter().zip(calls) {
        for row in rows.iter().filter(|row| !states.contains(&row.state)) {
            let error = call((row.make)()).expect_err(name);
            let SessionError::Misuse { call: told, .. } = &error else {
                panic!("{name} while {}: {error}", row.state)
            };
            assert_eq!(format!("{told}()"), *name, "{}", row.state);
        }
        assert!(rows.iter().any(|row| states.contains(&row.state)), "{name} has a state");
    }
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
