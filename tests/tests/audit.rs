//! The audit trail as an operator uses it, on a real manager: why something was done, what was refused, and what a hand in
//! the trail leaves behind. No guest is needed.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed step is a failed test")]

use doorbell_tests::command::Doorbell;
use doorbell_tests::daemon::Daemon;
use doorbell_tests::place::Place;
use serde_json::Value;

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
    let changes: [(&[&str], &str); 8] = [
        (&["guest", "add", "web-3", "--cid", "7", "--key", &key], "guest-added"),
        (&["guest", "set", "web-3", "--concurrency", "2"], "guest-changed"),
        (&["run", "web-3", "--detach", "--id", id, "--program", program], "request-accepted"),
        (&["request", "cancel", id], "request-cancelled"),
        (&["link", "web-3", "down", "eth0", "--no-queue"], ""),
        (&["gc"], ""),
        (&["backup", backup], "backup-begun"),
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
