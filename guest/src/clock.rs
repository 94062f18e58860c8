//! The one clock of the agent: time since boot, suspended time included.
//!
//! Called by the event loop once per turn, by supervisors and by `apply` for the times in an acknowledgement.
//! A clock that stands still while the guest is suspended would let a manager's deadline pass unnoticed.

use doorbell_wire::ids::Tick;
use nix::time::{ClockId, clock_gettime};

/// The present moment.
#[must_use]
pub fn now() -> Tick {
    Tick(now_us().saturating_div(1_000))
}

/// The present moment in microseconds.
#[must_use]
pub fn now_us() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_BOOTTIME).or_else(|_| clock_gettime(ClockId::CLOCK_MONOTONIC));
    let us = time.map(|time| {
        let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
        let nanos = u64::try_from(time.tv_nsec()).unwrap_or(0);
        seconds.saturating_mul(1_000_000).saturating_add(nanos.saturating_div(1_000))
    });
    us.unwrap_or(0)
}
