//! How an error becomes an HTTP answer: one table, in [`doorbell_api::error::ErrorCode::status`].

use crate::store::StoreError;
use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use doorbell_api::error::{ErrorBody, ErrorCode};
use doorbell_wire::ids::InvalidId;

/// An answer that is not a success.
#[derive(Debug)]
pub(crate) struct ApiError(ErrorBody);

impl ApiError {
    pub(super) const fn new(code: ErrorCode, message: String) -> Self {
        Self(ErrorBody { code, message })
    }

    /// What kind of refusal it is.
    pub(crate) const fn code(&self) -> ErrorCode {
        self.0.code
    }

    /// In words.
    pub(crate) fn message(&self) -> &str {
        &self.0.message
    }

    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Invalid, message.into())
    }
}

/// What an answer says, for whoever watches the answers.
#[derive(Clone, Debug)]
pub(super) struct Refused(pub(super) ErrorBody);

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let refused = Refused(self.0.clone());
        let mut response = (status, Json(self.0)).into_response();
        response.extensions_mut().insert(refused);
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
