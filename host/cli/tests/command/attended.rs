//! A request that is followed: input to its end, a manager that is restarted, leaving it and coming back.

use super::manager::{ID, Log, Manager, ended, interrupt, line, read_until, text};
use super::program::Program;
use axum::routing::get;
use axum::{Json, Router};
use doorbell_client::api::request::{NewRequest, State};
use std::io::Write as _;
use std::process::{Child, Stdio};
use std::sync::Arc;

/// No two parts of it are the same, and it is no text.
fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from((at / 4096 + at) % 251).expect("a byte")).collect()
}

fn spawn(manager: &Manager, words: &[&str]) -> Child {
    manager.command(words).stdin(Stdio::piped()).spawn().expect("it runs")
}

fn rest(from: &mut impl std::io::Read) -> Vec<u8> {
    let mut all = Vec::new();
    from.read_to_end(&mut all).expect("read");
    all
}

fn submitted(manager: &Manager) -> NewRequest {
    let said = manager.log.said();
    said.iter().find_map(|line| serde_json::from_str(line).ok()).expect("a request was submitted")
}

#[test]
fn what_we_read_is_what_the_program_reads() {
    let program = Program::new();
    let manager = program.manager();
    let mut child = spawn(&manager, &["run", "web-3", "--stdin", "--", "cat"]);
    let what = bytes(3 << 20);
    let (mut stdin, sent) = (child.stdin.take().expect("stdin"), what.clone());
    let writer = std::thread::spawn(move || stdin.write_all(&sent).expect("written"));
    let got = rest(child.stdout.as_mut().expect("stdout"));
    writer.join().expect("joined");
    assert_eq!(ended(&mut child), 0);
    assert!(got == what && program.disk().input == what, "other bytes");
    manager.log.wait_for("stdout from 0, attached: true");
    manager.log.wait_for("stderr from 0, attached: true");
}

#[test]
fn input_and_output_go_on_behind_a_manager_that_was_restarted() {
    let program = Program::new();
    let mut manager = program.manager();
    let mut child = spawn(&manager, &["run", "web-3", "--stdin", "--", "cat"]);
    let mut stdin = child.stdin.take().expect("stdin");
    stdin.write_all(b"before\n").expect("written");
    let stdout = child.stdout.as_mut().expect("stdout");
    read_until(stdout, "before\n");
    manager.cut();
    stdin.write_all(b"meanwhile\n").expect("written");
    manager.serve(program.router(&manager.log));
    stdin.write_all(b"after\n").expect("written");
    drop(stdin);
    assert_eq!(text(&rest(stdout)), "meanwhile\nafter\n");
    assert_eq!(ended(&mut child), 0);
    assert_eq!(program.disk().input, b"before\nmeanwhile\nafter\n");
}

#[test]
fn a_program_may_end_before_its_input_does() {
    let program = Program::new();
    let manager = program.manager();
    let mut child = spawn(&manager, &["run", "web-3", "--stdin", "--", "head"]);
    let mut stdin = child.stdin.take().expect("stdin");
    stdin.write_all(b"one\n").expect("written");
    read_until(child.stdout.as_mut().expect("stdout"), "one\n");
    program.end(State::Succeeded);
    let _ = stdin.write_all(b"two\n");
    assert_eq!(ended(&mut child), 0);
    assert_eq!(text(&rest(child.stderr.as_mut().expect("stderr"))), "");
}

