//! What an earlier run of the agent left: programs that run, outcomes without a receipt.
//!
//! Called by `main` at start, and by `pull` for a request of which only traces are left. Trusts the journal
//! for what was started, and a supervisor's directory for what became of it.

use super::Agent;
use super::finish::printed;
use crate::apply::cgroup::Cgroups;
use crate::clock;
use crate::config::ALLOWED_SIGNERS;
use crate::fetch::{self, Fetches};
use crate::hand::{Hand, Station};
use crate::identity::Identity;
use crate::journal::Journal;
use crate::journal::history::Entry;
use crate::journal::record::Terms;
use crate::policy::Policy;
use crate::policy::own_files::OwnFiles;
use crate::state::StateDir;
use crate::supervise::{Sight, Supervised, find, find_all};
use crate::verify::signature::Gate;
use doorbell_wire::ids::{BootId, RequestId, Sequence};
use doorbell_wire::message::outcome::{Acknowledgement, Evidence, Outcome};
use std::path::Path;
use tracing::{info, warn};

impl Agent {
    /// Takes up what an earlier run left: what runs goes on, what has ended is acknowledged, what nobody can
    /// know is interrupted, and what belongs to nothing is removed.
    #[must_use]
    pub fn resume(state: StateDir, identity: Identity, journal: Journal, cgroups: Option<Cgroups>) -> Self {
        let mut left = find_all(&state.run());
        let (fetches, hands, open, comes_back) = (Fetches::default(), Vec::new(), Vec::new(), Vec::new());
        let gate = Gate::open(&state, identity.key(), Path::new(ALLOWED_SIGNERS));
        let policy = Policy::new(None, false, OwnFiles::new(state.root(), &[]));
        let mut agent = Self {
            state,
            identity,
            journal,
            gate,
            policy,
            cgroups,
            fetches,
            hands,
            open,
            comes_back,
            alone: super::leftovers::Alone::default(),
            turn: 0,
            reboot_at: None,
            shares: false,
            polls: None,
            pin: None,
            opening: None,
        };
        for (request, entry) in agent.journal.history().open() {
            let found = left.iter().position(|supervised| supervised.request() == request);
            agent.take_up(request, entry, found.map(|at| left.swap_remove(at)));
        }
        for mut stray in left {
            warn!(request = %stray.request(), "a program runs that the journal knows nothing of; it is ended");
            stray.stop();
            agent.end_left_over(stray.request());
            stray.remove();
        }
        let running = agent.hands.iter().filter(|hand| matches!(hand.station, Station::Running(_)));
        let running: Vec<_> = running.map(|hand| hand.request).collect();
        fetch::sweep(&agent.state, &running);
        agent.cgroups.iter().for_each(Cgroups::sweep);
        agent
    }

    /// Ends what an earlier run of the agent started for a request and nobody could see to its end.
    pub(super) fn end_left_over(&self, request: RequestId) {
        if let Some(cgroup) = self.cgroups.as_ref().and_then(|cgroups| cgroups.left_over(request)) {
            cgroup.end(clock::now().after(LEFT_OVER_MS_MAX));
        }
    }

    pub(super) fn left_of(&self, request: RequestId) -> Option<Supervised> {
        find(&self.state.run(), request)
    }

    fn take_up(&mut self, request: RequestId, entry: Entry, left: Option<Supervised>) {
        let Entry { sequence, started, outcome, terms, down, continued } = entry;
        if continued {
            left.into_iter().for_each(Supervised::remove);
            return;
        }
        if let (None, Some((told, before))) = (&outcome, down) {
            return self.take_up_rebooted(request, (sequence, terms), told, before, left);
        }
        if let Some(outcome) = outcome {
            self.hands.push(Hand::ended(sequence, outcome, left));
            return;
        }
        let Some(mut supervised) = left else { return self.cut_off(request, &started, None) };
        match supervised.look() {
            Sight::Lost => self.cut_off(request, &started, Some(supervised)),
            Sight::Starting | Sight::Running { .. } | Sight::Over(_) => {
                info!(%request, "a program of an earlier run of the agent is taken up");
                let mut hand = Hand::new(request, Some(sequence), Station::Running(Box::new(supervised)));
                hand.terms = terms;
                self.hands.push(hand);
            }
        }
    }

    /// Its program has ended, and the guest was to go down behind that.
    fn take_up_rebooted(
        &mut self,
        request: RequestId,
        (sequence, terms): (Sequence, Option<Terms>),
        told: Acknowledgement,
        before: BootId,
        left: Option<Supervised>,
    ) {
        let station = |left: Supervised| Station::Running(Box::new(left));
        if before == self.identity.boot_id() {
            // Only the agent went down; the guest is still to.
            info!(%request, "the guest is still to reboot");
            let mut hand = Hand::new(request, Some(sequence), left.map_or(Station::Offered, station));
            (hand.terms, hand.down) = (terms, Some((clock::now(), Box::new(told))));
            self.hands.push(hand);
            return;
        }
        let said = self.behind_reboot(told, before);
        let _is_kept = self.keep(Some(sequence), &said);
        self.hands.push(Hand::ended(sequence, said, left));
    }

    /// Nobody saw its end. What may start again begins anew, its output too; anything else is interrupted.
    fn cut_off(
        &mut self,
        request: RequestId,
        started: &Option<crate::journal::record::Started>,
        left: Option<Supervised>,
    ) {
        self.end_left_over(request);
        let Some(started) = started else { return };
        if started.idempotent {
            left.into_iter().for_each(Supervised::remove);
            return;
        }
        warn!(%request, "a request had started and its end is not known; it is reported as interrupted");
        let output = left.as_ref().map(printed).unwrap_or_default();
        let (outcome, evidence) = (Outcome::Interrupted, Evidence::None);
        let acknowledgement = Acknowledgement { request, outcome, evidence, output, ran: None };
        let _is_kept = self.keep(Some(started.sequence), &acknowledgement);
        self.hands.push(Hand::ended(started.sequence, acknowledgement, left));
    }
}

/// Milliseconds that processes of an earlier run may take to go once they were killed.
const LEFT_OVER_MS_MAX: u64 = 5_000;
