//! The SDK against an HTTP server on a Unix socket that breaks what a network can break.
//!
//! The server is part of the test and speaks the types of the API; what the manager itself does is tested
//! with the manager.

#[cfg(test)]
mod server;

#[cfg(test)]
mod tests {
    use crate::server::Place;
    use axum::body::{Body, Bytes};
    use axum::extract::{Path, Query, State};
    use axum::http::StatusCode;
    use axum::routing::{get, post, put};
    use axum::{Json, Router};
    use doorbell_client::api::error::{ErrorBody, ErrorCode};
    use doorbell_client::api::event::{Change, Event};
    use doorbell_client::api::request::{Action, NewRequest, Request, Run, State as RequestState};
    use doorbell_client::{ClientError, Stream};
    use futures_util::{StreamExt, TryStreamExt, stream};
    use std::collections::HashMap;
    use std::io;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;
    use tokio::net::UnixListener;
    use tokio::sync::mpsc;

    const ID: &str = "0123456789abcdef0123456789abcdef";

    fn request(state: RequestState, stdout: u64) -> Request {
        let receipt = serde_json::json!({
            "stored_at_ms": 2, "exit_code": 0, "audit_hash": "00",
            "stdout": {"bytes": stdout, "lost": 0, "truncated": false},
            "stderr": {"bytes": 0, "lost": 0, "truncated": false},
        });
        serde_json::from_value(serde_json::json!({
            "id": ID, "guest": "web-3", "sequence": 1, "action": {"type": "run", "command": "true"}, "state": state,
            "asked_by": "uid 0 (root)", "accepted_at_ms": 1, "urgent": false, "on_disconnect": "keep", "cancel_asked": false, "offers": 1,
            "receipt": state.is_final().then_some(receipt),
        }))
        .expect("a request")
    }

    fn refusal(code: ErrorCode, message: &str) -> (StatusCode, Json<ErrorBody>) {
        let status = StatusCode::from_u16(code.status()).expect("a status");
        (status, Json(ErrorBody { code, message: message.to_owned() }))
    }

