//! What the manager's half checks of the bytes that come in, and of the credit for those that go out.
//!
//! Called by [`super`] for each frame of an open session that carries bytes, or asks for them.

use super::state::{At, Hand};
use super::{Host, Owed, unexpected};
use crate::error::{Misbehaved, SessionError};
use crate::message::{Fetch, FromGuest, InputCredit, Output};
use crate::session::printed;

impl Host {
    pub(super) fn fetch(&mut self, fetch: Fetch) -> Result<(), SessionError> {
        let hand = self.told("FETCH", fetch.request)?;
        let At::Offered { len } = hand.at else {
            return Err(unexpected(&FromGuest::Fetch(fetch), hand.at.name()));
        };
        if fetch.offset >= len {
            return Err(Misbehaved::FetchBeyondEnd { got: fetch.offset, len }.into());
        }
        hand.at = At::Serving { next: fetch.offset, len };
        self.out.push_back(Owed::Serve(fetch.request));
        Ok(())
    }

    pub(super) fn printed(&mut self, output: Output) -> Result<(), SessionError> {
        let window = self.output.accept("OUTPUT", output.bytes.len())?;
        let hand = self.told("OUTPUT", output.request)?;
        let Hand { at: At::Applying, printed: Some(at), output_max, .. } = *hand else {
            return Err(unexpected(&FromGuest::Output(output), hand.at.name()));
        };
        hand.printed = Some(printed(at, output_max, &output)?);
        hand.due = hand.due.saturating_add(u32::try_from(output.bytes.len()).unwrap_or(u32::MAX));
        self.output = window;
        self.out.push_back(Owed::Spool(output));
        Ok(())
    }

    pub(super) fn input_credit(&mut self, credit: InputCredit) -> Result<(), SessionError> {
        let hand = self.told("INPUT_CREDIT", credit.request)?;
        if hand.at == At::Storing {
            return Err(unexpected(&FromGuest::InputCredit(credit), hand.at.name()));
        }
        hand.input.granted(credit.bytes)?;
        self.out.push_back(Owed::InputTaken(credit.request));
        Ok(())
    }
}
