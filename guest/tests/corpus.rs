//! Replays the committed corpora of the agent's fuzz targets, so that what a fuzzer once found stays found with any
//! compiler.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a broken assumption of a test must end it")]

#[path = "../fuzz/bodies.rs"]
#[allow(unreachable_pub, reason = "shared with the fuzz targets, which have a crate of their own")]
mod bodies;

use std::path::Path;

#[test]
fn the_reader_of_signatures_takes_its_corpus() {
    replay("sshsig", bodies::sshsig);
}

#[test]
fn the_reader_of_allowed_signers_takes_its_corpus() {
    replay("allowed_signers", bodies::allowed_signers);
}

#[test]
fn the_reader_of_policies_takes_its_corpus() {
    replay("policy", bodies::policy);
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
