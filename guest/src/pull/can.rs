//! A dry run: whether something would begin, and by which rule. Nothing is fetched, noted or begun.
//!
//! Called by `offered` for the query. Says what the policy and the gate of signatures say of the real thing, by asking
//! them the same.

use super::Agent;
use super::offered::{told, unsigned};
use crate::apply::Done;
use crate::clock;
use crate::policy::{Demand, Ruling};
use doorbell_wire::ids::RequestId;
use doorbell_wire::message::action::{Action, Can};
use doorbell_wire::message::outcome::{Effect, Evidence, Outcome, Refusal, Verdict};

impl Agent {
    pub(super) fn can(&self, request: RequestId, can: &Can) -> Done {
        let offer = can.offer(request);
        let (refusal, verdict) = match self.policy.rule_on(&offer.action) {
            Err(rule) => {
                let verdict = Verdict { effect: Effect::Deny, rule: rule.clone(), run_as: None };
                (Some(Refusal::Policy(rule)), verdict)
            }
            Ok(ruling) => (self.refusal_of(&ruling, &offer), verdict(ruling)),
        };
        let outcome = refusal.map_or(Outcome::Succeeded, Outcome::Refused);
        Done { outcome, evidence: Evidence::Verdict(verdict), ran: None }
    }

    /// Why what a rule lets begin would not. A step behind a reboot is not asked about: the first one is always due.
    fn refusal_of(&self, ruling: &Ruling, offer: &doorbell_wire::message::Offer) -> Option<Refusal> {
        let demanded = ruling.demand != Demand::None;
        if offer.action == Action::LinkList {
            return (ruling.demand == Demand::Rule).then(|| unsigned(ruling));
        }
        self.gate.judge(offer, demanded, true, clock::wall_s()).err().map(|fault| told(fault, ruling))
    }
}

fn verdict(ruling: Ruling) -> Verdict {
    let effect = if ruling.demand == Demand::None { Effect::Allow } else { Effect::RequireSignature };
    Verdict { effect, rule: ruling.rule, run_as: ruling.run_as }
}
