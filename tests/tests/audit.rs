//! The audit trail as an operator uses it, on a real manager: why something was done, what was refused, and what a hand in
//! the trail leaves behind. No guest is needed.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed step is a failed test")]

use doorbell_tests::command::Doorbell;
use doorbell_tests::daemon::Daemon;
use doorbell_tests::place::Place;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

#[test]
fn every_command_that_changes_something_says_why() {
    let place = Place::new();
    let daemon = Daemon::start_with(&place, "require-reason = true\n");
    let doorbell = Doorbell::new(&place, daemon.socket());
    let backup = place.join("backup.tar");
    let program = place.file("fix.sh", b"#!/bin/sh\n");
    let key = "11".repeat(32);
    let (backup, program) = (backup.to_str().unwrap(), program.to_str().unwrap());
    let id = "0123456789abcdef0123456789abcdef";
    let changes: [(&[&str], &str); 11] = [
        (&["guest", "add", "web-3", "--cid", "7", "--key", &key], "guest-added"),
        (&["guest", "set", "web-3", "--concurrency", "2"], "guest-changed"),
        (&["run", "web-3", "--detach", "--id", id, "--program", program], "request-accepted"),
        (&["request", "cancel", id], "request-cancelled"),
        (&["link", "web-3", "down", "eth0", "--no-queue"], ""),
        (&["gc"], ""),
        (&["backup", backup], "backup-begun"),
        (&["tenant", "add", "acme"], "tenant-added"),
        (&["token", "add", "ci", "--role", "viewer"], "principal-added"),
        (&["tenant", "rm", "acme"], "tenant-removed"),
        (&["guest", "rm", "web-3", "--yes"], "guest-removed"),
    ];
    for (words, event) in changes {
        let without = doorbell.run(words);
        assert_ne!(without.code, Some(0), "{words:?}");
        if !event.is_empty() {
            without.refused(2, &["say why with --reason"]);
        }
        let mut words = words.to_vec();
        words.splice(0..0, ["--reason", "CVE-2026-1: a patch", "--ticket", "OPS-7"]);
        if event.is_empty() {
            continue;
        }
        let _ = doorbell.run(&words).expect(0);
        let record = last(&doorbell, event);
        assert_eq!((&record["reason"], &record["ticket"]), (&"CVE-2026-1: a patch".into(), &"OPS-7".into()));
    }
    let stored = last(&doorbell, "program-stored");
    assert_eq!(stored["ticket"], "OPS-7", "{stored}");
    let shown = doorbell.run(&["request", "show", id]).expect(0).stdout;
    assert!(shown.contains("CVE-2026-1: a patch") && shown.contains("OPS-7"), "{shown}");
    let listed = doorbell.run(&["audit", "ls"]).expect(0).stdout;
    assert!(listed.contains("TICKET") && listed.contains("CVE-2026-1: a patch"), "{listed}");
    doorbell.run(&["--reason", "a\nb", "gc"]).refused(2, &["control characters"]);
    doorbell.run(&["--ticket", &"t".repeat(257), "--reason", "r", "gc"]).refused(2, &["256"]);

    let state = place.join("restored");
    let restore = ["restore", backup, "--state-dir", state.to_str().unwrap()];
    let _ = doorbell.run(&[&["--reason", "a drill"][..], &restore].concat()).expect(0);
    daemon.assert_audit_intact();
}

