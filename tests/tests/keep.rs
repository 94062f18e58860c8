//! A backup through pipes and files, as an operator makes and restores one: whole, or a line that says why not.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed step is a failed test")]

use doorbell_tests::command::Doorbell;
use doorbell_tests::daemon::{Daemon, new_request, sh};
use doorbell_tests::place::{Place, files_below};
use std::io::Write as _;
use std::path::Path;

#[test]
fn a_backup_through_pipes_is_the_same_manager_again() {
    let place = Place::new();
    let mut daemon = Daemon::start(&place);
    let doorbell = Doorbell::new(&place, daemon.socket());
    let archive = printed_backup(&daemon, &doorbell);
    let before = doorbell.run(&["--json", "request", "ls"]).expect(0).stdout;

    daemon.stop();
    let state = place.join("restored");
    let (restore, mut stdin) = doorbell.begin_fed(&["--json", "restore", "-", "--state-dir", path(&state)]);
    stdin.write_all(&archive).unwrap();
    drop(stdin);
    let told = restore.ended().expect(0).json();
    assert_eq!((&told["guests"], &told["requests"]), (&1.into(), &1.into()), "{told}");
    let file = place.file("backup.tar", &archive);
    assert_eq!(told["sha256"], doorbell_tests::place::sha256_of(&file));
    daemon.move_to(&state);
    daemon.restart();
    assert_eq!(doorbell.run(&["--json", "request", "ls"]).expect(0).stdout, before);
    let trail = doorbell.run(&["--json", "audit", "ls", "--limit", "1000"]).expect(0).stdout;
    assert!(trail.contains(told["audit_head"].as_str().unwrap()), "{trail}");
    daemon.assert_audit_intact();
}

#[test]
fn what_is_no_backup_is_refused_and_leaves_nothing() {
    let place = Place::new();
    let daemon = Daemon::start(&place);
    let doorbell = Doorbell::new(&place, daemon.socket());
    let archive = printed_backup(&daemon, &doorbell);
    let state = place.join("restored");

    let cut = place.file("cut.tar", &archive[..archive.len() / 2]);
    let mut bytes = archive.clone();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let changed = place.file("changed.tar", &bytes);
    let empty = place.file("empty.tar", b"");
    for broken in [&cut, &changed, &empty] {
        let words = ["restore", path(broken), "--state-dir", path(&state)];
        doorbell.run(&words).refused(1, &[]);
        assert!(!state.exists(), "{broken:?} has left something");
    }
    doorbell
        .run(&["restore", path(&place.join("none.tar")), "--state-dir", path(&state)])
        .refused(1, &["none.tar"]);

    // A manager's own directory is never written over.
    let whole = place.file("whole.tar", &archive);
    doorbell.run(&["restore", path(&whole), "--state-dir", path(daemon.state())]).refused(1, &[]);
    let _ = doorbell.run(&["request", "ls"]).expect(0);

    doorbell.run(&["backup", path(place.path())]).refused(2, &["is a directory"]);
    doorbell.run(&["--json", "backup", "-"]).refused(2, &["--json"]);
    doorbell.run(&["backup", "/proc/none/backup.tar"]).refused(2, &["/proc/none"]);
    let nobody = Doorbell::new(&place, &place.join("nobody.sock"));
    nobody.run(&["backup", path(&place.join("none.tar"))]).refused(125, &["nobody.sock"]);
    let left: Vec<_> = files_below(place.path()).into_iter().filter(|file| is_left(file)).collect();
    assert!(left.is_empty(), "{left:?}");
    daemon.assert_audit_intact();
}

/// The archive of a manager with one guest and one request, as `backup -` prints it.
fn printed_backup(daemon: &Daemon, doorbell: &Doorbell<'_>) -> Vec<u8> {
    let _ = doorbell.run(&["guest", "add", "web-3", "--cid", "7"]).expect(0);
    let _ = daemon.submit_as("web-3", new_request(sh("true")));
    let mut running = doorbell.begin(&["backup", "-"]);
    let file = running.stdout_file().to_owned();
    assert_eq!(running.code_within(doorbell_tests::wait::PATIENCE), Some(0));
    std::fs::read(file).unwrap()
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Whether a file is one that a backup was put together in.
fn is_left(file: &Path) -> bool {
    file.to_string_lossy().contains(".doorbell-backup") || file.ends_with("none.tar")
}
