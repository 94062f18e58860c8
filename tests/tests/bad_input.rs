//! Bad input to command line, API and daemon: one clear line that says what to do, the documented exit status,
//! and nothing lost.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed step is a failed test")]

use doorbell_api::error::ErrorCode;
use doorbell_api::guest::NewGuest;
use doorbell_client::ClientError;
use doorbell_tests::build::program;
use doorbell_tests::command::{Doorbell, Ended, begin};
use doorbell_tests::daemon::{Daemon, command};
use doorbell_tests::place::{Place, files_below};
use doorbell_tests::skip::skipped;
use doorbell_tests::wait::on;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

#[test]
fn a_bad_command_line_is_refused_with_one_clear_line() {
    let place = Place::new();
    let daemon = Daemon::start(&place);
    let doorbell = Doorbell::new(&place, daemon.socket());
    let _ = doorbell.run(&["guest", "add", "web-3", "--cid", "7"]).expect(0);
    let before = doorbell.run(&["--json", "guest", "ls"]).expect(0).stdout;
    let long = "a".repeat(64);
    let refusals: &[(&[&str], &[&str])] = &[
        (&["run", "web-9", "--", "true"], &["web-9"]),
        (&["link", "web-9", "down", "eth0"], &["web-9"]),
        (&["guest", "show", "web-9"], &["web-9"]),
        (&["guest", "approve", "web-3"], &["web-3"]),
        (&["guest", "add", "web-3", "--cid", "8"], &["web-3"]),
        (&["guest", "add", "web-4", "--cid", "7"], &["7", "web-3"]),
        (&["guest", "add", "web-4"], &["--cid"]),
        (&["guest", "add", "web-4", "--cid", "8", "--hybrid-socket", "/x"], &["--cid"]),
        (&["guest", "add", "Web_4", "--cid", "8"], &["Web_4"]),
        (&["guest", "add", &long, "--cid", "8"], &["63"]),
        (&["guest", "add", "web-4", "--cid", "eight"], &["eight"]),
        (&["guest", "add", "web-4", "--cid", "8", "--key", "abc"], &["abc"]),
        (&["run", "web-3", "--program", "/no/such/file"], &["/no/such/file"]),
        (&["run", "web-3", "--program", "/tmp"], &["/tmp"]),
        (&["run", "web-3"], &["COMMAND"]),
        (&["run", "web-3", "--timeout", "soon", "--", "true"], &["soon"]),
        (&["run", "web-3", "--env", "=x", "--", "true"], &["=x"]),
        (&["run", "web-3", "--cwd", "relative", "--", "true"], &["relative"]),
        (&["run", "web-3", "--id", "xyz", "--", "true"], &["xyz"]),
        (&["link", "web-3", "down", "a/b"], &["a/b"]),
        (&["request", "show", "123"], &["123"]),
        (&["request", "show", "0123456789abcdef0123456789abcdef"], &["0123456789abcdef"]),
        (&["request", "ls", "--limit", "0"], &["0"]),
        (&["no-such-command"], &["no-such-command"]),
    ];
    for (arguments, words) in refusals {
        doorbell.run(arguments).refused(2, words);
    }
    for reserved in ["0", "1", "2", "4294967295"] {
        doorbell.run(&["guest", "add", "web-4", "--cid", reserved]).refused(2, &[reserved]);
    }
    doorbell.run(&["link", "web-3", "ls"]).refused(124, &["web-3"]);
    doorbell.run(&["run", "web-3", "--no-queue", "--", "true"]).refused(124, &["web-3"]);
    assert_eq!(
        doorbell.run(&["--json", "guest", "ls"]).expect(0).stdout,
        before,
        "a refusal changed something"
    );
    assert_eq!(
        doorbell.run(&["--json", "request", "ls"]).expect(0).json()["requests"],
        serde_json::json!([])
    );
    let nobody = Doorbell::new(&place, &place.join("nobody.sock"));
    nobody.run(&["guest", "ls"]).refused(125, &["nobody.sock"]);
}

