//! What to do with an offered request. Pure.
//!
//! Called by `pull` with the offer and the journal's history. This is where a request is kept from starting
//! twice: whatever the manager offers, only a request that left no trace here is begun.

use crate::journal::history::{Entry, History};
use doorbell_wire::ids::Sequence;
use doorbell_wire::message::Offer;
use doorbell_wire::message::action::{Action, RunReboot};
use doorbell_wire::message::outcome::{Acknowledgement, Outcome};
use std::num::NonZeroU8;

/// What is to be done.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Decision {
    /// Answer it at once; it has no effect and no record.
    Query,
    /// Begin it: nothing of it has happened here, or it may happen again.
    Begin(Sequence),
    /// It has ended; say so again.
    Repeat(Box<Acknowledgement>),
    /// It has started, nobody knows how it ended, and it must not start again.
    Interrupted,
    /// It was settled before and nothing is known of it any more.
    Stale(u64),
}

/// Decides.
#[must_use]
pub fn decide(offer: &Offer, history: &History) -> Decision {
    let Some(sequence) = offer.sequence else { return Decision::Query };
    match history.entry(offer.request) {
        // Behind its reboot, the next step and no other is begun.
        Some(Entry { outcome: Some(Acknowledgement { outcome: Outcome::Continues(step), .. }), .. })
            if step_of(offer) == Some(*step) =>
        {
            Decision::Begin(sequence)
        }
        Some(Entry { outcome: Some(outcome), .. }) => Decision::Repeat(Box::new(outcome.clone())),
        // The manager's word of this moment does not make a start repeatable that was not when it happened.
        Some(Entry { started: Some(started), .. }) if !(started.idempotent && offer.idempotent) => {
            Decision::Interrupted
        }
        Some(_) => Decision::Begin(sequence),
        None if history.is_settled(sequence) || history.is_recent(offer.request) => {
            Decision::Stale(sequence.into())
        }
        None => Decision::Begin(sequence),
    }
}

/// Whether the step that an offer carries is the first one, the one that its guest waits for, or one that it had
/// begun: a manager cannot choose it for a guest.
#[must_use]
pub fn is_due(offer: &Offer, history: &History) -> bool {
    let Some(step) = step_of(offer).filter(|step| *step != NonZeroU8::MIN) else { return true };
    let Some(entry) = history.entry(offer.request) else { return false };
    let continues = entry.outcome.as_ref().is_some_and(|said| said.outcome == Outcome::Continues(step));
    continues || entry.outcome.is_none() && entry.terms.is_some_and(|terms| terms.step == step)
}

const fn step_of(offer: &Offer) -> Option<NonZeroU8> {
    match &offer.action {
        Action::RunReboot(RunReboot { step, .. }) => Some(*step),
        Action::Run(_)
        | Action::LinkList
        | Action::LinkSet(_)
        | Action::Put(_)
        | Action::Get(_)
        | Action::Can(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::record::{Record, Started};
    use doorbell_wire::ids::{BootId, RequestId};
    use doorbell_wire::message::action::Action;
    use doorbell_wire::message::outcome::{Evidence, Outcome, OutputTotals};

    fn sequence(number: u64) -> Sequence {
        number.try_into().unwrap()
    }

    fn offer(number: u8, idempotent: bool) -> Offer {
        Offer {
            request: RequestId::new([number; 16]),
            sequence: Some(sequence(number.into())),
            floor: 1,
            action: Action::LinkList,
            timeout_ms: None,
            idempotent,
            signed: None,
        }
    }

    fn started(number: u8, idempotent: bool) -> Record {
        let request = RequestId::new([number; 16]);
        let boot_id = BootId::new([0; 16]);
        Record::Started(Started { request, sequence: sequence(number.into()), floor: 3, idempotent, boot_id })
    }

    fn history(records: impl IntoIterator<Item = Record>) -> History {
        let mut history = History::default();
        records.into_iter().for_each(|record| history.note(record));
        history
    }

    #[test]
    fn a_query_needs_no_history() {
        let query = Offer { sequence: None, ..offer(1, false) };
        assert_eq!(decide(&query, &history([started(1, false)])), Decision::Query);
    }

    #[test]
    fn a_new_request_begins() {
        assert_eq!(decide(&offer(5, false), &history([])), Decision::Begin(sequence(5)));
    }

    #[test]
    fn a_started_request_begins_again_only_if_both_say_so() {
        let decided = |then, offered| decide(&offer(1, offered), &history([started(1, then)]));
        assert_eq!(decided(false, false), Decision::Interrupted);
        assert_eq!(decided(false, true), Decision::Interrupted);
        assert_eq!(decided(true, false), Decision::Interrupted);
        assert_eq!(decided(true, true), Decision::Begin(sequence(1)));
    }

    #[test]
    fn an_ended_request_is_acknowledged_again() {
        let acknowledgement = Acknowledgement {
            request: RequestId::new([1; 16]),
            outcome: Outcome::TimedOut,
            evidence: Evidence::None,
            output: OutputTotals::default(),
            ran: None,
        };
        let end =
            Record::Outcome { sequence: sequence(1), acknowledgement: Box::new(acknowledgement.clone()) };
        let history = history([started(1, true), end]);
        assert_eq!(decide(&offer(1, true), &history), Decision::Repeat(Box::new(acknowledgement)));
    }

    #[test]
    fn a_name_that_was_finished_here_does_not_begin_under_another_sequence() {
        let request = RequestId::new([5; 16]);
        let history = history([Record::Forgotten { request, sequence: sequence(5) }]);
        let again = Offer { sequence: Some(sequence(1 << 40)), floor: 1 << 40, ..offer(5, true) };
        assert_eq!(decide(&again, &history), Decision::Stale(1 << 40));
        let other = Offer { request: RequestId::new([6; 16]), ..again };
        assert_eq!(decide(&other, &history), Decision::Begin(sequence(1 << 40)));
    }

    #[test]
    fn what_was_settled_before_is_stale_and_what_was_overtaken_is_not() {
        let forgotten =
            |number| Record::Forgotten { request: RequestId::new([99; 16]), sequence: sequence(number) };
        let history = history([started(9, true), forgotten(4), forgotten(7), forgotten(9)]);
        assert_eq!(decide(&offer(4, true), &history), Decision::Stale(4));
        assert_eq!(decide(&offer(7, true), &history), Decision::Stale(7));
        assert_eq!(decide(&offer(5, true), &history), Decision::Begin(sequence(5)));
        assert_eq!(decide(&offer(8, true), &history), Decision::Begin(sequence(8)));
        assert_eq!(decide(&offer(2, true), &history), Decision::Stale(2), "below the floor of the ninth");
    }
}
