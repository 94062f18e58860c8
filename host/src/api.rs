//! The manager's HTTP API on a Unix socket: routes, and what each trusts.
//!
//! Called by the SDK, the command line and whoever speaks HTTP. Who calls is told by the kernel (peer
//! credentials); what is called with is checked by turning it into types of the channel before anything is
//! done. The OpenAPI document is made from the handlers.

mod audit;
mod backup;
mod caller;
mod cause;
pub(crate) mod convert;
mod error;
mod events;
mod guests;
mod info;
mod input;
mod output;
mod programs;
mod queries;
mod refused;
mod requests;
mod retention;
pub mod socket;
#[cfg(test)]
mod tests;
mod trace;
mod uploads;

use crate::manager::Manager;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use caller::Caller;
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
    description = "Rings guests over AF_VSOCK. Served on a Unix socket; the caller is known by its peer credentials."
))]
struct Document;

/// Answers until the manager stops.
pub async fn serve(manager: Arc<Manager>, listener: UnixListener, mut stopped: watch::Receiver<bool>) {
    let service = router(manager).into_make_service_with_connect_info::<Caller>();
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
        .route("/openapi.json", openapi)
        .fallback(error::no_such_route)
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&manager), caller::allow))
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&manager), refused::witness))
        .with_state(manager)
}

fn routes_and_document() -> (Router<Arc<Manager>>, utoipa::openapi::OpenApi) {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(info::info))
        .routes(routes!(guests::list, guests::add))
        .routes(routes!(guests::show, guests::change, guests::remove))
        .routes(routes!(guests::pending))
        .routes(routes!(guests::approve))
        .routes(routes!(requests::accept))
        .routes(routes!(requests::list))
        .routes(routes!(requests::show))
        .routes(routes!(requests::wait))
        .routes(routes!(requests::cancel))
        .routes(routes!(queries::ask))
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
        .layer(DefaultBodyLimit::max(JSON_LEN_MAX))
        .routes(routes!(programs::put))
        .routes(routes!(input::put))
        .routes(routes!(uploads::put))
        .split_for_parts()
}

/// Bytes of any JSON body: a request of the channel's size, with room for escapes.
const JSON_LEN_MAX: usize = 512 * 1024;
