//! The audit trail: its records, and the check of the whole chain.

use super::caller::Caller;
use super::error::ApiError;
use crate::manager::Manager;
use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use doorbell_api::audit::{AuditCheck, AuditRecord, SignedHead};
use serde::Deserialize;
use std::sync::Arc;
use utoipa::IntoParams;

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct AuditParams {
    /// Only records with a higher number.
    #[serde(default)]
    after: u64,
    /// How many, 1 to 1000; 100 when absent.
    limit: Option<u32>,
}

/// Records, oldest first: of a tenant those about its guests and its own calls, without the hashes that chain them to
/// others'.
#[utoipa::path(get, operation_id = "list-audit-records", tag = "audit", path = "/v1/audit", params(AuditParams), responses((status = 200, body = [AuditRecord])))]
pub(super) async fn list(
    State(manager): State<Arc<Manager>>,
    caller: Caller,
    params: Result<Query<AuditParams>, QueryRejection>,
) -> Result<Json<Vec<AuditRecord>>, ApiError> {
    let Query(params) = params?;
    let limit = params.limit.unwrap_or(LIST_DEFAULT);
    if !(1..=LIST_MAX).contains(&limit) {
        return Err(ApiError::invalid(format!("limit {limit} is not within 1 to {LIST_MAX}")));
    }
    Ok(Json(caller.store(&manager).audit_records(params.after, limit).await?))
}

/// Checks every record against the one before.
#[utoipa::path(get, operation_id = "check-audit-trail", tag = "audit", path = "/v1/audit/check", responses((status = 200, body = AuditCheck)))]
pub(super) async fn check(State(manager): State<Arc<Manager>>) -> Result<Json<AuditCheck>, ApiError> {
    Ok(Json(manager.store.audit_check().await?))
}

/// Where the trail ends now, signed with the manager's key: keep it elsewhere.
#[utoipa::path(get, operation_id = "sign-audit-head", tag = "audit", path = "/v1/audit/head", responses((status = 200, body = SignedHead)))]
pub(super) async fn head(State(manager): State<Arc<Manager>>) -> Result<Json<SignedHead>, ApiError> {
    let head = manager.store.audit_head().await?;
    Ok(Json(manager.signer.sign(head)))
}

const LIST_DEFAULT: u32 = 100;
const LIST_MAX: u32 = 1000;
