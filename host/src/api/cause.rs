//! Why a call is made, from its headers.
//!
//! Every handler that changes something takes a [`Told`], which is refused where a reason is demanded and missing;
//! where the body may say it as well, a [`Heard`]. Trusts nothing of the headers.

use super::error::ApiError;
use crate::cause::Cause;
use crate::manager::Manager;
use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::request::Parts;
use doorbell_api::{REASON, TICKET};
use std::sync::Arc;
use utoipa::IntoParams;

/// What the headers say; not yet held against what the configuration demands.
#[derive(Debug)]
pub(super) struct Heard(pub(super) Cause);

/// As much as the configuration demands.
#[derive(Debug)]
pub(super) struct Told(pub(super) Cause);

impl FromRequestParts<Arc<Manager>> for Heard {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Manager>) -> Result<Self, ApiError> {
        std::future::ready(of(&parts.headers).map(Self)).await
    }
}

impl FromRequestParts<Arc<Manager>> for Told {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, manager: &Arc<Manager>) -> Result<Self, ApiError> {
        let Heard(cause) = Heard::from_request_parts(parts, manager).await?;
        Ok(Self(cause.demanded(&manager.config)?))
    }
}

/// The two headers, as the API's document shows them.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "read by the document alone: the handlers take the checked texts")]
pub(super) struct CauseHeaders {
    /// Why; UTF-8, at most 256 bytes. It may be demanded.
    #[param(rename = "doorbell-reason")]
    reason: Option<String>,
    /// The ticket it belongs to; UTF-8, at most 256 bytes.
    #[param(rename = "doorbell-ticket")]
    ticket: Option<String>,
}

/// What a call's headers say.
pub(super) fn of(headers: &HeaderMap) -> Result<Cause, ApiError> {
    Ok(Cause::told(one(headers, REASON)?, one(headers, TICKET)?)?)
}

fn one<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, ApiError> {
    let mut values = headers.get_all(name).iter();
    let (value, more) = (values.next(), values.next());
    if more.is_some() {
        return Err(ApiError::invalid(format!("the header {name} is there twice")));
    }
    let text = value.map(|value| std::str::from_utf8(value.as_bytes())).transpose();
    text.map_err(|_| ApiError::invalid(format!("the header {name} is not UTF-8")))
}
