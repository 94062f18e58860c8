//! Programs arrive intact or are refused by name: the largest one, none at all, one byte too many, and one
//! flipped bit in the manager's store or on the way.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed step is a failed test")]

use doorbell_api::error::ErrorCode;
use doorbell_api::request::State;
use doorbell_client::{ClientError, PROGRAM_LEN_MAX, Stream};
use doorbell_tests::command::Doorbell;
use doorbell_tests::daemon::{Daemon, uploaded};
use doorbell_tests::guest::Machine;
use doorbell_tests::place::{Place, files_below, sha256_of};
use doorbell_tests::proxy::{Proxy, Verdict};
use doorbell_tests::wait::on;
use doorbell_wire::message::Kind;
use std::fs::OpenOptions;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::UnixStream;

/// A script that says who it is, and padding behind its end that only arrives whole or not at all.
fn script_of(len: u64, says: &str) -> Vec<u8> {
    let mut bytes =
        format!("#!/bin/sh\necho {says}; sha256sum \"$0\" | cut -d ' ' -f 1; exit 0\n").into_bytes();
    let len = usize::try_from(len).unwrap();
    // No run of equal bytes: what is lost or swapped must show.
    bytes.extend((bytes.len()..len).map(|at| at.wrapping_mul(2_654_435_761).to_le_bytes()[2]));
    bytes
}

#[test]
fn a_program_of_the_limit_arrives_intact_and_none_beyond_it() {
    let place = Place::new();
    let daemon = Daemon::start(&place);
    let _guest = daemon.boot(&place, "web-3", &Machine::default());

    let largest = daemon.upload("largest.sh", script_of(PROGRAM_LEN_MAX, "largest"));
    let request = daemon.submit("web-3", uploaded(largest.clone()));
    let ended = daemon.finished(&request.id);
    assert_eq!(ended.state, State::Succeeded, "{:?}", ended.receipt);
    let output = String::from_utf8(daemon.output(&request.id, Stream::Stdout, 0)).unwrap();
    assert_eq!(output, format!("largest\n{}\n", largest.digest), "the guest hashes what the manager named");

    // None at all: it arrives, and the guest's kernel has the last word on running it.
    let empty = daemon.upload("empty", Vec::new());
    let ended = daemon.finished(&daemon.submit("web-3", uploaded(empty)).id);
    assert_eq!(ended.state, State::NotStarted, "{:?}", ended.receipt);
    assert!(ended.receipt.unwrap().errno.is_some());

    one_byte_too_many_is_refused(&place, &daemon);
    let (run, _) = daemon.run_sh("web-3", "true");
    assert_eq!(run.state, State::Succeeded);
}

fn one_byte_too_many_is_refused(place: &Place, daemon: &Daemon) {
    let beyond = script_of(PROGRAM_LEN_MAX + 1, "beyond");
    let file = place.file("beyond.sh", &beyond);
    let doorbell = Doorbell::new(place, daemon.socket());
    doorbell
        .run(&["run", "web-3", "--program", file.to_str().unwrap()])
        .refused(2, &["67108865", "67108864"]);
    let body = futures_util::stream::iter([Ok(beyond.clone().into())]);
    let refused = on("the refusal", daemon.client().put_program(PROGRAM_LEN_MAX + 1, body)).unwrap_err();
    assert!(
        matches!(refused, ClientError::Refused { code: ErrorCode::TooLarge, status: 413, .. }),
        "{refused:?}"
    );
    // A client that asks nobody first is refused by the manager itself, and leaves nothing behind.
    let before = files_below(&daemon.state().join("programs"));
    let head = format!("PUT /v1/programs HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", beyond.len());
    let mut stream = UnixStream::connect(daemon.socket()).unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    // The manager may answer and close before it has read everything.
    let _ = stream.write_all(&beyond);
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
    assert_eq!(files_below(&daemon.state().join("programs")), before);
}

#[test]
fn a_bit_flipped_in_the_store_is_refused_by_the_guest_with_both_digests() {
    let place = Place::new();
    let daemon = Daemon::start(&place);
    let _guest = daemon.boot(&place, "web-3", &Machine::default());
    let program = daemon.upload("patch.sh", script_of(100_000, "flipped"));
    let file = files_below(&daemon.state().join("programs")).pop().unwrap();
    let store = OpenOptions::new().read(true).write(true).open(&file).unwrap();
    let mut byte = [0];
    store.read_exact_at(&mut byte, 50_000).unwrap();
    store.write_all_at(&[byte[0] ^ 1], 50_000).unwrap();

    let ended = daemon.finished(&daemon.submit("web-3", uploaded(program.clone())).id);
    assert_eq!(ended.state, State::NotVerified);
    let detail = ended.receipt.unwrap().detail.unwrap();
    let got = sha256_of(&file);
    assert!(
        detail.contains(&program.digest) && detail.contains(&got),
        "{detail:?} names not both of {program:?}, {got}"
    );
    assert_eq!(daemon.output(&ended.id, Stream::Stdout, 0), b"", "it ran");
}

#[test]
fn a_bit_flipped_on_the_way_ends_the_connection_and_the_program_still_runs_once() {
    let place = Place::new();
    let daemon = Daemon::start(&place);
    let (proxy, guest) = Proxy::between(&daemon, &place, "web-3");

    let says = "ran >>/var/lib/doorbell-agent/effects.log; echo whole";
    let program = daemon.upload("patch.sh", script_of(300_000, says));
    let mut chunks = 0;
    proxy.arm(move |frame| {
        chunks += u32::from(frame.kind == Kind::Chunk);
        if chunks == 3 { Verdict::FlipOneBit } else { Verdict::Pass }
    });
    let request = daemon.submit("web-3", uploaded(program));
    proxy.await_reached("the third chunk");
    let ended = daemon.finished(&request.id);
    assert_eq!(ended.state, State::Succeeded, "{:?}", ended.receipt);
    assert!(ended.offers > 1, "it was offered once, so the damage was not seen");
    let console = guest.console();
    assert!(console.contains("checksum"), "the agent does not say why it closed the connection: {console}");
    let (_, effects) = daemon.run_sh("web-3", "cat /var/lib/doorbell-agent/effects.log");
    assert_eq!(effects, "ran\n");
}
