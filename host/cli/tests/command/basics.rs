//! Streams, exit statuses, Ctrl-C and broken pipes.

use super::manager::{
    ID, Log, Manager, command, ended, interrupt, line, manager_of, read_until, request, text,
};
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use doorbell_client::api::error::{ErrorBody, ErrorCode};
use doorbell_client::api::request::State;
use futures_util::stream::{self, StreamExt};
use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::process::Stdio;
use std::sync::Arc;

#[test]
fn a_program_has_its_streams_and_its_status() {
    let end = request(State::Failed, serde_json::json!({ "exit_code": 3 }));
    let manager = manager_of(b"out\xff\0\r\n", b"err\x80", end);
    let output = manager.run(&["run", "web-3", "--env", "A=b", "--", "prog", "--json", "a b"]);
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(output.stdout, b"out\xff\0\r\n");
    assert_eq!(output.stderr, b"err\x80");
    let action = concat!(
        r#"{"type":"run","command":"prog","args":["--json","a b"],"env":[{"name":"A","value":"b"}],"#,
        r#""input":{"type":"none"},"limits":{}}"#,
    );
    manager.log.wait_for(action);
}

#[test]
fn a_program_in_json_is_one_document_that_decides() {
    let end = request(State::Killed, serde_json::json!({ "signal": 9 }));
    let manager = manager_of(b"hello\n", b"\xff", end);
    let output = manager.run(&["--json", "run", "web-3", "--", "prog"]);
    assert_eq!(output.status.code(), Some(137));
    assert_eq!(line(&output), "doorbell: killed by SIGKILL\n");
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one document");
    assert_eq!(
        (
            &document["id"],
            &document["state"],
            &document["exit_status"],
            &document["exit_code"],
            &document["signal"]
        ),
        (&ID.into(), &"killed".into(), &137.into(), &serde_json::Value::Null, &9.into())
    );
    assert_eq!(document["receipt"]["audit_hash"], "00");
    assert_eq!(document["output"]["stdout"], serde_json::json!({ "text": "hello\n", "left_out": 0 }));
    assert_eq!(document["output"]["stderr"], serde_json::json!({ "base64": "/w==", "left_out": 0 }));
}

#[test]
fn output_that_is_missing_is_told_with_its_counts() {
    let cut = serde_json::json!({ "stdout": {"bytes": 3, "lost": 70, "truncated": true}, "exit_code": 0 });
    let output = manager_of(b"abc", b"", request(State::Succeeded, cut)).run(&["run", "web-3", "--", "prog"]);
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(0), &b"abc"[..]));
    let expected = "doorbell: the output is truncated: standard output has 3 bytes, 70 more were lost\n";
    assert_eq!(line(&output), expected);
}

#[test]
fn what_the_status_does_not_tell_is_said() {
    let end = request(State::TimedOut, serde_json::json!({ "detail": "ran longer than 30s" }));
    let output = manager_of(b"", b"", end).run(&["run", "web-3", "--", "sleep", "60"]);
    assert_eq!(output.status.code(), Some(123));
    assert_eq!(line(&output), format!("doorbell: request {ID} is timed-out: ran longer than 30s\n"));
}