#[test]
fn what_is_refused_is_in_the_trail_and_what_is_refused_again_is_counted() {
    let place = Place::new();
    let mut daemon = Daemon::start(&place);
    let doorbell = Doorbell::new(&place, daemon.socket());
    let _ = doorbell.run(&["guest", "add", "web-3", "--cid", "7"]).expect(0);
    for _ in 0..4 {
        doorbell.run(&["--ticket", "OPS-7", "guest", "add", "web-4", "--cid", "7"]).refused(2, &["cid 7"]);
    }
    doorbell.run(&["guest", "approve", "web-3"]).refused(2, &["web-3"]);
    daemon.stop();
    daemon.restart();
    let refused: Vec<Value> =
        trail(&doorbell).into_iter().filter(|record| record["event"] == "call-refused").collect();
    assert_eq!(refused.len(), 3, "{refused:?}");
    let detail = |index: usize| refused[index]["detail"].as_str().unwrap();
    assert!(detail(0).starts_with("POST /v1/guests: conflict: ") && detail(0).contains(", from process "));
    assert_eq!((&refused[0]["ticket"], &refused[1]["guest"]), (&"OPS-7".into(), &"web-3".into()));
    assert!(detail(1).starts_with("POST /v1/guests/web-3/approve: conflict: "), "{}", detail(1));
    assert!(detail(2).starts_with("3 more like those before, the last: POST /v1/guests: "), "{}", detail(2));
    daemon.assert_audit_intact();
}

fn trail(doorbell: &Doorbell<'_>) -> Vec<Value> {
    let listed = doorbell.run(&["--json", "audit", "ls", "--limit", "1000"]).expect(0).json();
    listed.as_array().unwrap().clone()
}

/// The newest record of an event.
fn last(doorbell: &Doorbell<'_>, event: &str) -> Value {
    let found = trail(doorbell).into_iter().rfind(|record| record["event"] == event);
    assert!(found.is_some(), "no record {event}");
    found.unwrap()
}

#[test]
fn what_was_kept_of_a_trail_shows_a_tail_that_is_gone_and_one_that_was_put_back() {
    let place = Place::new();
    let mut daemon = Daemon::start(&place);
    let doorbell = Doorbell::new(&place, daemon.socket());
    let _ = doorbell.run(&["guest", "add", "web-3", "--cid", "7"]).expect(0);
    let early = copied(&place, &mut daemon, "early");
    let _ = doorbell.run(&["guest", "set", "web-3", "--concurrency", "2"]).expect(0);
    let kept = export(&place, &doorbell, "kept.jsonl");
    let head =
        place.file("head.json", doorbell.run(&["--json", "audit", "show"]).expect(0).stdout.as_bytes());
    let key = fingerprint(&doorbell);
    let _ = doorbell.run(&["guest", "rm", "web-3", "--yes"]).expect(0);
    let later = export(&place, &doorbell, "later.jsonl");
    // What the log has is a head as well.
    daemon.stop();
    let log = place.file("log", daemon.log().as_bytes());
    let state = daemon.state().to_owned();
    for with in [&kept, &head, &later, &log] {
        let verify = ["audit", "verify", "--state-dir", text(&state), "--against", text(with)];
        let _ = doorbell.run(&verify).expect(0);
        let told = doorbell.run(&["audit", "verify", "--state-dir", text(&early), "--against", text(with)]);
        assert!(told.expect(1).stdout.contains("the trail was rolled back: it ends whole at record 1,"));
    }
    daemon.restart();
    for with in [&kept, &head, &later, &log] {
        let _ = doorbell.run(&["audit", "verify", "--against", text(with), "--key", &key]).expect(0);
    }
    let _ = doorbell
        .run(&["audit", "verify", "--export", text(&later), "--against", text(&kept), "--key", &key])
        .expect(0);
    let told =
        doorbell.run(&["audit", "verify", "--export", text(&kept), "--against", text(&later)]).expect(1);
    assert!(told.stdout.contains("the trail was rolled back: it ends whole at record 2,"), "{}", told.stdout);
    let _ = doorbell.run(&["audit", "verify", "--export", text(&later), "--key", "SHA256:no"]).expect(1);

    // The manager goes on from the copy, and writes another history.
    daemon.stop();
    daemon.move_to(&early);
    daemon.restart();
    for name in ["web-5", "web-6"] {
        let _ = doorbell.run(&["guest", "set", "web-3", "--concurrency", "3"]);
        let _ = doorbell.run(&["guest", "add", name, "--hybrid-socket", text(&place.join(name))]).expect(0);
    }
    let _ = doorbell.run(&["audit", "verify"]).expect(0);
    let told = doorbell.run(&["audit", "verify", "--against", text(&later)]).expect(1);
    assert!(
        told.stdout
            .contains("the trail was forked: its record 2 is not the one that was kept; up to record 1")
    );

    // And another manager is another manager.
    daemon.stop();
    daemon.move_to(&place.join("fresh"));
    daemon.restart();
    let told = doorbell.run(&["audit", "verify", "--against", text(&head)]).expect(1);
    assert!(told.stdout.contains("is signed by another key, SHA256:"), "{}", told.stdout);
}

