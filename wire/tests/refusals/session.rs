//! The rules of a session: who may say what, when and about which request. How much of it is in `bulk`.

use crate::common::walk::{
    self, GUEST_HANDS, GUEST_ROWS, HOST_ROWS, applying_host, attaching, drain, drained, drained_host,
    fetching, greeted, guest_says, host_says, offered, other, presented, printed, pulling, resumed, serving,
    settling, welcomed, working,
};
use crate::common::{START, envelope, id, samples};
use crate::refused;
use doorbell_wire::error::{Misbehaved, Reason, SessionError};
use doorbell_wire::handshake::{
    check_version, choose_version, enrolment_transcript, manager_transcript, transcript,
};
use doorbell_wire::ids::{Generation, Nonce, PublicKey, Sequence, SessionToken};
use doorbell_wire::limits::{CHUNK_LEN_MAX, HANDS_MAX, HEARTBEAT_MS, OUTPUT_LEN_MAX};
use doorbell_wire::message::action::Action;
use doorbell_wire::message::{
    Attach, Attached, Capabilities, Chunk, Fetch, FromGuest, FromHost, Greeting, Offer, Offsets, Output,
    Polls, Progress, Push, Stage, Stream, Target, Welcome,
};
use doorbell_wire::session::guest::{Guest, Owed as GuestOwed};
use doorbell_wire::session::host::{Host, Owed as HostOwed};

#[test]
fn a_goodbye_ends_the_session_in_every_state() {
    for row in GUEST_ROWS {
        let error = (row.make)().receive(START, FromHost::HostBye(Reason::FENCED)).unwrap_err();
        assert_eq!(error, SessionError::Ended(Reason::FENCED), "{}", row.state);
        assert_eq!(error.reason(), None, "a goodbye is not answered");
    }
    for row in HOST_ROWS {
        let error = (row.make)().receive(START, FromGuest::GuestBye(Reason(999))).unwrap_err();
        assert_eq!(error, SessionError::Ended(Reason(999)), "{}", row.state);
    }
}

#[test]
fn a_newer_version_is_incompatible_and_garbage_is_malformed() {
    let newer = Greeting { version_min: 2, version_max: u16::MAX, ..samples::greeting() };
    let error = Guest::connected(START).receive(START, FromHost::Greeting(newer)).unwrap_err();
    assert_eq!(error.reason(), Some(Reason::INCOMPATIBLE), "{error}");
    let upside_down = Greeting { version_min: 1, version_max: 0, ..samples::greeting() };
    assert!(choose_version(&upside_down).is_err());
    let wider = Greeting { version_max: 9, ..samples::greeting() };
    assert_eq!(choose_version(&wider), Ok(1), "the newest that both speak");
    let garbage = envelope(0x10, 0, &[0xff; 20]);
    let (frames, _) = crate::common::deframe(&garbage);
    let error = FromHost::from_frame(&frames[0]).unwrap_err();
    assert_eq!(SessionError::from(error).reason(), Some(Reason::MALFORMED));
}

#[test]
fn a_hello_of_a_version_that_was_not_offered_is_incompatible() {
    assert_eq!((check_version(0), check_version(1)), (Ok(()), Ok(())));
    for version in [2, u16::MAX] {
        let mut hello = samples::hello();
        hello.claims.version = version;
        let error = greeted().receive(START, FromGuest::Hello(Box::new(hello))).unwrap_err();
        assert_eq!(error.reason(), Some(Reason::INCOMPATIBLE), "{error}");
    }
}

