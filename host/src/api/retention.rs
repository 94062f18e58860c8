//! Housekeeping on demand.

use super::caller::Caller;
use super::error::ApiError;
use crate::manager::Manager;
use crate::time::unix_ms;
use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use doorbell_api::retention::Sweep;
use serde::Deserialize;
use std::sync::Arc;
use utoipa::IntoParams;

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct SweepParams {
    /// Only say what would be removed.
    #[serde(default)]
    dry_run: bool,
}

/// Removes what is older or larger than the configuration keeps, as the manager does by itself every hour.
#[utoipa::path(post, operation_id = "sweep", tag = "housekeeping", path = "/v1/gc", params(SweepParams),
    responses((status = 200, body = Sweep), (status = 409, description = "a backup or another sweep is under way")))]
pub(super) async fn sweep(
    State(manager): State<Arc<Manager>>,
    caller: Caller,
    params: Result<Query<SweepParams>, QueryRejection>,
) -> Result<Json<Sweep>, ApiError> {
    let Query(params) = params?;
    Ok(Json(manager.sweep(&caller.actor(), params.dry_run, unix_ms()).await?))
}