#[test]
fn bad_api_input_is_refused_and_nothing_is_accepted() {
    let place = Place::new();
    let daemon = Daemon::start(&place);
    for reserved in [0, 1, 2, u32::MAX] {
        let new = NewGuest { name: "web-3".into(), cid: Some(reserved), ..NewGuest::default() };
        let refused = on("the refusal", daemon.client().add_guest(&new)).unwrap_err();
        assert!(
            matches!(refused, ClientError::Refused { code: ErrorCode::Invalid, status: 400, .. }),
            "{refused:?}"
        );
        assert!(refused.to_string().contains(&reserved.to_string()), "{refused}");
    }
    let new = NewGuest { name: "web-3".into(), cid: Some(7), ..NewGuest::default() };
    let _ = on("a guest", daemon.client().add_guest(&new)).unwrap();
    let twice = on("the refusal", daemon.client().add_guest(&new)).unwrap_err();
    assert!(
        matches!(twice, ClientError::Refused { code: ErrorCode::Conflict, status: 409, .. }),
        "{twice:?}"
    );

    let run = |action: &str| format!("{{\"action\":{action}}}");
    let requests: [(u16, String); 9] = [
        (400, "not json".into()),
        (400, "{}".into()),
        (400, run("{\"type\":\"explode\"}")),
        (400, run("{\"type\":\"run\"}")),
        (400, run("{\"type\":\"run\",\"command\":\"a\",\"program\":{\"digest\":\"00\",\"name\":\"b\"}}")),
        (400, run("{\"type\":\"run\",\"command\":\"a\\u0000b\"}")),
        (400, run("{\"type\":\"run\",\"command\":\"true\",\"colour\":\"red\"}")),
        (400, run("{\"type\":\"run\",\"command\":\"true\",\"cwd\":\"relative\"}")),
        (
            404,
            run(&format!(
                "{{\"type\":\"run\",\"program\":{{\"digest\":\"{}\",\"name\":\"b\"}}}}",
                "0".repeat(64)
            )),
        ),
    ];
    for (status, body) in requests {
        let (got, answer) = post(daemon.socket(), "/v1/guests/web-3/requests", &body);
        assert_eq!(got, status, "{body}: {answer}");
        let error: serde_json::Value = serde_json::from_str(&answer).unwrap();
        let message = error["message"].as_str().unwrap();
        assert!(!message.is_empty() && !message.contains('\n'), "{message:?}");
    }
    let large = run(&format!("{{\"type\":\"run\",\"command\":\"{}\"}}", "x".repeat(60_000)));
    assert_eq!(post(daemon.socket(), "/v1/guests/web-3/requests", &large).0, 400);
    assert_eq!(post(daemon.socket(), "/v1/nothing", "{}").0, 404);
    let list =
        on("the requests", daemon.client().requests(&doorbell_client::RequestFilter::default())).unwrap();
    assert!(list.requests.is_empty(), "{list:?}");
    daemon.assert_audit_intact();
}

/// An identifier of the caller's own makes a request once: the same again changes nothing, another is refused.
#[test]
fn the_same_request_twice_is_one_and_another_under_its_name_is_refused() {
    let place = Place::new();
    let daemon = Daemon::start(&place);
    let doorbell = Doorbell::new(&place, daemon.socket());
    let _ = doorbell.run(&["guest", "add", "web-3", "--cid", "7"]).expect(0);
    let id = "0123456789abcdef0123456789abcdef";
    let submit = |word: &str| doorbell.run(&["run", "web-3", "--detach", "--id", id, "--", word]);
    assert_eq!(submit("true").expect(0).stdout.trim(), id);
    assert_eq!(submit("true").expect(0).stdout.trim(), id);
    submit("false").refused(2, &[id]);
    let list = doorbell.run(&["--json", "request", "ls"]).expect(0).json();
    assert_eq!(list["requests"].as_array().unwrap().len(), 1);
    let _ = doorbell.run(&["guest", "rm", "web-3", "--yes"]).expect(0);
    let _ = doorbell.run(&["request", "wait", id]).expect(123);
}

