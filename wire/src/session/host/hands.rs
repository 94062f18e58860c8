//! The requests in the guest's hands: taken up, and found again.
//!
//! Called by the half it belongs to and by its calls.

use super::Host;
use super::state::{At, Hand};
use crate::error::Misbehaved;
use crate::ids::RequestId;
use crate::limits::HANDS_MAX;
use crate::session::InputBook;

impl Host {
    /// Refuses a request that is in a hand already, and one for which there is no hand.
    pub(super) fn free_hand(&self, request: RequestId) -> Result<(), Misbehaved> {
        if self.hand(request).is_some() {
            return Err(Misbehaved::OfferedTwice);
        }
        if self.hands.len() >= HANDS_MAX { Err(Misbehaved::HandsFull { max: HANDS_MAX }) } else { Ok(()) }
    }

    pub(super) fn hold(&mut self, request: RequestId, at: At, output_max: u64, input: InputBook) {
        self.hands.push(Hand { request, at, printed: None, output_max, due: 0, stage: None, input });
    }

    pub(super) fn hand(&self, request: RequestId) -> Option<&Hand> {
        self.hands.iter().find(|hand| hand.request == request)
    }

    /// The hand that a frame of the guest speaks of.
    pub(super) fn told(&mut self, frame: &'static str, request: RequestId) -> Result<&mut Hand, Misbehaved> {
        let found = self.hands.iter_mut().find(|hand| hand.request == request);
        found.ok_or(Misbehaved::WrongRequest { frame })
    }
}
