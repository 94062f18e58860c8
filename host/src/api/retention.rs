//! Housekeeping on demand.

use super::caller::Caller;
use super::cause::{CauseHeaders, Heard};
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
#[utoipa::path(post, operation_id = "sweep", tag = "housekeeping", path = "/v1/gc", params(SweepParams, CauseHeaders),
    responses((status = 200, body = Sweep), (status = 409, description = "a backup or another sweep is under way")))]
pub(super) async fn sweep(
    State(manager): State<Arc<Manager>>,
    caller: Caller,
    Heard(cause): Heard,
    params: Result<Query<SweepParams>, QueryRejection>,
) -> Result<Json<Sweep>, ApiError> {
    let Query(params) = params?;
    // A look changes nothing, and needs no reason.
    let cause = if params.dry_run { cause } else { cause.demanded(&manager.config)? };
    Ok(Json(manager.sweep(&caller.actor(), &cause, params.dry_run, unix_ms()).await?))
}
