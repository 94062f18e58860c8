//! Every state change, live, as lines of JSON.

use super::error::ApiError;
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
pub(super) async fn watch(State(manager): State<Arc<Manager>>) -> Result<Response, ApiError> {
    std::future::ready(()).await;
    let events = manager.events.subscribe();
    // The first, empty piece lets the reader see at once that it is watching.
    let body = Body::from_stream(stream::try_unfold((events, false), next));
    Ok(([(CONTENT_TYPE, "application/x-ndjson")], body).into_response())
}

type Watching = (Receiver<Event>, bool);

async fn next((mut events, begun): Watching) -> io::Result<Option<(Bytes, Watching)>> {
    if !begun {
        return Ok(Some((Bytes::from_static(b"\n"), (events, true))));
    }
    let event = match events.recv().await {
        Ok(event) => event,
        Err(RecvError::Lagged(count)) => {
            Event { at_ms: unix_ms(), guest: String::new(), change: Change::Missed { count } }
        }
        Err(RecvError::Closed) => return Ok(None),
    };
    let mut line = serde_json::to_vec(&event).map_err(io::Error::other)?;
    line.push(b'\n');
    Ok(Some((line.into(), (events, true))))
}
