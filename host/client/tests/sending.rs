//! What the SDK sends piece by piece, uploads and input, against an HTTP server on a Unix socket that takes half
//! of a piece, loses answers and is restarted: every byte must arrive once.

#[cfg(test)]
mod server;

#[cfg(test)]
mod tests {
    use crate::server::Place;
    use axum::body::{Body, Bytes};
    use axum::extract::{DefaultBodyLimit, Query, State};
    use axum::http::StatusCode;
    use axum::response::{IntoResponse, Response};
    use axum::routing::{get, post};
    use axum::{Json, Router};
    use doorbell_client::ClientError;
    use doorbell_client::api::error::{ErrorBody, ErrorCode};
    use futures_util::stream;
    use sha2::{Digest as _, Sha256};
    use std::collections::HashMap;
    use std::io::{self, Cursor};
    use std::sync::{Arc, Mutex};
    use tokio::sync::watch;

    /// What goes wrong with one call.
    #[derive(Clone, Copy, Debug, Eq, PartialEq)]
    enum Fault {
        /// Half of the bytes are taken, and the answer breaks off.
        Half,
        /// All is done, and the answer breaks off.
        Answer,
        /// Nothing is done, because the call before is still under way.
        Busy,
        /// All is done, and no answer ever comes: the daemon is about to go.
        Hang,
    }

    /// What lasts over a restart of the daemon.
    #[derive(Default)]
    struct Disk {
        bytes: Mutex<Vec<u8>>,
        began: Mutex<bool>,
        ended: Mutex<bool>,
        faults: Mutex<Vec<Option<Fault>>>,
        hung: watch::Sender<bool>,
    }

    impl Disk {
        fn with(faults: impl IntoIterator<Item = Option<Fault>>) -> Arc<Self> {
            let mut faults: Vec<_> = faults.into_iter().collect();
            faults.reverse();
            Arc::new(Self { faults: Mutex::new(faults), ..Self::default() })
        }

        fn fault(&self) -> Option<Fault> {
            self.faults.lock().expect("lock").pop().flatten()
        }

        fn len(&self) -> usize {
            self.bytes.lock().expect("lock").len()
        }

        /// Takes what is new of these bytes.
        fn take(&self, offset: usize, bytes: &[u8]) {
            let mut all = self.bytes.lock().expect("lock");
            let known = all.len() - offset;
            all.extend_from_slice(bytes.get(known..).unwrap_or_default());
        }
    }

    async fn answer(disk: &Disk, fault: Option<Fault>, body: serde_json::Value) -> Response {
        match fault {
            None | Some(Fault::Busy) => Json(body).into_response(),
            Some(Fault::Half | Fault::Answer) => {
                let half: Vec<io::Result<Bytes>> =
                    vec![Ok(Bytes::from_static(b"{")), Err(io::Error::other("cut"))];
                Body::from_stream(stream::iter(half)).into_response()
            }
            Some(Fault::Hang) => {
                disk.hung.send_replace(true);
                std::future::pending().await
            }
        }
    }

    fn refusal(code: ErrorCode, message: &str) -> Response {
        let status = StatusCode::from_u16(code.status()).expect("a status");
        (status, Json(ErrorBody { code, message: message.to_owned() })).into_response()
    }

    fn offset(query: &HashMap<String, String>) -> usize {
        query["offset"].parse().expect("an offset")
    }

    fn uploads(disk: Arc<Disk>) -> Router {
        let append = |State(disk): State<Arc<Disk>>,
                      Query(query): Query<HashMap<String, String>>,
                      body: Bytes| async move {
            let (at, fault) = (offset(&query), disk.fault());
            if at > disk.len() || fault == Some(Fault::Busy) {
                return refusal(ErrorCode::Conflict, "it is being worked on, or goes on elsewhere");
            }
            *disk.began.lock().expect("lock") = true;
            disk.take(at, if fault == Some(Fault::Half) { &body[..body.len() / 2] } else { &body });
            answer(&disk, fault, serde_json::json!({ "len": disk.len() })).await
        };
        let show = |State(disk): State<Arc<Disk>>| async move {
            if *disk.began.lock().expect("lock") {
                return Json(serde_json::json!({ "len": disk.len() })).into_response();
            }
            refusal(ErrorCode::NotFound, "there is no such upload")
        };
        let finish = |State(disk): State<Arc<Disk>>| async move {
            let digest = hex::encode(Sha256::digest(&*disk.bytes.lock().expect("lock")));
            let (len, fault) = (disk.len(), disk.fault());
            if fault == Some(Fault::Busy) {
                return refusal(ErrorCode::Conflict, "it is being worked on");
            }
            // It is there once: a second try finds nothing.
            if !std::mem::take(&mut *disk.began.lock().expect("lock")) {
                return refusal(ErrorCode::NotFound, "there is no such upload");
            }
            answer(&disk, fault, serde_json::json!({ "digest": digest, "len": len })).await
        };
        Router::new()
            .route("/v1/uploads/{id}", get(show).put(append))
            .route("/v1/uploads/{id}/finish", post(finish))
            .layer(DefaultBodyLimit::disable())
            .with_state(disk)
    }

