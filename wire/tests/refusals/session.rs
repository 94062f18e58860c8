//! The rules of a session: who may say what, when, about which request, and how much of it.

use crate::common::walk::{
    self, GUEST_ROWS, HOST_ROWS, applying_host, attached, attaching, drain, drained, drained_host, fetching,
    greeted, guest_says, host_says, other, pulling, serving, settling, welcomed,
};
use crate::common::{START, envelope, samples};
use doorbell_wire::error::{Misbehaved, Reason, SessionError};
use doorbell_wire::handshake::{check_version, choose_version, transcript};
use doorbell_wire::ids::{Generation, Nonce, PublicKey, SessionToken};
use doorbell_wire::limits::{BULK_WINDOW, CHUNK_LEN_MAX, HEARTBEAT_MS, OUTPUT_LEN_MAX};
use doorbell_wire::message::action::{Action, Executable, Program};
use doorbell_wire::message::{
    Attached, Capabilities, Chunk, Credit, Fetch, FromGuest, FromHost, Greeting, Hello, Offsets, Output,
    Progress, Stage, Stream,
};
use doorbell_wire::session::guest::{Guest, Owed as GuestOwed};
use doorbell_wire::session::host::Host;
use std::fmt::Debug;

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
    let newer = Greeting { version_min: 1, version_max: u16::MAX, ..samples::greeting() };
    let error = Guest::connected(START).receive(START, FromHost::Greeting(newer)).unwrap_err();
    assert_eq!(error.reason(), Some(Reason::INCOMPATIBLE), "{error}");
    let upside_down = Greeting { version_min: 1, version_max: 0, ..samples::greeting() };
    assert!(choose_version(&upside_down).is_err());
    let wider = Greeting { version_max: 9, ..samples::greeting() };
    assert_eq!(choose_version(&wider), Ok(0), "the newest that both speak");
    let garbage = envelope(0x10, 0, &[0xff; 20]);
    let (frames, _) = crate::common::deframe(&garbage);
    let error = FromHost::from_frame(&frames[0]).unwrap_err();
    assert_eq!(SessionError::from(error).reason(), Some(Reason::MALFORMED));
}

#[test]
fn a_hello_of_a_version_that_was_not_offered_is_incompatible() {
    assert_eq!(check_version(0), Ok(()));
    for version in [1, u16::MAX] {
        let Hello { mut claims, proof } = samples::hello();
        claims.version = version;
        let error =
            greeted().receive(START, FromGuest::Hello(Box::new(Hello { claims, proof }))).unwrap_err();
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
        Greeting { version_max: 1, ..greeting },
        Greeting { nonce: Nonce::new([0; 32]), ..greeting },
        Greeting { host_time_ms: 1, ..greeting },
    ];
    let mut all: Vec<Vec<u8>> = greetings.iter().map(|other| transcript(other, &claims).unwrap()).collect();
    let changed: [fn(&mut doorbell_wire::message::Claims); 9] = [
        |claims| claims.version = 1,
        |claims| claims.nonce = Nonce::new([0; 32]),
        |claims| claims.public_key = PublicKey::new([0; 32]),
        |claims| claims.boot_id = doorbell_wire::ids::BootId::new([0; 16]),
        |claims| claims.generation = Some(Generation::new([0; 16])),
        |claims| claims.token = Some(SessionToken::new([0; 32])),
        |claims| claims.capabilities = Capabilities(0),
        |claims| claims.agent = samples::text("0.1.1"),
        |claims| claims.low_water = 0,
    ];
    for change in changed {
        let mut claims = claims.clone();
        change(&mut claims);
        all.push(transcript(&greeting, &claims).unwrap());
    }
    all.push(base);
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 4 + 9 + 1, "two transcripts are equal");
}

