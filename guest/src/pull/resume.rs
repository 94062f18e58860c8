//! What an earlier run of the agent left: programs without an outcome, outcomes without a receipt.
//!
//! Called by `main` at start, and by `pull` for what has to be presented again. Trusts the journal alone.

use super::Agent;
use crate::apply::cgroup::Cgroups;
use crate::apply::running::Remains;
use crate::hand::{Hand, Station};
use crate::identity::Identity;
use crate::journal::Journal;
use crate::spool::{self, Spool};
use crate::state::StateDir;
use crate::{clock, fetch};
use doorbell_wire::ids::{RequestId, Sequence};
use doorbell_wire::message::outcome::{Acknowledgement, Evidence, Outcome};
use tracing::warn;

impl Agent {
    /// Takes up what an earlier run left: programs without an outcome are ended, and what is staged is removed.
    #[must_use]
    pub fn resume(state: StateDir, identity: Identity, journal: Journal, cgroups: Option<Cgroups>) -> Self {
        let mut agent = Self { state, identity, journal, cgroups, hand: None };
        for (request, entry) in agent.journal.history().open() {
            let (None, Some(started)) = (&entry.outcome, &entry.started) else { continue };
            agent.end_left_over(request);
            if !started.idempotent {
                agent.interrupted(request, started.sequence);
            }
        }
        // What may start again begins its output anew; what it printed before is sent to nobody.
        let open = agent.journal.history().open().into_iter();
        let wanted = open.filter(|(_, entry)| {
            entry.outcome.is_some() || entry.started.as_ref().is_some_and(|started| !started.idempotent)
        });
        let wanted: Vec<_> = wanted.map(|(request, _)| request).collect();
        spool::sweep(&agent.state.output(), &wanted);
        fetch::sweep(&agent.state.programs());
        agent.cgroups.iter().for_each(Cgroups::sweep);
        agent
    }

    pub(super) fn left_over(&self) -> Option<Hand> {
        let (request, entry) =
            self.journal.history().open().into_iter().find(|(_, entry)| entry.outcome.is_some())?;
        let spool = Spool::left_over(&self.state.output(), request);
        let station = Station::Ended(Box::new(entry.outcome?), Remains { spool: Some(spool), program: None });
        Some(Hand::new(request, Some(entry.sequence), station))
    }

    /// Ends what an earlier run of the agent started for a request and could not see to its end.
    pub(super) fn end_left_over(&self, request: RequestId) {
        if let Some(cgroup) = self.cgroups.as_ref().and_then(|cgroups| cgroups.left_over(request)) {
            cgroup.end(clock::now().after(LEFT_OVER_MS_MAX));
        }
    }

    fn interrupted(&mut self, request: RequestId, sequence: Sequence) {
        warn!(%request, "a request had started and its end is not known; it is reported as interrupted");
        let output = Spool::left_over(&self.state.output(), request).totals();
        let outcome = Outcome::Interrupted;
        self.keep(
            Some(sequence),
            &Acknowledgement { request, outcome, evidence: Evidence::None, output, ran: None },
        );
    }
}

/// Milliseconds that processes of an earlier run may take to go once they were killed.
const LEFT_OVER_MS_MAX: u64 = 5_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::record::Started;
    use doorbell_wire::ids::BootId;
    use doorbell_wire::message::Stream;

    #[test]
    fn output_is_kept_for_an_outcome_and_not_for_a_start_that_may_come_again() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(&dir.path().join("state")).unwrap();
        let identity = Identity::open(&state).unwrap();
        let mut journal = Journal::open(&state).unwrap();
        let output = state.output();
        for (number, idempotent) in [(1, false), (2, true)] {
            let request = RequestId::new([number; 16]);
            let (sequence, boot_id) = (u64::from(number).try_into().unwrap(), BootId::new([0; 16]));
            journal.started(Started { request, sequence, idempotent, boot_id }).unwrap();
            Spool::create(&output, request).unwrap().write(Stream::Stdout, b"half");
        }
        let agent = Agent::resume(state, identity, journal, None);
        let kept = |number| Spool::left_over(&output, RequestId::new([number; 16])).totals().stdout.kept;
        assert_eq!((kept(1), kept(2)), (4, 0));
        assert_eq!(agent.left_over().map(|hand| hand.request), Some(RequestId::new([1; 16])));
    }
}
