//! Bytes on their way to the guest, in two lanes: control goes before bulk.
//!
//! Filled by the session's drain, emptied by its writes. A frame that has begun is finished first, so a
//! control frame waits for one chunk at most.

use doorbell_wire::error::{Malformed, Reason};
use doorbell_wire::ids::RequestId;
use doorbell_wire::message::FromHost;
use std::collections::VecDeque;

/// The two lanes and the frame that is being written.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    current: Vec<u8>,
    written: usize,
    control: Vec<u8>,
    bulk: VecDeque<(RequestId, Vec<u8>)>,
}

impl Outbox {
    /// Puts a message into its lane. Input and its end keep their order, so both are bulk.
    pub(super) fn push(&mut self, message: &FromHost) -> Result<(), Malformed> {
        let request = match message {
            FromHost::Chunk(chunk) => Some(chunk.request),
            FromHost::Input(input) => Some(input.request),
            FromHost::InputEnd(end) => Some(end.request),
            FromHost::Ring
            | FromHost::Greeting(_)
            | FromHost::Welcome(_)
            | FromHost::Offer(_)
            | FromHost::Push(_)
            | FromHost::Clock(_)
            | FromHost::Nothing
            | FromHost::OutputCredit(_)
            | FromHost::Attached(_)
            | FromHost::Noted(_)
            | FromHost::Cancel(_)
            | FromHost::Ping(_)
            | FromHost::Resize(_)
            | FromHost::HostBye(_) => None,
        };
        if let FromHost::Noted(request) = message {
            self.hurry(*request);
        }
        let frame = message.to_frame()?;
        let Some(request) = request else { return frame.write(&mut self.control) };
        let mut bytes = Vec::new();
        frame.write(&mut bytes)?;
        self.bulk.push_back((request, bytes));
        Ok(())
    }

    /// Nothing of a request may come behind its end, and no credit may be lost: what waits goes in front of it.
    fn hurry(&mut self, request: RequestId) {
        let (late, other) = std::mem::take(&mut self.bulk).into_iter().partition(|(of, _)| *of == request);
        self.bulk = other;
        for (_, mut bytes) in Vec::from(late) {
            self.control.append(&mut bytes);
        }
    }

    /// What is to be written next; whole frames, control first.
    pub(super) fn front(&mut self) -> &[u8] {
        if self.written >= self.current.len() {
            self.written = 0;
            self.current = if self.control.is_empty() {
                self.bulk.pop_front().map(|(_, bytes)| bytes).unwrap_or_default()
            } else {
                std::mem::take(&mut self.control)
            };
        }
        self.current.get(self.written..).unwrap_or_default()
    }

    /// Tells that so many bytes of [`Outbox::front`] are written.
    pub(super) fn wrote(&mut self, count: usize) {
        self.written = self.written.saturating_add(count);
    }

    /// Whether nothing is to be written.
    pub(super) fn is_empty(&self) -> bool {
        self.written >= self.current.len() && self.control.is_empty() && self.bulk.is_empty()
    }

    /// Whether so much control waits that nothing more should be read that would be answered.
    pub(super) const fn is_clogged(&self) -> bool {
        self.control.len() > CONTROL_LEN_MAX
    }

    /// Whether another chunk may be made: none waits.
    pub(super) fn wants_bulk(&self) -> bool {
        self.bulk.is_empty()
    }

    /// The end of the frame that has begun, the control lane, and the goodbye.
    pub(super) fn into_goodbye(mut self, reason: Reason) -> Vec<u8> {
        let mut bytes = self.current.split_off(self.written.min(self.current.len()));
        bytes.append(&mut self.control);
        if let Ok(frame) = FromHost::HostBye(reason).to_frame() {
            // Within its kind's limit by construction; without it the peer sees a bare close.
            let _ = frame.write(&mut bytes);
        }
        bytes
    }
}

/// Far more than an honest guest's questions give in answers.
const CONTROL_LEN_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use doorbell_wire::message::{Chunk, Input, InputEnd};

    fn chunk() -> FromHost {
        FromHost::Chunk(Chunk { request: RequestId::new([1; 16]), offset: 0, bytes: vec![7; 1000] })
    }

    #[test]
    fn control_waits_for_one_begun_chunk_at_most() {
        let mut outbox = Outbox::default();
        outbox.push(&chunk()).unwrap();
        outbox.push(&chunk()).unwrap();
        let begun = outbox.front().len();
        outbox.wrote(1);
        outbox.push(&FromHost::Ring).unwrap();
        assert_eq!(outbox.front().len(), begun - 1, "a begun frame is finished first");
        outbox.wrote(begun - 1);
        assert_eq!(outbox.front(), [0x07], "the ring overtakes the second chunk");
        outbox.wrote(1);
        assert_eq!(outbox.front().len(), begun);
        outbox.wrote(begun);
        assert!(outbox.is_empty());
    }

    #[test]
    fn what_waits_of_a_request_goes_out_in_front_of_its_end() {
        let (one, other) = (RequestId::new([1; 16]), RequestId::new([2; 16]));
        let input = |request| FromHost::Input(Input { request, offset: 0, bytes: vec![7; 10] });
        let messages = [input(other), input(one), FromHost::InputEnd(InputEnd { request: one, len: 10 })];
        let mut outbox = Outbox::default();
        messages.iter().for_each(|message| outbox.push(message).unwrap());
        outbox.push(&FromHost::Noted(one)).unwrap();
        let first = outbox.front().to_vec();
        outbox.wrote(first.len());
        let kinds = [&messages[1], &messages[2], &FromHost::Noted(one)].map(|message| {
            let mut bytes = Vec::new();
            message.to_frame().unwrap().write(&mut bytes).unwrap();
            bytes
        });
        assert_eq!(first, kinds.concat());
        assert_eq!(outbox.front()[0], 0x1a, "the input of the other one stays behind");
    }

    #[test]
    fn a_goodbye_never_cuts_a_frame() {
        let mut outbox = Outbox::default();
        outbox.push(&chunk()).unwrap();
        let begun = outbox.front().len();
        outbox.wrote(10);
        let bytes = outbox.into_goodbye(Reason::GOODBYE);
        assert_eq!(bytes.get(begun - 10), Some(&0x1f), "the goodbye follows the end of the begun frame");
    }
}