#[test]
fn a_daemon_that_cannot_start_says_why_in_one_line() {
    let place = Place::new();
    let daemon = Daemon::start(&place);
    let state = daemon.state().to_str().unwrap();
    let other = place.join("other.sock");
    let pid = daemon.id().to_string();
    doorbelld(&place, &["--state-dir", state, "--socket", other.to_str().unwrap()])
        .refused(1, &[state, &pid]);
    let fresh = place.join("fresh");
    let socket = daemon.socket().to_str().unwrap();
    doorbelld(&place, &["--state-dir", fresh.to_str().unwrap(), "--socket", socket]).refused(1, &[socket]);

    let open = place.join("open");
    std::fs::create_dir(&open).unwrap();
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o755)).unwrap();
    let open = open.to_str().unwrap();
    doorbelld(&place, &["--state-dir", open, "--socket", other.to_str().unwrap()])
        .refused(1, &[open, "0755", "chmod 0700"]);

    let config = place.file("bad.toml", b"state-dir = \"/x\"\ncolour = \"red\"\n");
    doorbelld(&place, &["--config", config.to_str().unwrap()]).refused(2, &["bad.toml", "line 2", "colour"]);
    doorbelld(&place, &["--config", "/no/such.toml"]).refused(2, &["/no/such.toml"]);
    // The first one never noticed.
    let _ = Doorbell::new(&place, daemon.socket()).run(&["guest", "ls"]).expect(0);
}

#[test]
fn a_full_disk_is_told_and_loses_nothing() {
    if !nix::unistd::geteuid().is_root() {
        return skipped("a small file system of its own needs root");
    }
    let place = Place::new();
    std::fs::create_dir(place.join("state")).unwrap();
    let mount =
        format!("mount -t tmpfs -o size=6m,mode=700 none {} && exec \"$@\"", place.join("state").display());
    let daemon = Daemon::start_under(&place, &["unshare", "--mount", "sh", "-c", &mount, "sh"]);
    let doorbell = Doorbell::new(&place, daemon.socket());
    let _ = doorbell.run(&["guest", "add", "web-3", "--cid", "7"]).expect(0);
    let accepted: Vec<String> = (0..3).map(|_| daemon.submit("web-3", command(&["true"])).id).collect();

    // The manager's own view of its disk.
    let state = place.join("state");
    let inside =
        Path::new("/proc").join(daemon.id().to_string()).join("root").join(state.strip_prefix("/").unwrap());
    let filler = inside.join("filler");
    let program = place.file("large.sh", &vec![b'#'; 8 << 20]);
    let program = program.to_str().unwrap();
    doorbell.run(&["run", "web-3", "--program", program]).refused(125, &["space"]);
    assert_eq!(
        files_below(&inside.join("programs")),
        Vec::<std::path::PathBuf>::new(),
        "half a program was left"
    );
    fill(&filler);
    for _ in 0..3 {
        doorbell
            .run(&["run", "web-3", "--detach", "--reason", &"r".repeat(200), "--", "true"])
            .refused(125, &["space"]);
    }
    let list = doorbell.run(&["--json", "request", "ls"]).expect(0).json();
    assert_eq!(
        list["requests"].as_array().unwrap().len(),
        accepted.len(),
        "what was accepted can still be read"
    );

    std::fs::remove_file(&filler).unwrap();
    let later = daemon.submit("web-3", command(&["true"])).id;
    let list = doorbell.run(&["--json", "request", "ls"]).expect(0).json();
    let ids: Vec<&str> =
        list["requests"].as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), accepted.len() + 1);
    assert!(accepted.iter().chain([&later]).all(|id| ids.contains(&id.as_str())));
    daemon.assert_audit_intact();
}

fn fill(file: &Path) {
    let mut filler = std::fs::File::create(file).unwrap();
    // The last bytes too: first large pieces, then small ones.
    for piece in [64 * 1024, 4096, 1] {
        while filler.write_all(&vec![0; piece]).is_ok() {}
    }
}

/// `doorbelld` as somebody starts it by hand, to its end.
fn doorbelld(place: &Place, arguments: &[&str]) -> Ended {
    begin(place, Command::new(program("doorbelld")).args(arguments)).ended()
}

fn post(socket: &Path, path: &str, body: &str) -> (u16, String) {
    let mut stream = UnixStream::connect(socket).unwrap();
    let head = "host: x\r\nconnection: close\r\ncontent-type: application/json";
    // The manager may answer and close before it has read everything.
    let _ = write!(stream, "POST {path} HTTP/1.1\r\n{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}