#[test]
fn the_transcript_covers_every_field() {
    let (greeting, claims) = (samples::greeting(), samples::hello().claims);
    let base = transcript(&greeting, &claims).unwrap();
    assert!(base.starts_with(b"doorbell-handshake\0\x2b\0\0\0"), "a tag, and the greeting behind its length");
    let greetings = [
        Greeting { version_min: 1, ..greeting },
        Greeting { version_max: 0, ..greeting },
        Greeting { nonce: Nonce::new([0; 32]), ..greeting },
        Greeting { host_time_ms: 1, ..greeting },
    ];
    let mut all: Vec<Vec<u8>> = greetings.iter().map(|other| transcript(other, &claims).unwrap()).collect();
    let changed: [fn(&mut doorbell_wire::message::Claims); 10] = [
        |claims| claims.version = 0,
        |claims| claims.nonce = Nonce::new([0; 32]),
        |claims| claims.public_key = PublicKey::new([0; 32]),
        |claims| claims.boot_id = doorbell_wire::ids::BootId::new([0; 16]),
        |claims| claims.generation = Some(Generation::new([0; 16])),
        |claims| claims.token = Some(SessionToken::new([0; 32])),
        |claims| claims.capabilities = Capabilities(0),
        |claims| claims.agent = samples::text("0.1.1"),
        |claims| claims.sequence_max = 0,
        |claims| claims.clock_us = 0,
    ];
    for change in changed {
        let mut claims = claims.clone();
        change(&mut claims);
        all.push(transcript(&greeting, &claims).unwrap());
    }
    all.push(base);
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 4 + 10 + 1, "two transcripts are equal");
}

#[test]
fn the_managers_proof_covers_the_whole_opening() {
    let (greeting, claims, welcome) =
        (samples::greeting(), samples::hello().claims, samples::proved_welcome());
    let base = manager_transcript(&greeting, &claims, &welcome).unwrap();
    assert!(base.starts_with(b"doorbell-manager\0\x2b\0\0\0"), "a tag of its own");
    assert!(base.windows(32).any(|part| part == [0x11; 32]), "the manager's nonce");
    assert!(base.windows(32).any(|part| part == [0x33; 32]), "the guest's nonce");
    assert!(base.windows(32).any(|part| part == [0x34; 32]), "the guest's key");
    let other = |greeting: Greeting, version, token| {
        let mut claims = claims.clone();
        claims.version = version;
        manager_transcript(&greeting, &claims, &Welcome { token, ..welcome.clone() }).unwrap()
    };
    let (token, changed) = (welcome.token, SessionToken::new([0; 32]));
    let narrowed = Greeting { version_max: 0, ..greeting };
    for another in [other(greeting, 0, token), other(narrowed, 1, token), other(greeting, 1, changed)] {
        assert_ne!(another, base);
    }
    assert_eq!(other(greeting, 1, token), base);
    let guests = transcript(&greeting, &claims).unwrap();
    assert!(!base.starts_with(&guests) && !guests.starts_with(&base), "neither side's proof is the other's");
}

#[test]
fn a_managers_proof_is_of_version_1() {
    let earlier = Greeting { version_max: 0, ..samples::greeting() };
    let met = Guest::connected(START).receive(START, FromHost::Greeting(earlier)).unwrap();
    let guest = drained(drained(met).introduce(samples::hello()).unwrap());
    let error = guest.receive(START, FromHost::Welcome(samples::proved_welcome())).unwrap_err();
    assert_eq!(error.reason(), Some(Reason::MISBEHAVED), "{error}");
    let judging = |version| {
        let mut hello = samples::hello();
        hello.claims.version = version;
        guest_says(greeted(), FromGuest::Hello(Box::new(hello)))
    };
    assert!(judging(0).welcome(samples::proved_welcome()).is_err());
    assert!(judging(1).welcome(samples::proved_welcome()).is_ok());
}

#[test]
fn an_enrolment_is_of_version_1_and_says_what_no_other_proof_says() {
    let mut hello = samples::enrolling_hello();
    let (greeting, claims) = (samples::greeting(), hello.claims.clone());
    let said = enrolment_transcript(&greeting, &claims).unwrap();
    let proved = transcript(&greeting, &claims).unwrap();
    assert!(said.starts_with(b"doorbell-enrolment\0\x2b\0\0\0"), "a tag of its own");
    let behind = |bytes: &[u8], tag: &[u8]| bytes[tag.len()..].to_vec();
    assert_eq!(
        behind(&said, b"doorbell-enrolment\0"),
        behind(&proved, b"doorbell-handshake\0"),
        "in front of the greeting and all claims"
    );
    assert!(greeted().receive(START, FromGuest::Hello(Box::new(hello.clone()))).is_ok());
    hello.claims.version = 0;
    let error = greeted().receive(START, FromGuest::Hello(Box::new(hello.clone()))).unwrap_err();
    assert_eq!(error.reason(), Some(Reason::MISBEHAVED), "{error}");
    let earlier = Greeting { version_max: 0, ..samples::greeting() };
    let met = Guest::connected(START).receive(START, FromHost::Greeting(earlier)).unwrap();
    assert!(drained(met).introduce(hello).is_err());
}

