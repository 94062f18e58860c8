//! The guest goes down for a request, and what is told behind that.
//!
//! Called by `pull` when a program is over and at every wake-up, and by `resume` in the next run of the kernel. That
//! the guest goes down is on disk before it does; a request is told as rebooted only by an agent that finds another
//! run of the kernel than the one on disk.

use super::Agent;
use crate::apply::reboot;
use crate::clock;
use crate::hand::{Hand, Station};
use crate::journal::record::Terms;
use doorbell_wire::ids::{BootId, RequestId, Tick};
use doorbell_wire::message::action::{Action, Reboot, RunReboot};
use doorbell_wire::message::outcome::{Acknowledgement, Evidence, Outcome, Rebooted};
use tracing::{info, warn};

/// What an action says of a reboot.
pub(super) const fn terms_of(action: &Action) -> Option<Terms> {
    match action {
        Action::RunReboot(RunReboot { reboot, step, .. }) => Some(Terms { reboot: *reboot, step: *step }),
        Action::Run(_)
        | Action::LinkList
        | Action::LinkSet(_)
        | Action::Put(_)
        | Action::Get(_)
        | Action::Can(_) => None,
    }
}

/// What is told behind the reboot that this end of a program asks for; `None` where it asks for none.
fn behind(terms: Option<Terms>, outcome: &Outcome) -> Option<Outcome> {
    let Terms { reboot, step } = terms?;
    match (reboot, outcome) {
        (Reboot::AfterSuccess, Outcome::Succeeded) => Some(Outcome::Succeeded),
        (Reboot::OnStatus { status, steps_max }, Outcome::Failed(code)) if *code == status => {
            let next = step.checked_add(1)?;
            (step < steps_max).then_some(Outcome::Continues(next))
        }
        _ => None,
    }
}

/// The end of a request whose guest did not go down for it.
fn stayed(terms: Option<Terms>) -> Outcome {
    match terms {
        // The step it asked to be continued from is the last one.
        Some(Terms { reboot: Reboot::OnStatus { status, .. }, .. }) => Outcome::Failed(status),
        Some(Terms { reboot: Reboot::AfterSuccess, .. }) | None => Outcome::NotRebooted,
    }
}

impl Agent {
    /// Whether the guest goes down for the end of this request; nothing else is to be done for it then.
    pub(super) fn goes_down(&mut self, acknowledgement: &Acknowledgement) -> bool {
        let request = acknowledgement.request;
        let Some(hand) = self.hand(request) else { return false };
        let (terms, sequence) = (hand.terms, hand.sequence);
        let (Some(outcome), Some(sequence)) = (behind(terms, &acknowledgement.outcome), sequence) else {
            return false;
        };
        let told = Acknowledgement { outcome, ..acknowledgement.clone() };
        if let Err(errno) = self.journal.goes_down(sequence, &told, self.identity.boot_id()) {
            warn!(%request, %errno, "the guest does not reboot: the journal does not take it");
            return false;
        }
        info!(%request, "the guest is to reboot");
        let now = clock::now();
        if let Some(hand) = self.hand(request) {
            hand.started_us = hand.started_us.or_else(|| told.ran.map(|ran| ran.started_us));
            hand.down = Some((now, Box::new(told)));
        }
        true
    }

    /// Whether the guest is about to go down: nothing new is begun.
    pub(super) fn is_going_down(&self) -> bool {
        self.hands.iter().any(|hand| hand.down.is_some())
    }

    /// Takes the guest down when what is to be said is said; ends what waits for that where it does not go down.
    pub(super) fn tend_reboot(&mut self, now: Tick) {
        let waits = |hand: &&Hand| hand.down.is_some();
        let Some((since, said)) = self.hands.iter().filter(waits).find_map(|hand| {
            let since = hand.down.as_ref().map(|(since, _)| *since)?;
            Some((since, hand.has_said_all()))
        }) else {
            return;
        };
        if now >= since.after(DOWN_MS_MAX) {
            return self.end_stayed();
        }
        let runs = |hand: &Hand| matches!(hand.station, Station::Running(_)) && hand.down.is_none();
        let others = self.hands.iter().any(runs) && now < since.after(OTHERS_MS);
        let ready = (said || now >= since.after(SAY_MS)) && !others;
        if ready && self.reboot_at.is_none_or(|tried| now >= tried.after(AGAIN_MS)) {
            let forced = self.reboot_at.is_some();
            self.reboot_at = Some(now);
            reboot::go(forced);
        }
    }

    fn end_stayed(&mut self) {
        let waiting: Vec<RequestId> =
            self.hands.iter().filter(|hand| hand.down.is_some()).map(|hand| hand.request).collect();
        self.reboot_at = None;
        for request in waiting {
            let Some(hand) = self.hand(request) else { continue };
            let terms = hand.terms;
            let Some((_, told)) = hand.down.take() else { continue };
            warn!(%request, "the guest did not reboot");
            self.conclude(Acknowledgement { outcome: stayed(terms), ..*told });
        }
    }

    /// What is told of a request for which the guest went down, in another run of its kernel.
    pub(super) fn behind_reboot(&self, told: Acknowledgement, before: BootId) -> Acknowledgement {
        let after = self.identity.boot_id();
        info!(request = %told.request, %before, %after, "the guest has rebooted");
        Acknowledgement { evidence: Evidence::Rebooted(Rebooted { before, after }), ..told }
    }
}

/// Milliseconds for what is to be said before the guest goes down.
const SAY_MS: u64 = 3_000;
/// Milliseconds that what runs beside may take to end.
const OTHERS_MS: u64 = 30_000;
/// Milliseconds until the guest is asked to go down once more, by the kernel itself.
const AGAIN_MS: u64 = 60_000;
/// Milliseconds after which it will not.
const DOWN_MS_MAX: u64 = 180_000;

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroU8;

    fn number(number: u8) -> NonZeroU8 {
        NonZeroU8::new(number).unwrap()
    }

    #[test]
    fn only_the_end_that_asks_for_a_reboot_gets_one() {
        let after = Some(Terms { reboot: Reboot::AfterSuccess, step: number(1) });
        assert_eq!(behind(after, &Outcome::Succeeded), Some(Outcome::Succeeded));
        assert_eq!(behind(after, &Outcome::Failed(number(1))), None);
        assert_eq!(behind(after, &Outcome::TimedOut), None);
        assert_eq!(behind(None, &Outcome::Succeeded), None);
        let on = |step| {
            let reboot = Reboot::OnStatus { status: number(194), steps_max: number(3) };
            Some(Terms { reboot, step: number(step) })
        };
        assert_eq!(behind(on(1), &Outcome::Failed(number(194))), Some(Outcome::Continues(number(2))));
        assert_eq!(behind(on(2), &Outcome::Failed(number(194))), Some(Outcome::Continues(number(3))));
        assert_eq!(behind(on(3), &Outcome::Failed(number(194))), None, "the last step asks in vain");
        assert_eq!(behind(on(1), &Outcome::Failed(number(193))), None);
        assert_eq!(behind(on(1), &Outcome::Succeeded), None);
    }

    #[test]
    fn a_guest_that_stays_is_no_success() {
        let terms = |reboot| Some(Terms { reboot, step: number(1) });
        assert_eq!(stayed(terms(Reboot::AfterSuccess)), Outcome::NotRebooted);
        let on = Reboot::OnStatus { status: number(194), steps_max: number(3) };
        assert_eq!(stayed(terms(on)), Outcome::Failed(number(194)));
    }
}
