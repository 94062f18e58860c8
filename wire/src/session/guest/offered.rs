//! How a request comes into the agent's hand: as the answer to a pull, or pushed behind a ring.
//!
//! Called by the half it belongs to with what the manager sent. Refuses what is in hand already, a floor that settles
//! the request itself, and a program that is not the offer's.

use super::state::{At, Hand, State};
use super::{EARLIER_VERSION, Guest, Owed};
use crate::error::{Misbehaved, SessionError};
use crate::limits::{HANDS_MAX, PUSH_LEN_MAX};
use crate::message::{Offer, Push, SEQUENCE_MAX};
use crate::session::InputBook;

impl Guest {
    pub(super) fn offered(&mut self, offer: Box<Offer>) -> Result<(), SessionError> {
        self.hold(&offer)?;
        self.out.push_back(Owed::Offered(offer));
        self.answered();
        Ok(())
    }

    /// It answers no pull: one that is out stays out.
    pub(super) fn pushed(&mut self, push: Box<Push>) -> Result<(), SessionError> {
        let (got, awaited) = (push.program.len() as u64, push.offer.action.payload());
        let len = awaited.map_or(0, |payload| payload.len);
        if got > 0 && (got != len || got > PUSH_LEN_MAX) {
            return Err(Misbehaved::ChunkBeyondEnd { frame: "PUSH", got, len: len.min(PUSH_LEN_MAX) }.into());
        }
        if self.hands.len() >= HANDS_MAX {
            return Err(Misbehaved::HandsFull { max: HANDS_MAX }.into());
        }
        self.hold(&push.offer)?;
        self.out.push_back(Owed::Pushed(push));
        Ok(())
    }

    fn hold(&mut self, offer: &Offer) -> Result<(), SessionError> {
        let request = offer.request;
        if offer.signed.is_some() && self.version == 0 {
            return Err(Misbehaved::Unexpected { frame: "OFFER", state: EARLIER_VERSION }.into());
        }
        if self.hand(request).is_some() {
            return Err(Misbehaved::OfferedTwice.into());
        }
        if !offer.floor_is_valid() {
            let max = offer.sequence.map_or(SEQUENCE_MAX, u64::from);
            return Err(Misbehaved::FloorTooHigh { got: offer.floor, max }.into());
        }
        let len = offer.action.payload().map_or(0, |payload| payload.len);
        let (at, output_max) = (At::Deciding { len }, offer.action.output_len_max());
        let input = InputBook::of(offer.action.input());
        self.hands.push(Hand { request, at, printed: None, output_max, stage: None, input });
        Ok(())
    }

    /// The pull is answered; one more goes out if the manager rang meanwhile.
    pub(super) fn answered(&mut self) {
        self.state = State::Working;
        if self.rung {
            self.pull_again();
        }
    }
}
