//! Uploads that go on after a break; a finished one is a payload by its digest.

use super::caller::Caller;
use super::cause::{CauseHeaders, Told};
use super::error::ApiError;
use super::programs::{PASS_OVER_MAX, answer, pass_over};
use crate::manager::Manager;
use crate::store::StoreError;
use crate::uploads::UploadId;
use axum::Json;
use axum::body::{Body, BodyDataStream};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use doorbell_api::program::{Program, Upload};
use futures_util::StreamExt as _;
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;
use utoipa::IntoParams;

/// How much of an upload the manager has.
#[utoipa::path(get, operation_id = "show-upload", tag = "programs", path = "/v1/uploads/{id}", params(("id" = String, Path, description = "32 hexadecimal digits, chosen by the client")),
    responses((status = 200, body = Upload), (status = 404)))]
pub(super) async fn show(
    State(manager): State<Arc<Manager>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Upload>, ApiError> {
    let len = manager.uploads.len(UploadId::parse(&caller.scope(), &id)?).await?;
    Ok(Json(Upload { len }))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct UploadParams {
    /// Where the bytes belong; at most what the manager has. The first call begins at 0.
    offset: u64,
}

/// Adds bytes to an upload, as they arrive. Bytes that the manager has are passed over.
#[utoipa::path(put, operation_id = "put-upload", tag = "programs", path = "/v1/uploads/{id}", params(("id" = String, Path, description = "32 hexadecimal digits, chosen by the client"), UploadParams), request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 200, body = Upload), (status = 409), (status = 413), (status = 507)))]
pub(super) async fn put(
    State(manager): State<Arc<Manager>>,
    caller: Caller,
    Path(id): Path<String>,
    params: Result<Query<UploadParams>, QueryRejection>,
    body: Body,
) -> Result<Json<Upload>, ApiError> {
    let (id, Query(params)) = (UploadId::parse(&caller.scope(), &id)?, params?);
    let mut bytes = body.into_data_stream();
    let taken = take(&manager, id, params.offset, &mut bytes).await;
    if taken.is_err() {
        pass_over(bytes, PASS_OVER_MAX).await;
    }
    Ok(Json(Upload { len: taken? }))
}

/// Ends an upload: its bytes are a payload from here on.
#[utoipa::path(post, operation_id = "finish-upload", tag = "programs", path = "/v1/uploads/{id}/finish", params(("id" = String, Path, description = "32 hexadecimal digits, chosen by the client"), CauseHeaders),
    responses((status = 201, body = Program), (status = 200, body = Program, description = "it was there"),
        (status = 404), (status = 409), (status = 507)))]
pub(super) async fn finish(
    State(manager): State<Arc<Manager>>,
    caller: Caller,
    Told(cause): Told,
    Path(id): Path<String>,
) -> Result<(StatusCode, Json<Program>), ApiError> {
    let id = UploadId::parse(&caller.scope(), &id)?;
    let finished = manager.uploads.finish(&manager.programs, id).await?;
    answer(&manager, &caller, &cause, finished).await
}

async fn take(
    manager: &Manager,
    id: UploadId,
    offset: u64,
    bytes: &mut BodyDataStream,
) -> Result<u64, StoreError> {
    // Also without a byte: an upload of nothing is one.
    let mut len = manager.uploads.append(id, offset, Vec::new()).await?;
    let mut at = offset;
    while let Some(piece) = tokio::time::timeout(PIECE_MAX, bytes.next()).await.map_err(|_| stalled())? {
        let piece = piece.map_err(|error| {
            StoreError::invalid(format!("the upload broke off at {len} bytes: {error}; go on from there"))
        })?;
        let count = piece.len() as u64;
        len = manager.uploads.append(id, at, piece).await?;
        at = at.saturating_add(count);
    }
    Ok(len)
}

fn stalled() -> StoreError {
    StoreError::invalid(format!(
        "no byte of the upload came for {} s; go on where it is",
        PIECE_MAX.as_secs()
    ))
}

const PIECE_MAX: Duration = Duration::from_secs(60);
