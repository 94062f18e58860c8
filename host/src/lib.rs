//! The manager of one host as a library: the daemon is a thin `main.rs` over it, and tests use its parts.
//!
//! Trusts its configuration and the files in its own state directory; nothing that comes from a guest or
//! over the API socket.
#![forbid(unsafe_code)]

pub mod access;
pub mod actor;
pub mod api;
pub mod backup;
pub mod cause;
pub mod clients;
pub mod config;
pub mod daemon;
mod disk;
pub mod doors;
pub mod events;
pub mod input;
pub mod inspect;
pub mod judge;
pub mod listen;
pub mod log;
pub mod manager;
pub mod notary;
pub mod output;
mod planted;
pub mod power;
mod presence;
pub mod programs;
pub mod receipt;
pub mod registry;
pub mod request;
pub mod retention;
pub mod retrieve;
pub mod ring;
pub mod session;
pub mod share;
pub mod signed;
pub mod signer;
pub mod spool;
pub mod store;
mod sum;
pub mod time;
pub mod trace;
pub mod trouble;
pub mod uploads;