#[test]
fn a_frame_about_another_request_is_refused() {
    let wrong = |frame| Misbehaved::WrongRequest { frame };
    let chunk = Chunk { request: other(), offset: 300, bytes: vec![0; 10] };
    refused(fetching().receive(START, FromHost::Chunk(chunk)), wrong("CHUNK"));
    let row = |state: &str| GUEST_ROWS.iter().find(|row| row.state == state).unwrap();
    let answer = Attached { request: other(), from: None };
    refused((row("Attaching").make)().receive(START, FromHost::Attached(answer)), wrong("ATTACHED"));
    refused((row("Acking").make)().receive(START, FromHost::Noted(other())), wrong("NOTED"));
    let fetch = FromGuest::Fetch(Fetch { request: other(), offset: 0 });
    refused(walk::offered().receive(START, fetch), wrong("FETCH"));
    let progress = FromGuest::Progress(Progress { request: other(), ..samples::progress(Stage::Started) });
    refused(walk::offered().receive(START, progress), wrong("PROGRESS"));
    let output = FromGuest::Output(Output { request: other(), ..samples::output(Stream::Stdout) });
    refused(applying_host().receive(START, output), wrong("OUTPUT"));
    let mut outcome = walk::acknowledgement();
    outcome.request = other();
    refused(serving().receive(START, FromGuest::Acknowledge(Box::new(outcome))), wrong("ACKNOWLEDGE"));
}

#[test]
fn a_chunk_that_leaves_a_gap_or_overlaps_is_refused() {
    for got in [0, 299, 301, u64::MAX] {
        let expected = Misbehaved::ChunkOffset { frame: "CHUNK", got, expected: 300 };
        refused(fetching().receive(START, chunk(got, 1)), expected);
    }
}

#[test]
fn a_chunk_beyond_the_end_of_the_program_is_refused() {
    assert!(fetching().receive(START, chunk(300, 10)).is_ok());
    let expected = Misbehaved::ChunkBeyondEnd { frame: "CHUNK", got: 311, len: 310 };
    refused(fetching().receive(START, chunk(300, 11)), expected);
}

#[test]
fn a_chunk_of_no_bytes_or_of_too_many_is_refused() {
    for got in [0, CHUNK_LEN_MAX + 1] {
        let expected = Misbehaved::ChunkLength { frame: "CHUNK", got, max: CHUNK_LEN_MAX };
        refused(large_fetch().receive(START, chunk(0, got)), expected);
        let expected = Misbehaved::ChunkLength { frame: "OUTPUT", got, max: CHUNK_LEN_MAX };
        refused(applying_host().receive(START, output(Stream::Stdout, 0, got)), expected);
    }
    assert!(large_fetch().receive(START, chunk(0, CHUNK_LEN_MAX)).is_ok());
    assert!(applying_host().receive(START, output(Stream::Stdout, 0, CHUNK_LEN_MAX)).is_ok());
}

#[test]
fn bulk_beyond_its_credit_is_refused() {
    let full = u64::from(BULK_WINDOW);
    let guest = send_window(large_fetch(), |guest, offset, len| host_says(guest, chunk(offset, len)));
    let expected = Misbehaved::CreditExceeded { frame: "CHUNK", got: 1, credit: 0 };
    refused(guest.receive(START, chunk(full, 1)), expected);
    let guest = send_window(large_fetch(), |guest, offset, len| host_says(guest, chunk(offset, len)));
    let credited = drained(guest.staged(1).unwrap());
    let spent = host_says(credited, chunk(full, 1));
    refused(
        spent.receive(START, chunk(full + 1, 1)),
        Misbehaved::CreditExceeded { frame: "CHUNK", got: 1, credit: 0 },
    );
    let stdout = |offset, len| output(Stream::Stdout, offset, len);
    let host = send_window(applying_host(), |host, offset, len| guest_says(host, stdout(offset, len)));
    let host = drained_host(host.spooled(5).unwrap());
    let expected = Misbehaved::CreditExceeded { frame: "OUTPUT", got: 6, credit: 5 };
    refused(host.receive(START, stdout(full, 6)), expected);
    let host = send_window(applying_host(), |host, offset, len| guest_says(host, stdout(offset, len)));
    let host = drained_host(host.spooled(5).unwrap());
    assert!(host.receive(START, stdout(full, 5)).is_ok(), "the credit is whole");
}

