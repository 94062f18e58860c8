//! What the daemon says of itself.

use super::caller::Caller;
use super::error::ApiError;
use crate::access::Scope;
use crate::manager::Manager;
use axum::Json;
use axum::extract::State;
use doorbell_api::info::Info;
use doorbell_wire::limits::{VERSION_CURRENT, VERSION_MIN};
use std::sync::Arc;

/// The daemon: version, protocol, where it listens. A tenant is told of its own guests, and nothing of the host.
#[utoipa::path(get, operation_id = "info", tag = "info", path = "/v1/info", responses((status = 200, body = Info)))]
pub(super) async fn info(
    State(manager): State<Arc<Manager>>,
    caller: Caller,
) -> Result<Json<Info>, ApiError> {
    let (store, scope) = (caller.store(&manager), caller.scope());
    let connected = match &scope {
        Scope::All => manager.registry.count() as u64,
        Scope::Tenant(_) => {
            let guests = store.guests().await?;
            guests.iter().filter(|guest| manager.registry.bell(guest.id).is_some()).count() as u64
        }
    };
    let of_the_host = |text: String| if scope == Scope::All { text } else { String::new() };
    Ok(Json(Info {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        protocol_min: VERSION_MIN,
        protocol_max: VERSION_CURRENT,
        vsock: of_the_host(manager.vsock.clone()),
        state_dir: of_the_host(manager.config.state_dir.display().to_string()),
        key: manager.signer.public(),
        guests: store.guest_count().await?,
        connected,
        started_at_ms: manager.started_at_ms,
        disk: manager.store.trouble().now(),
    }))
}
