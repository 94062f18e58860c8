//! One test for every rule that a peer can break, in both directions, named as the rule.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a broken assumption of a test must end it"
)]

#[path = "refusals/bulk.rs"]
mod bulk;
mod common;
#[path = "refusals/envelope.rs"]
mod envelope;
#[path = "refusals/errors.rs"]
mod errors;
#[path = "refusals/misuse.rs"]
mod misuse;
#[path = "refusals/session.rs"]
mod session;
#[path = "refusals/values.rs"]
mod values;

use doorbell_wire::error::{Misbehaved, Reason, SessionError};
use std::fmt::Debug;

/// The one way in which a broken rule ends a session.
#[track_caller]
fn refused<S: Debug>(result: Result<S, SessionError>, expected: Misbehaved) {
    let error = result.expect_err("this is to be refused");
    assert_eq!(error, SessionError::Misbehaved(expected));
    assert_eq!(error.reason(), Some(Reason::MISBEHAVED));
}
