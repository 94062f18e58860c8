//! Programs that live elsewhere: the manager fetches them for a guest without a network, from real servers of
//! HTTP and HTTPS on loopback; what it does not fetch is told by its reason.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed step is a failed test")]

use doorbell_api::audit::AuditRecord;
use doorbell_api::request::{Action, NewRequest, Request, Run, Source, State};
use doorbell_tests::daemon::{Daemon, new_request, sh, uploaded};
use doorbell_tests::guest::{Guest, Machine};
use doorbell_tests::lab::{GUEST, Lab, gate};
use doorbell_tests::misfit::sum;
use doorbell_tests::place::{Place, files_below};
use doorbell_tests::wait::{on, until};
use doorbell_tests::web::{Authority, Does, Gate, Web, file, head, held, sends_on, status};
use serde_json::{Value, json};
use std::os::unix::fs::FileExt as _;

const HELLO: &[u8] = b"#!/bin/sh\necho \"hello $*\"\n";

/// A manager that may fetch from loopback, and no guest yet.
struct Bench {
    daemon: Daemon,
    web: Web,
    secured: Web,
    place: Place,
}

impl Bench {
    fn start(more: &str) -> Self {
        let place = Place::new();
        let authority = Authority::with("127.0.0.1");
        let root = place.file("root.pem", authority.root.as_bytes());
        std::fs::create_dir(place.join("programs")).unwrap();
        let config = format!(
            "vsock = \"off\"\n[fetch]\nallow-http = true\nnetworks = [\"127.0.0.1/32\"]\nca-file = {root:?}\n\
             file-root = {:?}\nattempts = 2\nconnect-ms = 5000\nstall-ms = 3000\n{more}",
            place.join("programs")
        );
        let daemon = Daemon::start_with(&place, &config);
        Self { daemon, web: Web::plain(), secured: Web::secured(&authority), place }
    }

    /// Boots the guest without a NIC: what it runs came over the channel.
    fn boot(self, disk_mib: Option<u64>) -> (Lab, Web, Web) {
        let machine = Machine { nic: false, disk_mib, ..Machine::default() };
        let guest = self.daemon.boot(&self.place, GUEST, &machine);
        (Lab { guest, daemon: self.daemon, place: self.place }, self.web, self.secured)
    }

    /// Knows a guest that never comes.
    fn without_guest(self) -> Self {
        self.daemon.add(GUEST, &Guest::socket_of(&self.place, GUEST), None);
        self
    }
}

fn source(url: &str, bytes: &[u8]) -> Source {
    Source { url: url.into(), sha256: sum(bytes).sha256, name: None }
}

fn from(url: &str, bytes: &[u8]) -> Action {
    Action::Run(Run { from: Some(source(url, bytes)), ..Run::default() })
}

fn records(daemon: &Daemon, request: &str) -> Vec<AuditRecord> {
    let all = on("the audit trail", daemon.client().audit(0, 1000)).unwrap();
    all.into_iter().filter(|record| record.request.as_deref() == Some(request)).collect()
}

fn detail(request: &Request) -> &str {
    request.receipt.as_ref().and_then(|receipt| receipt.detail.as_deref()).unwrap_or_default()
}

