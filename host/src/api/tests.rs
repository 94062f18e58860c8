//! The API as a client meets it: HTTP over its own Unix socket, one connection for each call.

use super::*;
use crate::config::Config;
use crate::store::{AddGuest, Place, Pull};
use doorbell_wire::ids::{Digest, GuestName, PublicKey};
use doorbell_wire::message::Stage;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;

struct Bench {
    manager: Arc<Manager>,
    _stop: watch::Sender<bool>,
    dir: tempfile::TempDir,
}

impl Bench {
    async fn new() -> Self {
        Self::with(|_| ()).await
    }

    async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config {
            state_dir: dir.path().join("state"),
            socket: dir.path().join("sock"),
            ..Config::default()
        };
        change(&mut config);
        let listener = socket::bind(&config).unwrap();
        let manager = Arc::new(Manager::open(config, String::new()).unwrap());
        let place = Place::Cid(7.try_into().unwrap());
        let key = Some(PublicKey::new([9; 32]));
        let add = AddGuest {
            name: guest(),
            place,
            qmp: None,
            key,
            concurrency: None,
            share: None,
            trigger: None,
            set_clock: false,
            tenant: None,
            enrolment: None,
            trust_first_key: false,
        };
        manager.store.add_guest(&crate::actor::Actor::Manager, add).await.unwrap();
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(serve(Arc::clone(&manager), listener, stopped));
        Self { manager, _stop: stop, dir }
    }

    async fn connect(&self, method: &str, path: &str, head: &str) -> BufReader<UnixStream> {
        let mut stream = UnixStream::connect(self.dir.path().join("sock")).await.unwrap();
        let text = format!("{method} {path} HTTP/1.1\r\nhost: d\r\nconnection: close\r\n{head}\r\n");
        stream.write_all(text.as_bytes()).await.unwrap();
        BufReader::new(stream)
    }

    async fn call(&self, method: &str, path: &str, body: &[u8]) -> (u16, Value) {
        let head = format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len());
        let mut stream = self.connect(method, path, &head).await;
        stream.write_all(body).await.unwrap();
        answer(stream).await
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        self.call("GET", path, b"").await
    }

    async fn accept(&self, action: Value, more: Value) -> (u16, Value) {
        let mut new = json!({ "action": action });
        new.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.call("POST", "/v1/guests/web-3/requests", new.to_string().as_bytes()).await
    }

    async fn accepted(&self, action: Value, more: Value) -> String {
        let (status, request) = self.accept(action, more).await;
        assert_eq!(status, 201, "{request}");
        request["id"].as_str().unwrap().to_owned()
    }
}

