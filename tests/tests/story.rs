//! The main job with one real guest, station by station, through the real command line: a command becomes a
//! request, rings, is pulled, run and acknowledged, and leaves a receipt and an audit trail that shows tampering.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed step is a failed test"
)]

use doorbell_api::guest::Presence;
use doorbell_api::request::State;
use doorbell_client::Stream;
use doorbell_tests::command::Doorbell;
use doorbell_tests::daemon::{Daemon, sh};
use doorbell_tests::guest::{Guest, Machine, await_cable, door};
use doorbell_tests::honest::{Honest, Identity};
use doorbell_tests::place::Place;
use doorbell_tests::wait::until;

#[test]
fn an_approved_guest_runs_what_the_command_line_says() {
    let place = Place::new();
    let daemon = Daemon::start(&place);
    let doorbell = Doorbell::new(&place, daemon.socket());
    let socket = Guest::socket_of(&place, "web-3");
    let socket = socket.to_str().unwrap();
    let added = doorbell.run(&["--json", "guest", "add", "web-3", "--hybrid-socket", socket]).expect(0);
    assert_eq!(added.json()["presence"], "never");
    let guest = Guest::boot(&place, "web-3", &Machine::default());

    // Unknown keys wait, and are told by the same fingerprint on console and command line.
    let pending = until("the key to wait", || {
        let pending = doorbell.run(&["--json", "guest", "pending"]).expect(0).json();
        pending[0]["fingerprint"].as_str().map(str::to_owned)
    });
    assert_eq!(pending, guest.fingerprint());
    let other = "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    doorbell.run(&["guest", "approve", "web-3", "--fingerprint", other]).refused(2, &[other]);
    let _ = doorbell.run(&["guest", "approve", "web-3", "--fingerprint", &pending]).expect(0);
    daemon.await_presence("web-3", Presence::Connected);

    exit_statuses_are_the_programs_own(&doorbell);
    arguments_arrive_as_they_are(&doorbell);
    the_environment_is_the_programs_alone(&doorbell);
    a_program_of_the_operators_runs(&place, &doorbell);
    requests_can_be_read_again(&daemon, &doorbell);
    a_timed_out_program_leaves_no_process(&doorbell);
    let _ = doorbell.run(&["audit", "verify"]).expect(0);
}

fn exit_statuses_are_the_programs_own(doorbell: &Doorbell<'_>) {
    let run = |words: &[&str]| doorbell.run(&[&["run", "web-3"], words].concat());
    let ended = run(&["--", "uname", "-s"]).expect(0);
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("Linux\n", ""));
    let ended = run(&["--", "sh", "-c", "echo out; echo err >&2; exit 7"]).expect(7);
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("out\n", "err\n"));
    let killed = run(&["--", "sh", "-c", "kill -KILL $$"]).expect(137);
    assert!(killed.stderr.contains("killed by SIGKILL"), "{}", killed.stderr);
    let missing = run(&["--", "no-such-program"]).expect(121);
    assert!(missing.stderr.contains("could not start no-such-program"), "{}", missing.stderr);
    let late = run(&["--timeout", "300ms", "--", "sleep", "60"]).expect(123);
    assert!(late.stderr.contains("timed-out"), "{}", late.stderr);
}

fn a_timed_out_program_leaves_no_process(doorbell: &Doorbell<'_>) {
    let brood = "(trap '' TERM; setsid sleep 4711) & sleep 4711";
    let _ = doorbell.run(&["run", "web-3", "--timeout", "500ms", "--", "sh", "-c", brood]).expect(123);
    let left = r#"for each in /proc/[0-9]*; do tr '\0' ' ' <"$each/cmdline"; echo; done 2>/dev/null | grep '^sleep 4711'"#;
    let _ = doorbell.run(&["run", "web-3", "--", "sh", "-c", left]).expect(1);
}

fn arguments_arrive_as_they_are(doorbell: &Doorbell<'_>) {
    let words =
        ["two words", "'single' \"double\"", "$HOME", "`id`", "line\nbreak", "", "*", "--flag", "ü", "\\"];
    let script = r#"for word; do printf '<%s>' "$word"; done"#;
    let ended =
        doorbell.run(&[&["run", "web-3", "--", "sh", "-c", script, "sh"], &words[..]].concat()).expect(0);
    let expected: String = words.iter().map(|word| format!("<{word}>")).collect();
    assert_eq!(ended.stdout, expected);
}

fn the_environment_is_the_programs_alone(doorbell: &Doorbell<'_>) {
    let set = ["--env", "GREETING=hello there", "--env", "EMPTY=", "--cwd", "/var/lib"];
    let show = [
        "--",
        "sh",
        "-c",
        "pwd; echo \"$GREETING|${EMPTY-unset}\"; cat | wc -c; ls -1 /proc/self/fd | wc -l",
    ];
    let ended = doorbell.run(&[&["run", "web-3"], &set[..], &show[..]].concat()).expect(0);
    // Standard input is empty, and no descriptor of the agent's came along: 0, 1, 2 and the one that ls opens.
    assert_eq!(ended.stdout, "/var/lib\nhello there|\n0\n4\n");
    let ended = doorbell.run(&["run", "web-3", "--cwd", "/nowhere", "--", "true"]).expect(121);
    assert!(ended.stderr.contains("/nowhere"), "{}", ended.stderr);
}

