//! From the decision to the effect: fetch, verify, journal, apply.
//!
//! Called by `pull` for a request that is to begin. Each station is told to the manager when it is reached,
//! and each can end the request with an outcome of its own.

use super::Agent;
use crate::apply::{Begun, Place, prepare, unsupported};
use crate::clock;
use crate::fetch::Staging;
use crate::hand::Station;
use crate::journal::record::Started;
use crate::verify::{VerifiedProgram, verify};
use doorbell_wire::error::SessionError;
use doorbell_wire::ids::{Sequence, Tick};
use doorbell_wire::message::outcome::{Outcome, Refusal};
use doorbell_wire::message::{Chunk, Offer, Offsets, Stage};
use doorbell_wire::session::guest::Guest;

impl Agent {
    pub(super) fn fetch(
        &mut self,
        session: Guest,
        now: Tick,
        offer: Box<Offer>,
        sequence: Sequence,
    ) -> Result<Guest, SessionError> {
        if let Some(errno) = self.journal.unwritable() {
            self.end(Outcome::Refused(Refusal::StateUnwritable(errno as i32)));
            return Ok(session);
        }
        let Some(program) = offer.action.program() else {
            return self.begin(session, &offer, sequence, None);
        };
        match Staging::begin(&self.state.programs(), program) {
            Ok(staging) if staging.is_whole() => self.fetched(session, &offer, staging),
            Ok(staging) => {
                self.set(Station::Fetching(offer, staging));
                session.fetch(now)
            }
            Err(refusal) => {
                self.end(Outcome::NotReceived(refusal));
                Ok(session)
            }
        }
    }

    pub(super) fn stage(&mut self, session: Guest, chunk: &Chunk) -> Result<Guest, SessionError> {
        let Some(hand) = &mut self.hand else { return Ok(session) };
        let Station::Fetching(_, staging) = &mut hand.station else { return Ok(session) };
        if let Err(refusal) = staging.add(&chunk.bytes) {
            self.end(Outcome::NotReceived(refusal));
            return Ok(session);
        }
        let is_whole = staging.is_whole();
        let session = session.staged(u32::try_from(chunk.bytes.len()).unwrap_or(u32::MAX))?;
        if !is_whole {
            return Ok(session);
        }
        match std::mem::replace(&mut hand.station, Station::Offered) {
            Station::Fetching(offer, staging) => self.fetched(session, &offer, staging),
            Station::Offered | Station::Running(_) | Station::Ended(..) => Ok(session),
        }
    }

    fn fetched(&mut self, session: Guest, offer: &Offer, staging: Staging) -> Result<Guest, SessionError> {
        let session = self.reached(session, Stage::Fetched)?;
        let verified = staging.finish().map_err(Outcome::NotReceived).and_then(verify);
        match (verified, offer.sequence) {
            (Ok(program), Some(sequence)) => {
                let session = self.reached(session, Stage::Verified)?;
                self.begin(session, offer, sequence, Some(program))
            }
            (Err(outcome), _) => {
                self.end(outcome);
                Ok(session)
            }
            (Ok(_), None) => {
                self.end(unsupported("a program without a sequence"));
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
        program: Option<VerifiedProgram>,
    ) -> Result<Guest, SessionError> {
        let prepared = match prepare(&offer.action, program) {
            Ok(prepared) => prepared,
            Err(outcome) => {
                self.end(outcome);
                return Ok(session);
            }
        };
        let boot_id = self.identity.boot_id();
        let started = Started { request: offer.request, sequence, idempotent: offer.idempotent, boot_id };
        if let Err(errno) = self.journal.started(started) {
            self.end(Outcome::Refused(Refusal::StateUnwritable(errno as i32)));
            return Ok(session);
        }
        let session = self.reached(session, Stage::Journalled)?.apply()?;
        let output = self.state.output();
        let (request, timeout_ms) = (offer.request, offer.timeout_ms);
        let place = Place { request, timeout_ms, cgroups: self.cgroups.as_ref(), output: &output };
        match prepared.begin(clock::now(), &place) {
            Begun::NotStarted(errno) => {
                self.end(Outcome::NotStarted(errno));
                return Ok(session);
            }
            Begun::Running(running) => self.set(Station::Running(running)),
            Begun::Done(done) => self.ended(done),
        }
        if let Some(hand) = &mut self.hand {
            hand.stream_from(Some(Offsets::default()));
        }
        self.reached(session, Stage::Started)
    }
}
