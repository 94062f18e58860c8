//! Manager, agent, both halves, the bytes between them, and the time: one struct.
//!
//! Every step ends with both halves drained and the invariants checked.

use crate::agent::Agent;
use crate::common::START;
use crate::manager::{self, Manager, State};
use doorbell_wire::frame::Deframer;
use doorbell_wire::ids::{RequestId, Tick};
use doorbell_wire::limits::{BULK_WINDOW, HANDS_MAX, INPUT_WINDOW};
use doorbell_wire::message::outcome::Outcome;
use doorbell_wire::message::{FromGuest, FromHost};
use doorbell_wire::session::guest::{Guest, Owed as GuestOwed};
use doorbell_wire::session::host::{Host, Owed as HostOwed};
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

/// What is lost beside the bytes on their way.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Loss {
    Link,
    Manager,
    Guest,
}

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) now: Tick,
    /// How long the guest has stood still: its clock did not run meanwhile.
    stood: u64,
    pub(crate) manager: Manager,
    pub(crate) agent: Agent,
    pub(crate) delivered: usize,
    pub(crate) pulls: usize,
    host: Option<Host>,
    guest: Option<Guest>,
    to_guest: VecDeque<u8>,
    to_host: VecDeque<u8>,
    at_guest: Deframer,
    at_host: Deframer,
    chunks_in_flight: u64,
    output_in_flight: u64,
    /// What of each request's input its program has not taken, as far as the manager knows.
    input_in_flight: BTreeMap<RequestId, u64>,
    /// Whose output came, frame by frame.
    pub(crate) printed: Vec<RequestId>,
    /// Whose program bytes came, frame by frame.
    pub(crate) served: Vec<RequestId>,
    rings_since_pull: usize,
    pings_since_pull: usize,
}

impl World {
    pub(crate) fn with_requests(lens: &[usize]) -> Self {
        let mut world = Self {
            now: START,
            stood: 0,
            manager: Manager {
                piece: if !lens.is_empty() && lens.iter().all(|len| *len < 1000) { 100 } else { 0 },
                concurrency: 3,
                ..Manager::default()
            },
            agent: Agent::default(),
            delivered: 0,
            pulls: 0,
            host: None,
            guest: None,
            to_guest: VecDeque::new(),
            to_host: VecDeque::new(),
            at_guest: Deframer::new(),
            at_host: Deframer::new(),
            chunks_in_flight: 0,
            output_in_flight: 0,
            input_in_flight: BTreeMap::new(),
            printed: Vec::new(),
            served: Vec::new(),
            rings_since_pull: 0,
            pings_since_pull: 0,
        };
        lens.iter().for_each(|len| world.manager.accept(*len));
        world
    }

    pub(crate) fn connect(&mut self) {
        self.lose(Loss::Link);
        self.host = Some(manager::accepted(self.now));
        self.guest = Some(self.agent.connected(self.guest_now()));
        self.drain_host();
        self.drain_guest();
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.host.is_some() && self.guest.is_some()
    }

    pub(crate) fn manager_heard(&self) -> Tick {
        self.host.as_ref().unwrap().heard()
    }

    pub(crate) fn lose(&mut self, loss: Loss) {
        (self.host, self.guest) = (None, None);
        self.to_guest.clear();
        self.to_host.clear();
        (self.at_guest, self.at_host) = (Deframer::new(), Deframer::new());
        (self.chunks_in_flight, self.output_in_flight) = (0, 0);
        (self.rings_since_pull, self.pings_since_pull) = (0, 0);
        self.input_in_flight.clear();
        match loss {
            Loss::Link => {}
            // What a stored outcome vouches for is synced; the rest of the spool may end anywhere.
            Loss::Manager => self.manager.crash(),
            Loss::Guest => self.agent.reboot(),
        }
    }

    /// A request is accepted, and the manager rings if it can.
    pub(crate) fn accept(&mut self, len: usize) {
        self.manager.accept(len);
        self.ring();
    }

    pub(crate) fn ring(&mut self) {
        if let Some(host) = self.host.take_if(|host| host.is_open()) {
            self.host = Some(host.ring().unwrap());
            self.drain_host();
        }
    }

    pub(crate) fn cancel(&mut self, index: usize) {
        self.host = self.manager.cancel(self.host.take(), index);
        self.drain_host();
    }

    pub(crate) fn lose_next_ring(&mut self) {
        assert_eq!(self.to_guest.iter().filter(|byte| **byte == 0x07).count(), 1, "one ring is on its way");
        self.to_guest.retain(|byte| *byte != 0x07);
    }

    /// Lets time pass on both sides, at once and without a byte being delivered.
    pub(crate) fn advance(&mut self, ms: u64) {
        self.now = self.now.after(ms);
        self.host = self.host.take().and_then(|host| host.expire(self.now).ok());
        self.drain_host();
        self.guest = self.guest.take().and_then(|guest| guest.expire(self.guest_now()).ok());
        self.drain_guest();
        if !self.is_connected() {
            self.lose(Loss::Link);
        }
    }

