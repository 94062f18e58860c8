//! The HTTP server on a Unix socket that stands for the manager, and what the tests do with the process.

use axum::body::Bytes;
use axum::extract::Query;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use doorbell_client::api::request::{NewRequest, Request, State};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::HashMap;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};
use tokio::net::UnixListener;
use tokio::runtime::{Builder, Runtime};

pub(super) const ID: &str = "0123456789abcdef0123456789abcdef";

/// What the server was asked, so that a test can wait for it.
#[derive(Default)]
pub(super) struct Log {
    said: Mutex<Vec<String>>,
    more: Condvar,
}

impl Log {
    pub(super) fn say(&self, what: impl Into<String>) {
        self.said.lock().expect("lock").push(what.into());
        self.more.notify_all();
    }

    pub(super) fn said(&self) -> Vec<String> {
        self.said.lock().expect("lock").clone()
    }

    pub(super) fn wait_for(&self, what: &str) {
        let said = self.said.lock().expect("lock");
        let absent = |said: &mut Vec<String>| !said.iter().any(|line| line == what);
        let (said, timed_out) =
            self.more.wait_timeout_while(said, Duration::from_secs(30), absent).expect("lock");
        assert!(!timed_out.timed_out(), "{what:?} was not asked for, only {said:?}");
    }
}

pub(super) struct Manager {
    runtime: Option<Runtime>,
    pub(super) dir: tempfile::TempDir,
    pub(super) log: Arc<Log>,
}

impl Drop for Manager {
    fn drop(&mut self) {
        self.cut();
    }
}

impl Manager {
    pub(super) fn with(routes: impl FnOnce(Arc<Log>) -> Router) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let log = Arc::new(Log::default());
        let router = routes(Arc::clone(&log));
        let mut manager = Self { runtime: None, dir, log };
        manager.serve(router);
        manager
    }

    /// Begins to answer; once more after a [`Manager::cut`].
    pub(super) fn serve(&mut self, router: Router) {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let _ = std::fs::remove_file(self.socket());
        let listener = {
            let _inside = runtime.enter();
            UnixListener::bind(self.socket()).expect("a socket")
        };
        runtime.spawn(async move { axum::serve(listener, router).await.expect("served") });
        self.runtime = Some(runtime);
    }

    /// Ends without a word, as by kill -9.
    pub(super) fn cut(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.dir.path().join("sock")
    }

    pub(super) fn command(&self, words: &[&str]) -> Command {
        command(&self.socket(), words)
    }

    pub(super) fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().expect("it runs")
    }
}

pub(super) fn command(socket: &std::path::Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_doorbell"));
    command.args(words).env("DOORBELL_SOCKET", socket).env_remove("CLICOLOR_FORCE").stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

pub(super) fn request(state: State, receipt: serde_json::Value) -> Request {
    let mut whole = serde_json::json!({
        "stored_at_ms": 2, "audit_hash": "00",
        "stdout": {"bytes": 0, "lost": 0, "truncated": false},
        "stderr": {"bytes": 0, "lost": 0, "truncated": false},
    });
    if let (Some(whole), serde_json::Value::Object(more)) = (whole.as_object_mut(), receipt) {
        whole.extend(more);
    }
    serde_json::from_value(serde_json::json!({
        "id": ID, "guest": "web-3", "sequence": 1, "action": {"type": "run", "command": "true"}, "state": state,
        "asked_by": "uid 0 (root)", "accepted_at_ms": 1, "urgent": false, "on_disconnect": "keep", "cancel_asked": false, "offers": 1,
        "receipt": state.is_final().then_some(whole),
    }))
    .expect("a request")
}

/// A manager whose one request prints this and ends so.
pub(super) fn manager_of(stdout: &'static [u8], stderr: &'static [u8], end: Request) -> Manager {
    Manager::with(|log| {
        let submit = post(move |Json(new): Json<NewRequest>| async move {
            log.say(serde_json::to_string(&new.action).expect("json"));
            (StatusCode::CREATED, Json(request(State::Queued, serde_json::Value::Null)))
        });
        let output = get(move |Query(query): Query<HashMap<String, String>>| async move {
            let all = if query["stream"] == "stdout" { stdout } else { stderr };
            Bytes::from_static(&all[query["offset"].parse::<usize>().expect("offset").min(all.len())..])
        });
        let (show, wait) = (end.clone(), end);
        Router::new()
            .route("/v1/guests/{name}/requests", submit)
            .route("/v1/requests/{id}", get(|| async { Json(show) }))
            .route("/v1/requests/{id}/wait", get(|| async { Json(wait) }))
            .route("/v1/requests/{id}/output", output)
    })
}

pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The one line on standard error.
pub(super) fn line(output: &Output) -> String {
    let said = text(&output.stderr);
    assert!(said.starts_with("doorbell: ") && said.ends_with('\n') && said.lines().count() == 1, "{said:?}");
    said
}

pub(super) fn ended(child: &mut Child) -> i32 {
    let until = Instant::now() + Duration::from_secs(30);
    while Instant::now() < until {
        if let Some(status) = child.try_wait().expect("a child") {
            return status.code().unwrap_or_else(|| panic!("{status}"));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill().expect("killed");
    panic!("it did not end");
}

pub(super) fn interrupt(child: &Child) {
    send(child, Signal::SIGINT);
}

pub(super) fn send(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
    kill(pid, signal).expect("a signal");
}

/// Reads until this text was read.
pub(super) fn read_until(from: &mut impl Read, wanted: &str) -> String {
    let mut read = Vec::new();
    let mut byte = [0];
    while !text(&read).contains(wanted) {
        assert_eq!(from.read(&mut byte).expect("read"), 1, "{wanted:?} is missing in {:?}", text(&read));
        read.push(byte[0]);
    }
    text(&read)
}
