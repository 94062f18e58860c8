//! Output on a disk whose syncs fail. The disk fails for real: a test runs itself again under strace, which has the
//! kernel answer with an error.

use super::*;
use std::process::Command;

const REQUEST: RequestId = RequestId::new([6; 16]);
const MIB: usize = 1024 * 1024;

/// Runs a test of this file that is ignored otherwise, while the kernel fails a call of it in this way.
fn under(fault: &str, test: &str) {
    let ended = Command::new("strace")
        .args(["-f", "--seccomp-bpf", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync,ftruncate"])
        .args(["-e", &format!("inject={fault}"), "--"])
        .arg(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--test-threads=1", test])
        .output();
    let Ok(ended) = ended else {
        println!("skipped: there is no strace to make a disk fail with");
        return;
    };
    let said = String::from_utf8_lossy(&ended.stdout).into_owned() + &String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success() && said.contains("1 passed"), "{fault}: {said}");
}

#[test]
fn output_behind_a_failed_sync_is_asked_for_again() {
    under("fdatasync:error=EIO:when=2", "output::faults::a_failed_sync");
}

#[test]
#[ignore = "runs under a fault"]
fn a_failed_sync() {
    let dir = tempfile::tempdir().unwrap();
    let outputs = Outputs::open(dir.path()).unwrap();
    let put =
        |at: usize| outputs.append_now(REQUEST, Stream::Stdout, (at * MIB) as u64, &vec![1; MIB], u64::MAX);
    // The first sync, after 16 MiB, is a good one; the second is not.
    for at in 0..31 {
        put(at).unwrap();
    }
    let error = put(31).unwrap_err();
    assert!(error.to_string().contains("was not kept by the disk behind byte 16777216"), "{error}");
    assert!(!error.is_of_disk(), "to try the same again would leave a gap");
    assert_eq!(outputs.kept(REQUEST).unwrap().stdout, SYNC_EVERY);
    for at in 16..40 {
        put(at).unwrap();
    }
    let sum = outputs.digest_now(REQUEST, Stream::Stdout, (40 * MIB) as u64).unwrap();
    assert_eq!(sum, Digest::new(<sha2::Sha256 as sha2::Digest>::digest(vec![1; 40 * MIB]).into()));
}

#[test]
fn output_whose_end_cannot_be_synced_gets_no_receipt_before_it_was_sent_again() {
    under("fdatasync:error=EIO:when=1", "output::faults::a_failed_last_sync");
}

#[test]
#[ignore = "runs under a fault"]
fn a_failed_last_sync() {
    let dir = tempfile::tempdir().unwrap();
    let outputs = Outputs::open(dir.path()).unwrap();
    outputs.append_now(REQUEST, Stream::Stderr, 0, b"hello", 100).unwrap();
    outputs.sync_one(REQUEST, Stream::Stdout).unwrap();
    assert!(outputs.sync_one(REQUEST, Stream::Stderr).is_err());
    assert_eq!(outputs.kept(REQUEST).unwrap().stderr, 0);
    outputs.append_now(REQUEST, Stream::Stderr, 0, b"hello", 100).unwrap();
    outputs.sync_one(REQUEST, Stream::Stderr).unwrap();
}

#[test]
fn output_that_cannot_be_cut_back_takes_nothing_until_it_can() {
    let dir = tempfile::tempdir().unwrap();
    let outputs = Outputs::open(dir.path()).unwrap();
    outputs.append_now(REQUEST, Stream::Stdout, 0, b"hello", 100).unwrap();
    let growing = Growing { cut: Some(2), synced: 2, ..Growing::default() };
    outputs.lock().insert((REQUEST, Stream::Stdout), growing);
    let error = outputs.append_now(REQUEST, Stream::Stdout, 5, b"!", 100).unwrap_err();
    assert!(error.to_string().contains("behind byte 2"), "{error}");
    assert_eq!(outputs.kept(REQUEST).unwrap().stdout, 2);
    outputs.append_now(REQUEST, Stream::Stdout, 2, b"llo!", 100).unwrap();
}
