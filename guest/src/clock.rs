//! The one clock of the agent: time since boot, suspended time included. And the guest's wall clock, which decides
//! about signatures and nothing else, and is set where the manager asks for that and no signature is demanded.
//!
//! Called by the event loop once per turn, by supervisors and by `apply` for the times in an acknowledgement.
//! A clock that stands still while the guest is suspended would let a manager's deadline pass unnoticed.

use doorbell_wire::ids::Tick;
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime, clock_settime};
use tracing::{info, warn};

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

/// The guest's wall clock, in seconds since the Unix epoch; 0 where it has none, or stands before that.
#[must_use]
pub fn wall_s() -> u64 {
    clock_gettime(ClockId::CLOCK_REALTIME).map_or(0, |time| u64::try_from(time.tv_sec()).unwrap_or(0))
}

/// Sets the guest's wall clock to the host's, unless the two are as close as the way between them is long.
pub fn set(host_time_ms: u64) {
    let Ok(found) = clock_gettime(ClockId::CLOCK_REALTIME) else { return };
    let Some(wanted) = timespec(host_time_ms) else { return };
    let ms = |time: TimeSpec| i128::from(time.tv_sec()) * 1_000 + i128::from(time.tv_nsec()) / 1_000_000;
    let off_ms = ms(wanted).saturating_sub(ms(found));
    if off_ms.unsigned_abs() < CLOSE_MS {
        return;
    }
    match clock_settime(ClockId::CLOCK_REALTIME, wanted) {
        Ok(()) => info!(off_ms, "the guest's clock was set to the host's"),
        Err(errno) => warn!(off_ms, %errno, "the guest's clock cannot be set to the host's"),
    }
}

fn timespec(unix_ms: u64) -> Option<TimeSpec> {
    let seconds = i64::try_from(unix_ms.checked_div(1_000)?).ok()?;
    let nanos = i64::try_from(unix_ms.checked_rem(1_000)?.checked_mul(1_000_000)?).ok()?;
    Some(TimeSpec::new(seconds, nanos))
}

/// Milliseconds that the two clocks may be apart.
const CLOSE_MS: u128 = 500;
