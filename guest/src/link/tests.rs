//! The link against a scripted manager over a socket pair, with real programs.

mod hostile;
pub(crate) mod manager;
mod programs;
pub(crate) mod rig;
mod sessions;