fn a_program_of_the_operators_runs(place: &Place, doorbell: &Doorbell<'_>) {
    let patch = place.file("patch.sh", b"#!/bin/sh\necho \"patched $1 by $0\" | sed 's,/.*/,,'\n");
    let ended = doorbell.run(&["run", "web-3", "--program", patch.to_str().unwrap(), "--", "it"]).expect(0);
    assert!(ended.stdout.starts_with("patched it"), "{}", ended.stdout);
}

fn requests_can_be_read_again(daemon: &Daemon, doorbell: &Doorbell<'_>) {
    let _ = doorbell.run(&["run", "web-3", "--reason", "a look", "--", "seq", "1", "5"]).expect(0);
    let list =
        doorbell.run(&["--json", "request", "ls", "--guest", "web-3", "--limit", "1"]).expect(0).json();
    let id = list["requests"][0]["id"].as_str().unwrap().to_owned();
    for _ in 0..2 {
        let shown = doorbell.run(&["--json", "request", "show", &id]).expect(0).json();
        assert_eq!((&shown["state"], &shown["reason"]), (&"succeeded".into(), &"a look".into()));
        assert_eq!(shown["receipt"]["stdout"]["bytes"], 10);
        assert_eq!(doorbell.run(&["request", "output", &id]).expect(0).stdout, "1\n2\n3\n4\n5\n");
        let tail = doorbell.run(&["request", "output", &id[..8], "--offset", "6"]).expect(0);
        assert_eq!(tail.stdout, "4\n5\n");
    }
    assert_eq!(daemon.output(&id, Stream::Stdout, 10), b"");
    let _ = doorbell.run(&["request", "wait", &id]).expect(0);
}

