//! A request in hand: which it is, how far it has come, and what the manager has been told of it.
//!
//! Kept by `pull`, which moves it from station to station; asked by `link` for the next word. Outlives
//! connections once it has started.

use crate::clock::now_us;
use crate::fetch::Staging;
use crate::journal::record::Terms;
use crate::supervise::Supervised;
use crate::verify::signature::Permit;
use doorbell_wire::ids::{RequestId, Sequence, Tick};
use doorbell_wire::message::outcome::{Acknowledgement, OutputTotals};
use doorbell_wire::message::{Offer, Offsets, Output, Progress, Stage, Stream};

/// How the agent and its manager meet. A hand belongs to the way it came by.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Way {
    /// A connection over vsock.
    Channel,
    /// A shared directory.
    Share,
}

/// A request in hand.
#[derive(Debug)]
pub(crate) struct Hand {
    pub(crate) request: RequestId,
    pub(crate) way: Way,
    /// `None` for a query.
    pub(crate) sequence: Option<Sequence>,
    pub(crate) station: Station,
    /// When its effect began, by the guest's clock.
    pub(crate) started_us: Option<u64>,
    /// When the guest is to reboot for it.
    pub(crate) terms: Option<Terms>,
    /// Since when the guest is about to go down for it, and what is told behind that.
    pub(crate) down: Option<(Tick, Box<Acknowledgement>)>,
    /// Why its input could not be kept, the kernel's number, if so.
    pub(crate) input_errno: Option<i32>,
    /// What lets it begin, once that was judged.
    pub(crate) permit: Option<Permit>,
    told: Told,
}

/// How far the request has come.
#[derive(Debug)]
pub(crate) enum Station {
    /// It was offered and nothing has been done.
    Offered,
    /// Its bytes are on their way.
    Fetching(Box<Offer>, Box<Staging>),
    /// Its program runs, or is about to.
    Running(Box<Supervised>),
    /// It has ended; what is left of it waits for the receipt.
    Ended(Box<Acknowledgement>, Option<Box<Supervised>>),
}

/// What the manager knows on this connection.
#[derive(Debug)]
struct Told {
    started: bool,
    rebooting: bool,
    output: Telling,
    /// Input bytes that the program had taken when it was last told.
    input: u64,
    acknowledged: bool,
}

/// What the manager is told of the output.
#[derive(Debug)]
enum Telling {
    /// It was asked where the output continues, and has not answered.
    Asked,
    /// It wants none, or there is none yet.
    Nothing,
    /// All behind these offsets.
    From(Offsets),
}

/// What a request leaves when its connection is gone.
#[derive(Debug)]
pub(crate) enum Detached {
    /// All of it.
    Kept(Box<Hand>),
    /// The part of its bytes that came.
    Half(Box<Staging>),
    /// Nothing: it will be offered again, or nobody waits for it.
    Nothing,
}

/// Something to say to the manager.
#[derive(Debug)]
pub(crate) enum Word {
    Started(Progress),
    Output(Output),
    InputTaken(RequestId, u32),
    Acknowledge(Box<Acknowledgement>),
}

impl Hand {
    /// A request that was just offered.
    pub(crate) fn offered(way: Way, request: RequestId, sequence: Option<Sequence>) -> Self {
        let mut hand = Self::new(request, sequence, Station::Offered);
        hand.way = way;
        hand
    }

    /// A request at a station it reached before this connection.
    pub(crate) const fn new(request: RequestId, sequence: Option<Sequence>, station: Station) -> Self {
        let told = Told {
            started: false,
            rebooting: false,
            output: Telling::Nothing,
            input: 0,
            acknowledged: false,
        };
        let way = Way::Channel;
        Self {
            request,
            way,
            sequence,
            station,
            started_us: None,
            terms: None,
            down: None,
            input_errno: None,
            permit: None,
            told,
        }
    }

    /// The connection is gone; gives what outlives it.
    pub(crate) fn detached(mut self) -> Detached {
        if crate::planted::is("G3") && matches!(self.station, Station::Ended(..)) {
            return Detached::Nothing;
        }
        match self.station {
            Station::Running(ref mut supervised) => supervised.connected(false),
            Station::Fetching(_, staging) => return Detached::Half(staging),
            Station::Offered => return Detached::Nothing,
            Station::Ended(..) => {}
        }
        if self.sequence.is_some() { Detached::Kept(Box::new(self)) } else { Detached::Nothing }
    }

    /// It is presented on a new connection; gives how much of its input is here, and how much of that its
    /// program has taken.
    pub(crate) fn presented(&mut self) -> (u64, u64) {
        let (input, taken) = match &self.station {
            Station::Running(supervised) => (supervised.input_len(), supervised.input_taken()),
            Station::Offered | Station::Fetching(..) | Station::Ended(..) => (0, 0),
        };
        self.told = Told {
            started: true,
            rebooting: false,
            output: Telling::Asked,
            input: taken,
            acknowledged: false,
        };
        (input, taken)
    }

    /// It came by a way that has no session, and is offered by this one: all of it is told from the beginning. Says
    /// whether its effect had begun.
    pub(crate) fn offered_again(&mut self, way: Way) -> bool {
        self.way = way;
        self.told = Told {
            started: false,
            rebooting: false,
            output: Telling::Nothing,
            input: self.told.input,
            acknowledged: false,
        };
        if let Station::Ended(acknowledgement, _) = &self.station {
            self.started_us = acknowledgement.ran.map(|ran| ran.started_us);
            return acknowledgement.ran.is_some();
        }
        self.connected();
        true
    }

