//! What the API says when it will not.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The body of every answer that is not a success.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct ErrorBody {
    /// What went wrong, for programs.
    pub code: ErrorCode,
    /// What went wrong and what to do, for people, in one line.
    pub message: String,
}

/// What went wrong, for programs. Each has one HTTP status.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorCode {
    /// 400: a value is out of its bounds.
    Invalid,
    /// 401: nobody knows this caller: no token, an unknown one, one that is over.
    Unauthenticated,
    /// 403: this caller may not.
    Forbidden,
    /// 404: there is no such guest, request or program.
    NotFound,
    /// 409: it exists already, or is in a state that does not allow this.
    Conflict,
    /// 410: it was there, and retention has removed it. A request is not run again.
    Gone,
    /// 413: the body is larger than anything may be.
    TooLarge,
    /// 429: this caller calls too often; the answer says when to try again.
    RateLimited,
    /// 503: the guest is not connected, so a query cannot be answered.
    NotConnected,
    /// 504: the guest did not answer in time.
    NoAnswer,
    /// 507: the manager's disk is full or cannot be written.
    NoSpace,
    /// 500: a fault of the manager.
    Internal,
}

impl ErrorCode {
    /// The word that stands for it in JSON.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not-found",
            Self::Conflict => "conflict",
            Self::Gone => "gone",
            Self::TooLarge => "too-large",
            Self::RateLimited => "rate-limited",
            Self::Internal => "internal",
            Self::NotConnected => "not-connected",
            Self::NoAnswer => "no-answer",
            Self::NoSpace => "no-space",
        }
    }

    /// The HTTP status that goes with it.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::Invalid => 400,
            Self::Unauthenticated => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::Conflict => 409,
            Self::Gone => 410,
            Self::TooLarge => 413,
            Self::RateLimited => 429,
            Self::Internal => 500,
            Self::NotConnected => 503,
            Self::NoAnswer => 504,
            Self::NoSpace => 507,
        }
    }
}
