//! From an offer to the decision what is done with it.
//!
//! Called by `pull` with what the session brought, by a pull or behind a ring. The journal decides whether it begins, the
//! policy whether it may.

use super::{Agent, Way};
use crate::apply::query;
use crate::clock;
use crate::decide::{Decision, decide, is_due};
use crate::ended::Ended;
use crate::hand::Hand;
use crate::policy::{Demand, Policy, Ruling};
use crate::verify::signature::{Gate, Permit};
use doorbell_wire::ids::{RequestId, ShortText, Tick};
use doorbell_wire::message::Offer;
use doorbell_wire::message::action::Action;
use doorbell_wire::message::outcome::{Outcome, Refusal, SignatureFault};
use doorbell_wire::session::guest::Guest;
use std::path::Path;
use tracing::{debug, info, warn};

impl Agent {
    /// Takes signatures of those whom this file allows.
    pub fn take_signatures(&mut self, signers: &Path) {
        self.gate = Gate::open(&self.state, self.identity.key(), signers);
    }

    /// Does what this policy allows, and nothing else.
    pub fn obey(&mut self, policy: Policy) {
        self.policy = policy;
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
                self.answer(&offer, session.version());
                Ok(session)
            }
            Decision::Begin(sequence) => match self.judge(&offer) {
                Ok(permit) => {
                    self.permit(request, permit);
                    Ok(self.fetch(session, now, offer, sequence, program)?)
                }
                Err(refusal) => {
                    self.refuse(request, refusal, session.version());
                    Ok(session)
                }
            },
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

    /// A query has no signature, so it is not asked for one where all that has an effect is.
    fn answer(&mut self, offer: &Offer, version: u16) {
        if let Action::Can(can) = &offer.action {
            let done = self.can(offer.request, can);
            return self.ended(offer.request, done);
        }
        match self.policy.rule_on(&offer.action) {
            Ok(Ruling { demand: Demand::None | Demand::Agent, .. }) => {
                self.ended(offer.request, query(&offer.action));
            }
            Ok(ruling) => self.refuse(offer.request, unsigned(&ruling), version),
            Err(rule) => self.refuse(offer.request, Refusal::Policy(rule), version),
        }
    }

    /// Whether an offer may begin, by the policy and by what it is signed with.
    fn judge(&self, offer: &Offer) -> Result<Permit, Refusal> {
        let ruling = self.policy.rule_on(&offer.action).map_err(Refusal::Policy)?;
        let is_due = is_due(offer, self.journal.history());
        let judged = self.gate.judge(offer, ruling.demand != Demand::None, is_due, clock::wall_s());
        judged.map_err(|fault| told(fault, &ruling))
    }

    pub(super) fn refuse(&mut self, request: RequestId, refusal: Refusal, version: u16) {
        if let Refusal::Policy(rule) = &refusal {
            warn!(%request, rule = rule.as_str(), "refused by the policy");
        }
        self.end(request, Outcome::Refused(of_version(refusal, version)));
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

/// The refusal of what has no good signature, or none where the rule demands one.
pub(super) fn told(fault: SignatureFault, ruling: &Ruling) -> Refusal {
    if fault == SignatureFault::Missing { unsigned(ruling) } else { Refusal::Signature(fault) }
}

/// The refusal of what has no signature, by who demands one.
pub(super) fn unsigned(ruling: &Ruling) -> Refusal {
    if ruling.demand != Demand::Rule {
        return Refusal::Signature(SignatureFault::Missing);
    }
    let text = format!("a signature is demanded, and there is none (doorbell sign): {}", ruling.rule);
    Refusal::Policy(ShortText::front(&text))
}

/// A manager of the version before knows no policy and no faults of signatures, and can offer no signature.
fn of_version(refusal: Refusal, version: u16) -> Refusal {
    if version > 0 {
        return refusal;
    }
    if let Refusal::Policy(rule) = &refusal {
        return Refusal::Unsupported(ShortText::front(&format!("what its policy does not allow: {rule}")));
    }
    if matches!(refusal, Refusal::Signature(_)) {
        return Refusal::Unsupported(ShortText::front(
            "a request without a signature, which this guest demands; a newer manager hands signatures on",
        ));
    }
    refusal
}
