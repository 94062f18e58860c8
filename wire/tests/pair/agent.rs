//! The model of an agent: a journal that a reboot does not touch, programs that outlive a session, and the driver
//! of its half of the session.

use crate::common::samples;
use crate::world::{input_bytes, output_bytes, program_bytes};
use doorbell_wire::ids::{RequestId, Tick};
use doorbell_wire::message::action::Input;
use doorbell_wire::message::outcome::{Evidence, Outcome};
use doorbell_wire::message::{Chunk, Offer, Output, Progress, Stage, Stream};
use doorbell_wire::session::guest::{Guest, Owed};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

/// What the guest's disk holds of a request that has started.
#[derive(Debug)]
struct Journalled {
    sequence: u64,
    len: usize,
    /// All it prints, from its first moment.
    prints: Vec<u8>,
    /// What has come of its input, how much of it is taken, and whether it is at its end.
    input: Vec<u8>,
    taken: usize,
    ended: bool,
    outcome: Option<Outcome>,
    /// How much of the output was sent in this session, if the manager wants it.
    sent: Option<usize>,
}

#[derive(Debug)]
pub(crate) struct Agent {
    journal: BTreeMap<RequestId, Journalled>,
    low_water: u64,
    forgotten: BTreeSet<u64>,
    /// How often each request was started: what must never exceed one.
    pub(crate) starts: BTreeMap<RequestId, u32>,
    /// The most requests that were running side by side.
    pub(crate) side_by_side: usize,
    offered: BTreeMap<RequestId, (Box<Offer>, Vec<u8>)>,
    /// Who printed last.
    turn: RequestId,
}

impl Default for Agent {
    fn default() -> Self {
        Self {
            journal: BTreeMap::new(),
            low_water: 0,
            forgotten: BTreeSet::new(),
            starts: BTreeMap::new(),
            side_by_side: 0,
            offered: BTreeMap::new(),
            turn: RequestId::new([0; 16]),
        }
    }
}

impl Agent {
    /// The kernel starts anew: what was not on disk is gone, and what had started is interrupted.
    pub(crate) fn reboot(&mut self) {
        self.offered.clear();
        for journalled in self.journal.values_mut() {
            journalled.outcome.get_or_insert(Outcome::Interrupted);
        }
    }

    pub(crate) fn connected(&mut self, now: Tick) -> Guest {
        self.offered.clear();
        Guest::connected(now)
    }

    /// Does what the session wants, all of it but writing.
    pub(crate) fn serve(&mut self, now: Tick, guest: Guest, owed: Owed) -> Guest {
        match owed {
            Owed::Send(_) | Owed::Wait(_) => panic!("the world does this"),
            Owed::Introduce(_) => guest.introduce(samples::hello()).unwrap(),
            Owed::Welcomed(_) => self.present(guest),
            Owed::Attached(request, from) => {
                let from = from.map(|from| usize::try_from(from.stdout).unwrap());
                self.journal.get_mut(&request).unwrap().sent = from;
                guest
            }
            Owed::Offered(offer) => self.offered(now, guest, offer),
            Owed::Pushed(push) => self.offered(now, guest, Box::new(push.offer)),
            Owed::Clock(_) => guest,
            Owed::Stage(chunk) => self.stage(guest, &chunk),
            Owed::Input(input) => {
                let journalled = self.journal.get_mut(&input.request).unwrap();
                assert_eq!(input.offset, journalled.input.len() as u64, "input with a hole");
                journalled.input.extend_from_slice(&input.bytes);
                guest
            }
            Owed::InputEnd(end) => {
                let journalled = self.journal.get_mut(&end.request).unwrap();
                assert_eq!(end.len, journalled.input.len() as u64);
                assert_eq!(journalled.input, input_bytes(journalled.sequence, journalled.len));
                journalled.ended = true;
                guest
            }
            Owed::Resize(_) => guest,
            Owed::Spooled(spooled) => {
                let sent = self.journal[&spooled.request].sent.unwrap() as u64;
                assert!(spooled.end <= sent, "{spooled:?} of {sent}");
                guest
            }
            Owed::Cancel(request) => self.cancel(guest, request),
            Owed::Forget(request) => {
                // A request that ended before it was journalled left nothing to forget.
                if let Some(journalled) = self.journal.remove(&request) {
                    self.forgotten.insert(journalled.sequence);
                }
                guest
            }
        }
    }

    /// Takes input, prints what credit allows, each program in its turn, and acknowledges what is over.
    pub(crate) fn work(&mut self, mut guest: Guest) -> Guest {
        for (&request, journalled) in &mut self.journal {
            guest = take(guest, request, journalled);
        }
        let mut stuck = 0;
        while stuck < self.journal.len() {
            let behind = (Bound::Excluded(self.turn), Bound::Unbounded);
            let next = self.journal.range(behind).next().or_else(|| self.journal.iter().next());
            let request = *next.unwrap().0;
            let journalled = self.journal.get_mut(&request).unwrap();
            let before = journalled.sent;
            // Without credit the turn stays where it is, so that the credit that comes is shared too.
            guest = print(guest, request, journalled);
            let moved = journalled.sent != before;
            let waits = before.is_some_and(|sent| sent < journalled.prints.len()) && !cut_short(journalled);
            if !moved && waits {
                break;
            }
            stuck = if moved { 0 } else { stuck + 1 };
            self.turn = request;
        }
        for (&request, journalled) in &mut self.journal {
            if guest.state_of(request) == Some("Applying") && is_over(journalled) {
                let outcome = journalled.outcome.get_or_insert(Outcome::Succeeded).clone();
                guest = acknowledge(guest, request, outcome);
            }
        }
        guest
    }

