//! The manager's HTTP API on a Unix socket, and over TLS where that is configured: routes, and what each trusts.
//!
//! Called by the SDK, the command line and whoever speaks HTTP. Who calls is told by the kernel, a token
//! or a certificate, and decided in one place, the gate; what is called with is checked by turning it into types of the channel before anything is
//! done. The OpenAPI document is made from the handlers.

mod access;
mod audit;
mod backup;
mod caller;
mod can;
mod cause;
pub(crate) mod convert;
mod error;
mod events;
mod gate;
mod guests;
mod info;
mod input;
mod needs;
mod output;
mod peer;
mod places;
mod programs;
mod queries;
mod refused;
mod requests;
mod retention;
pub mod socket;
#[cfg(test)]
mod tests;
pub mod tls;
mod trace;
mod uploads;

use crate::manager::Manager;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use peer::Peer;
use std::sync::Arc;
use tokio::net::UnixListener;
use tokio::sync::watch;
use tracing::error;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

#[derive(OpenApi)]
#[openapi(info(
    title = "Doorbell manager",
    description = "Rings guests over AF_VSOCK. Served on a Unix socket, where the caller is known by its peer credentials, and over TLS, where it shows a token (Authorization: Bearer) or a certificate. x-doorbell-needs says for each operation the least role, and whether it is about what the caller's tenant owns or about the whole manager. What another tenant owns is answered as what does not exist."
))]
struct Document;

/// Answers until the manager stops.
pub async fn serve(manager: Arc<Manager>, listener: UnixListener, mut stopped: watch::Receiver<bool>) {
    let service = router(manager).into_make_service_with_connect_info::<Peer>();
    let until = async move {
        let _ = stopped.changed().await;
    };
    // Live streams never end by themselves, so a graceful end would wait for ever: stop with the signal.
    tokio::select! {
        served = async { axum::serve(listener, service).await } => {
            if let Err(error) = served {
                error!(%error, "the API ended");
            }
        }
        () = until => {}
    }
}

/// The OpenAPI document as JSON.
///
/// # Errors
/// When it cannot be written as JSON, which only a fault of the handlers' types causes.
pub fn document() -> Result<String, serde_json::Error> {
    routes_and_document().1.to_pretty_json()
}

fn router(manager: Arc<Manager>) -> Router {
    let (routes, document) = routes_and_document();
    let document = document.to_pretty_json().unwrap_or_default();
    let openapi = axum::routing::get(move || async move {
        ([(axum::http::header::CONTENT_TYPE, "application/json")], document)
    });
    routes
        .route(DOCUMENT_PATH, openapi)
        .fallback(error::no_such_route)
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&manager), gate::judge))
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&manager), refused::witness))
        .with_state(manager)
}

fn routes_and_document() -> (Router<Arc<Manager>>, utoipa::openapi::OpenApi) {
    let (routes, document) = OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(info::info))
        .routes(routes!(guests::list, guests::add))
        .routes(routes!(guests::show, guests::change, guests::remove))
        .routes(routes!(guests::pending))
        .routes(routes!(guests::approve))
        .routes(routes!(guests::reject))
        .routes(routes!(guests::enrol))
        .routes(routes!(requests::accept))
        .routes(routes!(requests::list))
        .routes(routes!(requests::show))
        .routes(routes!(requests::wait))
        .routes(routes!(requests::cancel))
        .routes(routes!(requests::approve))
        .routes(routes!(requests::refuse))
        .routes(routes!(queries::ask))
        .routes(routes!(can::can))
        .routes(routes!(output::read))
        .routes(routes!(input::show))
        .routes(routes!(input::resize))
        .routes(routes!(trace::show))
        .routes(routes!(trace::stations))
        .routes(routes!(uploads::show))
        .routes(routes!(uploads::finish))
        .routes(routes!(events::watch))
        .routes(routes!(audit::list))
        .routes(routes!(audit::check))
        .routes(routes!(audit::head))
        .routes(routes!(retention::sweep))
        .routes(routes!(backup::take))
        .routes(routes!(access::list_tenants, access::add_tenant))
        .routes(routes!(access::remove_tenant))
        .routes(routes!(access::list_principals, access::add_principal))
        .routes(routes!(access::revoke_principal))
        .layer(DefaultBodyLimit::max(JSON_LEN_MAX))
        .routes(routes!(programs::put))
        .routes(routes!(input::put))
        .routes(routes!(uploads::put))
        .split_for_parts();
    (routes, needs::told(document))
}

const DOCUMENT_PATH: &str = "/openapi.json";
/// Bytes of any JSON body: a request of the channel's size, with room for escapes.
const JSON_LEN_MAX: usize = 512 * 1024;
