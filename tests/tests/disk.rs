//! Disks that are full, read-only or failing, on both sides: a clear error, nothing accepted that is not durable, and
//! everything goes on without hands when the disk is well again.
//!
//! The manager's disk fails by strace, which answers its calls with an error, and by small file systems that are filled
//! or aborted; the guest's by its own disk.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed step is a failed test"
)]

use doorbell_api::error::ErrorCode;
use doorbell_api::request::State;
use doorbell_client::ClientError;
use doorbell_tests::command::Doorbell;
use doorbell_tests::daemon::{Daemon, new_request, sh};
use doorbell_tests::disk::{Fault, SmallDisk, can_break};
use doorbell_tests::guest::Guest;
use doorbell_tests::place::Place;
use doorbell_tests::wait::{on, until};

const GUEST: &str = "web-3";
const SYNCS: &str = "fsync,fdatasync";

/// A manager that knows a guest which is away.
fn manager(place: &Place) -> Daemon {
    let daemon = Daemon::start(place);
    daemon.add(GUEST, &Guest::socket_of(place, GUEST), None);
    daemon
}

/// Why a request is not accepted now.
#[track_caller]
fn refusal(daemon: &Daemon) -> String {
    let asked = on("an answer", daemon.client().submit(GUEST, new_request(sh("true"))));
    let error = asked.unwrap_err();
    assert!(
        matches!(error, ClientError::Refused { code: ErrorCode::NoSpace, status: 507, .. }),
        "{error:?} where 507 was expected"
    );
    error.to_string()
}

/// What its disk refuses, by its own word.
fn refused_by_disk(daemon: &Daemon) -> Option<String> {
    on("the manager's word of itself", daemon.client().info()).unwrap().disk
}

/// Open requests, as the data base on the disk has them.
fn on_disk(daemon: &Daemon) -> Vec<String> {
    let base = rusqlite::Connection::open(daemon.state().join("doorbell.sqlite")).unwrap();
    let mut rows = base.prepare("SELECT lower(hex(id)) FROM requests ORDER BY number").unwrap();
    let ids = rows.query_map([], |row| row.get::<_, String>(0)).unwrap();
    ids.map(Result::unwrap).collect()
}

#[test]
fn what_a_failed_sync_did_not_keep_is_refused_and_never_found() {
    if !can_break() {
        return;
    }
    let place = Place::new();
    let mut daemon = manager(&place);
    let before = daemon.submit(GUEST, sh("true")).id;
    let fault = Fault::of(daemon.id(), SYNCS, "EIO");
    let message = refusal(&daemon);
    assert!(
        message.starts_with("cannot write the data base: the disk of the state directory fails ("),
        "{message}"
    );
    Doorbell::new(&place, daemon.socket())
        .run(&["run", "--detach", GUEST, "--", "true"])
        .refused(125, &["the disk of the state directory fails", "ask again when it is well"]);
    assert!(
        refused_by_disk(&daemon).unwrap().starts_with("writing to the data base is refused: cannot write")
    );
    assert_eq!(daemon.request(&before).state, State::Queued, "what reads is answered");
    fault.lift();
    let after = daemon.submit(GUEST, sh("true")).id;
    until("the manager to say that all is well", || refused_by_disk(&daemon).is_none().then_some(()));
    // The worst moment: the manager goes while its disk fails, and the kernel's memory is all there is.
    let fault = Fault::of(daemon.id(), SYNCS, "EIO");
    let _ = refusal(&daemon);
    daemon.kill();
    drop(fault);
    assert_eq!(on_disk(&daemon), [before.clone(), after.clone()]);
    daemon.restart();
    let last = daemon.submit(GUEST, sh("true")).id;
    assert_eq!(on_disk(&daemon), [before, after, last]);
    daemon.assert_audit_intact();
    let log = daemon.log();
    assert_eq!(log.matches("is refused by the disk").count(), 2, "each time is told once");
    assert_eq!(log.matches("the disk of the state directory takes it again").count(), 1);
}

#[test]
fn a_sync_that_fails_once_costs_one_request() {
    if !can_break() {
        return;
    }
    let place = Place::new();
    let mut daemon = manager(&place);
    let fault = Fault::with(daemon.id(), SYNCS, &format!("{SYNCS}:error=EIO:when=1"));
    let _ = refusal(&daemon);
    let kept: Vec<String> = (0..3).map(|_| daemon.submit(GUEST, sh("true")).id).collect();
    fault.lift();
    daemon.kill();
    assert_eq!(on_disk(&daemon), kept);
    daemon.restart();
    daemon.assert_audit_intact();
}

#[test]
fn writes_that_fail_are_refused_and_go_on_when_the_disk_does() {
    if !can_break() {
        return;
    }
    let place = Place::new();
    let mut daemon = manager(&place);
    let mut kept = Vec::new();
    for (error, words) in [
        ("EIO", "the disk of the state directory fails"),
        ("ENOSPC", "no space to write"),
        ("EROFS", "fails"),
    ] {
        let fault = Fault::of(daemon.id(), "pwrite64", error);
        let message = refusal(&daemon);
        assert!(message.contains(words), "{error}: {message}");
        fault.lift();
        kept.push(daemon.submit(GUEST, sh("true")).id);
    }
    daemon.kill();
    assert_eq!(on_disk(&daemon), kept);
    daemon.restart();
    daemon.assert_audit_intact();
}

#[test]
fn a_file_system_that_became_read_only_refuses_and_keeps_what_was_accepted() {
    if !can_break() {
        return;
    }
    let place = Place::new();
    let disk = SmallDisk::in_file(&place.join("state"), 32);
    let mut daemon = manager(&place);
    let kept = daemon.submit(GUEST, sh("true")).id;
    disk.abort();
    let message = refusal(&daemon);
    assert!(message.contains("the disk of the state directory fails"), "{message}");
    let upload = on(
        "an answer",
        daemon.client().put_program(3, futures_util::stream::iter([Ok(vec![1, 2, 3].into())])),
    );
    let message = upload.unwrap_err().to_string();
    assert!(message.contains("cannot keep the program: the disk of the state directory fails"), "{message}");
    assert_eq!(daemon.request(&kept).state, State::Queued, "what reads is answered");
    daemon.kill();
    disk.repair();
    daemon.restart();
    assert_eq!(daemon.request(&kept).state, State::Queued);
    let _ = daemon.submit(GUEST, sh("true"));
    daemon.assert_audit_intact();
    drop(daemon);
}
