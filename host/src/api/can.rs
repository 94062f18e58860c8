//! What a guest would decide about a request, by its policy and by who has signed it. Nothing is done or kept.
//!
//! A query. A program or file need not be here: the answer goes by digest, and tells nobody what the manager has.

use super::caller::Caller;
use super::convert;
use super::error::ApiError;
use super::queries::answer;
use crate::manager::Manager;
use crate::receipt::refusal_text;
use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use doorbell_api::error::ErrorCode;
use doorbell_api::query::{Effect, Ruling};
use doorbell_api::request::NewRequest;
use doorbell_wire::message::action::{Action, Can};
use doorbell_wire::message::outcome::{self, Acknowledgement, Evidence, Outcome, Verdict};
use std::sync::Arc;
use tracing::debug;

/// Asks a connected guest whether it would begin a request, and which rule decides.
///
/// Nothing is done, kept or signed off: a signature is looked at and can be used afterwards.
#[utoipa::path(post, operation_id = "can", tag = "queries", path = "/v1/guests/{name}/can", params(("name" = String, Path,)), request_body = NewRequest,
    responses((status = 200, body = Ruling), (status = 404), (status = 409), (status = 503), (status = 504)))]
pub(super) async fn can(
    State(manager): State<Arc<Manager>>,
    caller: Caller,
    Path(name): Path<String>,
    body: Result<Json<NewRequest>, JsonRejection>,
) -> Result<Json<Ruling>, ApiError> {
    let Json(new) = body?;
    let guest = caller.store(&manager).guest(&name.parse()?).await?;
    let asked = convert::dry(&manager, &caller.scope(), new).await?;
    let knows = guest.agent.as_ref().map(|agent| agent.capabilities.iter().any(|can| can == "policy"));
    if knows == Some(false) {
        let text = format!(
            "the agent of guest {name} has no policy and cannot say: it begins what it can do; upgrade it"
        );
        return Err(ApiError::new(ErrorCode::Conflict, text));
    }
    debug!(guest = name, by = %caller.actor(), "asked whether it would begin something");
    let acknowledgement = answer(&manager, &guest, Action::Can(Box::new(asked.clone())), None).await?;
    told(&name, &asked, &acknowledgement).map(Json)
}

fn told(name: &str, asked: &Can, acknowledgement: &Acknowledgement) -> Result<Ruling, ApiError> {
    let Evidence::Verdict(Verdict { effect, rule, run_as }) = &acknowledgement.evidence else {
        let text = format!("guest {name} did not say: {:?}", acknowledgement.outcome);
        return Err(ApiError::new(ErrorCode::NoAnswer, text));
    };
    let detail = if let Outcome::Refused(refusal) = &acknowledgement.outcome {
        Some(refusal_text(&Action::from(asked.asked.clone()), refusal))
    } else {
        None
    };
    Ok(Ruling {
        allowed: acknowledgement.outcome == Outcome::Succeeded,
        effect: match effect {
            outcome::Effect::Allow => Effect::Allow,
            outcome::Effect::Deny => Effect::Deny,
            outcome::Effect::RequireSignature => Effect::RequireSignature,
        },
        rule: rule.to_string(),
        run_as: run_as.as_ref().map(ToString::to_string),
        detail,
    })
}
