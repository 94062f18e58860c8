//! The model of an agent: a journal that a reboot does not touch, and the driver of its half of the session.

use crate::common::samples;
use crate::world::{output_bytes, program_bytes};
use doorbell_wire::ids::{RequestId, Tick};
use doorbell_wire::message::outcome::{Evidence, Outcome};
use doorbell_wire::message::{Offer, Output, Progress, Stage, Stream};
use doorbell_wire::session::guest::{Guest, Owed};
use std::collections::BTreeMap;

/// What the guest's disk holds of the request in hand.
#[derive(Debug)]
struct Journalled {
    request: RequestId,
    sequence: u64,
    outcome: Option<Outcome>,
}

#[derive(Debug, Default)]
pub(crate) struct Agent {
    journal: Option<Journalled>,
    low_water: u64,
    /// How often each request was started: what must never exceed one.
    pub(crate) starts: BTreeMap<RequestId, u32>,
    offered: Option<Box<Offer>>,
    staged: Vec<u8>,
    sent: usize,
    wanted: bool,
}

impl Agent {
    /// The kernel starts anew: what was not on disk is gone, and what had started is interrupted.
    pub(crate) fn reboot(&mut self) {
        self.offered = None;
        self.staged.clear();
        if let Some(journalled) = &mut self.journal {
            journalled.outcome.get_or_insert(Outcome::Interrupted);
        }
    }

    pub(crate) fn connected(&mut self, now: Tick) -> Guest {
        self.offered = None;
        self.staged.clear();
        Guest::connected(now)
    }

    /// Does what the session wants, all of it but writing.
    pub(crate) fn serve(&mut self, now: Tick, guest: Guest, owed: Owed) -> Guest {
        match owed {
            Owed::Send(_) | Owed::Wait(_) => panic!("the world does this"),
            Owed::Introduce(_) => guest.introduce(samples::hello()).unwrap(),
            Owed::Welcomed(_) => match &self.journal {
                Some(journalled) => guest.attach(journalled.request).unwrap(),
                None => guest.pull().unwrap(),
            },
            Owed::Attached(from) => {
                self.wanted = from.is_some();
                self.sent = usize::try_from(from.unwrap_or_default().stdout).unwrap();
                guest
            }
            Owed::Offered(offer) => self.offered(now, guest, offer),
            Owed::Stage(chunk) => {
                self.staged.extend_from_slice(&chunk.bytes);
                let guest = guest.staged(u32::try_from(chunk.bytes.len()).unwrap()).unwrap();
                self.start_when_whole(guest)
            }
            Owed::Cancel(request) => self.cancel(guest, request),
            Owed::Forget(request) => {
                let forgotten = self.journal.take();
                // A request that ended before it was journalled left nothing to forget.
                if let Some(journalled) = forgotten {
                    assert_eq!(journalled.request, request);
                    self.low_water = self.low_water.max(journalled.sequence);
                }
                guest
            }
        }
    }

    /// Prints what credit allows, and acknowledges when all is printed.
    pub(crate) fn work(&mut self, mut guest: Guest) -> Guest {
        let Some(journalled) = &mut self.journal else { return guest };
        if guest.state() != "Applying" {
            return guest;
        }
        let cut_short = matches!(journalled.outcome, Some(Outcome::Cancelled | Outcome::Interrupted));
        let printed = if cut_short || !self.wanted { Vec::new() } else { output_bytes(journalled.sequence) };
        while self.sent < printed.len() && guest.output_room() > 0 {
            let end = printed.len().min(self.sent + guest.output_room().min(PIECE));
            let bytes = printed[self.sent..end].to_vec();
            let (request, offset) = (journalled.request, self.sent as u64);
            guest = guest.output(Output { request, stream: Stream::Stdout, offset, bytes }).unwrap();
            self.sent = end;
        }
        if self.sent < printed.len() {
            return guest;
        }
        let outcome = journalled.outcome.get_or_insert(Outcome::Succeeded).clone();
        let request = journalled.request;
        acknowledge(guest, request, outcome)
    }

    fn offered(&mut self, now: Tick, guest: Guest, offer: Box<Offer>) -> Guest {
        assert!(self.journal.is_none(), "offered while a request is in hand");
        let sequence = u64::from(offer.sequence.unwrap());
        assert!(sequence > self.low_water, "a request that was forgotten is offered again");
        self.staged.clear();
        let fetches = offer.action.program().is_some_and(|program| program.len > 0);
        self.offered = Some(offer);
        if fetches { guest.fetch(now).unwrap() } else { self.start(guest) }
    }

    fn start_when_whole(&mut self, guest: Guest) -> Guest {
        let offer = self.offered.as_ref().expect("bytes of a program that was offered");
        let len = offer.action.program().map_or(0, |program| usize::try_from(program.len).unwrap());
        if self.staged.len() < len {
            return guest;
        }
        let sequence = u64::from(offer.sequence.unwrap());
        assert_eq!(
            self.staged,
            program_bytes(sequence, 0..len as u64),
            "the program is not the one that was sent"
        );
        self.start(guest)
    }

    /// Journals the start, starts, and tells.
    fn start(&mut self, guest: Guest) -> Guest {
        let offer = self.offered.take().unwrap();
        let request = offer.request;
        self.journal = Some(Journalled { request, sequence: offer.sequence.unwrap().into(), outcome: None });
        *self.starts.entry(request).or_default() += 1;
        self.sent = 0;
        self.wanted = true;
        let stage = |stage| Progress { request, stage, at_ms: 0 };
        let guest = guest.progress(stage(Stage::Journalled)).unwrap().apply().unwrap();
        guest.progress(stage(Stage::Started)).unwrap()
    }

    /// Ends what is in hand; a request of which nothing is journalled is acknowledged at once.
    fn cancel(&mut self, guest: Guest, request: RequestId) -> Guest {
        if let Some(journalled) = self.journal.as_mut().filter(|journalled| journalled.request == request) {
            journalled.outcome.get_or_insert(Outcome::Cancelled);
            return guest;
        }
        if guest.in_hand() != Some(request) {
            return guest;
        }
        self.offered = None;
        self.staged.clear();
        acknowledge(guest, request, Outcome::Cancelled)
    }
}

fn acknowledge(guest: Guest, request: RequestId, outcome: Outcome) -> Guest {
    let mut acknowledgement = samples::acknowledgement(outcome, Evidence::None);
    acknowledgement.request = request;
    guest.acknowledge(acknowledgement).unwrap()
}

/// Output bytes of one frame at most, so that there are several.
const PIECE: usize = 100;