#[test]
fn an_export_is_read_as_strictly_as_it_was_written_and_the_key_goes_with_the_backup() {
    let place = Place::new();
    let mut daemon = Daemon::start(&place);
    let doorbell = Doorbell::new(&place, daemon.socket());
    let _ = doorbell.run(&["guest", "add", "web-3", "--cid", "7"]).expect(0);
    let _ = doorbell.run(&["guest", "set", "web-3", "--concurrency", "2"]).expect(0);
    let printed = doorbell.run(&["audit", "export", "--since", "1", "-"]).expect(0).stdout;
    assert_eq!(printed.lines().count(), 2, "{printed}");
    let whole = place.file("whole.jsonl", printed.as_bytes());
    let _ = doorbell.run(&["audit", "verify", "--export", text(&whole)]).expect(0);
    let changed = place.file("changed.jsonl", printed.replace("guest-changed", "guest-altered").as_bytes());
    let cut = place.file("cut.jsonl", printed.lines().next().unwrap().as_bytes());
    for broken in [&changed, &cut] {
        let told = doorbell.run(&["audit", "verify", "--export", text(broken)]).expect(1);
        assert!(told.stdout.starts_with("the audit trail is broken: ") && told.stdout.lines().count() == 1);
        let _ = doorbell.run(&["audit", "verify", "--against", text(broken)]).expect(1);
    }
    doorbell.run(&["audit", "export", "--since", "99", "-"]).refused(2, &["ends at record 2"]);
    let record = doorbell.run(&["--json", "audit", "show", "2"]).expect(0).json();
    assert_eq!(record["event"], "guest-changed");
    doorbell.run(&["audit", "show", "99"]).refused(2, &["no record 99"]);

    let (key, backup, state) = (fingerprint(&doorbell), place.join("backup.tar"), place.join("restored"));
    let _ = doorbell.run(&["backup", text(&backup)]).expect(0);
    let _ = doorbell.run(&["restore", text(&backup), "--state-dir", text(&state)]).expect(0);
    daemon.stop();
    daemon.move_to(&state);
    daemon.restart();
    assert_eq!(fingerprint(&doorbell), key);
    let _ = doorbell.run(&["audit", "verify", "--against", text(&whole)]).expect(0);
}

/// A copy of the state of a manager that is stopped for it.
fn copied(place: &Place, daemon: &mut Daemon, name: &str) -> PathBuf {
    daemon.stop();
    let copy = place.join(name);
    let status = Command::new("cp").arg("-a").arg(daemon.state()).arg(&copy).status().unwrap();
    assert!(status.success());
    daemon.restart();
    copy
}

fn export(place: &Place, doorbell: &Doorbell<'_>, name: &str) -> PathBuf {
    let file = place.join(name);
    let _ = doorbell.run(&["audit", "export", text(&file)]).expect(0);
    file
}

/// The fingerprint of the manager's key, as it is shown to people.
fn fingerprint(doorbell: &Doorbell<'_>) -> String {
    let shown = doorbell.run(&["audit", "show"]).expect(0).stdout;
    shown.split_whitespace().find(|word| word.starts_with("SHA256:")).unwrap().to_owned()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
