//! When to dial again. Pure: time and chance are arguments.
//!
//! Called by the event loop after every lost or failed connection. Only a welcome counts as success: a
//! manager that accepts and then refuses is not dialled faster than one that is away.

use doorbell_wire::ids::Tick;
use doorbell_wire::limits::{RETRY_EAGER_MS, RETRY_MS_MAX, RETRY_MS_MIN};

/// The pauses between tries since the last welcome.
#[derive(Clone, Copy, Debug)]
pub struct Retry {
    since: Tick,
    pause: u64,
}

impl Retry {
    /// Tries begin at `now`: the agent has started, or a welcomed session was lost.
    #[must_use]
    pub const fn begin(now: Tick) -> Self {
        Self { since: now, pause: RETRY_MS_MIN }
    }

    /// When the next try is due. `chance` is any number; it spreads guests that lost the same manager.
    pub fn next(&mut self, now: Tick, chance: u32) -> Tick {
        if self.since.until(now) < RETRY_EAGER_MS {
            return now.after(RETRY_MS_MIN);
        }
        self.pause = self.pause.saturating_mul(2).min(RETRY_MS_MAX);
        now.after(jittered(self.pause, chance))
    }
}

/// Between half of `pause` and all of it.
fn jittered(pause: u64, chance: u32) -> u64 {
    let half = pause.div_ceil(2);
    pause.saturating_sub(u64::from(chance).checked_rem(half.max(1)).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_ten_seconds_are_eager() {
        let mut retry = Retry::begin(Tick(1_000));
        for at in (1_000..11_000).step_by(300) {
            assert_eq!(retry.next(Tick(at), u32::MAX), Tick(at + RETRY_MS_MIN));
        }
    }

    #[test]
    fn later_pauses_grow_to_the_limit_and_never_beyond() {
        for chance in [0, 1, 777, u32::MAX] {
            let mut retry = Retry::begin(Tick(0));
            let mut now = Tick(RETRY_EAGER_MS);
            let mut longest = 0;
            for _ in 0..20 {
                let next = retry.next(now, chance);
                longest = longest.max(now.until(next));
                assert!(now.until(next) >= RETRY_MS_MIN / 2);
                now = next;
            }
            assert!((RETRY_MS_MAX / 2..=RETRY_MS_MAX).contains(&longest), "{longest}");
        }
    }

    #[test]
    fn chance_spreads_the_tries() {
        let due = |chance| {
            let mut retry = Retry::begin(Tick(0));
            (0..10).map(|_| retry.next(Tick(RETRY_EAGER_MS), chance)).last()
        };
        assert_ne!(due(17), due(1_801));
    }
}