#[test]
fn a_frame_about_another_request_is_refused() {
    let wrong = |frame| Misbehaved::WrongRequest { frame };
    let chunk = Chunk { request: other(), offset: 300, bytes: vec![0; 10] };
    refused(fetching().receive(START, FromHost::Chunk(chunk)), wrong("CHUNK"));
    let answer = Attached { request: other(), from: None };
    refused(presented().receive(START, FromHost::Attached(answer)), wrong("ATTACHED"));
    refused(walk::finished(printed()).receive(START, FromHost::Noted(other())), wrong("NOTED"));
    refused(printed().receive(START, FromHost::Noted(samples::request())), wrong("NOTED"));
    let mut credit = samples::spooled(6, 6);
    credit.request = other();
    refused(printed().receive(START, FromHost::OutputCredit(credit)), wrong("OUTPUT_CREDIT"));
    let mut input = samples::input(0);
    input.request = other();
    refused(printed().receive(START, FromHost::Input(input)), wrong("INPUT"));
    let fetch = FromGuest::Fetch(Fetch { request: other(), offset: 0 });
    refused(offered().receive(START, fetch), wrong("FETCH"));
    let progress = FromGuest::Progress(Progress { request: other(), ..samples::progress(Stage::Started) });
    refused(offered().receive(START, progress), wrong("PROGRESS"));
    let output = FromGuest::Output(Output { request: other(), ..samples::output(Stream::Stdout) });
    refused(applying_host().receive(START, output), wrong("OUTPUT"));
    let mut outcome = walk::acknowledgement();
    outcome.request = other();
    refused(serving().receive(START, FromGuest::Acknowledge(Box::new(outcome))), wrong("ACKNOWLEDGE"));
}

#[test]
fn a_request_that_is_in_hand_is_not_offered_or_presented_again() {
    for row in GUEST_HANDS.iter().filter(|row| row.state != walk::NOWHERE) {
        let pulling = host_says((row.make)(), FromHost::Ring);
        refused(pulling.receive(START, walk::offer_of(samples::program())), Misbehaved::OfferedTwice);
    }
    let again = FromGuest::Attach(walk::fresh(samples::request()));
    refused(attaching().receive(START, again.clone()), Misbehaved::OfferedTwice);
    refused(applying_host().receive(START, again.clone()), Misbehaved::OfferedTwice);
    let late = Misbehaved::Unexpected { frame: "ATTACH", state: "Quiet" };
    refused(offered().receive(START, again), late);
}

#[test]
fn nothing_is_taken_beyond_the_hands() {
    let full = Misbehaved::HandsFull { max: HANDS_MAX };
    let one_more = FromGuest::Attach(walk::fresh(other()));
    refused(walk::full_host().receive(START, one_more), full.clone());
    refused(walk::full_host().receive(START, FromGuest::Pull), full);
    // The agent keeps a ring until a hand is free, and asks for one request then.
    let mut guest = host_says(walk::full(), FromHost::Ring);
    assert_eq!(guest.state(), "Working");
    let first = id(0);
    guest = host_says(guest, FromHost::Attached(Attached { request: first, from: None }));
    let mut outcome = walk::acknowledgement();
    outcome.request = first;
    guest = drained(guest.acknowledge(outcome).unwrap());
    assert_eq!(guest.state(), "Working", "an outcome that is not noted fills its hand");
    let mut guest = guest.receive(START, FromHost::Noted(first)).unwrap();
    assert_eq!(drain(&mut guest), [GuestOwed::Forget(first), GuestOwed::Send(FromGuest::Pull)]);
    let mut guest = guest.receive(START, walk::offer_of(samples::program())).unwrap();
    assert_eq!((drain(&mut guest).len(), guest.state()), (1, "Working"), "full again: no pull");
}