#[test]
fn credit_beyond_the_window_is_refused() {
    let chunk_credit = |bytes| FromGuest::ChunkCredit(Credit { bytes });
    assert!(serving().receive(START, chunk_credit(300)).is_ok(), "300 bytes are on their way");
    for got in [0, 301, u32::MAX] {
        refused(serving().receive(START, chunk_credit(got)), Misbehaved::CreditOverflow { got, room: 300 });
    }
    let output_credit = |bytes| FromHost::OutputCredit(Credit { bytes });
    assert!(pulling().receive(START, output_credit(6)).is_ok(), "6 bytes were printed");
    for got in [0, 7, u32::MAX] {
        refused(pulling().receive(START, output_credit(got)), Misbehaved::CreditOverflow { got, room: 6 });
    }
}

#[test]
fn a_fetch_beyond_the_end_is_refused() {
    let fetch = |offset| FromGuest::Fetch(Fetch { request: samples::request(), offset });
    assert!(walk::offered().receive(START, fetch(309)).is_ok());
    for got in [310, u64::MAX] {
        refused(walk::offered().receive(START, fetch(got)), Misbehaved::FetchBeyondEnd { got, len: 310 });
    }
    let list = drained_host(walk::asked().offer(samples::offer(Action::LinkList)).unwrap());
    refused(list.receive(START, fetch(0)), Misbehaved::FetchBeyondEnd { got: 0, len: 0 });
}

#[test]
fn output_that_leaves_a_gap_is_refused() {
    let from = Offsets { stdout: 5, stderr: 9 };
    let resumed = || drained_host(attaching().attached(Some(from)).unwrap());
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
        let from = Some(Offsets::default().moved(stream, OUTPUT_LEN_MAX - 2));
        let nearly_full = || drained_host(attaching().attached(from).unwrap());
        assert!(nearly_full().receive(START, output(stream, OUTPUT_LEN_MAX - 2, 2)).is_ok());
        let error =
            Misbehaved::ChunkBeyondEnd { frame: "OUTPUT", got: OUTPUT_LEN_MAX + 1, len: OUTPUT_LEN_MAX };
        refused(nearly_full().receive(START, output(stream, OUTPUT_LEN_MAX - 2, 3)), error);
    }
}

#[test]
fn output_before_the_start_is_refused() {
    let early = Misbehaved::Unexpected { frame: "OUTPUT", state: "Offered" };
    refused(walk::offered().receive(START, output(Stream::Stdout, 0, 1)), early);
    let journalled = guest_says(walk::offered(), FromGuest::Progress(samples::progress(Stage::Journalled)));
    let early = Misbehaved::Unexpected { frame: "OUTPUT", state: "Offered" };
    refused(journalled.receive(START, output(Stream::Stdout, 0, 1)), early);
    let started = guest_says(walk::offered(), FromGuest::Progress(samples::progress(Stage::Started)));
    assert!(started.receive(START, output(Stream::Stdout, 0, 1)).is_ok());
}

#[test]
fn output_that_nobody_wants_is_refused() {
    let unwanted = || drained_host(attaching().attached(None).unwrap());
    let error = Misbehaved::Unexpected { frame: "OUTPUT", state: "Applying" };
    refused(unwanted().receive(START, output(Stream::Stdout, 0, 1)), error.clone());
    let started = guest_says(unwanted(), FromGuest::Progress(samples::progress(Stage::Started)));
    refused(started.receive(START, output(Stream::Stdout, 0, 1)), error);
    assert!(unwanted().receive(START, walk::acknowledge()).is_ok(), "its outcome is taken all the same");
}

#[test]
fn a_start_told_after_an_attach_moves_no_offset() {
    let resumed = drained_host(attaching().attached(Some(Offsets { stdout: 5, stderr: 0 })).unwrap());
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
    let holding = ["Settling", "Attaching", "Deciding", "Fetching", "Applying"];
    for row in GUEST_ROWS.iter().filter(|row| walk::guest_cell(row, FromHost::Cancel(other())).0 != "BYE 2") {
        for request in [samples::request(), other()] {
            let mut guest = (row.make)().receive(START, FromHost::Cancel(request)).unwrap();
            let heard = drain(&mut guest).contains(&GuestOwed::Cancel(request));
            // Before it attaches or pulls, only the link knows what is in hand, so every cancel goes there.
            let expected =
                holding.contains(&row.state) && (request == samples::request() || row.state == "Settling");
            assert_eq!(heard, expected, "{} {:?}", row.state, request);
        }
    }
}