#[test]
fn a_program_comes_over_http_and_https_into_a_guest_without_a_network() {
    let (lab, web, secured) = Bench::start("").boot(None);
    let sha256 = sum(HELLO).sha256;
    secured.does([file(HELLO)]);
    let url = secured.url("/tools/hello.sh?token=s3cret");
    let words = ["--from", &url, "--sha256", &sha256, "--", "a", "b c"];
    assert_eq!(lab.run(&words).ended().expect(0).stdout, "hello a b c\n");
    // The second time it is there, by whichever name.
    let words = [&["--name", "other"], &words[..]].concat();
    assert_eq!(lab.run(&words).ended().expect(0).stdout, "hello a b c\n");
    assert_eq!(secured.asked(), ["GET /tools/hello.sh?token=s3cret HTTP/1.1"]);

    let list = lab.doorbell().run(&["--json", "request", "ls", "--limit", "2"]).expect(0).json();
    assert_eq!(list["requests"][0]["action"]["from"]["name"], json!("other"));
    let request = &list["requests"][1];
    let shown = json!({"url": url, "sha256": sha256, "name": "hello.sh"});
    assert_eq!((&request["action"]["from"], &request["action"]["program"]), (&shown, &Value::Null));
    let id = request["id"].as_str().unwrap();
    let text = lab.doorbell().run(&["request", "show", id]).expect(0).stdout;
    assert!(text.contains(&url) && text.contains("run hello.sh a 'b c'"), "{text}");
    let trail = records(&lab.daemon, id);
    let retrieved = trail.iter().find(|record| record.event == "program-retrieved").unwrap();
    assert!(retrieved.detail.contains("hello.sh?… (127.0.0.1:"), "{}", retrieved.detail);
    assert!(trail.iter().all(|record| !record.detail.contains("s3cret")), "{trail:?}");

    // From one server to the other, and what a server packed as it is.
    let packed = b"#!/bin/sh\necho packed\n";
    web.does([sends_on(&secured.url("/b"))]);
    secured.does([Does::Says([head("content-encoding: gzip\r\n").as_slice(), packed].concat())]);
    let request = lab.daemon.finished(&lab.submit(from(&web.url("/a"), packed)));
    assert_eq!((request.state, lab.output(&request.id)), (State::Succeeded, "packed\n".into()));
    let local = b"#!/bin/sh\necho local\n";
    std::fs::write(lab.place.join("programs/local.sh"), local).unwrap();
    let url = format!("file://{}", lab.place.join("programs/local.sh").display());
    let request = lab.daemon.finished(&lab.submit(from(&url, local)));
    assert_eq!((request.state, lab.output(&request.id)), (State::Succeeded, "local\n".into()));
    lab.daemon.assert_audit_intact();
}

#[test]
fn what_is_not_fetched_is_told_by_its_reason_in_status_receipt_and_audit_trail() {
    // The same host, and another port.
    let bench = Bench::start("allow = [\"http://127.0.0.1\"]\n");
    let refused = bench.web.url("/x");
    let bench = bench.without_guest();
    let request = bench.daemon.finished(&bench.daemon.submit(GUEST, from(&refused, HELLO)).id);
    assert!(detail(&request).ends_with("refused: no prefix of fetch.allow covers it"), "{request:?}");
    assert!(bench.web.asked().is_empty());

    let bench = Bench::start("redirects = 1\n").without_guest();
    let (web, other) = (&bench.web, sum(b"other").sha256);
    let foreign = Web::secured(&Authority::with("127.0.0.1"));
    let misnamed = Web::secured(&Authority::with("a.example"));
    std::os::unix::fs::symlink("/etc/passwd", bench.place.join("programs/link")).unwrap();
    let link = format!("file://{}", bench.place.join("programs/link").display());
    let metadata = "http://169.254.169.254/latest/meta-data/";
    let cases: Vec<(String, Vec<Does>, String)> = vec![
        (web.url("/none"), vec![status("404 Not Found")], "HTTP status 404".into()),
        (web.url("/busy"), vec![status("503 Oops"), status("503 Oops")], "attempt 2 of 2".into()),
        (web.url("/other"), vec![file(b"other")], format!("got {other} (5 bytes)")),
        (
            web.url("/short"),
            vec![Does::Says([head("content-length: 99\r\n").as_slice(), HELLO].concat()); 2],
            "its bytes broke off".into(),
        ),
        (web.url("/endless"), vec![Does::Floods(head(""))], "more than 67108864 bytes".into()),
        (web.url("/on"), vec![sends_on(metadata)], "169.254.169.254 is a cloud's metadata service".into()),
        (web.url("/round"), vec![sends_on("/a"), sends_on("/b")], "more than 1 times".into()),
        (web.url("/file"), vec![sends_on(&link)], "programs/link, a file".into()),
        ("http://127.0.0.2:9/x".into(), vec![], "127.0.0.2 is a loopback address".into()),
        ("http://[::ffff:127.0.0.1]:9/x".into(), vec![], "an IPv4-mapped address".into()),
        ("http://10.0.0.1/x".into(), vec![], "a private address".into()),
        (foreign.url("/x"), vec![], "its certificate is not accepted: ".into()),
        (misnamed.url("/x"), vec![], "its certificate is not accepted: ".into()),
        (link.clone(), vec![], "a part of its path is a link".into()),
        ("file:///etc/passwd".into(), vec![], "not below fetch.file-root".into()),
    ];
    for (url, does, part) in cases {
        not_retrieved(&bench, &url, does, &part);
    }
    a_password_is_nowhere(&bench);
    bench.daemon.assert_audit_intact();
}

