//! A program behind which the guest is to reboot.
//!
//! Used through [`super`]. Since version 1 of the protocol: an agent without the capability is never offered one.

use super::run::Run;
use serde::{Deserialize, Serialize};
use std::num::NonZeroU8;

/// A program to start, and the reboot that belongs to it.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct RunReboot {
    /// What to start.
    pub run: Run,
    /// When the guest is to reboot.
    pub reboot: Reboot,
    /// How often it was started with this one: 1 before any reboot, one more after each.
    pub step: NonZeroU8,
}

/// When a guest is to reboot for a request. Done is what has seen another run of the guest's kernel.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum Reboot {
    /// Once, when the program has exited with 0.
    AfterSuccess,
    /// Whenever the program exits with `status`; it is then started again.
    OnStatus {
        /// The exit status that asks for it.
        status: NonZeroU8,
        /// Steps in all, the last of which asks in vain.
        steps_max: NonZeroU8,
    },
}