#[test]
fn a_request_that_was_left_goes_on_where_it_was() {
    let program = Program::new();
    let manager = program.manager();
    let mut child = spawn(&manager, &["run", "web-3", "--stdin", "--", "cat"]);
    child.stdin.as_mut().expect("stdin").write_all(b"one\n").expect("written");
    read_until(child.stdout.as_mut().expect("stdout"), "one\n");
    child.kill().expect("killed");
    child.wait().expect("waited");
    // From the first byte: output and input.
    let mut child = spawn(&manager, &["request", "attach", ID, "--stdin", "--input-offset", "0"]);
    let mut stdin = child.stdin.take().expect("stdin");
    stdin.write_all(b"one\ntwo\n").expect("written");
    let got = read_until(child.stdout.as_mut().expect("stdout"), "two\n");
    assert_eq!(got, "one\ntwo\n");
    child.kill().expect("killed");
    child.wait().expect("waited");
    // From now on: behind what was printed and sent.
    let mut child = spawn(&manager, &["request", "attach", ID, "--from-now", "--stdin"]);
    child.stdin.take().expect("stdin").write_all(b"three\n").expect("written");
    assert_eq!(text(&rest(child.stdout.as_mut().expect("stdout"))), "three\n");
    assert_eq!(ended(&mut child), 0);
    assert_eq!(program.disk().input, b"one\ntwo\nthree\n");
    // It is over, and can still be read.
    let output = manager.run(&["request", "attach", ID, "--json"]);
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).expect("a document");
    assert_eq!(document["output"]["stdout"]["text"], "one\ntwo\nthree\n");
    assert_eq!((output.status.code(), &document["exit_code"]), (Some(0), &0.into()));
}

#[test]
fn a_request_takes_only_the_input_it_was_run_for() {
    let program = Program::new();
    let manager = program.manager();
    manager.run(&["run", "web-3", "--detach", "--", "true"]);
    for flag in ["--stdin", "--pty"] {
        let output = manager.run(&["request", "attach", ID, flag]);
        assert_eq!(output.status.code(), Some(2));
        assert_eq!(line(&output), format!("doorbell: request {ID} was run with no input\n"));
    }
}

#[test]
fn a_detached_request_has_all_of_its_input_and_its_limits() {
    let program = Program::new();
    let manager = program.manager();
    let mut child = spawn(
        &manager,
        &[
            "run",
            "web-3",
            "--detach",
            "--stdin",
            "--user",
            "web",
            "--memory",
            "64M",
            "--processes",
            "8",
            "--cpu",
            "150",
            "--output-max",
            "1G",
            "--timeout",
            "30s",
            "--urgent",
            "--",
            "cat",
        ],
    );
    child.stdin.take().expect("stdin").write_all(b"all of it").expect("written");
    assert_eq!(ended(&mut child), 0);
    assert_eq!(text(&rest(child.stdout.as_mut().expect("stdout"))), format!("{ID}\n"));
    assert_eq!(program.disk().input, b"all of it");
    let new = serde_json::to_value(submitted(&manager)).expect("json");
    assert_eq!(new["action"]["user"], "web");
    assert_eq!(new["action"]["input"], serde_json::json!({ "type": "stream" }));
    let limits = serde_json::json!({
        "memory_max": 64 << 20, "processes_max": 8, "cpu_percent_max": 150, "output_max": 1 << 30,
    });
    assert_eq!(new["action"]["limits"], limits);
    assert_eq!((&new["urgent"], &new["timeout_ms"]), (&true.into(), &30_000.into()));
    assert_eq!(new["on_disconnect"], "keep");
}

#[test]
fn options_that_contradict_each_other_are_refused_before_anything_is_sent() {
    let manager = Manager::with(|_| Router::new());
    for words in [
        &["run", "web-3", "--pty", "--json", "--", "sh"][..],
        &["run", "web-3", "--pty", "--stdin", "--", "sh"],
        &["run", "web-3", "--detach", "--on-disconnect", "kill", "--", "sh"],
        &["run", "web-3", "--memory", "64X", "--", "sh"],
        &["run", "web-3", "--output-max", "17G", "--", "sh"],
        &["request", "attach", ID, "--input-offset", "0"],
    ] {
        let output = manager.run(words);
        assert_eq!(output.status.code(), Some(2), "{words:?}: {output:?}");
        assert!(line(&output).ends_with("--help`\n"), "{output:?}");
    }
}

