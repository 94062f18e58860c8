//! Queries: they only read, nothing of them is kept, and their answer comes back at once.

use super::caller::Caller;
use super::error::ApiError;
use crate::manager::Manager;
use crate::power::word;
use crate::receipt::link_to_api;
use crate::ring::Query as Waiting;
use crate::store::GuestRow;
use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use doorbell_api::error::ErrorCode;
use doorbell_api::request::{Answer, NewQuery, Query};
use doorbell_wire::message::action::Action;
use doorbell_wire::message::outcome::{Acknowledgement, Evidence, Outcome, Refusal};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tracing::debug;

/// Asks a connected guest.
#[utoipa::path(post, operation_id = "ask", tag = "queries", path = "/v1/guests/{name}/queries", params(("name" = String, Path,)), request_body = NewQuery,
    responses((status = 200, body = Answer), (status = 404), (status = 503), (status = 504)))]
pub(super) async fn ask(
    State(manager): State<Arc<Manager>>,
    caller: Caller,
    Path(name): Path<String>,
    body: Result<Json<NewQuery>, JsonRejection>,
) -> Result<Json<Answer>, ApiError> {
    let Json(new) = body?;
    let guest = caller.store(&manager).guest(&name.parse()?).await?;
    let action = match new.query {
        Query::LinkList => Action::LinkList,
    };
    debug!(guest = name, by = %caller.actor(), query = ?new.query, "query");
    let acknowledgement = answer(&manager, &guest, action, new.timeout_ms).await?;
    read(&name, acknowledgement).map(Json)
}

/// Has a connected guest answer a query.
pub(super) async fn answer(
    manager: &Manager,
    guest: &GuestRow,
    action: Action,
    timeout_ms: Option<u64>,
) -> Result<Acknowledgement, ApiError> {
    let name = guest.name.as_str();
    if let Some(power) = manager.powers.held(guest.id) {
        let is = word(power.state);
        let text = format!("guest {name} is {is} ({}); see: doorbell guest show {name}", power.status);
        return Err(ApiError::new(ErrorCode::NotConnected, text));
    }
    let Some(bell) = manager.registry.fastest(guest.id) else {
        let text = format!("guest {name} is not connected; see: doorbell guest show {name}");
        return Err(ApiError::new(ErrorCode::NotConnected, text));
    };
    let (answer, answered) = oneshot::channel();
    bell.query(Waiting { action, answer }).map_err(|code| ApiError::new(code, not_asked(name, code)))?;
    let wait = Duration::from_millis(timeout_ms.unwrap_or(ANSWER_DEFAULT_MS).min(ANSWER_MAX_MS));
    match tokio::time::timeout(wait, answered).await {
        Ok(Ok(acknowledgement)) => Ok(acknowledgement),
        Ok(Err(_)) => {
            let text = format!("guest {name} went away before it answered");
            Err(ApiError::new(ErrorCode::NotConnected, text))
        }
        Err(_) => {
            let text = format!(
                "guest {name} did not answer within {} ms; see: doorbell guest show {name}",
                wait.as_millis()
            );
            Err(ApiError::new(ErrorCode::NoAnswer, text))
        }
    }
}

fn not_asked(name: &str, code: ErrorCode) -> String {
    if code == ErrorCode::NotConnected {
        return format!("guest {name} went away before it was asked");
    }
    format!("too many queries wait for guest {name} already; try again later")
}

fn read(name: &str, acknowledgement: Acknowledgement) -> Result<Answer, ApiError> {
    if let Outcome::Refused(Refusal::Policy(rule)) = &acknowledgement.outcome {
        let text = format!("guest {name} does not answer that, by its policy: {rule}");
        return Err(ApiError::new(ErrorCode::NoAnswer, text));
    }
    match acknowledgement.evidence {
        Evidence::Links(links) => Ok(Answer {
            links: links.list().iter().map(link_to_api).collect(),
            links_left_out: links.left_out(),
        }),
        Evidence::None
        | Evidence::LinkChange(_)
        | Evidence::File(_)
        | Evidence::Rebooted(_)
        | Evidence::Verdict(_) => {
            let text = format!("guest {name} did not answer the query: {:?}", acknowledgement.outcome);
            Err(ApiError::new(ErrorCode::NoAnswer, text))
        }
    }
}

const ANSWER_DEFAULT_MS: u64 = 30_000;
const ANSWER_MAX_MS: u64 = 300_000;
