//! From an offer to the decision what is done with it.
//!
//! Called by `pull` with what the session brought, by a pull or behind a ring. The journal decides.

use super::{Agent, Way};
use crate::apply::query;
use crate::clock;
use crate::decide::{Decision, decide, is_due};
use crate::ended::Ended;
use crate::hand::Hand;
use crate::verify::signature::{Gate, Permit};
use doorbell_wire::ids::{RequestId, ShortText, Tick};
use doorbell_wire::message::Offer;
use doorbell_wire::message::outcome::{Outcome, Refusal, SignatureFault};
use doorbell_wire::session::guest::Guest;
use std::path::Path;
use tracing::{debug, info};

impl Agent {
    /// Takes signatures of those whom this file allows; `demanded` lets nothing begin without one.
    pub fn take_signatures(&mut self, signers: &Path, demanded: bool) {
        self.gate = Gate::open(&self.state, self.identity.key(), signers, demanded);
    }

    pub(super) fn offered(
        &mut self,
        way: Way,
        session: Guest,
        now: Tick,
        offer: Box<Offer>,
        program: &[u8],
    ) -> Result<Guest, Ended> {
        let request = offer.request;
        if self.hand(request).is_some() {
            return self.offered_elsewhere(way, session, request);
        }
        self.hands.push(Hand::offered(way, request, offer.sequence));
        match offer.sequence {
            Some(sequence) => {
                info!(%request, action = offer.action.name(), sequence = u64::from(sequence), "pulled");
            }
            // Queries come as often as somebody looks, and change nothing.
            None => debug!(%request, action = offer.action.name(), "asked"),
        }
        // What is left undecided is offered again when the guest is up.
        if offer.sequence.is_some() && self.is_going_down() {
            return Ok(session);
        }
        match decide(&offer, self.journal.history()) {
            Decision::Query => {
                let session = session.apply(request)?;
                self.ended(request, query(&offer.action));
                Ok(session)
            }
            Decision::Begin(sequence) => {
                let is_due = is_due(&offer, self.journal.history());
                match self.gate.judge(&offer, is_due, clock::wall_s()) {
                    Ok(permit) => {
                        self.permit(request, permit);
                        Ok(self.fetch(session, now, offer, sequence, program)?)
                    }
                    Err(fault) => {
                        let refusal = refusal(fault, session.version());
                        self.end(request, Outcome::Refused(refusal));
                        Ok(session)
                    }
                }
            }
            Decision::Repeat(acknowledgement) => Ok(self.repeat(session, *acknowledgement)?),
            Decision::Interrupted => {
                self.end_left_over(request);
                self.end(request, Outcome::Interrupted);
                Ok(session)
            }
            Decision::Stale(sequence) => {
                self.end(request, Outcome::Refused(Refusal::StaleSequence(sequence)));
                Ok(session)
            }
        }
    }

    fn permit(&mut self, request: RequestId, permit: Permit) {
        if let Some(hand) = self.hand(request) {
            hand.permit = Some(permit);
        }
    }

    /// It is in hand by the other way, so the journal must not decide: it has the start and cannot have the end. Where
    /// that way has no session, it goes on by this one.
    fn offered_elsewhere(&mut self, way: Way, session: Guest, request: RequestId) -> Result<Guest, Ended> {
        let open = self.open.clone();
        let taken = self.hand(request).filter(|hand| hand.way != way && !open.contains(&hand.way));
        let has_started = taken.ok_or(Ended::Elsewhere(request))?.offered_again(way);
        info!(%request, ?way, "in hand by another way, and goes on by this one");
        if has_started { Ok(session.apply(request)?) } else { Ok(session) }
    }
}

/// A manager of the version before knows no faults of signatures, and can offer no signature.
fn refusal(fault: SignatureFault, version: u16) -> Refusal {
    if version > 0 {
        return Refusal::Signature(fault);
    }
    Refusal::Unsupported(ShortText::front(
        "a request without a signature, which this guest demands; a newer manager hands signatures on",
    ))
}
