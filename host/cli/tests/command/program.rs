//! A program that prints what it reads, behind a manager whose disk outlives a restart of it.

use super::manager::{ID, Log, Manager, request};
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Query};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use doorbell_client::api::error::{ErrorBody, ErrorCode};
use doorbell_client::api::request::{Action, InputState, NewRequest, Request, State, Window};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::watch;

/// What the manager has on disk of its one request.
#[derive(Clone, Debug)]
pub(super) struct Disk {
    action: Option<Action>,
    on_disconnect: Option<serde_json::Value>,
    pub(super) input: Vec<u8>,
    /// What it read, and what it said besides.
    printed: Vec<u8>,
    input_ended: bool,
    state: State,
    pub(super) cancel_asked: bool,
}

/// The disk, and a way to hear of each change of it.
#[derive(Clone, Debug)]
pub(super) struct Program(watch::Sender<Disk>);

impl Program {
    pub(super) fn new() -> Self {
        let disk = Disk {
            action: None,
            on_disconnect: None,
            input: Vec::new(),
            printed: Vec::new(),
            input_ended: false,
            state: State::Queued,
            cancel_asked: false,
        };
        Self(watch::Sender::new(disk))
    }

    pub(super) fn manager(&self) -> Manager {
        Manager::with(|log| self.router(&log))
    }

    pub(super) fn disk(&self) -> Disk {
        self.0.borrow().clone()
    }

    /// As if the guest had taken it.
    pub(super) fn start(&self) {
        self.0.send_modify(|disk| disk.state = State::Started);
    }

    /// As if it had printed this by itself.
    pub(super) fn print(&self, bytes: &[u8]) {
        self.0.send_modify(|disk| disk.printed.extend_from_slice(bytes));
    }

    pub(super) fn end(&self, state: State) {
        self.0.send_modify(|disk| disk.state = state);
    }

    /// The request as the manager would show it.
    fn show(&self) -> Request {
        let disk = self.disk();
        let mut shown = request(
            disk.state,
            serde_json::json!({
                "exit_code": (disk.state == State::Succeeded).then_some(0),
                "stdout": {"bytes": disk.printed.len(), "lost": 0, "truncated": false},
            }),
        );
        shown.cancel_asked = disk.cancel_asked;
        if let Some(action) = disk.action {
            shown.action = action;
        }
        if let Some(value) = disk.on_disconnect {
            shown.on_disconnect = serde_json::from_value(value).expect("a word");
        }
        shown
    }

    pub(super) fn router(&self, log: &Arc<Log>) -> Router {
        let guest = get(|| async {
            Json(serde_json::json!({
                "name": "web-3", "id": "00", "cid": 7, "presence": "gone", "added_at_ms": 1, "concurrency": 1,
                "open_requests": 1,
            }))
        });
        Router::new()
            .route("/v1/guests/{name}", guest)
            .route("/v1/guests/{name}/requests", self.submit(log))
            .route("/v1/requests/{id}", self.shown(false))
            .route("/v1/requests/{id}/wait", self.shown(true))
            .route("/v1/requests/{id}/output", self.output(log))
            .route("/v1/requests/{id}/input", self.input(log))
            .route("/v1/requests/{id}/window", window(log))
            .route("/v1/requests/{id}/cancel", self.cancel())
            .layer(DefaultBodyLimit::disable())
    }

    fn submit(&self, log: &Arc<Log>) -> axum::routing::MethodRouter {
        let (program, log) = (self.clone(), Arc::clone(log));
        post(move |Json(new): Json<NewRequest>| async move {
            log.say(serde_json::to_string(&new).expect("json"));
            program.0.send_modify(|disk| {
                disk.action = Some(new.action);
                disk.on_disconnect = serde_json::to_value(new.on_disconnect).ok();
            });
            (StatusCode::CREATED, Json(program.show()))
        })
    }

    fn shown(&self, waits: bool) -> axum::routing::MethodRouter {
        let program = self.clone();
        get(move || async move {
            if waits {
                let mut moved = program.0.subscribe();
                let _ = moved.wait_for(|disk| disk.state.is_final()).await.expect("a program");
            }
            Json(program.show())
        })
    }

    fn output(&self, log: &Arc<Log>) -> axum::routing::MethodRouter {
        let (program, log) = (self.clone(), Arc::clone(log));
        get(move |Query(query): Query<HashMap<String, String>>| async move {
            let at: usize = query["offset"].parse().expect("an offset");
            let follow = query["follow"] == "true";
            let attached = query.get("attach").is_some_and(|attach| attach == "true");
            log.say(format!("{} from {at}, attached: {attached}", query["stream"]));
            let is_stdout = query["stream"] == "stdout";
            let moved = program.0.subscribe();
            let pieces = futures_util::stream::unfold((at, moved), move |(at, mut moved)| async move {
                let printed = moved
                    .wait_for(|disk| {
                        !follow || disk.state.is_final() || (is_stdout && disk.printed.len() > at)
                    })
                    .await
                    .expect("a program")
                    .printed
                    .clone();
                let new = if is_stdout { printed.get(at..).unwrap_or_default() } else { &[] };
                let next = (at + new.len(), moved);
                (!new.is_empty()).then(|| (Ok::<_, std::io::Error>(Bytes::copy_from_slice(new)), next))
            });
            Body::from_stream(pieces)
        })
    }

    fn input(&self, log: &Arc<Log>) -> axum::routing::MethodRouter {
        let (program, shown, log) = (self.clone(), self.clone(), Arc::clone(log));
        put(move |Query(query): Query<HashMap<String, String>>, body: Bytes| async move {
            let at: usize = query["offset"].parse().expect("an offset");
            let disk = program.disk();
            if disk.state.is_final() || disk.input_ended || at > disk.input.len() {
                return refusal("it takes no input");
            }
            program.0.send_modify(|disk| {
                let known = disk.input.len() - at;
                let new = body.get(known..).unwrap_or_default();
                disk.input.extend_from_slice(new);
                disk.printed.extend_from_slice(new);
                disk.input_ended = query["end"] == "true";
                if disk.input_ended {
                    disk.state = State::Succeeded;
                }
            });
            log.say(format!("input has {} bytes", program.disk().input.len()));
            Json(program.input_state()).into_response()
        })
        .get(move || async move { Json(shown.input_state()) })
    }

    fn input_state(&self) -> InputState {
        let disk = self.disk();
        InputState { len: disk.input.len() as u64, ended: disk.input_ended }
    }

    fn cancel(&self) -> axum::routing::MethodRouter {
        let program = self.clone();
        post(move || async move {
            program.0.send_modify(|disk| {
                if !disk.state.is_final() {
                    disk.cancel_asked = true;
                    disk.state = State::Cancelled;
                }
            });
            Json(program.show())
        })
    }
}

fn window(log: &Arc<Log>) -> axum::routing::MethodRouter {
    let log = Arc::clone(log);
    put(move |Json(window): Json<Window>| async move {
        log.say(format!("window {}x{} of {ID}", window.columns, window.rows));
        StatusCode::NO_CONTENT
    })
}

fn refusal(message: &str) -> Response {
    let code = ErrorCode::Conflict;
    let status = StatusCode::from_u16(code.status()).expect("a status");
    (status, Json(ErrorBody { code, message: message.to_owned() })).into_response()
}