#[test]
fn a_floor_that_settles_its_own_sequence_is_refused() {
    let offer = |sequence: Option<u64>, floor| {
        let sequence = sequence.map(|number| Sequence::try_from(number).unwrap());
        let offer = Offer { sequence, floor, ..samples::offer(Action::LinkList) };
        pulling().receive(START, FromHost::Offer(Box::new(offer)))
    };
    for floor in [0, 1, 7] {
        assert!(offer(Some(7), floor).is_ok(), "floor {floor}");
    }
    refused(offer(Some(7), 8), Misbehaved::FloorTooHigh { got: 8, max: 7 });
    let max = i64::MAX as u64;
    assert!(offer(None, max).is_ok(), "a query has no sequence of its own");
    refused(offer(None, max + 1), Misbehaved::FloorTooHigh { got: max + 1, max });
}

#[test]
fn a_fetch_beyond_the_end_is_refused() {
    let fetch = |offset| FromGuest::Fetch(Fetch { request: samples::request(), offset });
    assert!(offered().receive(START, fetch(309)).is_ok());
    for got in [310, u64::MAX] {
        refused(offered().receive(START, fetch(got)), Misbehaved::FetchBeyondEnd { got, len: 310 });
    }
    let list = drained_host(walk::asked().offer(samples::offer(Action::LinkList)).unwrap());
    refused(list.receive(START, fetch(0)), Misbehaved::FetchBeyondEnd { got: 0, len: 0 });
    let twice = Misbehaved::Unexpected { frame: "FETCH", state: "Serving" };
    refused(serving().receive(START, fetch(0)), twice);
}

#[test]
fn output_that_leaves_a_gap_is_refused() {
    let from = Offsets { stdout: 5, stderr: 9 };
    let resumed = || resumed(Some(from));
    for (stream, expected) in [(Stream::Stdout, 5), (Stream::Stderr, 9)] {
        for got in [expected - 1, expected + 1, u64::MAX] {
            let error = Misbehaved::ChunkOffset { frame: "OUTPUT", got, expected };
            refused(resumed().receive(START, output(stream, got, 1)), error);
        }
        let host = guest_says(resumed(), output(stream, expected, 3));
        let host = guest_says(host, output(stream, expected + 3, 1));
        let first = if stream == Stream::Stdout { (Stream::Stderr, 9) } else { (Stream::Stdout, 5) };
        assert!(host.receive(START, output(first.0, first.1, 1)).is_ok(), "each stream has its own place");
    }
}

#[test]
fn output_beyond_its_limit_is_refused() {
    for stream in [Stream::Stdout, Stream::Stderr] {
        for max in [samples::OUTPUT_MAX, OUTPUT_LEN_MAX] {
            let from = Some(Offsets::default().moved(stream, max - 2));
            // No more than any stream may have, whatever the task of this guest says.
            let asked = if max == OUTPUT_LEN_MAX { u64::MAX } else { max };
            let nearly_full = || drained_host(attaching().attached(samples::request(), from, asked).unwrap());
            assert!(nearly_full().receive(START, output(stream, max - 2, 2)).is_ok());
            let error = Misbehaved::ChunkBeyondEnd { frame: "OUTPUT", got: max + 1, len: max };
            refused(nearly_full().receive(START, output(stream, max - 2, 3)), error);
        }
    }
}

#[test]
fn an_offered_request_is_held_to_the_output_it_asked_for() {
    let mut host = guest_says(offered(), FromGuest::Progress(samples::progress(Stage::Started)));
    let mut offset = 0;
    while offset < samples::OUTPUT_MAX {
        host = guest_says(host, output(Stream::Stderr, offset, CHUNK_LEN_MAX));
        offset += CHUNK_LEN_MAX as u64;
        let bytes = u32::try_from(CHUNK_LEN_MAX).unwrap();
        host = drained_host(host.spooled(samples::request(), Stream::Stderr, offset, bytes).unwrap());
    }
    let error = Misbehaved::ChunkBeyondEnd { frame: "OUTPUT", got: offset + 1, len: offset };
    refused(host.receive(START, output(Stream::Stderr, offset, 1)), error);
}

