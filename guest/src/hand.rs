//! The request in hand: which it is, how far it has come, and what of its output has been sent.
//!
//! Called by `pull`, which moves it from station to station. There is at most one.

use crate::apply::running::{Remains, Running};
use crate::fetch::Staging;
use doorbell_wire::ids::{RequestId, Sequence};
use doorbell_wire::message::outcome::{Acknowledgement, OutputTotals};
use doorbell_wire::message::{Offer, Offsets, Output, Stream};

/// The request in hand.
#[derive(Debug)]
pub(crate) struct Hand {
    pub(crate) request: RequestId,
    /// `None` for a query.
    pub(crate) sequence: Option<Sequence>,
    pub(crate) station: Station,
    stream: Streaming,
    acknowledged: bool,
}

/// How far the request has come.
#[derive(Debug)]
pub(crate) enum Station {
    /// It was offered and nothing has been done.
    Offered,
    /// Its program is on its way.
    Fetching(Box<Offer>, Staging),
    /// Its program runs.
    Running(Box<Running>),
    /// It has ended; what is left waits for the receipt.
    Ended(Box<Acknowledgement>, Remains),
}

/// What the manager wants of the output on this connection.
#[derive(Debug)]
enum Streaming {
    Nothing,
    From(Offsets),
}

impl Hand {
    pub(crate) const fn new(request: RequestId, sequence: Option<Sequence>, station: Station) -> Self {
        Self { request, sequence, station, stream: Streaming::Nothing, acknowledged: false }
    }

    /// The connection is gone; gives the request back if it outlives connections.
    pub(crate) fn detached(mut self) -> Option<Self> {
        self.stream = Streaming::Nothing;
        self.acknowledged = false;
        match self.station {
            Station::Offered | Station::Fetching(..) => None,
            Station::Running(_) | Station::Ended(..) => self.sequence.map(|_| self),
        }
    }

    /// From here on output is sent, beginning at these offsets; `None` sends none.
    pub(crate) fn stream_from(&mut self, from: Option<Offsets>) {
        self.stream = from.map_or(Streaming::Nothing, Streaming::From);
    }

    /// The next output to send, at most `room` bytes; what is given counts as sent.
    pub(crate) fn next_output(&mut self, room: usize) -> Option<Output> {
        let spool = match &self.station {
            Station::Running(running) => running.spool(),
            Station::Ended(_, Remains { spool: Some(spool), .. }) => spool,
            Station::Offered | Station::Fetching(..) | Station::Ended(_, Remains { spool: None, .. }) => {
                return None;
            }
        };
        let Streaming::From(sent) = &mut self.stream else { return None };
        let Some(output) = spool.read(sent, room) else {
            skip_unreadable(sent, &spool.totals(), &self.station);
            return None;
        };
        let offset = match output.stream {
            Stream::Stdout => &mut sent.stdout,
            Stream::Stderr => &mut sent.stderr,
        };
        *offset = output.offset.saturating_add(output.bytes.len() as u64);
        Some(output)
    }

    /// The acknowledgement, once, when all output it speaks of has been sent.
    pub(crate) fn acknowledgement(&mut self) -> Option<Acknowledgement> {
        let Station::Ended(acknowledgement, ..) = &self.station else { return None };
        let totals = &acknowledgement.output;
        let sent = match &self.stream {
            Streaming::Nothing => true,
            Streaming::From(sent) => sent.stdout >= totals.stdout.kept && sent.stderr >= totals.stderr.kept,
        };
        if self.acknowledged || !sent {
            return None;
        }
        self.acknowledged = true;
        Some((**acknowledgement).clone())
    }
}

/// Output that cannot be read back must not keep the outcome from the manager.
fn skip_unreadable(sent: &mut Offsets, totals: &OutputTotals, station: &Station) {
    if matches!(station, Station::Ended(..)) {
        sent.stdout = sent.stdout.max(totals.stdout.kept);
        sent.stderr = sent.stderr.max(totals.stderr.kept);
    }
}