async fn answer(mut stream: BufReader<UnixStream>) -> (u16, Value) {
    let status = head(&mut stream).await;
    let mut body = Vec::new();
    stream.read_to_end(&mut body).await.unwrap();
    (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

async fn head(stream: &mut BufReader<UnixStream>) -> u16 {
    let mut first = String::new();
    stream.read_line(&mut first).await.unwrap();
    let mut line = String::from("more");
    while !line.trim().is_empty() {
        line.clear();
        stream.read_line(&mut line).await.unwrap();
    }
    first.split(' ').nth(1).unwrap().parse().unwrap()
}

fn guest() -> GuestName {
    "web-3".parse().unwrap()
}

fn cat() -> Value {
    json!({"type": "run", "command": "cat", "input": {"type": "stream"}})
}

/// Waits until something holds, by the clock of the test's own runtime.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !holds().await {
        assert!(Instant::now() < end, "{what} does not hold");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_run_is_accepted_with_all_it_asks_for_and_shown_so() {
    let bench = Bench::new().await;
    let action = json!({"type": "run", "command": "top", "user": "bob", "cwd": "/srv",
        "input": {"type": "terminal", "rows": 24, "columns": 80},
        "limits": {"memory_max": 33_554_432, "processes_max": 9, "cpu_percent_max": 150, "output_max": 0}});
    let id = bench.accepted(action, json!({"urgent": true, "on_disconnect": "kill"})).await;
    let (_, shown) = bench.get(&format!("/v1/requests/{id}")).await;
    assert_eq!((&shown["urgent"], &shown["on_disconnect"]), (&json!(true), &json!("kill")));
    assert_eq!(shown["action"]["input"], json!({"type": "terminal", "rows": 24, "columns": 80}));
    assert_eq!(shown["action"]["limits"]["output_max"], json!(0));
    assert_eq!(
        (&shown["action"]["user"], &shown["action"]["limits"]["cpu_percent_max"]),
        (&json!("bob"), &json!(150))
    );
    let refused = [
        (json!({"type": "run", "command": "a", "user": ""}), "user"),
        (json!({"type": "run", "command": "a", "user": "a b"}), "user"),
        (json!({"type": "run", "command": "a", "limits": {"memory_max": 0}}), "limit of 0"),
        (json!({"type": "run", "command": "a", "limits": {"output_max": 17_179_869_185_u64}}), "17179869184"),
        (
            json!({"type": "run", "command": "a", "input": {"type": "terminal", "rows": 0, "columns": 1}}),
            "0 rows",
        ),
        (json!({"type": "get", "path": "etc/motd"}), "absolute"),
    ];
    for (action, part) in refused {
        let (status, error) = bench.accept(action.clone(), json!({})).await;
        assert_eq!(status, 400, "{action}");
        assert!(error["message"].as_str().unwrap().contains(part), "{error}");
    }
}

#[tokio::test]
async fn an_upload_goes_on_and_becomes_a_file_that_can_be_put() {
    let bench = Bench::new().await;
    let id = "0a".repeat(16);
    assert_eq!(bench.get(&format!("/v1/uploads/{id}")).await.0, 404);
    assert_eq!(
        bench.call("PUT", &format!("/v1/uploads/{id}?offset=0"), b"hello ").await,
        (200, json!({"len": 6}))
    );
    let (status, error) = bench.call("PUT", &format!("/v1/uploads/{id}?offset=9"), b"x").await;
    assert_eq!((status, &error["code"]), (409, &json!("conflict")));
    // A client that goes away in the middle leaves what arrived.
    let mut broken =
        bench.connect("PUT", &format!("/v1/uploads/{id}?offset=6"), "content-length: 99\r\n").await;
    broken.write_all(b"wor").await.unwrap();
    until("the bytes arrive", async || bench.get(&format!("/v1/uploads/{id}")).await.1 == json!({"len": 9}))
        .await;
    drop(broken);
    until("the upload is free", async || {
        bench.call("PUT", &format!("/v1/uploads/{id}?offset=9"), b"").await.0 == 200
    })
    .await;
    assert_eq!(
        bench.call("PUT", &format!("/v1/uploads/{id}?offset=6"), b"world").await.1,
        json!({"len": 11})
    );
    let (status, program) = bench.call("POST", &format!("/v1/uploads/{id}/finish"), b"").await;
    let digest = Digest::new(Sha256::digest(b"hello world").into()).to_string();
    assert_eq!((status, program), (201, json!({"digest": digest, "len": 11})));
    let put = json!({"type": "put", "path": "/etc/motd", "digest": digest, "form": "file", "mode": "0640", "owner": "bob:"});
    assert_eq!(bench.accept(put.clone(), json!({})).await.0, 400, "an owner with half a group");
    for (mode, owner, form, status) in [
        ("0640", "bob:adm", "file", 201),
        ("640", ":adm", "file", 201),
        ("8", "bob", "file", 400),
        ("17777", "bob", "file", 400),
        ("0640", "bob", "archive", 400),
    ] {
        let put = json!({"type": "put", "path": "/etc/motd", "digest": digest, "form": form, "mode": mode, "owner": owner});
        let (got, answer) = bench.accept(put, json!({})).await;
        assert_eq!(got, status, "{mode} {owner} {form}: {answer}");
    }
    let unknown = json!({"type": "put", "path": "/etc/motd", "digest": "11".repeat(32), "form": "file"});
    assert_eq!(bench.accept(unknown, json!({})).await.0, 404);
    let records = bench.manager.store.audit_records(0, 99).await.unwrap();
    let detail = &records.iter().find(|record| record.event == "request-accepted").unwrap().detail;
    assert_eq!(*detail, format!("sequence 1: put file sha256:{digest} of 11 bytes to \"/etc/motd\""));
}

#[tokio::test]
async fn input_is_taken_by_offset_and_only_where_something_reads_it() {
    let bench = Bench::new().await;
    let id = bench.accepted(cat(), json!({})).await;
    let path = format!("/v1/requests/{id}/input");
    assert_eq!(bench.get(&path).await, (200, json!({"len": 0, "ended": false})));
    assert_eq!(
        bench.call("PUT", &format!("{path}?offset=0"), b"abc").await.1,
        json!({"len": 3, "ended": false})
    );
    assert_eq!(bench.call("PUT", &format!("{path}?offset=4"), b"").await.0, 409, "a gap");
    assert_eq!(
        bench.call("PUT", &format!("{path}?offset=1&end=true"), b"bcd").await.1,
        json!({"len": 4, "ended": true})
    );
    assert_eq!(bench.call("PUT", &format!("{path}?offset=4"), b"e").await.0, 409, "behind the end");
    assert_eq!(
        bench.call("PUT", &format!("/v1/requests/{id}/window"), b"{\"rows\":1,\"columns\":2}").await.0,
        409
    );
    let deaf = bench.accepted(json!({"type": "run", "command": "true"}), json!({})).await;
    let (status, error) = bench.call("PUT", &format!("/v1/requests/{deaf}/input?offset=0"), b"abc").await;
    assert_eq!(status, 409);
    assert!(error["message"].as_str().unwrap().ends_with("takes no input"), "{error}");
}

#[tokio::test]
async fn a_client_that_still_writes_is_told_when_its_request_is_over() {
    let bench = Bench::new().await;
    let id = bench.accepted(cat(), json!({})).await;
    let path = format!("/v1/requests/{id}/input");
    let mut writing =
        bench.connect("PUT", &format!("{path}?offset=0"), "transfer-encoding: chunked\r\n").await;
    writing.write_all(b"3\r\nabc\r\n").await.unwrap();
    until("the bytes arrive", async || bench.get(&path).await.1["len"] == json!(3)).await;
    let (status, request) = bench.call("POST", &format!("/v1/requests/{id}/cancel"), b"").await;
    assert_eq!((status, &request["state"]), (200, &json!("cancelled")));
    let (status, error) = answer(writing).await;
    assert_eq!(status, 409);
    assert!(error["message"].as_str().unwrap().ends_with("is over and reads no more"), "{error}");
    assert!(bench.manager.inputs.all().await.unwrap().is_empty());
    assert_eq!(bench.call("PUT", &format!("{path}?offset=0"), b"abc").await.0, 409);
}

#[tokio::test]
async fn a_terminal_has_the_size_it_was_given_last() {
    let bench = Bench::new().await;
    let action =
        json!({"type": "run", "command": "top", "input": {"type": "terminal", "rows": 1, "columns": 1}});
    let id = bench.accepted(action, json!({})).await;
    let path = format!("/v1/requests/{id}/window");
    assert_eq!(bench.call("PUT", &path, b"{\"rows\":0,\"columns\":2}").await.0, 400);
    for rows in [3, 4] {
        let body = json!({"rows": rows, "columns": 5}).to_string();
        assert_eq!(bench.call("PUT", &path, body.as_bytes()).await.0, 204);
    }
    assert_eq!(bench.manager.inputs.window(id.parse().unwrap()).unwrap().rows, 4);
}

#[tokio::test]
async fn a_request_dies_with_its_last_attached_reader_and_not_before() {
    let bench = Bench::new().await;
    let id = bench.accepted(cat(), json!({"on_disconnect": "kill"})).await;
    let output = format!("/v1/requests/{id}/output?follow=true&attach=true");
    let mut one = bench.connect("GET", &output, "").await;
    let mut other = bench.connect("GET", &format!("{output}&stream=stderr"), "").await;
    assert_eq!((head(&mut one).await, head(&mut other).await), (200, 200));
    let later = || Instant::now() + Duration::from_secs(3600);
    drop(one);
    bench.manager.cancel_deserted(later()).await;
    let state = async || bench.get(&format!("/v1/requests/{id}")).await.1["state"].clone();
    assert_eq!(state().await, json!("queued"));
    drop(other);
    until("the request is cancelled", async || {
        bench.manager.cancel_deserted(later()).await;
        state().await == json!("cancelled")
    })
    .await;
    let kept = bench.accepted(cat(), json!({})).await;
    drop(bench.connect("GET", &format!("/v1/requests/{kept}/output?follow=true&attach=true"), "").await);
    bench.manager.cancel_deserted(later()).await;
    assert_eq!(bench.get(&format!("/v1/requests/{kept}")).await.1["state"], json!("queued"));
}

#[tokio::test]
async fn a_manager_that_starts_again_gives_clients_time_and_clears_away_old_input() {
    let bench = Bench::new().await;
    let killed = bench.accepted(cat(), json!({"on_disconnect": "kill"})).await;
    let open = bench.accepted(cat(), json!({})).await;
    for id in [&killed, &open] {
        bench.call("PUT", &format!("/v1/requests/{id}/input?offset=0"), b"abc").await;
    }
    let stray = doorbell_wire::ids::RequestId::new([9; 16]);
    bench.manager.inputs.begin(stray).await.unwrap();
    bench.manager.clients.forget(killed.parse().unwrap());
    bench.manager.take_up().await.unwrap();
    let mut left = bench.manager.inputs.all().await.unwrap();
    left.sort_unstable();
    let mut expected = [killed.parse().unwrap(), open.parse().unwrap()];
    expected.sort_unstable();
    assert_eq!(left, expected);
    bench.manager.cancel_deserted(Instant::now() + Duration::from_secs(20)).await;
    assert_eq!(bench.get(&format!("/v1/requests/{killed}")).await.1["state"], json!("queued"));
    bench.manager.cancel_deserted(Instant::now() + Duration::from_secs(31)).await;
    let (_, row) = bench.get(&format!("/v1/requests/{killed}")).await;
    assert_eq!(row["state"], json!("cancelled"));
    let detail = row["receipt"]["detail"].as_str().unwrap();
    assert_eq!(detail, "it was cancelled before its guest had seen it: its client is gone");
    assert_eq!(bench.manager.inputs.all().await.unwrap(), [open.parse().unwrap()]);
}

#[tokio::test]
async fn traces_and_stations_are_shown_and_concurrency_is_set() {
    let bench = Bench::new().await;
    let id = bench.accepted(cat(), json!({})).await;
    let row = bench.manager.store.guest(&guest()).await.unwrap();
    bench.manager.store.next_offer(row.id, Pull::default()).await.unwrap();
    let request = id.parse().unwrap();
    bench.manager.store.mark(row.id, request, Stage::Started, Vec::new()).await.unwrap();
    let (status, trace) = bench.get(&format!("/v1/requests/{id}/trace")).await;
    assert_eq!((status, trace["passed"][0]["station"].clone()), (200, json!("pulled")), "{trace}");
    assert_eq!(bench.get("/v1/stations").await, (200, json!({"stations": []})));
    bench.manager.histograms.count(None, &bench.manager.store.trace(request).await.unwrap().passed);
    assert_eq!(bench.get("/v1/stations").await.1["stations"][0]["count"], json!(1));
    let set = |count: u8| json!({ "concurrency": count }).to_string();
    let (status, changed) = bench.call("PATCH", "/v1/guests/web-3", set(4).as_bytes()).await;
    assert_eq!((status, &changed["concurrency"]), (200, &json!(4)));
    assert_eq!(bench.call("PATCH", "/v1/guests/web-3", set(9).as_bytes()).await.0, 400);
}

#[tokio::test]
async fn what_a_call_says_of_its_cause_is_in_the_trail_and_in_the_request() {
    let bench = Bench::new().await;
    let head =
        "doorbell-reason: a näther patch\r\ndoorbell-ticket: OPS-1\r\ncontent-type: application/json\r\n";
    let call = async |method: &str, path: &str, head: &str, body: &str| {
        let head = format!("{head}content-length: {}\r\n", body.len());
        let mut stream = bench.connect(method, path, &head).await;
        stream.write_all(body.as_bytes()).await.unwrap();
        answer(stream).await
    };
    let new = json!({"action": {"type": "run", "command": "true"}, "ticket": "OPS-2"}).to_string();
    let (status, request) = call("POST", "/v1/guests/web-3/requests", head, &new).await;
    assert_eq!(
        (status, &request["reason"], &request["ticket"]),
        (201, &json!("a näther patch"), &json!("OPS-2"))
    );
    let id = request["id"].as_str().unwrap();
    assert_eq!(call("POST", &format!("/v1/requests/{id}/cancel"), head, "").await.0, 200);
    assert_eq!(call("PUT", "/v1/programs", head, "#!/bin/sh\n").await.0, 201);
    assert_eq!(call("PUT", "/v1/programs", head, "#!/bin/sh\n").await.0, 200, "it is there");
    let (_, trail) = bench.get("/v1/audit?after=1").await;
    let events: Vec<_> =
        trail.as_array().unwrap().iter().map(|record| record["event"].as_str().unwrap()).collect();
    assert_eq!(
        events,
        ["request-accepted", "request-cancel-asked", "request-cancelled", "program-stored"],
        "{trail}"
    );
    for (record, ticket) in trail.as_array().unwrap().iter().zip(["OPS-2", "OPS-1", "OPS-1", "OPS-1"]) {
        assert_eq!(
            (&record["reason"], &record["ticket"]),
            (&json!("a näther patch"), &json!(ticket)),
            "{record}"
        );
    }
    let long = format!("doorbell-reason: {}\r\n", "r".repeat(257));
    for bad in [long.as_str(), "doorbell-ticket: a\tb\r\n", "doorbell-ticket: a\r\ndoorbell-ticket: b\r\n"] {
        let (status, error) = call("DELETE", "/v1/guests/web-3", bad, "").await;
        assert_eq!((status, &error["code"]), (400, &json!("invalid")), "{bad:?}: {error}");
    }
    assert_eq!(bench.get("/v1/guests/web-3").await.0, 200, "nothing was done");
}

#[tokio::test]
async fn without_a_reason_nothing_is_changed_where_one_is_demanded() {
    let bench = Bench::with(|config| config.require_reason = true).await;
    let new = json!({"action": {"type": "run", "command": "true"}}).to_string();
    let guest = json!({"name": "web-4", "cid": 8}).to_string();
    let token = json!({"token": "07".repeat(32)}).to_string();
    let writes = [
        ("POST", "/v1/guests/web-3/requests", new.as_str()),
        ("POST", "/v1/requests/0123456789abcdef/cancel", ""),
        ("POST", "/v1/guests", &guest),
        ("PATCH", "/v1/guests/web-3", "{\"concurrency\": 2}"),
        ("POST", "/v1/guests/web-3/approve", "{}"),
        ("POST", "/v1/guests/web-3/reject", "{}"),
        ("POST", "/v1/guests/web-3/enrolment", &token),
        ("DELETE", "/v1/guests/web-3", ""),
        ("PUT", "/v1/programs", "#!/bin/sh\n"),
        ("POST", "/v1/uploads/0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a/finish", ""),
        ("POST", "/v1/gc", ""),
        ("GET", "/v1/backup", ""),
    ];
    for (method, path, body) in writes {
        let (status, error) = bench.call(method, path, body.as_bytes()).await;
        assert_eq!(status, 400, "{method} {path}: {error}");
        assert!(
            error["message"].as_str().unwrap().contains("say why with --reason"),
            "{method} {path}: {error}"
        );
    }
    assert_eq!(bench.call("POST", "/v1/gc?dry_run=true", b"").await.0, 200, "a look changes nothing");
    let told = json!({"action": {"type": "run", "command": "true"}, "reason": "a patch"}).to_string();
    assert_eq!(bench.call("POST", "/v1/guests/web-3/requests", told.as_bytes()).await.0, 201);
}

#[tokio::test]
async fn what_is_refused_is_in_the_trail_once_with_who_where_what_and_by_which_rule() {
    let bench = Bench::new().await;
    let taken = json!({"name": "web-4", "cid": 7}).to_string();
    for _ in 0..5 {
        assert_eq!(bench.call("POST", "/v1/guests", taken.as_bytes()).await.0, 409);
    }
    assert_eq!(bench.call("PATCH", "/v1/guests/web-3", b"{\"concurrency\": 9}").await.0, 400);
    assert_eq!(bench.call("PATCH", "/v1/guests/web-9", b"{\"concurrency\": 2}").await.0, 404);
    assert_eq!(bench.get("/v1/guests/web-9").await.0, 404, "a look decides nothing");
    assert_eq!(bench.call("POST", "/v1/requests/0123456789/cancel", b"").await.0, 404);
    bench.manager.store.tell_refusals(true).await.unwrap();
    let (_, trail) = bench.get("/v1/audit?after=1").await;
    let records = trail.as_array().unwrap();
    let expected = [
        (json!(null), "POST /v1/guests: conflict: ", ", from process "),
        (json!("web-3"), "PATCH /v1/guests/web-3: invalid: ", ", from process "),
        (json!(null), "PATCH /v1/guests/web-9: not-found: ", ", from process "),
        (json!(null), "POST /v1/requests/0123456789/cancel: not-found: ", ", from process "),
        (json!(null), "4 more like those before, the last: POST /v1/guests: conflict: ", ""),
    ];
    assert_eq!(records.len(), expected.len(), "{trail}");
    for (record, (guest, begin, part)) in records.iter().zip(expected) {
        let detail = record["detail"].as_str().unwrap();
        assert!(detail.starts_with(begin) && detail.contains(part), "{detail}");
        let who = crate::actor::Actor::own().to_string();
        assert_eq!((&record["event"], &record["actor"]), (&json!("call-refused"), &json!(who)));
        assert_eq!(record["guest"], guest, "{record}");
    }
    assert!(bench.manager.store.audit_check().await.unwrap().intact);
}

#[tokio::test]
async fn nobody_fills_the_trail_with_refusals() {
    let bench = Bench::new().await;
    for number in 0..200 {
        let path = format!("/v1/guests/no-{number}");
        assert_eq!(bench.call("DELETE", &path, b"").await.0, 404);
    }
    bench.manager.store.tell_refusals(true).await.unwrap();
    let records = bench.manager.store.audit_records(1, 1000).await.unwrap();
    assert_eq!(records.len(), 9, "{records:?}");
    assert!(records[8].detail.starts_with("192 more like those before"), "{records:?}");
}
