//! One test for every rule that a peer can break, in both directions, named as the rule.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a broken assumption of a test must end it"
)]

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
