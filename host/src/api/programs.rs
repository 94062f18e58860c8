//! Programs: uploaded as bare bytes, named by their digest.

use super::error::ApiError;
use crate::daemon::Manager;
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use doorbell_api::program::Program;
use std::sync::Arc;

/// Stores a program. It may have zero bytes; one beyond the limit is refused as soon as that shows.
#[utoipa::path(put, path = "/v1/programs", request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 201, body = Program), (status = 200, body = Program, description = "it was there"),
        (status = 413), (status = 507)))]
pub(super) async fn put(
    State(manager): State<Arc<Manager>>,
    body: Body,
) -> Result<(StatusCode, Json<Program>), ApiError> {
    let (digest, len, is_new) = manager.programs.put(body.into_data_stream()).await?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(Program { digest: digest.to_string(), len })))
}
