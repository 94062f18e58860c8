//! What a program printed: any part, any number of times, live if wanted.

use super::caller::Caller;
use super::error::ApiError;
use crate::clients::Attached;
use crate::manager::Manager;
use crate::output::Held;
use crate::store::{RequestRow, StoreError};
use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use doorbell_api::access::Role;
use doorbell_wire::ids::RequestId;
use doorbell_wire::message::Stream as Which;
use futures_util::stream;
use serde::Deserialize;
use std::io;
use std::sync::Arc;
use tokio::sync::watch;
use utoipa::IntoParams;

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct OutputParams {
    /// `stdout`, which is the default, or `stderr`.
    stream: Option<String>,
    /// The first byte wanted.
    #[serde(default)]
    offset: u64,
    /// Go on as output comes, until nothing follows.
    #[serde(default)]
    follow: bool,
    /// Count as a client of the request as long as this is read: one with `on_disconnect: kill` is cancelled
    /// when its last one is gone.
    #[serde(default)]
    attach: bool,
}

/// The bytes of one stream from an offset on.
#[utoipa::path(get, operation_id = "read-output", tag = "output", path = "/v1/requests/{id}/output", params(("id" = String, Path,), OutputParams),
    responses((status = 200, content_type = "application/octet-stream", body = Vec<u8>), (status = 400), (status = 404),
        (status = 410, description = "retention has removed it")))]
pub(super) async fn read(
    State(manager): State<Arc<Manager>>,
    caller: Caller,
    Path(id): Path<String>,
    params: Result<Query<OutputParams>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(params) = params?;
    let which = match params.stream.as_deref() {
        None | Some("stdout") => Which::Stdout,
        Some("stderr") => Which::Stderr,
        Some(other) => return Err(ApiError::invalid(format!("stream {other:?} is not stdout or stderr"))),
    };
    if params.attach {
        // When the last one goes, the request may be cancelled.
        caller.check_role(Role::Operator, || "attach to a request".to_owned())?;
    }
    let RequestRow { id: request, .. } = caller.store(&manager).find_request(&id).await?;
    // Held before the row is looked at: the output is either gone by its word, or stays until we are done.
    let held = manager.outputs.hold(request);
    let row = manager.store.request(request).await?;
    if let Some(at) = row.output_removed_at_ms {
        return Err(StoreError::output_gone(request, at).into());
    }
    let attached = if params.attach { manager.clients.attach(request) } else { None };
    let moved = manager.events.follow(request);
    let (offset, follow) = (params.offset, params.follow);
    let reader = Reader { manager, request, which, offset, follow, moved, _attached: attached, _held: held };
    let body = Body::from_stream(stream::try_unfold(reader, Reader::next));
    Ok(([(CONTENT_TYPE, "application/octet-stream")], body).into_response())
}

struct Reader {
    manager: Arc<Manager>,
    request: RequestId,
    which: Which,
    offset: u64,
    follow: bool,
    moved: watch::Receiver<()>,
    // Both gone with the stream, however that ends.
    _attached: Option<Attached>,
    _held: Held,
}

impl Reader {
    async fn next(mut self) -> io::Result<Option<(Bytes, Self)>> {
        loop {
            // The state is read before the bytes: a final state then means that no later bytes come.
            let is_final = !self.follow || self.is_final().await?;
            let bytes = self.manager.outputs.read(self.request, self.which, self.offset, READ_LEN).await?;
            if !bytes.is_empty() {
                self.offset = self.offset.saturating_add(bytes.len() as u64);
                return Ok(Some((bytes.into(), self)));
            }
            if is_final || self.moved.changed().await.is_err() {
                return Ok(None);
            }
        }
    }

    async fn is_final(&self) -> io::Result<bool> {
        let row = self.manager.store.request(self.request).await.map_err(io::Error::other)?;
        Ok(row.state.is_final())
    }
}

const READ_LEN: usize = 64 * 1024;
