//! What the daemon says of itself.

use super::error::ApiError;
use crate::manager::Manager;
use axum::Json;
use axum::extract::State;
use doorbell_api::info::Info;
use doorbell_wire::limits::{VERSION_CURRENT, VERSION_MIN};
use std::sync::Arc;

/// The daemon: version, protocol, where it listens.
#[utoipa::path(get, operation_id = "info", tag = "info", path = "/v1/info", responses((status = 200, body = Info)))]
pub(super) async fn info(State(manager): State<Arc<Manager>>) -> Result<Json<Info>, ApiError> {
    Ok(Json(Info {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        protocol_min: VERSION_MIN,
        protocol_max: VERSION_CURRENT,
        vsock: manager.vsock.clone(),
        state_dir: manager.config.state_dir.display().to_string(),
        guests: manager.store.guest_count().await?,
        connected: manager.registry.count() as u64,
        started_at_ms: manager.started_at_ms,
        disk: manager.store.trouble().now(),
    }))
}
