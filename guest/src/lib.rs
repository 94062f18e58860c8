//! The agent: what runs inside a guest and does what its manager asks for.
//!
//! Called by the binary of the same name. Single-threaded and blocking: one `poll` waits for the channel, the
//! program in hand, a signal and the next deadline. Trusts the manager with what requests can express, and
//! nobody with anything else; listens nowhere.
//!
//! A request's way, file by file: [`dial`] → [`link`] → [`pull`] → [`decide`] → [`policy`] → [`fetch`] → [`verify`] →
//! [`journal`] → [`apply`] → [`spool`] → acknowledged and forgotten by [`pull`].

pub mod apply;
pub mod clock;
pub mod config;
pub mod decide;
pub mod dial;
pub mod ended;
pub mod fetch;
mod hand;
pub mod identity;
pub mod journal;
pub mod lanes;
pub mod link;
pub mod log;
pub mod modules;
pub mod planted;
pub mod policy;
pub mod pull;
pub mod retry;
pub mod serve;
pub mod share;
pub mod spool;
pub mod state;
pub mod supervise;
pub mod verify;
pub mod wait;

/// Exit status: the state directory, the key or the journal cannot be used.
pub const EXIT_STATE: u8 = 3;
/// Exit status: the kernel refused what the agent cannot do without, or the disk its state.
pub const EXIT_KERNEL: u8 = 4;
/// Exit status of `policy check`: the policy cannot be used, so nothing is allowed.
pub const EXIT_BROKEN_POLICY: u8 = 5;
/// Exit status of `policy check`: it demands signatures, and lets through without one what amounts to root.
pub const EXIT_OPEN_POLICY: u8 = 6;
