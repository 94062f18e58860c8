//! From the end of the effect to the receipt: the outcome is journalled, acknowledged and forgotten.
//!
//! Called by `pull` for whatever ended a request, in any station. The outcome is on disk before it is said.

use super::Agent;
use crate::apply::Done;
use crate::fetch;
use crate::hand::{Hand, Station, Way};
use crate::journal::history::Entry;
use crate::supervise::{Over, Supervised};
use doorbell_wire::error::SessionError;
use doorbell_wire::ids::{RequestId, Sequence};
use doorbell_wire::message::outcome::{
    Acknowledgement, Evidence, Outcome, OutputTotals, Refusal, StreamTotal,
};
use doorbell_wire::session::guest::Guest;
use tracing::{info, warn};

impl Agent {
    /// A request ends without a program.
    pub(super) fn end(&mut self, request: RequestId, outcome: Outcome) {
        self.ended(request, Done { outcome, evidence: Evidence::None, ran: None });
    }

    /// An action that is no program has ended.
    pub(super) fn ended(&mut self, request: RequestId, done: Done) {
        let Done { outcome, evidence, ran } = done;
        let output = OutputTotals::default();
        self.conclude(Acknowledgement { request, outcome, evidence, output, ran });
    }

    /// A program is over.
    pub(super) fn over(&mut self, request: RequestId, over: Over) {
        let Over { outcome, evidence, output, ran } = over;
        // Nobody has cancelled it: it was ended because its input could not be kept.
        let errno = self.hand(request).and_then(|hand| hand.input_errno);
        let outcome = match (outcome, errno) {
            (Outcome::Cancelled, Some(errno)) => Outcome::Refused(Refusal::StateUnwritable(errno)),
            (outcome, _) => outcome,
        };
        let acknowledgement = Acknowledgement { request, outcome, evidence, output, ran };
        if !self.goes_down(&acknowledgement) {
            self.conclude(acknowledgement);
        }
    }

    /// The supervisor went down before its program: nobody knows how that ended.
    pub(super) fn lost(&mut self, request: RequestId) {
        self.end_left_over(request);
        if self.journal.history().entry(request).is_some_and(Entry::may_start_again) {
            warn!(%request, "a program's supervisor went down; the request is let go, to be started again");
            return self.let_go(request);
        }
        warn!(%request, "a program's supervisor went down; the request is reported as interrupted");
        let output = match self.hand(request).map(|hand| &hand.station) {
            Some(Station::Running(supervised)) => printed(supervised),
            Some(Station::Offered | Station::Fetching(..) | Station::Ended(..)) | None => {
                OutputTotals::default()
            }
        };
        let (outcome, evidence) = (Outcome::Interrupted, Evidence::None);
        self.conclude(Acknowledgement { request, outcome, evidence, output, ran: None });
    }

    /// A manager offers again what its guest has no longer in hand when it comes back, and not before.
    fn let_go(&mut self, request: RequestId) {
        let Some(at) = self.hands.iter().position(|hand| hand.request == request) else { return };
        let Hand { station, way, .. } = self.hands.remove(at);
        if let Station::Running(supervised) = station {
            supervised.remove();
        }
        if self.open.contains(&way) {
            self.comes_back.push(way);
        }
    }

    /// Whether the session of this way no longer knows what is in hand, so that there has to be another one.
    #[must_use]
    pub fn comes_back(&self, way: Way) -> bool {
        self.comes_back.contains(&way)
    }

    /// It has ended before and the manager does not know: its output and its outcome are said again.
    pub(super) fn repeat(
        &mut self,
        session: Guest,
        acknowledgement: Acknowledgement,
    ) -> Result<Guest, SessionError> {
        let request = acknowledgement.request;
        let left = self.left_of(request).map(Box::new);
        let ran = acknowledgement.ran;
        let Some(hand) = self.hand(request) else { return Ok(session) };
        hand.station = Station::Ended(Box::new(acknowledgement), left);
        let Some(ran) = ran else { return Ok(session) };
        hand.started_us = Some(ran.started_us);
        session.apply(request)
    }

    /// The manager has stored the outcome: nothing of the request is needed any more.
    pub(super) fn forget(&mut self, request: RequestId) {
        let Some(at) = self.hands.iter().position(|hand| hand.request == request) else { return };
        let hand = self.hands.remove(at);
        let continues =
            matches!(&hand.station, Station::Ended(said, _) if matches!(said.outcome, Outcome::Continues(_)));
        let noted = hand.sequence.map(|sequence| {
            if continues {
                self.journal.continued(request)
            } else {
                self.journal.forgotten(request, sequence)
            }
        });
        if let Some(Err(errno)) = noted {
            warn!(%request, %errno, "that a request is done with is kept in memory: the disk does not take it");
        }
        if let Station::Ended(_, Some(supervised)) = hand.station {
            supervised.remove();
        }
    }

    /// The outcome is on disk before it is acknowledged; where the disk refuses, it is acknowledged all the
    /// same, for a manager that knows is better than one that waits.
    pub(super) fn conclude(&mut self, acknowledgement: Acknowledgement) {
        let Some(sequence) = self.hand(acknowledgement.request).map(|hand| hand.sequence) else { return };
        if sequence.is_some() {
            info!(request = %acknowledgement.request, outcome = ?acknowledgement.outcome, "ended");
        }
        let is_kept = self.keep(sequence, &acknowledgement);
        fetch::clear(&self.state, acknowledgement.request);
        let Some(hand) = self.hand(acknowledgement.request) else { return };
        hand.started_us = hand.started_us.or_else(|| acknowledgement.ran.map(|ran| ran.started_us));
        let before = std::mem::replace(&mut hand.station, Station::Offered);
        hand.station = Station::Ended(Box::new(acknowledgement), remains(before, is_kept));
    }

    /// Whether the outcome is on disk, as far as it has to be.
    pub(super) fn keep(&mut self, sequence: Option<Sequence>, acknowledgement: &Acknowledgement) -> bool {
        let Some(sequence) = sequence else { return true };
        if crate::planted::is("G3") {
            return true;
        }
        let untouched = matches!(
            acknowledgement.outcome,
            Outcome::Refused(Refusal::StaleSequence(_) | Refusal::StateUnwritable(_))
        );
        if untouched {
            return true;
        }
        let noted = self.journal.outcome(sequence, acknowledgement);
        if let Err(errno) = noted {
            warn!(request = %acknowledgement.request, %errno, "an outcome is kept in memory: the disk does not take it");
        }
        noted.is_ok()
    }
}

/// What a request that was cut off has printed, as far as it is here.
pub(super) fn printed(supervised: &Supervised) -> OutputTotals {
    let kept = supervised.kept();
    let total = |kept| StreamTotal { kept, ..StreamTotal::default() };
    OutputTotals { stdout: total(kept.stdout), stderr: total(kept.stderr) }
}

/// The supervisor may go when its outcome is in the journal; otherwise it makes its own record of it durable.
fn remains(station: Station, is_kept: bool) -> Option<Box<Supervised>> {
    match station {
        Station::Running(mut supervised) => {
            if is_kept {
                supervised.taken();
            }
            Some(supervised)
        }
        Station::Ended(_, supervised) => supervised,
        Station::Offered | Station::Fetching(..) => None,
    }
}

impl Hand {
    /// A request that ended in an earlier run of the agent.
    pub(super) fn ended(
        sequence: Sequence,
        acknowledgement: Acknowledgement,
        left: Option<Supervised>,
    ) -> Self {
        let request = acknowledgement.request;
        Self::new(request, Some(sequence), Station::Ended(Box::new(acknowledgement), left.map(Box::new)))
    }
}