#[test]
fn output_before_the_start_is_refused() {
    let early = Misbehaved::Unexpected { frame: "OUTPUT", state: "Offered" };
    refused(offered().receive(START, output(Stream::Stdout, 0, 1)), early.clone());
    let journalled = guest_says(offered(), FromGuest::Progress(samples::progress(Stage::Journalled)));
    refused(journalled.receive(START, output(Stream::Stdout, 0, 1)), early);
    let started = guest_says(offered(), FromGuest::Progress(samples::progress(Stage::Started)));
    assert!(started.receive(START, output(Stream::Stdout, 0, 1)).is_ok());
}

#[test]
fn output_that_nobody_wants_is_refused() {
    let error = Misbehaved::Unexpected { frame: "OUTPUT", state: "Applying" };
    refused(resumed(None).receive(START, output(Stream::Stdout, 0, 1)), error.clone());
    let started = guest_says(resumed(None), FromGuest::Progress(samples::progress(Stage::Started)));
    refused(started.receive(START, output(Stream::Stdout, 0, 1)), error);
    assert!(resumed(None).receive(START, walk::acknowledge()).is_ok(), "its outcome is taken all the same");
}

#[test]
fn a_start_told_after_an_attach_moves_no_offset() {
    let resumed = resumed(Some(Offsets { stdout: 5, stderr: 0 }));
    let started = guest_says(resumed, FromGuest::Progress(samples::progress(Stage::Started)));
    assert!(started.receive(START, output(Stream::Stdout, 5, 1)).is_ok());
}

#[test]
fn a_station_told_twice_or_late_is_refused() {
    let stages = [Stage::Fetched, Stage::Verified, Stage::Journalled, Stage::Started];
    for last in stages {
        for got in stages {
            let host = guest_says(serving(), FromGuest::Progress(samples::progress(last)));
            let told = host.receive(START, FromGuest::Progress(samples::progress(got)));
            if got > last {
                assert!(told.is_ok(), "{got:?} after {last:?}");
            } else {
                refused(told, Misbehaved::StageOrder { got, last });
            }
        }
    }
}

#[test]
fn a_pong_that_nobody_asked_for_is_refused() {
    let pong = |number| FromGuest::Pong(number);
    let error = |got, first, last| Misbehaved::UnaskedPong { got, first, last };
    refused(welcomed().receive(START, pong(1)), error(1, 1, 0));
    let pinged = || drained_host(welcomed().expire(START.after(HEARTBEAT_MS)).unwrap());
    refused(pinged().receive(START, pong(0)), error(0, 1, 1));
    refused(pinged().receive(START, pong(2)), error(2, 1, 1));
    let answered = guest_says(pinged(), pong(1));
    refused(answered.receive(START, pong(1)), error(1, 2, 1));
}

#[test]
fn a_cancel_reaches_the_request_in_every_state_that_holds_it() {
    let holding = ["Attaching", "Deciding", "Fetching", "Applying"];
    for row in GUEST_HANDS {
        for request in [samples::request(), other()] {
            let mut guest = (row.make)().receive(START, FromHost::Cancel(request)).unwrap();
            let heard = drain(&mut guest).contains(&GuestOwed::Cancel(request));
            let expected = holding.contains(&row.state) && request == samples::request();
            assert_eq!(heard, expected, "{} {:?}", row.state, request);
        }
    }
    // Before it presents or pulls, only the link knows what is in hand, so every cancel goes there.
    let mut guest = settling().receive(START, FromHost::Cancel(other())).unwrap();
    assert_eq!(drain(&mut guest), [GuestOwed::Cancel(other())]);
    let mut guest = pulling().receive(START, FromHost::Cancel(other())).unwrap();
    assert_eq!(drain(&mut guest), []);
}

#[test]
fn a_cancel_that_crosses_with_an_offer_or_an_outcome_is_heard_once() {
    // Behind the offer: a request that waits for its turn in the guest is ended without a start.
    let mut host = offered().cancel(samples::request()).unwrap();
    assert_eq!(walk::drain_host(&mut host), [HostOwed::Send(FromHost::Cancel(samples::request()))]);
    let mut guest = walk::deciding().receive(START, FromHost::Cancel(samples::request())).unwrap();
    assert_eq!(drain(&mut guest), [GuestOwed::Cancel(samples::request())]);
    let guest = drained(guest.acknowledge(walk::acknowledgement()).unwrap());
    // Once more, behind the outcome: nobody hears it, and the session goes on.
    let guest = host_says(guest, FromHost::Cancel(samples::request()));
    let guest = host_says(guest, FromHost::Noted(samples::request()));
    let mut guest = guest.receive(START, FromHost::Cancel(samples::request())).unwrap();
    assert_eq!((drain(&mut guest), guest.state()), (Vec::new(), "Pulling"));
    let host = guest_says(host, walk::acknowledge());
    let host = drained_host(host.cancel(samples::request()).unwrap());
    assert!(drained_host(host.noted(samples::request()).unwrap()).cancel(samples::request()).is_ok());
}

