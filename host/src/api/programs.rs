//! Programs: uploaded as bare bytes, named by their digest.

use super::error::ApiError;
use crate::manager::Manager;
use axum::Json;
use axum::body::{Body, BodyDataStream};
use axum::extract::State;
use axum::http::StatusCode;
use doorbell_api::program::Program;
use doorbell_wire::limits::PROGRAM_LEN_MAX;
use futures_util::StreamExt as _;
use std::sync::Arc;
use std::time::Duration;

/// Stores a program. It may have zero bytes; one beyond the limit is refused as soon as that shows.
#[utoipa::path(put, operation_id = "put-program", tag = "programs", path = "/v1/programs", request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 201, body = Program), (status = 200, body = Program, description = "it was there"),
        (status = 413), (status = 507)))]
pub(super) async fn put(
    State(manager): State<Arc<Manager>>,
    body: Body,
) -> Result<(StatusCode, Json<Program>), ApiError> {
    let mut bytes = body.into_data_stream();
    let stored = manager.programs.put(&mut bytes).await;
    if stored.is_err() {
        pass_over(bytes, PASS_OVER_MAX).await;
    }
    let (digest, len, is_new) = stored?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(Program { digest: digest.to_string(), len })))
}

/// Reads what the caller still sends, within bounds: one that is cut off while it sends never reads the answer.
pub(super) async fn pass_over(mut bytes: BodyDataStream, patience: Duration) {
    let mut left = PROGRAM_LEN_MAX;
    let rest = async {
        while let Some(Ok(piece)) = bytes.next().await {
            left = left.saturating_sub(piece.len() as u64);
            if left == 0 {
                return;
            }
        }
    };
    // Whoever sends more, or more slowly, may be cut off.
    let _ = tokio::time::timeout(patience, rest).await;
}

pub(super) const PASS_OVER_MAX: Duration = Duration::from_secs(10);
