//! What a program reads, as its client writes it, and the size of its terminal.

use super::caller::Caller;
use super::convert;
use super::error::ApiError;
use super::programs::pass_over;
use crate::manager::Manager;
use crate::store::{RequestRow, StoreError};
use axum::Json;
use axum::body::{Body, BodyDataStream};
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use doorbell_api::request::{InputState, Window};
use doorbell_wire::message::action::Input;
use futures_util::StreamExt as _;
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use utoipa::IntoParams;

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct InputParams {
    /// Where the bytes belong; at most what the manager has.
    offset: u64,
    /// Whether the body's end is the input's.
    #[serde(default)]
    end: bool,
}

/// Adds bytes to a request's input, as they arrive. Bytes that the manager has are passed over.
#[utoipa::path(put, operation_id = "put-input", tag = "input", path = "/v1/requests/{id}/input", params(("id" = String, Path,), InputParams), request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 200, body = InputState), (status = 404), (status = 409), (status = 413), (status = 507)))]
pub(super) async fn put(
    State(manager): State<Arc<Manager>>,
    caller: Caller,
    Path(id): Path<String>,
    params: Result<Query<InputParams>, QueryRejection>,
    body: Body,
) -> Result<Json<InputState>, ApiError> {
    let Query(params) = params?;
    let row = reader(&manager, &caller, &id).await?;
    caller.check_action(row.shown.name())?;
    let mut bytes = body.into_data_stream();
    let taken = take(&manager, &row, &params, &mut bytes).await;
    if taken.is_err() {
        pass_over(bytes, PASS_OVER_MAX).await;
    }
    Ok(Json(taken?))
}

/// How much of a request's input the manager has.
#[utoipa::path(get, operation_id = "show-input", tag = "input", path = "/v1/requests/{id}/input", params(("id" = String, Path,)),
    responses((status = 200, body = InputState), (status = 404), (status = 409)))]
pub(super) async fn show(
    State(manager): State<Arc<Manager>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<InputState>, ApiError> {
    let row = reader(&manager, &caller, &id).await?;
    Ok(Json(manager.inputs.state(row.id).await?))
}

/// Tells the size of a request's terminal: the last one counts.
#[utoipa::path(put, operation_id = "resize-terminal", tag = "input", path = "/v1/requests/{id}/window", params(("id" = String, Path,)), request_body = Window,
    responses((status = 204), (status = 400), (status = 404), (status = 409)))]
pub(super) async fn resize(
    State(manager): State<Arc<Manager>>,
    caller: Caller,
    Path(id): Path<String>,
    body: Result<Json<Window>, JsonRejection>,
) -> Result<StatusCode, ApiError> {
    let Json(asked) = body?;
    let window = convert::window(asked)?;
    let row = reader(&manager, &caller, &id).await?;
    caller.check_action(row.shown.name())?;
    if !matches!(row.action.input(), Input::Terminal(_)) {
        return Err(StoreError::conflict(format!("request {} has no terminal", row.id)).into());
    }
    manager.inputs.set_window(row.id, window);
    // One that ended meanwhile leaves nothing behind.
    if manager.store.request(row.id).await?.state.is_final() {
        manager.inputs.remove(row.id).await;
    }
    touch(&manager, &row);
    Ok(StatusCode::NO_CONTENT)
}

/// A client that waits for its own input before it sends more is to read the answer soon.
const PASS_OVER_MAX: Duration = Duration::from_millis(500);

/// A request that takes input and is not over.
async fn reader(manager: &Manager, caller: &Caller, id: &str) -> Result<RequestRow, StoreError> {
    let row = caller.store(manager).find_request(id).await?;
    if row.action.input() == Input::None {
        return Err(StoreError::conflict(format!("request {} takes no input", row.id)));
    }
    if row.state.is_final() { Err(over(&row)) } else { Ok(row) }
}

async fn take(
    manager: &Manager,
    row: &RequestRow,
    params: &InputParams,
    bytes: &mut BodyDataStream,
) -> Result<InputState, StoreError> {
    let mut moved = manager.events.follow(row.id);
    let begun = manager.inputs.begin(row.id).await?;
    // Behind the file's making: a request that ends now takes the file with it, or it is seen here.
    if manager.store.request(row.id).await?.state.is_final() {
        manager.inputs.remove(row.id).await;
        return Err(over(row));
    }
    if params.offset > begun.len {
        manager.inputs.append(row.id, params.offset, Vec::new()).await?;
    }
    let mut at = params.offset;
    while let Some(piece) = next(manager, row, bytes, &mut moved).await? {
        let count = piece.len() as u64;
        manager.inputs.append(row.id, at, piece).await?;
        at = at.saturating_add(count);
        touch(manager, row);
    }
    if params.end {
        let ended = manager.inputs.end(row.id).await;
        touch(manager, row);
        return ended;
    }
    manager.inputs.state(row.id).await
}

/// The next piece; a client may be silent as long as its request runs, and no longer.
async fn next(
    manager: &Manager,
    row: &RequestRow,
    bytes: &mut BodyDataStream,
    moved: &mut watch::Receiver<()>,
) -> Result<Option<axum::body::Bytes>, StoreError> {
    loop {
        tokio::select! {
            piece = bytes.next() => {
                return piece.transpose().map_err(|error| {
                    StoreError::invalid(format!("the input broke off: {error}; go on from what GET says"))
                });
            }
            _ = moved.changed() => {
                if manager.store.request(row.id).await?.state.is_final() {
                    return Err(over(row));
                }
            }
        }
    }
}

fn over(row: &RequestRow) -> StoreError {
    StoreError::conflict(format!("request {} is over and reads no more", row.id))
}

fn touch(manager: &Manager, row: &RequestRow) {
    if let Some(bell) = manager.registry.bell(row.guest_id) {
        bell.touch(row.id);
    }
}