#[test]
fn a_peer_that_was_not_drained_is_not_heard() {
    let guest = settling().pull().unwrap();
    let error = guest.receive(START, FromHost::Ring).unwrap_err();
    assert_eq!(error, SessionError::Misuse { call: "receive", state: "Pulling" });
    let host = Host::accepted(START, samples::greeting());
    let error = host.receive(START, FromGuest::Pull).unwrap_err();
    assert_eq!(error, SessionError::Misuse { call: "receive", state: "Greeted" });
    assert_eq!(error.reason(), Some(Reason::INTERNAL));
}

#[test]
fn an_attached_request_continues_where_the_manager_says() {
    let request = samples::request();
    for from in [None, Some(Offsets { stdout: 3, stderr: 4 })] {
        let mut guest = presented().receive(START, walk::attached(from)).unwrap();
        assert_eq!(drain(&mut guest), [GuestOwed::Attached(request, from)]);
        assert_eq!(guest.output_room(request), if from.is_some() { CHUNK_LEN_MAX } else { 0 });
    }
    let beyond = Offsets { stdout: 0, stderr: OUTPUT_LEN_MAX + 1 };
    let error = Misbehaved::ChunkBeyondEnd { frame: "ATTACHED", got: beyond.stderr, len: OUTPUT_LEN_MAX };
    refused(presented().receive(START, walk::attached(Some(beyond))), error);
}

#[test]
fn a_pull_does_not_wait_for_what_is_presented() {
    // Guest: two are presented and a third is pulled; the answers come in any order.
    let attaching = drained(drained(settling().attach(id(1), 0, 0).unwrap()).attach(id(2), 0, 0).unwrap());
    let guest = host_says(drained(attaching.pull().unwrap()), walk::offer_of(samples::program()));
    let answer = |request| FromHost::Attached(Attached { request, from: None });
    let guest = host_says(host_says(guest, answer(id(2))), answer(id(1)));
    assert_eq!(guest.state_of(id(1)), Some("Applying"));
    assert_eq!(guest.state_of(samples::request()), Some("Deciding"));
    // Manager: the pull is heard, and answered, before the store has found what was presented.
    let present = |host, request| guest_says(host, FromGuest::Attach(walk::fresh(request)));
    let host = guest_says(present(present(welcomed(), id(1)), id(2)), FromGuest::Pull);
    let host = drained_host(host.offer(samples::offer(Action::LinkList)).unwrap());
    let host = drained_host(host.attached(id(2), None, 0).unwrap());
    let host = drained_host(host.attached(id(1), None, 0).unwrap());
    let in_hand: Vec<_> = host.in_hand().collect();
    assert_eq!(in_hand, [id(1), id(2), samples::request()]);
    assert_eq!(host.state_of(id(1)), Some("Applying"));
    assert_eq!((host.state(), host.state_of(other())), ("Quiet", None));
}

#[test]
fn input_of_an_attach_that_cannot_be_is_refused() {
    let window = doorbell_wire::limits::INPUT_WINDOW;
    let present = |input, taken| {
        welcomed().receive(START, FromGuest::Attach(Attach { request: samples::request(), input, taken }))
    };
    let max = doorbell_wire::limits::INPUT_LEN_MAX;
    assert!(present(max, max).is_ok() && present(u64::from(window), 0).is_ok());
    for (input, taken) in [(u64::from(window) + 1, 0), (1, 2), (max, 0)] {
        refused(present(input, taken), Misbehaved::InputImpossible { input, taken, window });
    }
    let error = Misbehaved::ChunkBeyondEnd { frame: "ATTACH", got: max + 1, len: max };
    refused(present(max + 1, max + 1), error);
}