    fn inputs(disk: Arc<Disk>) -> Router {
        let state = |disk: &Disk| {
            let ended = *disk.ended.lock().expect("lock");
            serde_json::json!({ "len": disk.len(), "ended": ended })
        };
        let write = move |State(disk): State<Arc<Disk>>,
                          Query(query): Query<HashMap<String, String>>,
                          body: Bytes| async move {
            let (at, fault) = (offset(&query), disk.fault());
            if at > disk.len() || *disk.ended.lock().expect("lock") {
                return refusal(ErrorCode::Conflict, "it takes no more input");
            }
            disk.take(at, if fault == Some(Fault::Half) { &body[..body.len() / 2] } else { &body });
            *disk.ended.lock().expect("lock") = query["end"] == "true";
            answer(&disk, fault, state(&disk)).await
        };
        let show = move |State(disk): State<Arc<Disk>>| async move { Json(state(&disk)) };
        Router::new()
            .route("/v1/requests/{id}/input", get(show).put(write))
            .layer(DefaultBodyLimit::disable())
            .with_state(disk)
    }

    /// No two pieces of it are the same.
    fn bytes(len: usize) -> Vec<u8> {
        (0..len).map(|at| u8::try_from((at / 4096 + at) % 251).expect("a byte")).collect()
    }

    const THREE_PIECES: usize = 9 * 1024 * 1024 + 7;

    async fn upload(disk: &Arc<Disk>, what: &[u8]) -> (Result<u64, ClientError>, Vec<u64>) {
        let place = Place::new();
        let _server = place.serve(uploads(Arc::clone(disk)));
        let mut heard = Vec::new();
        let sent = place.client().upload(Cursor::new(what.to_vec()), |len| heard.push(len)).await;
        (sent.map(|program| program.len), heard)
    }

    #[tokio::test]
    async fn an_upload_arrives_once_whatever_breaks() {
        for faults in [
            vec![],
            vec![Some(Fault::Half), Some(Fault::Half)],
            vec![Some(Fault::Answer)],
            vec![None, Some(Fault::Half), None, Some(Fault::Answer)],
            vec![None, None, None, Some(Fault::Answer)],
            vec![Some(Fault::Half), Some(Fault::Busy), Some(Fault::Busy)],
            vec![None, None, None, Some(Fault::Answer), Some(Fault::Busy)],
        ] {
            let (disk, what) = (Disk::with(faults.clone()), bytes(THREE_PIECES));
            let (sent, heard) = upload(&disk, &what).await;
            assert_eq!(sent.expect("uploaded"), what.len() as u64, "{faults:?}");
            assert!(*disk.bytes.lock().expect("lock") == what, "{faults:?}: other bytes");
            assert!(heard.is_sorted() && heard.last() == Some(&(what.len() as u64)), "{heard:?}");
        }
        for faults in [[None, None], [Some(Fault::Answer), None], [None, Some(Fault::Answer)]] {
            let (sent, _) = upload(&Disk::with(faults), b"").await;
            assert_eq!(sent.expect("uploaded"), 0, "{faults:?}");
        }
        let (sent, _) = upload(&Disk::with([Some(Fault::Busy)]), b"abc").await;
        assert!(
            matches!(sent, Err(ClientError::Refused { status: 409, .. })),
            "nothing broke before: {sent:?}"
        );
    }

    #[tokio::test]
    async fn an_upload_goes_on_with_a_daemon_that_was_restarted() {
        let (place, disk, what) = (Place::new(), Disk::with([None, Some(Fault::Hang)]), bytes(THREE_PIECES));
        let first = place.serve(uploads(Arc::clone(&disk)));
        let (client, mut hung) = (place.client(), disk.hung.subscribe());
        let restart = async {
            hung.wait_for(|hung| *hung).await.expect("a piece without an answer");
            drop(first);
            place.serve(uploads(Arc::clone(&disk)))
        };
        let (sent, _second) = tokio::join!(client.upload(Cursor::new(what.clone()), |_| {}), restart);
        assert_eq!(sent.expect("uploaded").len, what.len() as u64);
        assert!(*disk.bytes.lock().expect("lock") == what, "other bytes");
    }

