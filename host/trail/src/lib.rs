//! The audit trail as values: how a record is sealed, how its head is signed, and how a trail is checked. It reads what
//! it is given and opens nothing.
//!
//! Used by the daemon, which writes the trail, and by the SDK's users, who check it without the daemon's word.
//! Trusts nothing that it is given to check.
//!
//! - [`chain`] records, each with the hash of the one before
//! - [`head`] where a trail ends, signed · [`export`] a trail in a file · [`compare`] a trail beside what was kept of it
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod chain;
pub mod compare;
pub mod export;
pub mod head;
