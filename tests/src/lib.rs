//! The rig: real guests, the real manager and command line, and peers that break rules on purpose.
//!
//! Used by the suites in `tests/`. A test owns a [`place::Place`] and what it starts there; nothing is shared
//! but the image. Waits are for conditions and have an end; a guest or manager that dies fails the waiting
//! test at once with its last lines; whatever a test started ends with it.
//!
//! - [`place`] a directory of its own · [`build`] what is tested · [`image`] what guests boot · [`disk`] disks that fail
//! - [`process`] children that are watched · [`wait`] the one place that waits
//! - [`guest`] · [`daemon`] · [`command`] the three real parts · [`frames`] what a guest's NIC sent
//! - [`lab`] a manager and a guest that tests share, and ways to look into it · [`agent`] what happens to its agent · [`misfit`] a program that goes wrong
//! - [`terminal`] a terminal whose keys a test types
//! - [`proxy`] stops, cuts or bends the channel between two real parts at a frame of choice
//! - [`faults`] what a seed draws, who plays it, and what must hold after
//! - [`mod@line`] bytes and frames by hand · [`honest`] a guest without a machine · [`intruder`] one that means harm · [`rogue`] a manager by hand
//! - [`secured`] the manager over TLS, and HTTPS by hand
//! - [`web`] a server of HTTP and HTTPS that does what a test wants
//! - [`skip`] tests that this machine cannot run
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "the rig serves tests only: a step of it that fails is a test that fails"
)]

pub mod agent;
pub mod build;
pub mod command;
pub mod daemon;
pub mod disk;
pub mod faults;
pub mod frames;
pub mod guest;
pub mod honest;
pub mod image;
pub mod intruder;
pub mod lab;
pub mod line;
pub mod misfit;
pub mod place;
pub mod process;
pub mod proxy;
pub mod rogue;
pub mod secured;
pub mod skip;
pub mod terminal;
pub mod wait;
pub mod web;