    #[tokio::test]
    async fn an_upload_that_is_stored_as_something_else_is_an_error() {
        let place = Place::new();
        let append = |body: Bytes| async move { Json(serde_json::json!({ "len": body.len() })) };
        let finish = || async { Json(serde_json::json!({ "digest": "ab".repeat(32), "len": 3 })) };
        let router = Router::new()
            .route("/v1/uploads/{id}", axum::routing::put(append))
            .route("/v1/uploads/{id}/finish", post(finish));
        let _server = place.serve(router);
        let error = place.client().upload(Cursor::new(b"abc"), |_| {}).await.expect_err("another digest");
        assert!(matches!(error, ClientError::Protocol { .. }), "{error:?}");
    }

    #[tokio::test]
    async fn a_manager_that_will_not_take_an_upload_is_heard() {
        let place = Place::new();
        let full = || async { refusal(ErrorCode::NoSpace, "the disk is full") };
        let _server = place.serve(Router::new().route("/v1/uploads/{id}", axum::routing::put(full)));
        let error = place.client().upload(Cursor::new(b"abc"), |_| {}).await.expect_err("refused");
        assert!(matches!(error, ClientError::Refused { status: 507, .. }), "{error:?}");
        let conflict = || async { refusal(ErrorCode::Conflict, "no") };
        let show = || async { Json(serde_json::json!({ "len": 0 })) };
        let place = Place::new();
        let _server = place.serve(Router::new().route("/v1/uploads/{id}", get(show).put(conflict)));
        let error = place.client().upload(Cursor::new(b"abc"), |_| {}).await.expect_err("refused");
        assert!(matches!(error, ClientError::Refused { status: 409, .. }), "{error:?}");
    }

    #[tokio::test]
    async fn an_input_arrives_once_whatever_breaks() {
        let faults =
            [Some(Fault::Half), Some(Fault::Answer), None, Some(Fault::Half), None, Some(Fault::Answer)];
        let (place, disk) = (Place::new(), Disk::with(faults));
        let _server = place.serve(inputs(Arc::clone(&disk)));
        let mut input = place.client().input("ab", 0);
        for piece in [&b"one\0"[..], b"two\xff", b"three", b""] {
            input.write(Bytes::copy_from_slice(piece)).await.expect("written");
        }
        assert_eq!(input.offset(), 13);
        input.end().await.expect("ended");
        assert_eq!(*disk.bytes.lock().expect("lock"), b"one\0two\xffthree");
        assert!(*disk.ended.lock().expect("lock"));
    }

    #[tokio::test]
    async fn an_input_that_is_written_again_is_passed_over_as_far_as_it_is_known() {
        let (place, disk) = (Place::new(), Disk::with([]));
        let _server = place.serve(inputs(Arc::clone(&disk)));
        place.client().input("ab", 0).write(Bytes::from_static(b"0123456")).await.expect("written");
        let mut again = place.client().input("ab", 0);
        for piece in ["012", "345", "6789"] {
            again.write(Bytes::from_static(piece.as_bytes())).await.expect("written");
        }
        again.end().await.expect("ended");
        assert_eq!(*disk.bytes.lock().expect("lock"), b"0123456789");
        let error = place.client().input("ab", 10).write(Bytes::from_static(b"x")).await.expect_err("over");
        assert!(matches!(error, ClientError::Refused { status: 409, .. }), "{error:?}");
        assert!(place.client().input("ab", 3).end().await.is_err(), "an end elsewhere is not this end");
    }

    #[tokio::test]
    async fn two_that_write_in_turn_lose_nothing_when_each_goes_to_the_end() {
        let (place, disk) = (Place::new(), Disk::with([]));
        let _server = place.serve(inputs(Arc::clone(&disk)));
        let (mut one, mut other) = (place.client().input("ab", 0), place.client().input("ab", 0));
        for _ in 0..2 {
            one.to_end().await.expect("the end");
            one.write(Bytes::from_static(b"one ")).await.expect("written");
            other.to_end().await.expect("the end");
            other.write(Bytes::from_static(b"other ")).await.expect("written");
        }
        assert_eq!(*disk.bytes.lock().expect("lock"), b"one other one other ");
    }

    #[tokio::test]
    async fn an_input_goes_on_with_a_daemon_that_was_restarted() {
        let (place, disk) = (Place::new(), Disk::with([None, Some(Fault::Hang)]));
        let first = place.serve(inputs(Arc::clone(&disk)));
        let (mut input, mut hung) = (place.client().input("ab", 0), disk.hung.subscribe());
        input.write(Bytes::from_static(b"before ")).await.expect("written");
        let restart = async {
            hung.wait_for(|hung| *hung).await.expect("a piece without an answer");
            drop(first);
            place.serve(inputs(Arc::clone(&disk)))
        };
        let (written, _second) = tokio::join!(input.write(Bytes::from_static(b"after")), restart);
        written.expect("written");
        input.end().await.expect("ended");
        assert_eq!(*disk.bytes.lock().expect("lock"), b"before after");
    }
}
