//! Requests: accept, list, show, wait, cancel, and the word of a second person.

use super::caller::Caller;
use super::cause::{CauseHeaders, Heard, Told};
use super::convert;
use super::error::ApiError;
use crate::access::Scope;
use crate::manager::Manager;
use crate::request::Admission;
use crate::store::RequestFilter;
use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use doorbell_api::request::{NewRequest, Request, RequestList};
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use utoipa::IntoParams;

/// Accepts a request: it is on disk before the answer, and the guest is rung after.
#[utoipa::path(post, operation_id = "accept-request", tag = "requests", path = "/v1/guests/{name}/requests", params(("name" = String, Path,), CauseHeaders), request_body = NewRequest,
    responses((status = 201, body = Request), (status = 200, body = Request, description = "accepted before"),
        (status = 400), (status = 404), (status = 409),
        (status = 410, description = "accepted before, over, and removed by retention: it is not run again"), (status = 507)))]
pub(super) async fn accept(
    State(manager): State<Arc<Manager>>,
    caller: Caller,
    Heard(cause): Heard,
    Path(name): Path<String>,
    body: Result<Json<NewRequest>, JsonRejection>,
) -> Result<(StatusCode, Json<Request>), ApiError> {
    let Json(new) = body?;
    caller.check_action(new.action.name())?;
    let name = name.parse()?;
    // Before what the request names is looked at: a guest that is not there says nothing of it.
    if caller.scope() != Scope::All {
        caller.store(&manager).guest(&name).await?;
    }
    let request = convert::request(&manager, &caller.scope(), new, cause).await?;
    let store = caller.store(&manager);
    let (admission, row) = manager.accept(&store, &caller.actor(), &name, request).await?;
    let status = match admission {
        Admission::Accepted => StatusCode::CREATED,
        Admission::Unchanged => StatusCode::OK,
    };
    Ok((status, Json(caller.shown(&manager, &row))))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ListParams {
    /// Only requests of this guest.
    guest: Option<String>,
    /// Only requests without a final state.
    #[serde(default)]
    open: bool,
    /// How many, 1 to 1000; 100 when absent.
    limit: Option<u32>,
}

/// Requests, newest first.
#[utoipa::path(get, operation_id = "list-requests", tag = "requests", path = "/v1/requests", params(ListParams), responses((status = 200, body = RequestList)))]
pub(super) async fn list(
    State(manager): State<Arc<Manager>>,
    caller: Caller,
    params: Result<Query<ListParams>, QueryRejection>,
) -> Result<Json<RequestList>, ApiError> {
    let Query(params) = params?;
    let limit = params.limit.unwrap_or(LIST_DEFAULT);
    if !(1..=LIST_MAX).contains(&limit) {
        return Err(ApiError::invalid(format!("limit {limit} is not within 1 to {LIST_MAX}")));
    }
    let guest = params.guest.map(|name| name.parse()).transpose()?;
    if let Some(name) = &guest {
        caller.store(&manager).guest(name).await?;
    }
    let (rows, more) =
        caller.store(&manager).requests(RequestFilter { guest, open: params.open, limit }).await?;
    Ok(Json(RequestList { requests: rows.iter().map(|row| caller.shown(&manager, row)).collect(), more }))
}

/// One request, by its id or a unique beginning of it.
#[utoipa::path(get, operation_id = "show-request", tag = "requests", path = "/v1/requests/{id}", params(("id" = String, Path,)),
    responses((status = 200, body = Request), (status = 404), (status = 409)))]
pub(super) async fn show(
    State(manager): State<Arc<Manager>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Request>, ApiError> {
    let row = caller.store(&manager).find_request(&id).await?;
    Ok(Json(caller.shown(&manager, &row)))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct WaitParams {
    /// Milliseconds to wait at most, up to 300 000; 30 000 when absent.
    timeout_ms: Option<u64>,
}

/// One request as soon as nothing follows for it, or as it stands when the time is over.
#[utoipa::path(get, operation_id = "wait-for-request", tag = "requests", path = "/v1/requests/{id}/wait", params(("id" = String, Path,), WaitParams),
    responses((status = 200, body = Request), (status = 404), (status = 409)))]