    /// The hypervisor stops the guest for so long and tells the manager of both: only one of the clocks runs.
    pub(crate) fn stand_still(&mut self, ms: u64) {
        self.host = self.host.take().map(|host| host.suspend(self.now));
        self.now = self.now.after(ms);
        self.stood += ms;
        self.host = self.host.take().map(|host| host.expire(self.now).unwrap().resume(self.now));
        self.drain_host();
    }

    fn guest_now(&self) -> Tick {
        Tick(self.now.0 - self.stood)
    }

    /// Delivers up to `count` bytes to the guest.
    pub(crate) fn deliver_to_guest(&mut self, count: usize) -> usize {
        let bytes: Vec<u8> = self.to_guest.drain(..count.min(self.to_guest.len())).collect();
        let mut rest = &bytes[..];
        while let Some(guest) = self.guest.take() {
            let Some(frame) = self.at_guest.next(&mut rest).unwrap() else {
                self.guest = Some(guest);
                break;
            };
            let message = FromHost::from_frame(&frame).unwrap();
            match &message {
                FromHost::OutputCredit(spooled) => self.output_in_flight -= u64::from(spooled.bytes),
                FromHost::Chunk(chunk) => self.served.push(chunk.request),
                _ => {}
            }
            self.guest = Some(guest.receive(self.guest_now(), message).unwrap());
            self.drain_guest();
        }
        self.delivered += bytes.len();
        bytes.len()
    }

    /// Delivers up to `count` bytes to the host.
    pub(crate) fn deliver_to_host(&mut self, count: usize) -> usize {
        let bytes: Vec<u8> = self.to_host.drain(..count.min(self.to_host.len())).collect();
        let mut rest = &bytes[..];
        while let Some(host) = self.host.take() {
            let Some(frame) = self.at_host.next(&mut rest).unwrap() else {
                self.host = Some(host);
                break;
            };
            let message = FromGuest::from_frame(&frame).unwrap();
            match &message {
                FromGuest::ChunkCredit(credit) => self.chunks_in_flight -= u64::from(credit.bytes),
                FromGuest::Pull => (self.rings_since_pull, self.pings_since_pull) = (0, 0),
                FromGuest::Output(output) => self.printed.push(output.request),
                FromGuest::Attach(attach) => {
                    self.input_in_flight.insert(attach.request, attach.input - attach.taken);
                }
                FromGuest::InputCredit(credit) => {
                    *self.input_in_flight.get_mut(&credit.request).unwrap() -= u64::from(credit.bytes);
                }
                _ => {}
            }
            self.host = Some(host.receive(self.now, message).unwrap());
            self.drain_host();
            self.host = self.host.take().map(|host| self.manager.continue_serving(host));
            self.drain_host();
        }
        self.delivered += bytes.len();
        bytes.len()
    }

    pub(crate) fn work(&mut self) {
        if let Some(guest) = self.guest.take() {
            self.guest = Some(self.agent.work(guest));
            self.drain_guest();
        }
    }

    /// Delivers byte by byte until so many have arrived or nothing moves.
    pub(crate) fn deliver_until(&mut self, count: usize) {
        while self.delivered < count {
            // Between two frames a program has nothing new to do.
            if !self.at_guest.is_mid_frame() {
                self.work();
            }
            if self.deliver_to_guest(1) == 0 && self.deliver_to_host(1) == 0 {
                return;
            }
        }
    }

    /// Lets both sides say all they have to say while no program does anything.
    pub(crate) fn exchange(&mut self) {
        while self.deliver_to_guest(usize::MAX) + self.deliver_to_host(usize::MAX) > 0 {}
    }

    /// Lets everything happen that can happen without time passing.
    pub(crate) fn settle(&mut self) {
        for _ in 0..SETTLE_ROUNDS_MAX {
            self.work();
            if self.deliver_to_guest(usize::MAX) + self.deliver_to_host(usize::MAX) == 0 {
                return;
            }
        }
        panic!("the two never come to rest: {self:?}");
    }

    pub(crate) fn finished(&self) -> usize {
        self.manager.store.iter().filter(|stored| matches!(stored.state, State::Done(_))).count()
    }

    /// At rest with nothing in hand: all credit is where it began.
    pub(crate) fn no_credit_is_lost(&self) {
        assert!(self.is_connected() && self.host.as_ref().unwrap().in_hand().next().is_none());
        assert_eq!(
            (self.chunks_in_flight, self.output_in_flight),
            (0, 0),
            "bytes in flight, and nobody sends"
        );
    }

