//! The one clock of the agent: milliseconds since boot, suspended time included.
//!
//! Called by the event loop once per turn and by `apply` for the times in an acknowledgement. A clock that
//! stands still while the guest is suspended would let a manager's deadline pass unnoticed.

use doorbell_wire::ids::Tick;
use nix::time::{ClockId, clock_gettime};

/// The present moment.
#[must_use]
pub fn now() -> Tick {
    let time = clock_gettime(ClockId::CLOCK_BOOTTIME).or_else(|_| clock_gettime(ClockId::CLOCK_MONOTONIC));
    let ms = time.map(|time| {
        let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
        let nanos = u64::try_from(time.tv_nsec()).unwrap_or(0);
        seconds.saturating_mul(1_000).saturating_add(nanos.saturating_div(1_000_000))
    });
    Tick(ms.unwrap_or(0))
}