fn not_retrieved(bench: &Bench, url: &str, does: Vec<Does>, part: &str) {
    bench.web.does(does);
    let doorbell = doorbell_tests::command::Doorbell::new(&bench.place, bench.daemon.socket());
    let words = ["--json", "run", GUEST, "--from", url, "--sha256", &sum(HELLO).sha256];
    let ended = doorbell.run(&words).expect(121);
    let request: Request = serde_json::from_value(ended.json()).unwrap();
    assert_eq!(request.state, State::NotRetrieved);
    let told = detail(&request);
    assert!(told.contains(part) && told.contains("could not be fetched from "), "{url}: {told}");
    assert!(ended.stderr.contains(part), "{url}: {}", ended.stderr);
    let last = records(&bench.daemon, &request.id).pop().unwrap();
    assert_eq!(last.event, "request-not-retrieved");
    assert!(last.detail.contains(told), "{url}: {}", last.detail);
}

/// A URL with a password is refused before it is written anywhere.
fn a_password_is_nowhere(bench: &Bench) {
    let doorbell = doorbell_tests::command::Doorbell::new(&bench.place, bench.daemon.socket());
    let digest = sum(HELLO).sha256;
    for url in ["https://root:hunter2@127.0.0.1/x", "hunter2"] {
        doorbell.run(&["run", GUEST, "--from", url, "--sha256", &digest]).refused(2, &["URL"]);
    }
    let secret = b"hunter2";
    let holds = |bytes: &[u8]| bytes.windows(secret.len()).any(|part| part == secret);
    for path in files_below(bench.daemon.state()) {
        assert!(!holds(&std::fs::read(&path).unwrap()), "{} has the password", path.display());
    }
    assert!(!holds(bench.daemon.log().as_bytes()), "the log has the password");
}

#[test]
fn a_request_holds_its_place_while_its_program_is_fetched_and_outlives_a_killed_manager() {
    let (mut lab, web, _) = Bench::start("").boot(None);
    let says = |word: &str| format!("#!/bin/sh\necho {word} >>/run/effects\n").into_bytes();
    let (slow, more) = (Gate::default(), Gate::default());
    web.does([status("500 Oops"), held(&says("first"), &slow)]);
    let first = lab.submit(from(&web.url("/first"), &says("first")));
    let second = lab.submit(sh("echo second >>/run/effects"));
    let shown = until("the second attempt to be told", || {
        lab.daemon.request(&first).waits_for.filter(|text| text.contains("attempt 2 of 2"))
    });
    assert!(shown.contains("/first (attempt 2 of 2; the last one: HTTP status 500"), "{shown}");
    until("the second attempt", || (web.asked().len() == 2).then_some(()));
    // Urgent requests go by; nothing of its own kind does.
    assert_eq!(lab.look("cat /run/effects 2>/dev/null; echo none"), "none\n");
    assert_eq!(
        (lab.daemon.request(&first).state, lab.daemon.request(&second).state),
        (State::Queued, State::Queued)
    );

    // A manager that is killed in the middle begins the fetch anew.
    web.does([held(&says("first"), &more)]);
    lab.daemon.kill();
    lab.daemon.restart();
    until("the fetch to begin anew", || (web.asked().len() == 3).then_some(()));
    lab.daemon.await_presence(GUEST, doorbell_api::guest::Presence::Connected);
    assert_eq!(lab.daemon.request(&first).state, State::Queued);
    more.open();
    for id in [&first, &second] {
        let ended = lab.daemon.finished(id);
        assert_eq!(ended.state, State::Succeeded, "{ended:?}");
    }
    assert_eq!(lab.look("cat /run/effects"), "first\nsecond\n");
    what_is_cancelled_or_expires_lets_the_next_one_go(&lab, &web);
    slow.open();
    lab.daemon.assert_audit_intact();
}

fn what_is_cancelled_or_expires_lets_the_next_one_go(lab: &Lab, web: &Web) {
    let program = b"#!/bin/sh\necho never >>/run/effects\n";
    let stuck = Gate::default();
    web.does([held(program, &stuck), held(program, &stuck)]);
    let asked = web.asked().len();
    let cancelled = lab.submit(from(&web.url("/never"), program));
    until("the fetch", || (web.asked().len() > asked).then_some(()));
    let expires = NewRequest { expires_in_ms: Some(700), ..new_request(from(&web.url("/late"), program)) };
    let expired = lab.daemon.submit_as(GUEST, expires).id;
    let behind = lab.submit(sh("echo behind >>/run/effects"));
    on("the cancel", lab.daemon.client().cancel(&cancelled)).unwrap();
    assert_eq!(lab.daemon.request(&cancelled).state, State::Cancelled);
    assert_eq!(lab.daemon.finished(&expired).state, State::Expired);
    assert_eq!(lab.daemon.finished(&behind).state, State::Succeeded);
    stuck.open();
    assert_eq!(lab.look("cat /run/effects"), "first\nsecond\nbehind\n");
    assert!(files_below(&lab.daemon.state().join("programs/arriving")).is_empty(), "half a program was left");
}

