//! How an error becomes an HTTP answer: one table, in [`doorbell_api::error::ErrorCode::status`].

use crate::store::StoreError;
use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use doorbell_api::error::{ErrorBody, ErrorCode};
use doorbell_wire::ids::InvalidId;
use std::time::Duration;

/// An answer that is not a success.
#[derive(Debug)]
pub(crate) struct ApiError {
    body: ErrorBody,
    /// When to call again, where it was too soon.
    again_in: Option<Duration>,
    /// Whether it is like the one before, so that nobody need be told.
    is_repeated: bool,
}

impl ApiError {
    pub(super) const fn new(code: ErrorCode, message: String) -> Self {
        Self { body: ErrorBody { code, message }, again_in: None, is_repeated: false }
    }

    /// What kind of refusal it is.
    pub(crate) const fn code(&self) -> ErrorCode {
        self.body.code
    }

    /// In words.
    pub(crate) fn message(&self) -> &str {
        &self.body.message
    }

    /// A call too many.
    pub(super) fn too_many(again_in: Duration, is_first: bool) -> Self {
        let text = format!("too many calls; try again in {} ms", again_in.as_millis().saturating_add(1));
        let error = Self::new(ErrorCode::RateLimited, text);
        Self { again_in: Some(again_in), is_repeated: !is_first, ..error }
    }

    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Invalid, message.into())
    }
}

/// What an answer says, for whoever watches the answers.
#[derive(Clone, Debug)]
pub(super) struct Refused {
    /// What it says.
    pub(super) body: ErrorBody,
    /// Whether it is like the one before.
    pub(super) is_repeated: bool,
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let Self { body, again_in, is_repeated } = self;
        let code = body.code;
        let status = StatusCode::from_u16(code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let refused = Refused { body: body.clone(), is_repeated };
        let mut response = (status, Json(body)).into_response();
        response.extensions_mut().insert(refused);
        if code == ErrorCode::Unauthenticated {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(again_in) = again_in {
            // Whole seconds are all that the header has.
            let seconds = again_in.as_secs().saturating_add(1);
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        if error.code() == ErrorCode::Internal {
            tracing::error!(error = error.whole(), "a call failed by a fault of the manager");
        }
        Self::new(error.code(), error.to_string())
    }
}

impl From<InvalidId> for ApiError {
    fn from(error: InvalidId) -> Self {
        Self::invalid(error.to_string())
    }
}

impl From<std::io::Error> for ApiError {
    fn from(error: std::io::Error) -> Self {
        StoreError::io("use the manager's files", error).into()
    }
}

macro_rules! from_rejection {
    ($($rejection:ty),*) => { $(
        impl From<$rejection> for ApiError {
            fn from(rejection: $rejection) -> Self {
                let code = match rejection.status() {
                    StatusCode::PAYLOAD_TOO_LARGE => ErrorCode::TooLarge,
                    _ => ErrorCode::Invalid,
                };
                Self::new(code, rejection.body_text().replace('\n', " "))
            }
        }
    )* };
}
from_rejection!(JsonRejection, PathRejection, QueryRejection);

/// The answer where there is nothing.
pub(super) async fn no_such_route(uri: Uri) -> ApiError {
    std::future::ready(()).await;
    ApiError::new(ErrorCode::NotFound, format!("there is no {} in this API; see /openapi.json", uri.path()))
}