    fn present(&mut self, mut guest: Guest) -> Guest {
        for (&request, journalled) in &self.journal {
            let (input, taken) = (journalled.input.len() as u64, journalled.taken as u64);
            guest = guest.attach(request, input, taken).unwrap();
        }
        guest.pull().unwrap()
    }

    fn offered(&mut self, now: Tick, guest: Guest, offer: Box<Offer>) -> Guest {
        let (request, sequence) = (offer.request, u64::from(offer.sequence.unwrap()));
        assert!(!self.journal.contains_key(&request), "offered while it is in hand");
        self.low_water = self.low_water.max(offer.floor.saturating_sub(1));
        let settled = sequence <= self.low_water || self.forgotten.contains(&sequence);
        assert!(!settled, "a request that was forgotten is offered again");
        self.forgotten.retain(|forgotten| *forgotten > self.low_water);
        let fetches = offer.action.payload().is_some_and(|payload| payload.len > 0);
        self.offered.insert(request, (offer, Vec::new()));
        if fetches { guest.fetch(now, request, 0).unwrap() } else { self.start(guest, request) }
    }

    /// Bytes of a fetch that was given up are thrown away, and their credit goes back like any other.
    fn stage(&mut self, guest: Guest, chunk: &Chunk) -> Guest {
        let guest = guest.staged(u32::try_from(chunk.bytes.len()).unwrap()).unwrap();
        let Some((offer, staged)) = self.offered.get_mut(&chunk.request) else { return guest };
        staged.extend_from_slice(&chunk.bytes);
        let len = offer.action.payload().unwrap().len;
        if (staged.len() as u64) < len {
            return guest;
        }
        let sequence = u64::from(offer.sequence.unwrap());
        assert_eq!(*staged, program_bytes(sequence, 0..len), "the program is not the one that was sent");
        self.start(guest, chunk.request)
    }

    /// Journals the start, starts, and tells.
    fn start(&mut self, guest: Guest, request: RequestId) -> Guest {
        let (offer, _) = self.offered.remove(&request).unwrap();
        let sequence = offer.sequence.unwrap().into();
        let len = offer.action.payload().map_or(0, |payload| usize::try_from(payload.len).unwrap());
        let journalled = Journalled {
            sequence,
            len,
            prints: output_bytes(sequence, len),
            input: Vec::new(),
            taken: 0,
            ended: offer.action.input() == Input::None,
            outcome: None,
            sent: Some(0),
        };
        self.journal.insert(request, journalled);
        self.side_by_side = self.side_by_side.max(self.journal.len());
        *self.starts.entry(request).or_default() += 1;
        let stage = |stage| Progress { request, stage, at_us: 0 };
        let guest = guest.progress(stage(Stage::Journalled)).unwrap().apply(request).unwrap();
        guest.progress(stage(Stage::Started)).unwrap()
    }

    /// Ends what is in hand; a request of which nothing is journalled is acknowledged at once.
    fn cancel(&mut self, guest: Guest, request: RequestId) -> Guest {
        if let Some(journalled) = self.journal.get_mut(&request) {
            journalled.outcome.get_or_insert(Outcome::Cancelled);
            return guest;
        }
        if self.offered.remove(&request).is_none() {
            return guest;
        }
        acknowledge(guest, request, Outcome::Cancelled)
    }
}

/// A program takes its input a piece at a time; of one that is over nothing is told.
fn take(guest: Guest, request: RequestId, journalled: &mut Journalled) -> Guest {
    let bytes = (journalled.input.len() - journalled.taken).min(TAKEN);
    let told = matches!(guest.state_of(request), Some("Attaching" | "Applying"));
    if bytes == 0 || !told || journalled.outcome.is_some() {
        return guest;
    }
    journalled.taken += bytes;
    guest.input_taken(request, u32::try_from(bytes).unwrap()).unwrap()
}

fn print(guest: Guest, request: RequestId, journalled: &mut Journalled) -> Guest {
    let Some(sent) = journalled.sent.filter(|_| !cut_short(journalled)) else { return guest };
    let printed = &journalled.prints;
    let piece = if printed.len() < 1000 { PIECE } else { usize::MAX };
    let room = guest.output_room(request).min(piece);
    if sent >= printed.len() || room == 0 {
        return guest;
    }
    let end = printed.len().min(sent + room);
    let bytes = printed[sent..end].to_vec();
    journalled.sent = Some(end);
    let (stream, offset) = (Stream::Stdout, sent as u64);
    guest.output(Output { request, stream, offset, bytes }).unwrap()
}

fn cut_short(journalled: &Journalled) -> bool {
    matches!(journalled.outcome, Some(Outcome::Cancelled | Outcome::Interrupted))
}

/// Its input is taken to the end, and its output is sent as far as it is wanted.
fn is_over(journalled: &Journalled) -> bool {
    let read = journalled.ended && journalled.taken == journalled.input.len();
    let told = journalled.sent.is_none_or(|sent| sent >= journalled.prints.len());
    cut_short(journalled) || (told && (read || journalled.outcome.is_some()))
}

fn acknowledge(guest: Guest, request: RequestId, outcome: Outcome) -> Guest {
    let mut acknowledgement = samples::acknowledgement(outcome, Evidence::None);
    acknowledgement.request = request;
    guest.acknowledge(acknowledgement).unwrap()
}

/// Output bytes of one frame at most, so that there are several.
const PIECE: usize = 100;
/// Input bytes that a program takes at once, at most.
const TAKEN: usize = 7000;
