//! Every state change, live, as lines of JSON.

use super::caller::Caller;
use super::error::ApiError;
use crate::access::Scope;
use crate::events::Owned;
use crate::manager::Manager;
use crate::time::unix_ms;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use doorbell_api::event::{Change, Event};
use futures_util::stream;
use std::io;
use std::sync::Arc;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

/// State changes from now on. A reader that is too slow is told how many it missed.
#[utoipa::path(get, operation_id = "watch", tag = "events", path = "/v1/events", responses((status = 200, content_type = "application/x-ndjson", body = Event)))]
pub(super) async fn watch(State(manager): State<Arc<Manager>>, caller: Caller) -> Result<Response, ApiError> {
    std::future::ready(()).await;
    let watching = Watching { events: manager.events.subscribe(), scope: caller.scope(), begun: false };
    // The first, empty piece lets the reader see at once that it is watching.
    let body = Body::from_stream(stream::try_unfold(watching, next));
    Ok(([(CONTENT_TYPE, "application/x-ndjson")], body).into_response())
}

struct Watching {
    events: Receiver<Owned>,
    scope: Scope,
    begun: bool,
}

async fn next(mut watching: Watching) -> io::Result<Option<(Bytes, Watching)>> {
    if !watching.begun {
        return Ok(Some((Bytes::from_static(b"\n"), Watching { begun: true, ..watching })));
    }
    let event = loop {
        match watching.events.recv().await {
            Ok(owned) if watching.scope.covers(owned.owner.as_ref()) => break owned.event,
            Ok(_) => {}
            Err(RecvError::Lagged(count)) => break missed(&watching.scope, count),
            Err(RecvError::Closed) => return Ok(None),
        }
    };
    let mut line = serde_json::to_vec(&event).map_err(io::Error::other)?;
    line.push(b'\n');
    Ok(Some((line.into(), watching)))
}

/// Whose the missed ones were is not known any longer, so a tenant is not told how many.
fn missed(scope: &Scope, count: u64) -> Event {
    let count = if *scope == Scope::All { count } else { 0 };
    Event { at_ms: unix_ms(), guest: String::new(), change: Change::Missed { count } }
}