#[test]
fn output_is_live_and_every_station_is_told() {
    let place = Place::new();
    let daemon = Daemon::start(&place);
    let guest = daemon.boot(&place, "web-3", &Machine::default());
    let doorbell = Doorbell::new(&place, daemon.socket());
    let watch = doorbell.begin(&["--json", "watch"]);
    // Events are told from the watcher's connection on, so one of its own shows that it listens.
    until("the watcher to listen", || {
        let _ = daemon.run_sh("web-3", ":");
        watch.stdout().contains("succeeded").then_some(())
    });

    // The program's end hangs on the cable, which is pulled only after its first line was seen here.
    let script = format!("echo first; {}; echo last", await_cable(false));
    let running = doorbell.begin(&["run", "web-3", "--", "sh", "-c", &script]);
    until("the first line", || (running.stdout() == "first\n").then_some(()));
    let id = doorbell.run(&["--json", "request", "ls", "--limit", "1"]).expect(0).json();
    let id = id["requests"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(daemon.request(&id).state, State::Started);
    assert_eq!(daemon.output(&id, Stream::Stdout, 0), b"first\n");
    guest.plug(false);
    assert_eq!(running.ended().expect(0).stdout, "first\nlast\n");

    let told = until("the end of the request on watch", || {
        let told = states_of(&watch.stdout(), &id);
        (told.last().map(String::as_str) == Some("succeeded")).then_some(told)
    });
    assert_eq!(told, ["queued", "offered", "started", "succeeded"]);
    for change in ["rung", "pulled"] {
        assert!(
            watch.stdout().contains(&format!("\"type\":\"{change}\"")),
            "no {change} in {}",
            watch.stdout()
        );
    }

    // A cancel ends what runs, and is not success.
    let id = daemon.submit("web-3", sh("sleep 600")).id;
    until("the program's start", || (daemon.request(&id).state == State::Started).then_some(()));
    let _ = doorbell.run(&["request", "cancel", &id]).expect(0);
    assert_eq!(daemon.finished(&id).state, State::Cancelled);
    let _ = doorbell.run(&["request", "wait", &id]).expect(123);
}

fn states_of(watched: &str, id: &str) -> Vec<String> {
    let events = watched.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let mine = events.filter(|event| event["change"]["id"] == id);
    mine.filter_map(|event| event["change"]["state"].as_str().map(str::to_owned)).collect()
}

#[test]
fn a_link_that_is_down_sends_nothing_and_the_guest_still_answers() {
    let place = Place::new();
    let daemon = Daemon::start(&place);
    let guest = daemon.boot(&place, "web-3", &Machine::default());
    let doorbell = Doorbell::new(&place, daemon.socket());
    let links = doorbell.run(&["--json", "link", "web-3", "ls"]).expect(0).json();
    let eth0 = links["links"].as_array().unwrap().iter().find(|link| link["name"] == "eth0").unwrap();
    let mac = eth0["mac"].as_str().unwrap().to_owned();
    assert_eq!(eth0["up"], true);
    frames_come(&guest);

    let _ = doorbell.run(&["link", "web-3", "down", "eth0"]).expect(0);
    let receipt = newest_receipt(&doorbell);
    assert_eq!((&receipt["link_before"]["up"], &receipt["link_after"]["up"]), (&true.into(), &false.into()));
    assert_eq!(receipt["link_after"]["flags"].as_u64().unwrap() & 1, 0);
    let before = guest.frames_sent();
    // The guest itself tries for as long as this takes, over a channel that needs no NIC.
    let (ping, _) = daemon.run_sh("web-3", "ping -c 2 -W 1 10.0.2.2");
    assert_ne!(ping.state, State::Succeeded);
    assert_eq!(guest.frames_sent(), before, "frames came although the link is down");

    let _ = doorbell.run(&["link", "web-3", "up", &mac]).expect(0);
    let receipt = newest_receipt(&doorbell);
    assert_eq!((&receipt["link_before"]["up"], &receipt["link_after"]["up"]), (&false.into(), &true.into()));
    frames_come(&guest);
    let refused = doorbell.run(&["link", "web-3", "down", "eth9"]).expect(122);
    assert!(refused.stderr.contains("eth9"), "{}", refused.stderr);
}

fn frames_come(guest: &Guest) {
    let before = guest.frames_sent();
    until("frames from the guest", || (guest.frames_sent() > before).then_some(()));
}

fn newest_receipt(doorbell: &Doorbell<'_>) -> serde_json::Value {
    let mut list = doorbell.run(&["--json", "request", "ls", "--limit", "1"]).expect(0).json();
    list["requests"][0]["receipt"].take()
}

#[test]
fn a_changed_record_breaks_the_audit_trail() {
    let place = Place::new();
    let mut daemon = Daemon::start(&place);
    let doorbell = Doorbell::new(&place, daemon.socket());
    let (socket, identity) = (place.join("h"), Identity::fresh());
    daemon.add("web-3", &socket, Some(identity.public_key()));
    let honest = Honest::start(&door(&socket), identity);
    let _ = doorbell.run(&["run", "web-3", "--", "true"]).expect(0);
    let _ = doorbell.run(&["audit", "verify"]).expect(0);
    let head = doorbell.run(&["--json", "audit", "verify"]).expect(0).json()["head"].clone();
    drop(honest);

    for (tampering, undo) in tamperings(&daemon) {
        change_store(&mut daemon, &tampering);
        let broken = doorbell.run(&["--json", "audit", "verify"]);
        assert_ne!(broken.code, Some(0), "{tampering} was not seen");
        assert_eq!(broken.code, Some(1), "{tampering}: {}", broken.stderr);
        change_store(&mut daemon, &undo);
        let _ = doorbell.run(&["audit", "verify"]).expect(0);
    }
    // Cut off at the end the chain itself is whole; where it ended, and the head kept elsewhere, show it.
    change_store(&mut daemon, "DELETE FROM audit WHERE number > 2");
    let cut = doorbell.run(&["--json", "audit", "verify"]).expect(1);
    assert_ne!(cut.json()["head"], head);
}

/// A change and its undoing, for one field and for one whole record.
fn tamperings(daemon: &Daemon) -> Vec<(String, String)> {
    let number = 2;
    let detail: String = open_store(daemon)
        .query_row("SELECT detail FROM audit WHERE number = ?1", [number], |row| row.get(0))
        .unwrap();
    let set = |text: &str| {
        format!("UPDATE audit SET detail = '{}' WHERE number = {number}", text.replace('\'', "''"))
    };
    vec![
        (set("nothing to see here"), set(&detail)),
        (
            format!(
                "CREATE TABLE kept AS SELECT * FROM audit WHERE number = {number}; DELETE FROM audit WHERE number = {number}"
            ),
            "INSERT INTO audit SELECT * FROM kept; DROP TABLE kept".to_owned(),
        ),
    ]
}

fn open_store(daemon: &Daemon) -> rusqlite::Connection {
    rusqlite::Connection::open(daemon.state().join("doorbell.sqlite")).unwrap()
}

/// As somebody with the disk in hand would: the manager is not there to see it.
fn change_store(daemon: &mut Daemon, sql: &str) {
    daemon.stop();
    // Guards inside the file do not hold whoever owns the file.
    let store = open_store(daemon);
    store.execute_batch("PRAGMA foreign_keys = OFF").unwrap();
    let guards = "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'audit'";
    let names: Vec<String> =
        store.prepare(guards).unwrap().query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    for name in names {
        store.execute_batch(&format!("DROP TRIGGER {name}")).unwrap();
    }
    store.execute_batch(sql).unwrap();
    drop(store);
    daemon.restart();
}