    async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
        tokio::time::timeout(Duration::from_secs(30), future)
            .await
            .unwrap_or_else(|_| panic!("no end: {what}"))
    }

    fn offset(query: &HashMap<String, String>) -> usize {
        query.get("offset").and_then(|text| text.parse().ok()).expect("an offset")
    }

    #[tokio::test]
    async fn output_arrives_piece_by_piece_while_the_program_runs() {
        let place = Place::new();
        let (say, said) = mpsc::unbounded_channel::<Bytes>();
        let said = Arc::new(Mutex::new(Some(said)));
        let output = get(move || async move {
            let said = said.lock().expect("lock").take().expect("asked once");
            Body::from_stream(stream::unfold(said, |mut said| async move {
                said.recv().await.map(|bytes| (Ok::<_, io::Error>(bytes), said))
            }))
        });
        let show = get(|| async { Json(request(RequestState::Succeeded, 6)) });
        let router = Router::new().route("/v1/requests/{id}/output", output).route("/v1/requests/{id}", show);
        let _server = place.serve(router);
        let client = place.client();
        let mut output = Box::pin(client.output(ID, Stream::Stdout, 0, true));
        for piece in [&b"a\xff\0"[..], b"b\r\n"] {
            say.send(Bytes::from_static(piece)).expect("sent");
            let got = within("a piece", output.next()).await.expect("not the end").expect("no error");
            assert_eq!(got, piece);
        }
        drop(say);
        assert!(within("the end", output.next()).await.is_none());
    }

    #[tokio::test]
    async fn output_goes_on_at_the_next_byte_when_the_connection_was_cut() {
        const TEXT: &[u8] = b"0123456789";
        let place = Place::new();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        let output = get(move |Query(query): Query<HashMap<String, String>>| async move {
            let from = offset(&query);
            seen.lock().expect("lock").push(from);
            let rest = Bytes::from_static(&TEXT[from..]);
            let cut = rest.len() > 3;
            let first = rest.slice(..rest.len().min(3));
            // The first piece arrives, and then the connection breaks in the middle of the body.
            let pieces = stream::iter([Ok(first)]).chain(stream::once(async move {
                tokio::task::yield_now().await;
                if cut { Err(io::Error::other("cut")) } else { Ok(Bytes::new()) }
            }));
            Body::from_stream(pieces)
        });
        let show = get(|| async { Json(request(RequestState::Succeeded, 10)) });
        let router = Router::new().route("/v1/requests/{id}/output", output).route("/v1/requests/{id}", show);
        let _server = place.serve(router);
        let client = place.client();
        let got: Vec<Bytes> = within("the output", client.output(ID, Stream::Stdout, 0, true).try_collect())
            .await
            .expect("all of it");
        assert_eq!(got.concat(), TEXT);
        let asked = asked.lock().expect("lock").clone();
        assert_eq!(asked.first(), Some(&0));
        assert!(asked.len() > 1 && asked.is_sorted(), "{asked:?}");
    }

    /// A daemon whose program has printed `text`; the request is final or not.
    fn daemon(text: &'static [u8], last: bool) -> Router {
        let output = get(move |Query(query): Query<HashMap<String, String>>| async move {
            let rest = Bytes::from_static(&text[offset(&query).min(text.len())..]);
            let tail = stream::once(async move {
                if !last {
                    std::future::pending::<()>().await;
                }
                Ok(Bytes::new())
            });
            Body::from_stream(stream::iter([Ok::<_, io::Error>(rest)]).chain(tail))
        });
        let state = if last { RequestState::Succeeded } else { RequestState::Started };
        let show = get(move || async move { Json(request(state, text.len() as u64)) });
        let wait = get(move || async move {
            if !last {
                std::future::pending::<()>().await;
            }
            Json(request(state, text.len() as u64))
        });
        Router::new()
            .route("/v1/requests/{id}/output", output)
            .route("/v1/requests/{id}", show)
            .route("/v1/requests/{id}/wait", wait)
    }

    #[tokio::test]
    async fn output_and_wait_survive_a_daemon_that_is_restarted() {
        let place = Place::new();
        let first = place.serve(daemon(b"before ", false));
        let client = place.client();
        let mut output = Box::pin(client.output(ID, Stream::Stdout, 0, true));
        assert_eq!(within("a piece", output.next()).await.expect("a piece").expect("no error"), "before ");
        let waiting = tokio::spawn({
            let client = client.clone();
            async move { client.wait(ID, None).await }
        });
        drop(first);
        let returned = async {
            // Away long enough for a try that finds nobody.
            tokio::time::sleep(Duration::from_millis(500)).await;
            place.serve(daemon(b"before after", true))
        };
        let (next, _second) = tokio::join!(within("a piece", output.next()), returned);
        assert_eq!(next.expect("a piece").expect("no error"), "after");
        assert!(within("the end", output.next()).await.is_none());
        let ended = within("the wait", waiting).await.expect("joined").expect("no error");
        assert_eq!(ended.state, RequestState::Succeeded);
    }

    #[tokio::test]
    async fn a_body_that_ends_in_good_order_before_the_request_does_is_not_the_end() {
        let place = Place::new();
        let calls = Arc::new(Mutex::new(0));
        let output = get(|Query(query): Query<HashMap<String, String>>| async move {
            // As a daemon that is being stopped: what there is, and a proper end.
            if offset(&query) == 0 { "one " } else { "two" }
        });
        let show = get(move || async move {
            let mut calls = calls.lock().expect("lock");
            *calls += 1;
            let state = if *calls == 1 { RequestState::Started } else { RequestState::Succeeded };
            Json(request(state, 7))
        });
        let router = Router::new().route("/v1/requests/{id}/output", output).route("/v1/requests/{id}", show);
        let _server = place.serve(router);
        let client = place.client();
        let got: Vec<Bytes> = within("the output", client.output(ID, Stream::Stdout, 0, true).try_collect())
            .await
            .expect("all of it");
        assert_eq!(got.concat(), b"one two");
    }

    #[tokio::test]
    async fn an_answer_that_was_lost_is_asked_for_again_under_the_same_id() {
        let place = Place::new();
        let ids = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&ids);
        let submit = post(move |Path(guest): Path<String>, Json(new): Json<NewRequest>| async move {
            assert_eq!(guest, "web-3");
            let mut seen = seen.lock().expect("lock");
            seen.push(new.id.expect("the client gives it an id"));
            // The first answer breaks off: its body is shorter than it says.
            let whole = serde_json::to_vec(&request(RequestState::Queued, 0)).expect("json");
            let half = seen.len() == 1;
            let cut = whole.len() / 2;
            let pieces: Vec<io::Result<Bytes>> = if half {
                vec![Ok(Bytes::from(whole[..cut].to_vec())), Err(io::Error::other("cut"))]
            } else {
                vec![Ok(Bytes::from(whole))]
            };
            (StatusCode::CREATED, Body::from_stream(stream::iter(pieces)))
        });
        let _server = place.serve(Router::new().route("/v1/guests/{name}/requests", submit));
        let action = Action::Run(Run { command: Some("true".into()), ..Run::default() });
        let new = NewRequest::of(action);
        let accepted =
            within("the answer", place.client().guest("web-3").submit(new)).await.expect("accepted");
        assert_eq!(accepted.id, ID);
        let ids = ids.lock().expect("lock").clone();
        assert_eq!(ids.len(), 2);
        assert_eq!(ids[0], ids[1]);
        assert!(ids[0].len() == 32 && ids[0].chars().all(|c| c.is_ascii_hexdigit()), "{ids:?}");
    }

    #[tokio::test]
    async fn a_refusal_arrives_with_code_message_and_status() {
        let place = Place::new();
        let show = get(|| async {
            refusal(ErrorCode::NotFound, "there is no guest \"web-9\"; see `doorbell guest ls`")
        });
        let broken = get(|| async { (StatusCode::BAD_GATEWAY, "<html>") });
        let garbled = get(|| async { "{\"version\":" });
        let router = Router::new()
            .route("/v1/guests/{name}", show)
            .route("/v1/guests", broken)
            .route("/v1/info", garbled);
        let _server = place.serve(router);
        let client = place.client();
        match client.guest("web-9").show().await {
            Err(ClientError::Refused { code: ErrorCode::NotFound, message, status: 404 }) => {
                assert!(message.contains("web-9"), "{message}");
            }
            other => panic!("{other:?}"),
        }
        let broken = client.guests().await.expect_err("no JSON");
        assert!(matches!(&broken, ClientError::Protocol { .. }), "{broken:?}");
        assert!(broken.to_string().contains("status 502"), "{broken}");
        assert!(matches!(client.info().await, Err(ClientError::Protocol { .. })));
    }

    #[tokio::test]
    async fn a_refusal_of_an_output_is_not_taken_for_output() {
        let place = Place::new();
        let output = get(|| async { refusal(ErrorCode::NotFound, "there is no request ffffff") });
        let _server = place.serve(Router::new().route("/v1/requests/{id}/output", output));
        let client = place.client();
        let first =
            within("an answer", Box::pin(client.output("ffffff", Stream::Stderr, 0, true)).next()).await;
        assert!(matches!(first, Some(Err(ClientError::Refused { status: 404, .. }))), "{first:?}");
    }

    #[tokio::test]
    async fn a_daemon_that_was_never_there_is_an_error_at_once() {
        let place = Place::new();
        let client = place.client();
        let absent = within("an answer", client.wait(ID, None)).await.expect_err("nobody");
        let ClientError::Unreachable { socket, source } = absent else { panic!("{absent:?}") };
        assert_eq!((&socket, source.kind()), (&place.socket, io::ErrorKind::NotFound));
        drop(UnixListener::bind(&place.socket).expect("a socket nobody listens on"));
        let mut output = Box::pin(client.output(ID, Stream::Stdout, 0, true));
        match within("an answer", output.next()).await {
            Some(Err(ClientError::Unreachable { source, .. })) => {
                assert_eq!(source.kind(), io::ErrorKind::ConnectionRefused);
            }
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn events_are_read_across_the_borders_of_pieces_until_the_daemon_goes() {
        let place = Place::new();
        let events = get(|| async {
            let event = |guest: &str| Event { at_ms: 1, guest: guest.to_owned(), change: Change::Rung };
            let mut text = serde_json::to_vec(&event("web-3")).expect("json");
            text.extend_from_slice(b"\n\n");
            text.extend(serde_json::to_vec(&event("web-4")).expect("json"));
            text.push(b'\n');
            let pieces: Vec<io::Result<Bytes>> =
                text.chunks(7).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
            Body::from_stream(stream::iter(pieces))
        });
        let _server = place.serve(Router::new().route("/v1/events", events));
        let mut events = Box::pin(place.client().events().await.expect("events"));
        for guest in ["web-3", "web-4"] {
            assert_eq!(within("an event", events.next()).await.expect("one").expect("no error").guest, guest);
        }
        assert!(matches!(within("the end", events.next()).await, Some(Err(ClientError::Lost { .. }))));
    }

    #[tokio::test]
    async fn a_program_in_one_call_arrives_whole_and_one_that_shrinks_is_an_error() {
        let place = Place::new();
        let upload = put(|body: Bytes| async move {
            Json(serde_json::json!({ "digest": "ab".repeat(32), "len": body.len() }))
        })
        .layer(axum::extract::DefaultBodyLimit::disable());
        let _server = place.serve(Router::new().route("/v1/programs", upload));
        let client = place.client();
        let pieces = || stream::iter((0..64).map(|_| Ok(Bytes::from(vec![7; 64 * 1024]))));
        let len = 64 * 64 * 1024;
        assert_eq!(client.put_program(len, pieces()).await.expect("uploaded").len, len);
        assert_eq!(client.put_program(0, stream::empty()).await.expect("uploaded").len, 0);
        let faulty =
            pieces().take(3).chain(stream::iter([Err(io::Error::from(io::ErrorKind::UnexpectedEof))]));
        let error = client.put_program(len, faulty).await.expect_err("it became shorter");
        assert!(matches!(error, ClientError::Source(_)), "{error:?}");
        let error = client.put_program(u64::MAX, stream::empty()).await.expect_err("too large");
        assert!(matches!(error, ClientError::Refused { status: 413, .. }), "{error:?}");
    }

    #[tokio::test]
    async fn a_program_that_is_refused_is_a_refusal() {
        let place = Place::new();
        let upload = put(|_: Bytes| async { refusal(ErrorCode::NoSpace, "the disk is full; make room") })
            .layer(axum::extract::DefaultBodyLimit::disable());
        let _server = place.serve(Router::new().route("/v1/programs", upload));
        let pieces = stream::iter((0..512).map(|_| Ok(Bytes::from(vec![7; 64 * 1024]))));
        let error = place.client().put_program(512 * 64 * 1024, pieces).await.expect_err("refused");
        assert!(matches!(error, ClientError::Refused { status: 507, .. }), "{error:?}");
    }

    #[tokio::test]
    async fn a_name_stays_one_segment_of_the_path() {
        let place = Place::new();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        let show =
            get(move |State(log): State<Arc<Mutex<Vec<String>>>>, Path(name): Path<String>| async move {
                log.lock().expect("lock").push(name);
                refusal(ErrorCode::NotFound, "no")
            });
        let _server = place.serve(Router::new().route("/v1/guests/{name}", show).with_state(log));
        let client = place.client();
        for name in ["a/b", "a?b#c", "größe", "%2e%2e"] {
            assert!(
                matches!(client.guest(name).show().await, Err(ClientError::Refused { status: 404, .. })),
                "{name}"
            );
        }
        assert_eq!(*seen.lock().expect("lock"), ["a/b", "a?b#c", "größe", "%2e%2e"]);
        for name in ["", ".", ".."] {
            assert!(matches!(client.guest(name).show().await, Err(ClientError::Misuse { .. })), "{name:?}");
        }
    }
}
