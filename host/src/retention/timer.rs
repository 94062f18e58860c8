//! The hourly sweep.
//!
//! Started by the daemon. A clock that jumps would make everything old at once, so a sweep that finds that it has
//! jumped waits for the next one: whoever put the clock wrong has an hour to put it right.

use crate::actor::Actor;
use crate::cause::Cause;
use crate::manager::Manager;
use crate::store::StoreError;
use crate::time::unix_ms;
use doorbell_api::retention::Sweep;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tracing::{debug, info, warn};

/// Sweeps until the manager stops; the first time an hour after its start.
pub async fn serve(manager: Arc<Manager>, mut stopped: watch::Receiver<bool>) {
    let first = tokio::time::Instant::now() + SWEEP_EVERY;
    let mut every = tokio::time::interval_at(first, SWEEP_EVERY);
    let mut clocks = Clocks::read();
    loop {
        tokio::select! {
            _ = every.tick() => {}
            _ = stopped.changed() => return,
        }
        let before = std::mem::replace(&mut clocks, Clocks::read());
        if clocks.has_jumped_since(before) {
            warn!("the host's clock has jumped, or the host slept: nothing is removed before the next sweep");
            continue;
        }
        match manager.sweep(&Actor::Manager, &Cause::default(), false, clocks.wall_ms).await {
            Ok(sweep) => tell(&sweep),
            Err(StoreError::Conflict { message }) => debug!(message, "no sweep this time"),
            Err(error) => warn!(error = error.whole(), "what is over could not be removed"),
        }
    }
}

fn tell(sweep: &Sweep) {
    let Sweep { requests, outputs, programs, uploads, leftovers, ids, .. } = sweep;
    let counts = [requests.count, outputs.count, programs.count, uploads.count, leftovers.count, *ids];
    if counts.iter().any(|count| *count > 0) {
        info!(
            requests = requests.count,
            outputs = outputs.count,
            programs = programs.count,
            uploads = uploads.count,
            leftovers = leftovers.count,
            ids,
            "removed what is kept no longer"
        );
    }
}

/// Both clocks of the host at one moment.
#[derive(Clone, Copy, Debug)]
struct Clocks {
    wall_ms: u64,
    at: Instant,
}

impl Clocks {
    fn read() -> Self {
        Self { wall_ms: unix_ms(), at: Instant::now() }
    }

    fn has_jumped_since(self, before: Self) -> bool {
        let passed = self.at.saturating_duration_since(before.at).as_millis();
        let passed = u64::try_from(passed).unwrap_or(u64::MAX);
        self.wall_ms.abs_diff(before.wall_ms.saturating_add(passed)) > JUMP_MS
    }
}

const SWEEP_EVERY: Duration = Duration::from_secs(3600);
/// More than any clock is put right by in good order.
const JUMP_MS: u64 = 600_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_jumps_is_told_from_one_that_is_put_right() {
        let before = Clocks::read();
        let after = |wall_ms: u64| Clocks { wall_ms, at: before.at + Duration::from_secs(3600) };
        let hour = before.wall_ms + 3_600_000;
        assert!(!after(hour).has_jumped_since(before));
        assert!(!after(hour + JUMP_MS).has_jumped_since(before));
        assert!(after(hour + JUMP_MS + 1).has_jumped_since(before), "forward");
        assert!(after(before.wall_ms - 1).has_jumped_since(before), "back");
    }
}