#[test]
fn a_request_that_waits_says_why_once_off_a_terminal_too() {
    let program = Program::new();
    let manager = program.manager();
    let mut child = spawn(&manager, &["run", "web-3", "--on-disconnect", "kill", "--", "true"]);
    let stderr = child.stderr.as_mut().expect("stderr");
    let said = read_until(stderr, "\n");
    assert_eq!(said, format!("doorbell: waiting: web-3 is not connected (request {ID})\n"));
    program.start();
    program.end(State::Succeeded);
    assert_eq!(text(&rest(stderr)), "");
    assert_eq!(ended(&mut child), 0);
    assert_eq!(serde_json::to_value(submitted(&manager).on_disconnect).expect("json"), "kill");
}

#[test]
fn whoever_leaves_is_told_what_becomes_of_it() {
    for (word, told) in [("keep", "goes on with it"), ("kill", "which is cancelled once nobody follows it")] {
        let program = Program::new();
        let manager = Manager::with(|log| {
            let router = program.router(&log);
            // A cancel that is never answered, as of a manager that hangs.
            let log = Arc::clone(&log);
            let hangs = axum::routing::post(move || async move {
                log.say("cancel");
                std::future::pending::<()>().await;
            });
            Router::new().route("/v1/requests/{id}/cancel", hangs).fallback_service(router)
        });
        let mut child = spawn(&manager, &["run", "web-3", "--on-disconnect", word, "--", "sleep", "60"]);
        program.print(b"begun\n");
        read_until(child.stdout.as_mut().expect("stdout"), "begun\n");
        interrupt(&child);
        manager.log.wait_for("cancel");
        interrupt(&child);
        assert_eq!(ended(&mut child), 126);
        let said = text(&rest(child.stderr.as_mut().expect("stderr")));
        assert!(said.contains(told) && said.contains(&format!("`doorbell request attach {ID}`")), "{said}");
    }
}

#[test]
fn a_cancel_tells_what_came_of_it_however_often_it_is_asked_for() {
    let program = Program::new();
    let manager = program.manager();
    for _ in 0..2 {
        let output = manager.run(&["request", "cancel", ID]);
        assert_eq!(output.status.code(), Some(0));
        assert_eq!(text(&output.stdout), format!("request {ID} was cancelled before it began\n"));
    }
    let program = Program::new();
    program.end(State::Succeeded);
    let output = program.manager().run(&["request", "cancel", ID]);
    assert!(text(&output.stdout).contains("had ended before: it is succeeded"), "{output:?}");
    assert_eq!(output.status.code(), Some(0));
    assert!(!program.disk().cancel_asked);
}

#[test]
fn a_trace_and_the_stations_are_drawn_and_in_json_are_raw() {
    let trace = serde_json::json!({
        "passed": [
            { "station": "accepted", "at_us": 1_000 },
            { "station": "started", "at_us": 3_000, "guest_us": 9 },
        ],
        "clock_error_us": 21,
    });
    let stations = serde_json::json!({ "stations": [{
        "station": "durable", "count": 2, "sum_us": 300,
        "buckets": [{ "le_us": 100, "count": 1 }, { "le_us": 200, "count": 2 }, { "count": 2 }],
    }] });
    let (shown, all) = (trace.clone(), stations.clone());
    let manager = Manager::with(|_: Arc<Log>| {
        Router::new()
            .route("/v1/requests/{id}/trace", get(|| async { Json(shown) }))
            .route("/v1/stations", get(|| async { Json(all) }))
    });
    let json = |words: &[&str]| -> serde_json::Value {
        serde_json::from_slice(&manager.run(words).stdout).expect("json")
    };
    assert_eq!(json(&["request", "show", ID, "--trace", "--json"]), trace);
    assert_eq!(json(&["stations", "--json"]), stations);
    let drawn = text(&manager.run(&["request", "show", ID, "--trace"]).stdout);
    assert!(drawn.contains("started   +2.000 ms  2.000 ms  guest  ####"), "{drawn}");
    assert!(drawn.ends_with("the guest's times can be off by 0.021 ms either way\n"), "{drawn}");
    let drawn = text(&manager.run(&["stations"]).stdout);
    assert!(drawn.contains("durable  2       0.150 ms  0.100 ms  0.200 ms\n"), "{drawn}");
}
