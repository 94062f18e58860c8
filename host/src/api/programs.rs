//! Programs: uploaded as bare bytes, named by their digest.

use super::caller::Caller;
use super::cause::{CauseHeaders, Told};
use super::error::ApiError;
use crate::cause::Cause;
use crate::manager::Manager;
use axum::Json;
use axum::body::{Body, BodyDataStream};
use axum::extract::State;
use axum::http::StatusCode;
use doorbell_api::program::Program;
use doorbell_wire::ids::Digest;
use doorbell_wire::limits::PROGRAM_LEN_MAX;
use futures_util::StreamExt as _;
use std::sync::Arc;
use std::time::Duration;

/// Stores a program. It may have zero bytes; one beyond the limit is refused as soon as that shows.
#[utoipa::path(put, operation_id = "put-program", tag = "programs", path = "/v1/programs", params(CauseHeaders), request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 201, body = Program), (status = 200, body = Program, description = "it was there"),
        (status = 413), (status = 507)))]
pub(super) async fn put(
    State(manager): State<Arc<Manager>>,
    caller: Caller,
    told: Result<Told, ApiError>,
    body: Body,
) -> Result<(StatusCode, Json<Program>), ApiError> {
    let mut bytes = body.into_data_stream();
    let stored = match told {
        Ok(Told(cause)) => {
            let stored = manager.programs.put(&mut bytes).await;
            stored.map(|stored| (cause, stored)).map_err(ApiError::from)
        }
        Err(error) => Err(error),
    };
    if stored.is_err() {
        pass_over(bytes, PASS_OVER_MAX).await;
    }
    let (cause, stored) = stored?;
    answer(&manager, &caller, &cause, stored).await
}

/// Notes a program that was not there for its caller, and answers with it. That another one has it shows nowhere: its
/// bytes were read to their end and stored all the same.
pub(super) async fn answer(
    manager: &Manager,
    caller: &Caller,
    cause: &Cause,
    (digest, len, is_new): (Digest, u64, bool),
) -> Result<(StatusCode, Json<Program>), ApiError> {
    let store = caller.store_because(manager, cause);
    let is_new = match &caller.principal().tenant {
        None => is_new,
        Some(tenant) => store.hold(tenant, digest).await?,
    };
    if is_new {
        let detail = format!("sha256:{digest} of {len} bytes");
        store.audit_note(&caller.actor(), "program-stored", None, None, detail).await?;
    }
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
