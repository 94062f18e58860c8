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
use doorbell_api::request::{NewRequest, Request, State};
use doorbell_client::{ClientError, Stream};
use doorbell_tests::command::Doorbell;
use doorbell_tests::daemon::{Daemon, new_request, sh};
use doorbell_tests::disk::{Fault, SmallDisk, can_break};
use doorbell_tests::guest::{Guest, Machine, await_cable};
use doorbell_tests::image::Image;
use doorbell_tests::lab::AGENT_PID;
use doorbell_tests::place::Place;
use doorbell_tests::wait::{on, until};

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

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

/// A private state directory, with whatever is mounted in it.
fn private(at: &Path) {
    DirBuilder::new().mode(0o700).create(at).unwrap();
}

/// A request beside what runs.
fn urgent(daemon: &Daemon, script: &str) -> String {
    daemon.submit_as(GUEST, NewRequest { urgent: true, ..new_request(sh(script)) }).id
}

fn await_output(daemon: &Daemon, id: &str, text: &str) {
    until(&format!("{text:?} of request {id}"), || {
        let output = daemon.output(id, Stream::Stdout, 0);
        String::from_utf8_lossy(&output).contains(text).then_some(())
    });
}

/// A query is answered, whatever the disks do.
fn assert_answers(place: &Place, daemon: &Daemon) {
    let links = Doorbell::new(place, daemon.socket()).run(&["link", GUEST, "ls"]).expect(0);
    assert!(links.stdout.contains("eth0"), "{links:?}");
}

#[test]
fn a_full_disk_of_the_manager_lets_its_guest_wait_and_goes_on() {
    if !can_break() {
        return;
    }
    let place = Place::new();
    private(&place.join("state"));
    let output = SmallDisk::in_memory(&place.join("state/output"), 1024);
    let daemon = Daemon::start(&place);
    let guest = daemon.boot(&place, GUEST, &Machine::default());
    let long = daemon.submit(GUEST, sh("yes 0123456789abcde | head -c 4194304")).id;
    until("the manager to tell of its disk", || {
        refused_by_disk(&daemon)?.starts_with("keeping output is refused: no space").then_some(())
    });
    let beside = urgent(&daemon, "exit 0");
    assert_eq!(daemon.finished(&beside).state, State::Succeeded, "others of this guest are served");
    assert_answers(&place, &daemon);
    assert_eq!(daemon.request(&long).state, State::Started);
    output.resize(16 * 1024);
    assert_eq!(daemon.finished(&long).state, State::Succeeded);
    let printed = daemon.output(&long, Stream::Stdout, 0);
    assert_eq!(printed.len(), 4_194_304);
    assert!(printed.chunks(16).all(|line| line == b"0123456789abcde\n"), "not what was printed");
    until("the manager to say that all is well", || refused_by_disk(&daemon).is_none().then_some(()));
    assert_eq!(daemon.log().matches("session ended").count(), 0, "its guest was sent away");
    a_full_disk_keeps_the_outcome_in_the_guest(&place, &daemon, &guest);
    output_of_a_failed_sync_is_sent_again(&daemon, &guest);
    daemon.assert_audit_intact();
}

/// The manager can store nothing at all while a program ends.
fn a_full_disk_keeps_the_outcome_in_the_guest(place: &Place, daemon: &Daemon, guest: &Guest) {
    let script = format!("echo up; {}; echo bye; exit 7", await_cable(false));
    let id = daemon.submit(GUEST, sh(&script)).id;
    await_output(daemon, &id, "up");
    let fault = Fault::of(daemon.id(), "pwrite64", "ENOSPC");
    guest.plug(false);
    until("the manager to tell of its disk", || {
        refused_by_disk(daemon)?.contains("no space to").then_some(())
    });
    let message = refusal(daemon);
    assert!(message.contains("no space to write the data base"), "{message}");
    assert_answers(place, daemon);
    assert_eq!(daemon.request(&id).state, State::Started, "nobody says more than is on the disk");
    fault.lift();
    let ended = daemon.finished(&id);
    assert_eq!((ended.state, ended.receipt.unwrap().exit_code), (State::Failed, Some(7)));
    assert_eq!(daemon.output(&id, Stream::Stdout, 0), b"up\nbye\n");
    assert_eq!(daemon.log().matches("session ended").count(), 0, "its guest was sent away");
}

/// What a sync did not keep is not taken for kept, by the manager or by the guest.
fn output_of_a_failed_sync_is_sent_again(daemon: &Daemon, guest: &Guest) {
    let script = format!("echo up; {}; echo bye; exit 7", await_cable(true));
    let id = daemon.submit(GUEST, sh(&script)).id;
    await_output(daemon, &id, "up");
    let log = daemon.log().len();
    let fault = Fault::of(daemon.id(), SYNCS, "EIO");
    guest.plug(true);
    daemon.await_log(log, "output that was written could not be kept; its guest is asked for it again");
    assert_eq!(daemon.request(&id).state, State::Started);
    fault.lift();
    let ended = daemon.finished(&id);
    assert_eq!((ended.state, ended.receipt.unwrap().exit_code), (State::Failed, Some(7)));
    assert_eq!(daemon.output(&id, Stream::Stdout, 0), b"up\nbye\n");
}

/// A manager and a guest with a small disk, whose cable is plugged in.
struct Guests {
    daemon: Daemon,
    guest: Guest,
    place: Place,
}

