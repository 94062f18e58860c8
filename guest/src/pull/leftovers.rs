//! What a manager that does not come back leaves on the guest's disk: bounded, and gone in the end.
//!
//! Called by `step`. Half-fetched bytes cost a fetch, and output costs output; both are given up for the disk.
//! Outcomes are not: they are in the journal, and are acknowledged whenever a manager comes.

use super::Agent;
use crate::hand::Station;
use crate::supervise::output_on_disk;
use doorbell_wire::ids::{RequestId, Tick};
use tracing::warn;

/// Since when there has been no manager, and when what is kept for one was looked at last.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Alone {
    since: Option<Tick>,
    looked: Tick,
}

impl Agent {
    /// Gives back what nobody has come for.
    pub(super) fn tidy(&mut self, now: Tick) {
        let Some(since) = self.alone.since.filter(|_| self.open.is_empty()) else {
            self.alone.since = Some(now);
            return;
        };
        if now < since.after(PATIENCE_MS) || now < self.alone.looked.after(PATIENCE_MS) {
            return;
        }
        self.alone.looked = now;
        let most = if now < since.after(ALONE_MS_MAX) { KEPT_LEN_MAX } else { 0 };
        self.fetches.shorten(most);
        self.give_up_output(most);
    }

    /// Output of requests that have ended, the oldest first, until there is no more than this. An outcome that only
    /// the supervisor's directory has stays with it.
    fn give_up_output(&mut self, most: u64) {
        if self.journal.ready().is_err() {
            return;
        }
        let run = self.state.run();
        let spools = self.hands.iter().filter_map(|hand| match &hand.station {
            Station::Ended(_, Some(_)) => Some((hand.request, output_on_disk(&run, hand.request))),
            Station::Offered | Station::Fetching(..) | Station::Running(_) | Station::Ended(_, None) => None,
        });
        let spools: Vec<(RequestId, u64)> = spools.collect();
        let mut left = spools.iter().fold(0_u64, |sum, (_, bytes)| sum.saturating_add(*bytes));
        for (request, bytes) in spools {
            if left <= most {
                return;
            }
            left = left.saturating_sub(bytes);
            let Some(hand) = self.hand(request) else { continue };
            let Station::Ended(_, supervised) = &mut hand.station else { continue };
            if let Some(supervised) = supervised.take() {
                warn!(%request, bytes, "no manager has come for the output of a request; it is given up, its outcome is not");
                supervised.remove();
            }
        }
    }
}

/// Nothing is given up because a manager is away for a moment.
const PATIENCE_MS: u64 = 3_600_000;
/// After a week without a manager nothing is kept for one but outcomes.
const ALONE_MS_MAX: u64 = 7 * 24 * 3_600_000;
/// Until then so many bytes of each kind: what some tens of requests leave by default.
const KEPT_LEN_MAX: u64 = 1 << 30;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::now;
    use crate::link::tests::manager::Script;
    use crate::link::tests::rig::{Rig, offer, script, sh};
    use crate::pull::Way;
    use doorbell_wire::message::Offsets;

    #[test]
    fn after_a_week_alone_output_is_given_up_and_the_outcome_is_not() {
        let mut rig = Rig::new(Script { forgetful: true, ..script([offer(1, sh("echo lost; exit 9"))]) });
        let outcome = rig.outcomes(1);
        rig.agent.detached(Way::Channel);
        let run = rig.state().join("run");
        let kept = || run.read_dir().unwrap().count();
        rig.agent.tidy(now());
        rig.agent.tidy(now().after(ALONE_MS_MAX - 60_000));
        assert_eq!(kept(), 1, "a little is kept for a week");
        rig.agent.tidy(now().after(ALONE_MS_MAX + PATIENCE_MS));
        assert_eq!(kept(), 0);
        rig.reconnect(Script { attach_from: Some(Offsets::default()), ..script([]) });
        assert_eq!(rig.outcomes(1), outcome);
        assert_eq!(rig.last().output.stdout.kept, 5, "it says what there was");
        assert!(rig.stdout().is_empty());
        // The first pull comes with the attach, the second when the outcome is forgotten.
        rig.until(|rig| rig.manager.seen.pulls == 2);
        let mut rig = rig.crash(script([]));
        rig.until(|rig| rig.manager.seen.pulls == 1);
        assert!(rig.manager.seen.attached.is_empty());
    }

    #[test]
    fn more_than_is_kept_goes_earlier_and_never_within_the_hour() {
        let words = "dd if=/dev/zero bs=1024 count=64 2>/dev/null; exit 9";
        let mut rig = Rig::new(Script { forgetful: true, ..script([offer(1, sh(words))]) });
        let _ = rig.outcomes(1);
        rig.agent.detached(Way::Channel);
        let run = rig.state().join("run");
        let kept = || run.read_dir().unwrap().count();
        rig.agent.give_up_output(100 << 10);
        assert_eq!(kept(), 1);
        rig.agent.tidy(now());
        rig.agent.tidy(now().after(PATIENCE_MS - 60_000));
        assert_eq!(kept(), 1);
        rig.agent.give_up_output(10 << 10);
        assert_eq!(kept(), 0);
    }
}
