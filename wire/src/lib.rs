//! The doorbell channel as values: bytes, rules and both session state machines.
//!
//! Used by the manager, the agent, the tests and the fuzzers. No socket, thread, async or clock is in here;
//! time is an argument; no input makes it panic.
//!
//! Bytes go [`frame::Deframer`] → [`message::FromHost`] / [`message::FromGuest`] → [`session`], and back.
//! The contract of a driver, on both sides:
//!
//! 1. wait for bytes, for the tick of [`session::host::Owed::Wait`] or
//!    [`session::guest::Owed::Wait`], or for an event of its own,
//! 2. make exactly one call with it,
//! 3. drain with `poll` until `Wait`, doing what each answer says,
//! 4. go to 1.
#![forbid(unsafe_code)]
#![deny(clippy::arithmetic_side_effects, missing_docs)]

pub mod codec;
pub mod error;
pub mod frame;
pub mod handshake;
pub mod ids;
pub mod limits;
pub mod manifest;
pub mod merkle;
pub mod message;
pub mod session;
pub mod share;
pub mod text;
