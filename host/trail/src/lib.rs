//! The audit trail as values: how a record is sealed, and how a trail is checked. No I/O.
//!
//! Used by the daemon, which writes the trail. Trusts nothing that it is given to check.
//!
//! - [`chain`] records, each with the hash of the one before
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod chain;