#[test]
fn a_program_file_must_be_there_before_anything_is_sent() {
    let manager = Manager::with(|_| Router::new());
    let output = manager.run(&["run", "web-3", "--program", "/does/not/exist", "--", "arg"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(line(&output).contains("program file /does/not/exist: there is no such file"), "{output:?}");
    let output = manager.run(&["run", "web-3", "--program", "/"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(line(&output).contains("program file /: it is not a regular file"), "{output:?}");
    let large = manager.dir.path().join("large");
    let file = std::fs::File::create(&large).expect("a file");
    file.set_len(doorbell_client::PROGRAM_LEN_MAX + 1).expect("a length");
    let output = manager.run(&["run", "web-3", "--program", large.to_str().expect("utf-8")]);
    assert_eq!(output.status.code(), Some(2));
    assert!(line(&output).contains("at most"), "{output:?}");
}

/// A manager whose program never ends by itself, and ends when a cancel is asked for and `obeys`.
fn endless(obeys: bool) -> Manager {
    Manager::with(|log| {
        let (cancelled, on_cancel) = tokio::sync::watch::channel(false);
        let submit = post(|| async { Json(request(State::Queued, serde_json::Value::Null)) });
        let output = get(move |Query(query): Query<HashMap<String, String>>| async move {
            let first = if query["stream"] == "stdout" { "begun\n" } else { "" };
            let mut on_cancel = on_cancel.clone();
            let tail = stream::once(async move {
                let _ = on_cancel.wait_for(|cancelled| *cancelled).await;
                Ok(Bytes::new())
            });
            Body::from_stream(stream::iter([Ok::<_, io::Error>(Bytes::from(first))]).chain(tail))
        });
        let cancel = post(move || async move {
            log.say("cancel");
            cancelled.send_replace(obeys);
            Json(request(State::Started, serde_json::Value::Null))
        });
        let done = || async {
            Json(request(
                State::Cancelled,
                serde_json::json!({ "stdout": {"bytes": 6, "lost": 0, "truncated": false} }),
            ))
        };
        Router::new()
            .route("/v1/guests/{name}/requests", submit)
            .route("/v1/requests/{id}/output", output)
            .route("/v1/requests/{id}/cancel", cancel)
            .route("/v1/requests/{id}", get(done))
            .route("/v1/requests/{id}/wait", get(done))
    })
}

#[test]
fn ctrl_c_asks_for_a_cancel_and_waits_for_the_end() {
    let manager = endless(true);
    let mut child = manager.command(&["run", "web-3", "--", "sleep", "60"]).spawn().expect("it runs");
    read_until(child.stdout.as_mut().expect("stdout"), "begun\n");
    interrupt(&child);
    manager.log.wait_for("cancel");
    assert_eq!(ended(&mut child), 123);
    let said = read_until(child.stderr.as_mut().expect("stderr"), "is cancelled\n");
    assert!(
        said.contains(&format!("doorbell: cancelling request {ID}; Ctrl-C once more to detach")),
        "{said:?}"
    );
}

#[test]
fn ctrl_c_twice_leaves_the_request_to_itself() {
    let manager = endless(false);
    let mut child = manager.command(&["run", "web-3", "--", "sleep", "60"]).spawn().expect("it runs");
    read_until(child.stdout.as_mut().expect("stdout"), "begun\n");
    interrupt(&child);
    manager.log.wait_for("cancel");
    interrupt(&child);
    assert_eq!(ended(&mut child), 126);
    read_until(
        child.stderr.as_mut().expect("stderr"),
        &format!("detached from request {ID}; `doorbell request attach {ID}`"),
    );
}

#[test]
fn a_reader_that_goes_away_ends_it_in_silence() {
    let many = b"0123456789abcdef\n".repeat(1 << 16).leak();
    let end = request(
        State::Succeeded,
        serde_json::json!({ "stdout": {"bytes": many.len(), "lost": 0, "truncated": false} }),
    );
    let manager = manager_of(many, b"", end);
    let mut child = manager.command(&["run", "web-3", "--", "prog"]).spawn().expect("it runs");
    read_until(child.stdout.as_mut().expect("stdout"), "\n");
    drop(child.stdout.take());
    assert_eq!(ended(&mut child), 126);
    let mut said = String::new();
    child.stderr.take().expect("stderr").read_to_string(&mut said).expect("read");
    assert_eq!(said, "");
    let mut child = manager.command(&["completions", "bash"]).spawn().expect("it runs");
    drop(child.stdout.take());
    assert_eq!(ended(&mut child), 0);
}

#[test]
fn a_daemon_that_does_not_run_is_125_for_every_command() {
    let dir = tempfile::tempdir().expect("a directory");
    let socket = dir.path().join("none");
    for words in [
        &["guest", "ls"][..],
        &["guest", "add", "web-3", "--cid", "7"],
        &["guest", "pending"],
        &["guest", "rm", "web-3"],
        &["run", "web-3", "--", "true"],
        &["link", "web-3", "ls"],
        &["link", "web-3", "down", "eth0"],
        &["request", "ls"],
        &["request", "output", ID, "--follow"],
        &["request", "wait", ID],
        &["watch"],
        &["audit", "verify"],
    ] {
        let output = command(&socket, words).output().expect("it runs");
        assert_eq!(output.status.code(), Some(125), "{words:?}: {output:?}");
        let said = line(&output);
        assert!(
            said.contains("doorbelld is not running: there is no socket") && said.contains("start it"),
            "{said}"
        );
    }
}

#[test]
fn a_watch_ends_with_one_line_when_the_daemon_is_lost_and_with_0_by_ctrl_c() {
    let events = |log: Arc<Log>| {
        let events = get(move || async move {
            log.say("events");
            let event =
                Bytes::from_static(b"{\"at_ms\":1,\"guest\":\"web-3\",\"change\":{\"type\":\"rung\"}}\n");
            Body::from_stream(stream::iter([Ok::<_, io::Error>(event)]).chain(stream::pending()))
        });
        Router::new().route("/v1/events", events)
    };
    let mut manager = Manager::with(events);
    let mut child = manager.command(&["watch"]).spawn().expect("it runs");
    read_until(child.stdout.as_mut().expect("stdout"), "web-3  rung\n");
    manager.cut();
    assert_eq!(ended(&mut child), 125);
    let said = read_until(child.stderr.as_mut().expect("stderr"), "\n");
    assert!(said.starts_with("doorbell: lost the connection to doorbelld at "), "{said}");

    let manager = Manager::with(events);
    let mut child = manager.command(&["watch", "--json"]).spawn().expect("it runs");
    read_until(child.stdout.as_mut().expect("stdout"), "\"rung\"}}\n");
    interrupt(&child);
    assert_eq!(ended(&mut child), 0);
}

#[test]
fn a_refusal_of_the_manager_is_printed_once_with_its_status() {
    let refuse = |code: ErrorCode, message: &'static str| {
        let status = StatusCode::from_u16(code.status()).expect("a status");
        move || async move { (status, Json(ErrorBody { code, message: message.to_owned() })) }
    };
    let manager = Manager::with(|_| {
        Router::new()
            .route("/v1/guests/{name}", get(refuse(ErrorCode::NotFound, "there is no guest web-9")))
            .route(
                "/v1/guests/{name}/queries",
                post(refuse(ErrorCode::NotConnected, "guest web-3 is not connected")),
            )
            .route("/v1/guests", post(refuse(ErrorCode::NoSpace, "the disk is full; make room")))
    });
    let cases: [(&[&str], i32, &str); 3] = [
        (&["guest", "show", "web-9"], 2, "doorbell: there is no guest web-9\n"),
        (&["link", "web-3", "ls"], 124, "doorbell: guest web-3 is not connected\n"),
        (&["guest", "add", "a", "--cid", "7"], 125, "doorbell: the disk is full; make room\n"),
    ];
    for (words, status, said) in cases {
        let output = manager.run(words);
        assert_eq!((output.status.code(), line(&output)), (Some(status), said.to_owned()));
    }
}

#[test]
fn a_head_that_was_kept_elsewhere_must_still_be_in_the_trail() {
    let record = |number: u64| {
        serde_json::json!({
            "number": number, "at_ms": 1, "actor": "manager", "event": "started", "detail": "",
            "previous": format!("{:064x}", number - 1), "hash": format!("{number:064x}"),
        })
    };
    let manager = Manager::with(|_| {
        let check = serde_json::json!({ "intact": true, "records": 3, "head": format!("{:064x}", 3) });
        let list = get(move |Query(query): Query<HashMap<String, u64>>| async move {
            Json((1..=3).filter(|number| *number > query["after"]).map(record).collect::<Vec<_>>())
        });
        Router::new().route("/v1/audit/check", get(|| async { Json(check) })).route("/v1/audit", list)
    });
    assert_eq!(manager.run(&["audit", "verify"]).status.code(), Some(0));
    assert_eq!(manager.run(&["audit", "verify", "--head", &format!("{:064x}", 2)]).status.code(), Some(0));
    let output = manager.run(&["audit", "verify", "--head", &format!("{:064x}", 9)]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("the audit trail is broken: no record has the hash"), "{output:?}");
}

#[test]
fn a_guest_is_removed_without_a_question_where_nobody_could_answer() {
    let manager = Manager::with(|log| {
        let remove = axum::routing::delete(move |Path(name): Path<String>| async move {
            log.say(name);
            StatusCode::NO_CONTENT
        });
        Router::new().route("/v1/guests/{name}", remove)
    });
    let mut child =
        manager.command(&["guest", "rm", "web-3"]).stdin(Stdio::piped()).spawn().expect("it runs");
    child.stdin.take().expect("stdin").write_all(b"n\n").expect("written");
    assert_eq!(ended(&mut child), 0);
    manager.log.wait_for("web-3");
}

#[test]
fn a_guest_is_told_how_much_it_does_at_once() {
    let manager = Manager::with(|log| {
        let change = axum::routing::patch(move |body: String| async move {
            log.say(body);
            Json(serde_json::json!({
                "name": "web-3", "id": "00", "cid": 7, "presence": "connected", "added_at_ms": 1, "concurrency": 4,
                "open_requests": 0,
            }))
        });
        Router::new().route("/v1/guests/{name}", change)
    });
    let output = manager.run(&["guest", "set", "web-3", "--concurrency", "4"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    manager.log.wait_for(r#"{"concurrency":4}"#);
    assert!(text(&output.stdout).contains("concurrency    4 at once\n"), "{output:?}");
    for number in ["0", "9"] {
        let output = manager.run(&["guest", "set", "web-3", "--concurrency", number]);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
    }
}