impl Guests {
    /// It began nothing, and says why: with this error number.
    fn assert_refused(&self, request: &Request, errno: i32) {
        let receipt = request.receipt.as_ref().unwrap();
        assert!(
            matches!(request.state, State::Refused | State::NotStarted),
            "{:?} {receipt:?}",
            request.state
        );
        assert_eq!(receipt.errno, Some(errno), "{receipt:?}");
    }

    /// What is asked for while the guest's disk takes nothing.
    fn assert_only_reads(&self, errno: i32) {
        let refused = urgent(&self.daemon, RAN);
        self.assert_refused(&self.daemon.finished(&refused), errno);
        assert_answers(&self.place, &self.daemon);
    }

    fn assert_works(&self) {
        let id = urgent(&self.daemon, RAN);
        let ended = self.daemon.finished(&id);
        assert_eq!(ended.state, State::Succeeded, "{:?}", ended.receipt);
    }

    fn agent(&self) -> String {
        let id = urgent(&self.daemon, &format!("{AGENT_PID} && echo $agent"));
        assert_eq!(self.daemon.finished(&id).state, State::Succeeded);
        String::from_utf8(self.daemon.output(&id, Stream::Stdout, 0)).unwrap()
    }
}

#[test]
fn a_guests_disk_that_takes_nothing_refuses_effects_and_goes_on_without_a_restart() {
    let place = Place::new();
    let daemon = Daemon::start(&place);
    let machine = Machine { image: Image::Strace, disk_mib: Some(8), ..Machine::default() };
    let guest = daemon.boot(&place, GUEST, &machine);
    let guests = Guests { daemon, guest, place };
    let agent = guests.agent();
    full(&guests);
    guests.assert_works();
    failing(&guests);
    guests.assert_works();
    assert_eq!(guests.agent(), agent, "the agent was restarted");
    read_only(&guests);
    guests.assert_works();
    // The token of the session that began on a read-only disk has come to the disk meanwhile.
    until("the token on the guest's disk", || {
        guests.assert_works();
        guests.guest.console().contains("the session token is on disk").then_some(())
    });
    let agent = guests.agent();
    let killed = urgent(&guests.daemon, &format!("{AGENT_PID} && kill -9 $agent"));
    assert_eq!(guests.daemon.finished(&killed).state, State::Succeeded);
    assert_ne!(guests.agent(), agent, "another one is not fenced");
    let (_, effects) = guests.daemon.run_sh(GUEST, &format!("sort {EFFECTS} | uniq -d | grep ran; exit 0"));
    assert_eq!(effects, "", "something ran twice");
    guests.daemon.assert_audit_intact();
}

/// Its disk is full while one program runs and another one ends.
fn full(guests: &Guests) {
    let Guests { daemon, guest, .. } = guests;
    let ends = urgent(daemon, "mkfifo /run/gate; echo up; read go </run/gate; exit 5");
    await_output(daemon, &ends, "up");
    let fills = format!(
        "dd if=/dev/zero of={DISK}/ballast bs=4k 2>/dev/null; echo full; {}; rm {DISK}/ballast; echo bye",
        await_cable(false)
    );
    let fills = daemon.submit(GUEST, sh(&fills)).id;
    await_output(daemon, &fills, "full");
    guests.assert_only_reads(28);
    // There is nobody to open the gate but who runs already.
    assert_eq!(daemon.request(&ends).state, State::Started);
    on("the cancel", daemon.client().cancel(&ends)).unwrap();
    assert_eq!(daemon.finished(&ends).state, State::Cancelled, "an outcome is told all the same");
    guest.plug(false);
    assert_eq!(daemon.finished(&fills).state, State::Succeeded);
}

/// The syncs of its agent fail.
fn failing(guests: &Guests) {
    let Guests { daemon, guest, .. } = guests;
    let script = format!(
        "{AGENT_PID} || exit 9; strace -qq -o /dev/null -e trace=fsync,fdatasync \
         -e inject=fsync,fdatasync:error=EIO -p $agent & \
         until grep -q \"^TracerPid:.$!\" /proc/$agent/status; do usleep 10000; done; echo on; \
         {}; kill -INT $!; wait $!; echo off",
        await_cable(true)
    );
    let traces = daemon.submit(GUEST, sh(&script)).id;
    await_output(daemon, &traces, "on");
    for _ in 0..2 {
        guests.assert_only_reads(5);
    }
    guest.plug(true);
    assert_eq!(daemon.finished(&traces).state, State::Succeeded);
}

/// It boots with a disk that is read-only for a while.
fn read_only(guests: &Guests) {
    let Guests { daemon, guest, .. } = guests;
    let (marked, _) = daemon.run_sh(GUEST, &format!("touch {DISK}/read-only; sync"));
    assert_eq!(marked.state, State::Succeeded);
    guest.reset();
    guest.await_boot(2);
    guests.assert_only_reads(30);
    guest.plug(false);
    until("the disk", || guest.console().contains("the disk takes writes").then_some(()));
}

const DISK: &str = "/var/lib/doorbell-agent";
const EFFECTS: &str = "/var/lib/doorbell-agent/effects.log";
const RAN: &str = "echo \"ran $DOORBELL_REQUEST\" >>/var/lib/doorbell-agent/effects.log";
