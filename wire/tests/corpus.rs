//! Replays the committed corpora of the fuzz targets, so that what a fuzzer once found stays found with any
//! compiler; and feeds the bodies with the vectors of the paper.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a broken assumption of a test must end it"
)]

#[path = "../fuzz/bodies.rs"]
#[allow(
    unreachable_pub,
    clippy::wildcard_enum_match_arm,
    reason = "shared with the fuzz targets, which have a crate of their own"
)]
mod bodies;
mod common;

use std::path::Path;

#[test]
fn the_deframer_takes_its_corpus() {
    replay("deframe", bodies::deframe);
}

#[test]
fn the_host_session_takes_its_corpus() {
    replay("host_session", bodies::host_session);
}

#[test]
fn the_guest_session_takes_its_corpus() {
    replay("guest_session", bodies::guest_session);
}

#[test]
fn the_deframer_takes_every_vector() {
    let vectors = common::paper::vectors();
    assert!(vectors.len() > 50, "found {} vectors only", vectors.len());
    let all: Vec<u8> = common::samples::all().iter().flat_map(|(_, message)| message.bytes()).collect();
    bodies::deframe(&all);
    for vector in vectors {
        bodies::deframe(&vector.bytes);
        bodies::host_session(&vector.bytes);
        bodies::guest_session(&vector.bytes);
    }
}

fn replay(target: &str, body: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut count = 0;
    for entry in std::fs::read_dir(&corpus).unwrap_or_else(|error| panic!("{}: {error}", corpus.display())) {
        body(&std::fs::read(entry.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count >= 20, "{} holds {count} inputs only", corpus.display());
}