    /// The manager wants the output from these offsets on; `None` is none of it.
    pub(crate) fn attached(&mut self, from: Option<Offsets>) {
        self.told.output = from.map_or(Telling::Nothing, Telling::From);
        // Where nobody takes the output, its program must not wait for room.
        if from.is_some() {
            self.connected();
        }
    }

    /// There is somebody who takes output.
    pub(crate) fn connected(&mut self) {
        if let Station::Running(supervised) = &mut self.station {
            supervised.connected(true);
        }
    }

    /// The next thing to say: with `room` for that many bytes of output, and, where `quiet` says that no
    /// output waits in front, the acknowledgement. What is given counts as said.
    pub(crate) fn next_word(&mut self, room: usize, quiet: bool) -> Option<Word> {
        if let Some(bytes) = self.input_taken() {
            return Some(Word::InputTaken(self.request, bytes));
        }
        if matches!(self.told.output, Telling::Asked) {
            return None;
        }
        if let Some(at_us) = self.started_us.filter(|_| !self.told.started) {
            self.told.started = true;
            self.told.output = Telling::From(Offsets::default());
            return Some(Word::Started(Progress { request: self.request, stage: Stage::Started, at_us }));
        }
        if self.down.is_some() && self.told.started && !self.told.rebooting {
            self.told.rebooting = true;
            let (stage, at_us) = (Stage::Rebooting, now_us());
            return Some(Word::Started(Progress { request: self.request, stage, at_us }));
        }
        if room > 0
            && let Some(output) = self.next_output(room)
        {
            return Some(Word::Output(output));
        }
        if quiet { self.acknowledgement().map(Word::Acknowledge) } else { None }
    }

    /// Whether the manager has heard all that there is to be said before the guest goes down.
    pub(crate) fn has_said_all(&self) -> bool {
        let Station::Running(supervised) = &self.station else { return true };
        let kept = supervised.kept();
        match &self.told.output {
            Telling::From(sent) => {
                self.told.rebooting && sent.stdout >= kept.stdout && sent.stderr >= kept.stderr
            }
            Telling::Asked | Telling::Nothing => false,
        }
    }

    fn input_taken(&mut self) -> Option<u32> {
        let Station::Running(supervised) = &self.station else { return None };
        let taken = supervised.input_taken();
        let bytes = u32::try_from(taken.saturating_sub(self.told.input)).ok().filter(|&bytes| bytes > 0)?;
        self.told.input = taken;
        Some(bytes)
    }

    fn next_output(&mut self, room: usize) -> Option<Output> {
        let Telling::From(sent) = &mut self.told.output else { return None };
        let supervised = match &self.station {
            Station::Running(supervised) | Station::Ended(_, Some(supervised)) => Some(supervised),
            Station::Ended(_, None) => None,
            Station::Offered | Station::Fetching(..) => return None,
        };
        let Some(output) = supervised.and_then(|supervised| supervised.read_output(sent, room)) else {
            skip_unreadable(sent, &self.station);
            return None;
        };
        let offset = match output.stream {
            Stream::Stdout => &mut sent.stdout,
            Stream::Stderr => &mut sent.stderr,
        };
        *offset = output.offset.saturating_add(output.bytes.len() as u64);
        Some(output)
    }

    fn acknowledgement(&mut self) -> Option<Box<Acknowledgement>> {
        let Station::Ended(acknowledgement, ..) = &self.station else { return None };
        let OutputTotals { stdout, stderr } = &acknowledgement.output;
        let sent = match &self.told.output {
            Telling::Asked => false,
            Telling::Nothing => true,
            Telling::From(sent) => sent.stdout >= stdout.kept && sent.stderr >= stderr.kept,
        };
        if self.told.acknowledged || !sent {
            return None;
        }
        self.told.acknowledged = true;
        Some(acknowledgement.clone())
    }
}

/// Output that cannot be read back, or is gone with its directory, must not keep the outcome from the manager.
fn skip_unreadable(sent: &mut Offsets, station: &Station) {
    if let Station::Ended(acknowledgement, _) = station {
        sent.stdout = sent.stdout.max(acknowledgement.output.stdout.kept);
        sent.stderr = sent.stderr.max(acknowledgement.output.stderr.kept);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use doorbell_wire::message::outcome::{Evidence, Outcome, StreamTotal};

    #[test]
    fn an_outcome_whose_output_went_down_with_the_guest_is_told() {
        let request = RequestId::new([7; 16]);
        let stdout = StreamTotal { kept: 5, ..StreamTotal::default() };
        let output = OutputTotals { stdout, ..OutputTotals::default() };
        let (outcome, evidence) = (Outcome::Succeeded, Evidence::None);
        let said = Acknowledgement { request, outcome, evidence, output, ran: None };
        let sequence = Some(1.try_into().unwrap());
        let mut hand = Hand::new(request, sequence, Station::Ended(Box::new(said), None));
        assert_eq!(hand.presented(), (0, 0));
        assert!(hand.next_word(1000, true).is_none(), "it waits to be told where its output goes on");
        hand.attached(Some(Offsets { stdout: 3, stderr: 0 }));
        let Some(Word::Acknowledge(said)) = hand.next_word(1000, true) else { panic!("it is not told") };
        assert_eq!(said.output.stdout.kept, 5);
        assert!(hand.next_word(1000, true).is_none(), "it is told once");
    }
}