pub(super) async fn wait(
    State(manager): State<Arc<Manager>>,
    caller: Caller,
    Path(id): Path<String>,
    params: Result<Query<WaitParams>, QueryRejection>,
) -> Result<Json<Request>, ApiError> {
    let Query(params) = params?;
    let wait = Duration::from_millis(params.timeout_ms.unwrap_or(WAIT_DEFAULT_MS).min(WAIT_MAX_MS));
    let end = Instant::now() + wait;
    let id = caller.store(&manager).find_request(&id).await?.id;
    // Subscribed before the store is read, so that no change falls between.
    let mut moved = manager.events.follow(id);
    loop {
        let row = manager.store.request(id).await?;
        if row.state.is_final() || timeout_at(end, moved.changed()).await.is_err() {
            return Ok(Json(caller.shown(&manager, &row)));
        }
    }
}

/// Ends a request that has not ended. Asking twice changes nothing.
#[utoipa::path(post, operation_id = "cancel-request", tag = "requests", path = "/v1/requests/{id}/cancel", params(("id" = String, Path,), CauseHeaders),
    responses((status = 200, body = Request), (status = 404), (status = 409)))]
pub(super) async fn cancel(
    State(manager): State<Arc<Manager>>,
    caller: Caller,
    Told(cause): Told,
    Path(id): Path<String>,
) -> Result<Json<Request>, ApiError> {
    let row = caller.store(&manager).find_request(&id).await?;
    caller.check_action(row.shown.name())?;
    let row = manager.cancel_because(&cause, &caller.actor(), row.id).await?;
    Ok(Json(caller.shown(&manager, &row)))
}

/// Lets a request go on that waits for a second person. Whoever asked for it is refused.
#[utoipa::path(post, operation_id = "approve-request", tag = "requests", path = "/v1/requests/{id}/approve", params(("id" = String, Path,), CauseHeaders),
    responses((status = 200, body = Request), (status = 404),
        (status = 409, description = "it does not wait for that, or the caller is the person who asked")))]
pub(super) async fn approve(
    state: State<Arc<Manager>>,
    caller: Caller,
    told: Told,
    id: Path<String>,
) -> Result<Json<Request>, ApiError> {
    decide(state, &caller, told, id, true).await
}

/// Refuses a request that waits for a second person: it is cancelled. Whoever asked for it cancels it instead.
#[utoipa::path(post, operation_id = "refuse-request", tag = "requests", path = "/v1/requests/{id}/refuse", params(("id" = String, Path,), CauseHeaders),
    responses((status = 200, body = Request), (status = 404),
        (status = 409, description = "it does not wait for that, or the caller is the person who asked")))]
pub(super) async fn refuse(
    state: State<Arc<Manager>>,
    caller: Caller,
    told: Told,
    id: Path<String>,
) -> Result<Json<Request>, ApiError> {
    decide(state, &caller, told, id, false).await
}

async fn decide(
    State(manager): State<Arc<Manager>>,
    caller: &Caller,
    Told(cause): Told,
    Path(id): Path<String>,
    is_approved: bool,
) -> Result<Json<Request>, ApiError> {
    let row = caller.store(&manager).find_request(&id).await?;
    caller.check_action(row.shown.name())?;
    let row = manager.decided(&cause, &caller.actor(), row.id, is_approved).await?;
    Ok(Json(caller.shown(&manager, &row)))
}

const LIST_DEFAULT: u32 = 100;
const LIST_MAX: u32 = 1000;
const WAIT_DEFAULT_MS: u64 = 30_000;
const WAIT_MAX_MS: u64 = 300_000;