    /// No accepted request is lost and none was started twice.
    pub(crate) fn all_done_exactly_once(&self, interrupted_is_fine: bool) {
        for stored in &self.manager.store {
            let starts = self.agent.starts.get(&stored.id).copied().unwrap_or(0);
            let State::Done(outcome) = &stored.state else { panic!("{stored:?} is lost, {self:?}") };
            match outcome {
                Outcome::Succeeded => {
                    assert_eq!(starts, 1, "{stored:?}");
                    assert_eq!(
                        stored.spooled,
                        output_bytes(stored.sequence, stored.len),
                        "its output is whole"
                    );
                }
                Outcome::Interrupted => assert!(interrupted_is_fine && starts == 1, "{stored:?}"),
                Outcome::Cancelled => {
                    assert!(starts <= 1 && self.agent.starts.len() <= self.manager.store.len())
                }
                other => panic!("{stored:?} ended as {other:?}"),
            }
        }
    }

    fn drain_host(&mut self) {
        let hands = self.host.as_ref().map_or(0, |host| host.in_hand().count());
        assert!(hands <= HANDS_MAX, "{hands} requests in hand");
        while let Some(mut host) = self.host.take() {
            let owed = host.poll();
            match owed {
                HostOwed::Wait(tick) => {
                    assert!(tick > self.now, "it would wait for {tick:?} at {:?}", self.now);
                    self.host = Some(host);
                    break;
                }
                HostOwed::Send(message) => {
                    self.count_from_host(&message);
                    message.to_frame().unwrap().write_to(&mut self.to_guest);
                    self.host = Some(host);
                }
                owed => self.host = Some(self.manager.serve(host, owed)),
            }
        }
    }

    fn drain_guest(&mut self) {
        while let Some(mut guest) = self.guest.take() {
            let owed = guest.poll();
            match owed {
                GuestOwed::Wait(tick) => {
                    let now = self.guest_now();
                    assert!(tick > now, "it would wait for {tick:?} at {now:?}");
                    self.guest = Some(guest);
                    break;
                }
                GuestOwed::Send(message) => {
                    self.count_from_guest(&message);
                    message.to_frame().unwrap().write_to(&mut self.to_host);
                    self.guest = Some(guest);
                }
                owed => self.guest = Some(self.agent.serve(self.guest_now(), guest, owed)),
            }
        }
    }

    fn count_from_host(&mut self, message: &FromHost) {
        match message {
            FromHost::Chunk(chunk) => self.chunks_in_flight += chunk.bytes.len() as u64,
            FromHost::Ping(_) => self.pings_since_pull += 1,
            FromHost::Input(input) => {
                let flight = self.input_in_flight.entry(input.request).or_default();
                *flight += input.bytes.len() as u64;
                assert!(*flight <= u64::from(INPUT_WINDOW), "{flight} bytes of input wait for a program");
            }
            _ => self.rings_since_pull += usize::from(manager::is_ring(message)),
        }
        assert!(self.chunks_in_flight <= u64::from(BULK_WINDOW), "{} bytes in flight", self.chunks_in_flight);
        assert!(self.rings_since_pull <= 1 + self.pings_since_pull, "{} rings", self.rings_since_pull);
    }

    fn count_from_guest(&mut self, message: &FromGuest) {
        match message {
            FromGuest::Output(output) => self.output_in_flight += output.bytes.len() as u64,
            FromGuest::Pull => self.pulls += 1,
            _ => {}
        }
        assert!(self.output_in_flight <= u64::from(BULK_WINDOW), "{} bytes in flight", self.output_in_flight);
    }
}

/// The bytes of a program, as both sides can tell.
pub(crate) fn program_bytes(sequence: u64, range: Range<u64>) -> Vec<u8> {
    range.map(|index| u8::try_from((index * 7 + sequence) % 251).unwrap()).collect()
}

/// What a program prints, as both sides can tell.
pub(crate) fn output_bytes(sequence: u64, len: usize) -> Vec<u8> {
    let len = if len < 30_000 { 230 + sequence } else { len as u64 };
    (0..len).map(|index| u8::try_from((index * 3 + sequence) % 251).unwrap()).collect()
}

/// What a program reads, as both sides can tell: every third one nothing, and a large one more than a window.
pub(crate) fn input_bytes(sequence: u64, len: usize) -> Vec<u8> {
    let len = match len {
        _ if sequence.is_multiple_of(3) => 0,
        0..30_000 => 120,
        _ => 100_000,
    };
    (0..len).map(|index| u8::try_from((index * 5 + sequence) % 251).unwrap()).collect()
}

trait WriteTo {
    fn write_to(&self, queue: &mut VecDeque<u8>);
}

impl WriteTo for doorbell_wire::frame::Frame {
    fn write_to(&self, queue: &mut VecDeque<u8>) {
        let mut bytes = Vec::new();
        self.write(&mut bytes).unwrap();
        queue.extend(bytes);
    }
}

/// Far more exchanges than any story here has.
const SETTLE_ROUNDS_MAX: usize = 10_000;