#[test]
fn a_fetch_that_is_given_up_costs_neither_the_session_nor_credit() {
    let mut guest = large_fetch();
    guest = host_says(guest, chunk(0, CHUNK_LEN_MAX));
    guest = drained(guest.acknowledge(walk::acknowledgement()).unwrap());
    let length = CHUNK_LEN_MAX as u64;
    for index in 1..4 {
        guest = guest.receive(START, chunk(index * length, CHUNK_LEN_MAX)).unwrap();
        assert_eq!(drain(&mut guest), [], "a late chunk is dropped");
    }
    let beyond = Misbehaved::CreditExceeded { frame: "CHUNK", got: 1, credit: 0 };
    refused(guest.receive(START, chunk(4 * length, 1)), beyond);
    let guest = drained(large_fetch().acknowledge(walk::acknowledgement()).unwrap());
    let gap = Misbehaved::ChunkOffset { frame: "CHUNK", got: 1, expected: 0 };
    refused(guest.receive(START, chunk(1, 1)), gap);
    // The next fetch has the whole window again.
    let guest = drained(large_fetch().acknowledge(walk::acknowledgement()).unwrap());
    let guest = host_says(host_says(guest, chunk(0, CHUNK_LEN_MAX)), FromHost::Noted(samples::request()));
    let again = fetch_large(guest);
    send_window(again, |guest, offset, len| host_says(guest, chunk(offset, len)));
    let host = send_window(large_serve(walk::asked()), |host, _, len| {
        drained_host(host.chunk(vec![0; len]).unwrap())
    });
    assert_eq!(host.chunk_room(), None);
    let host =
        guest_says(drained_host(guest_says(host, walk::acknowledge()).noted().unwrap()), FromGuest::Pull);
    assert_eq!(large_serve(host).chunk_room(), Some((0, CHUNK_LEN_MAX)));
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
    for from in [None, Some(Offsets { stdout: 3, stderr: 4 })] {
        let mut guest = settling().attach(samples::request()).unwrap();
        drain(&mut guest);
        let mut guest = guest.receive(START, attached(from)).unwrap();
        assert_eq!(drain(&mut guest), [GuestOwed::Attached(from)]);
        assert_eq!(guest.output_room(), if from.is_some() { CHUNK_LEN_MAX } else { 0 });
    }
}

#[track_caller]
fn refused<S: Debug>(result: Result<S, SessionError>, expected: Misbehaved) {
    let error = result.expect_err("this is to be refused");
    assert_eq!(error, SessionError::Misbehaved(expected));
    assert_eq!(error.reason(), Some(Reason::MISBEHAVED));
}

fn chunk(offset: u64, len: usize) -> FromHost {
    FromHost::Chunk(Chunk { request: samples::request(), offset, bytes: vec![b'#'; len] })
}

fn output(stream: Stream, offset: u64, len: usize) -> FromGuest {
    FromGuest::Output(Output { request: samples::request(), stream, offset, bytes: vec![b'x'; len] })
}

/// Sends a whole window in the largest chunks.
fn send_window<S>(mut session: S, send: impl Fn(S, u64, usize) -> S) -> S {
    for index in 0..u64::from(BULK_WINDOW) / CHUNK_LEN_MAX as u64 {
        session = send(session, index * CHUNK_LEN_MAX as u64, CHUNK_LEN_MAX);
    }
    session
}

fn large() -> Action {
    let name = samples::text("large");
    let program = Program::new(doorbell_wire::ids::Digest::new([0; 32]), 1024 * 1024, name).unwrap();
    Action::Run(samples::run(Executable::Program(program)))
}

fn large_fetch() -> Guest {
    fetch_large(pulling())
}

fn fetch_large(pulling: Guest) -> Guest {
    let offered = host_says(pulling, FromHost::Offer(Box::new(samples::offer(large()))));
    drained(offered.fetch(START).unwrap())
}

fn large_serve(asked: Host) -> Host {
    let offered = drained_host(asked.offer(samples::offer(large())).unwrap());
    guest_says(offered, FromGuest::Fetch(Fetch { request: samples::request(), offset: 0 }))
}