#[test]
fn one_guest_that_waits_for_a_program_keeps_no_other_and_one_fetch_serves_all() {
    let (lab, web, _) = Bench::start("").boot(None);
    let program = b"#!/bin/sh\necho served\n";
    let slow = Gate::default();
    web.does([held(program, &slow)]);
    // A guest that is away awaits it, too.
    lab.daemon.add("web-4", &Guest::socket_of(&lab.place, "web-4"), None);
    let url = web.url("/served");
    let away: Vec<String> = (0..3).map(|_| lab.daemon.submit("web-4", from(&url, program)).id).collect();
    until("the fetch", || (web.asked().len() == 1).then_some(()));
    let (ended, _) = lab.daemon.run_sh(GUEST, "true");
    assert_eq!(ended.state, State::Succeeded, "a guest is kept by another one's program");
    let here = lab.submit(from(&url, program));
    slow.open();
    let ended = lab.daemon.finished(&here);
    assert_eq!((ended.state, lab.output(&here)), (State::Succeeded, "served\n".into()));
    assert_eq!(web.asked().len(), 1, "it was fetched for each request");
    let waits = away.iter().map(|id| lab.daemon.request(id).waits_for).collect::<Vec<_>>();
    assert_eq!(waits, [None, None, None]);
}

#[test]
fn the_four_ways_in_which_a_program_does_not_come_are_told_apart() {
    let (lab, web, _) = Bench::start("").boot(Some(32));
    // Not retrieved: the manager does not have it.
    web.does([file(b"another one")]);
    let request = lab.daemon.finished(&lab.submit(from(&web.url("/x"), HELLO)));
    assert_eq!(request.state, State::NotRetrieved);
    let (expected, got) = (sum(HELLO).sha256, sum(b"another one").sha256);
    assert!(detail(&request).contains(&format!("expected sha256 {expected}, got {got}")), "{request:?}");
    // Not received: the guest's disk does not take it.
    let large: Vec<u8> =
        (0..48_u32 << 20).map(|at| at.wrapping_mul(2_654_435_761).to_le_bytes()[2]).collect();
    web.does([file(&large)]);
    let request = lab.daemon.finished(&lab.submit(from(&web.url("/x"), &large)));
    assert_eq!(
        (request.state, detail(&request)),
        (State::NotReceived, "the program could not be staged: No space left on device")
    );
    // Not verified: it rotted between the manager's check and the guest's.
    web.does([file(HELLO)]);
    let gate_open = gate("four");
    let running = lab.submit(sh(&gate_open));
    lab.await_output(&running, "up");
    let rotten = lab.submit(from(&web.url("/x"), HELLO));
    until("the program", || lab.daemon.request(&rotten).waits_for.is_none().then_some(()));
    let kept = lab.daemon.state().join(format!("programs/{}/{expected}", &expected[..2]));
    std::fs::OpenOptions::new().write(true).open(kept).unwrap().write_all_at(b"?", 3).unwrap();
    lab.open_gate("four");
    let request = lab.daemon.finished(&rotten);
    assert_eq!(request.state, State::NotVerified, "{request:?}");
    assert!(detail(&request).contains(&expected), "{request:?}");
    // Not started: it is whole, and no program.
    let text = b"neither ELF nor script\n";
    web.does([file(text)]);
    let request = lab.daemon.finished(&lab.submit(from(&web.url("/x"), text)));
    assert_eq!(request.state, State::NotStarted, "{request:?}");
    assert_eq!(request.receipt.unwrap().errno, Some(8));
    // And one that was uploaded comes all the same.
    let program = lab.daemon.upload("hello.sh", [HELLO, b"exit 0\n"].concat());
    assert_eq!(lab.daemon.finished(&lab.submit(uploaded(program))).state, State::Succeeded);
    lab.daemon.assert_audit_intact();
}
