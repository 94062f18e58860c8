//! The link against a scripted manager over a socket pair, with real programs.

mod hostile;
mod manager;
mod programs;
mod rig;
mod sessions;
