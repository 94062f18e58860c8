//! Where the time went: the stations of one request, and histograms over all.

use super::caller::Caller;
use super::error::ApiError;
use crate::manager::Manager;
use axum::Json;
use axum::extract::{Path, State};
use doorbell_api::trace::{Stations, Trace};
use std::sync::Arc;

/// The stations that a request has passed, in the order of their times.
#[utoipa::path(get, operation_id = "trace-request", tag = "traces", path = "/v1/requests/{id}/trace", params(("id" = String, Path,)),
    responses((status = 200, body = Trace), (status = 404), (status = 409)))]
pub(super) async fn show(
    State(manager): State<Arc<Manager>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Trace>, ApiError> {
    let id = caller.store(&manager).find_request(&id).await?.id;
    Ok(Json(manager.store.trace(id).await?))
}

/// How long requests took to each station, since the manager started.
#[utoipa::path(get, operation_id = "show-stations", tag = "traces", path = "/v1/stations", responses((status = 200, body = Stations)))]
pub(super) async fn stations(State(manager): State<Arc<Manager>>, caller: Caller) -> Json<Stations> {
    std::future::ready(()).await;
    Json(manager.histograms.show(&caller.scope()))
}