fn output(stream: Stream, offset: u64, len: usize) -> FromGuest {
    FromGuest::Output(Output { request: samples::request(), stream, offset, bytes: vec![b'x'; len] })
}

#[test]
fn a_kind_of_a_later_version_is_refused() {
    let earlier = Greeting { version_max: 0, ..samples::greeting() };
    let greeted = Guest::connected(START).receive(START, FromHost::Greeting(earlier)).unwrap();
    let guest = drained(drained(greeted).introduce(samples::hello()).unwrap());
    let guest = drained(host_says(guest, FromHost::Welcome(samples::welcome())).pull().unwrap());
    assert_eq!(guest.version(), 0);
    let error = guest.receive(START, FromHost::Clock(1)).unwrap_err();
    assert_eq!(error.reason(), Some(Reason::MISBEHAVED), "{error}");
    let host = of_version_0();
    let error = host.receive(START, FromGuest::Polls(Polls { every_ms: 1 })).unwrap_err();
    assert_eq!(error.reason(), Some(Reason::MISBEHAVED), "{error}");
}

#[test]
fn a_signature_is_of_version_1() {
    let signed = || Offer {
        signed: Some(Box::new(samples::signed(Target::Guest(samples::fingerprint())))),
        ..samples::offer(Action::LinkList)
    };
    let earlier = Greeting { version_max: 0, ..samples::greeting() };
    let greeted = Guest::connected(START).receive(START, FromHost::Greeting(earlier)).unwrap();
    let guest = drained(drained(greeted).introduce(samples::hello()).unwrap());
    let guest = drained(host_says(guest, FromHost::Welcome(samples::welcome())).pull().unwrap());
    let error = guest.receive(START, FromHost::Offer(Box::new(signed()))).unwrap_err();
    assert_eq!(error.reason(), Some(Reason::MISBEHAVED), "{error}");
    let host = guest_says(of_version_0(), FromGuest::Pull);
    assert!(host.offer(signed()).is_err());
    assert!(walk::asked().offer(signed()).is_ok());
}

#[test]
fn nothing_of_a_later_version_is_said_in_an_earlier_one() {
    let mut host = of_version_0();
    assert!(!host.takes_push());
    host = host.clock(1).unwrap();
    assert!(matches!(host.poll(), HostOwed::Wait(_)), "it would not be known there");
    let mut host = guest_says(host, FromGuest::Pull).nothing().unwrap();
    walk::drain_host(&mut host);
    assert!(!host.takes_push() && host.push(samples::push()).is_err());
}

#[test]
fn a_push_carries_all_of_a_small_program_or_none() {
    let pushed = |len: usize| {
        let push = Push { program: vec![b'#'; len], ..samples::push() };
        working().receive(START, FromHost::Push(Box::new(push)))
    };
    for len in [0, 10] {
        let mut guest = pushed(len).unwrap();
        assert!(matches!(guest.poll(), GuestOwed::Pushed(push) if push.program.len() == len));
    }
    for len in [9, 11] {
        refused(pushed(len), Misbehaved::ChunkBeyondEnd { frame: "PUSH", got: len as u64, len: 10 });
    }
    refused(
        walk::full().receive(START, FromHost::Push(Box::new(samples::push()))),
        Misbehaved::HandsFull { max: HANDS_MAX },
    );
    let quiet = || drained_host(guest_says(welcomed(), FromGuest::Pull).nothing().unwrap());
    let mut host = quiet().push(samples::push()).unwrap();
    let said: Vec<_> = walk::drain_host(&mut host);
    assert!(
        matches!(&said[..], [HostOwed::Send(FromHost::Ring), HostOwed::Send(FromHost::Push(_))]),
        "it follows its ring: {said:?}"
    );
    assert!(!host.takes_push(), "one at a time, until the guest has pulled");
    let short = Push { program: vec![b'#'; 9], ..samples::push() };
    assert!(quiet().push(short).is_err());
}

/// A welcome guest that chose the version before.
fn of_version_0() -> Host {
    let mut hello = samples::hello();
    hello.claims.version = 0;
    let judging = guest_says(greeted(), FromGuest::Hello(Box::new(hello)));
    drained_host(judging.welcome(samples::welcome()).unwrap())
}
