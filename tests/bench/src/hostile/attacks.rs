//! What a hostile guest does, one rule at a time, for as long as it is let.
//!
//! Begun by `hostile` in a thread of its own. It is a known guest with a key: whoever has none gets no further than
//! the first three.

use crate::api::{Api, command};
use doorbell_tests::honest::succeeded;
use doorbell_tests::intruder::Intruder;
use doorbell_tests::line::{Heard, Line, guest_bytes};
use doorbell_wire::error::Reason;
use doorbell_wire::ids::{RequestId, Signature};
use doorbell_wire::limits::{BULK_WINDOW, CHUNK_LEN_MAX};
use doorbell_wire::message::{
    Credit, Fetch, FromGuest, FromHost, Hello, Offer, Output, Progress, Stage, Stream,
};
use serde_json::json;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// One of them.
pub(crate) struct Attack {
    /// What its rows are known by.
    pub(crate) id: &'static str,
    /// What it is, for people.
    pub(crate) what: &'static str,
    /// What of it is counted.
    pub(crate) counts: &'static str,
    /// Does it until it is told to stop; how often.
    act: fn(&mut Neighbour) -> u64,
}

/// Who does it.
pub(crate) struct Neighbour {
    pub(crate) intruder: Intruder,
    pub(crate) api: Arc<Api>,
    pub(crate) stop: Arc<AtomicBool>,
}

impl Attack {
    /// The whole of it, for a thread; gives the guest back, with what it has become.
    pub(crate) fn begin(
        &self,
        mut neighbour: Neighbour,
    ) -> impl FnOnce() -> (Intruder, u64) + Send + 'static {
        let act = self.act;
        move || {
            let done = act(&mut neighbour);
            (neighbour.intruder, done)
        }
    }
}

pub(crate) const ATTACKS: &[Attack] = &[
    Attack {
        id: "crowd",
        counts: "connections",
        what: "ten thousand connections that stay and say nothing",
        act: crowd,
    },
    Attack { id: "connects", counts: "connections", what: "connections without end", act: connects },
    Attack {
        id: "slow-bytes",
        counts: "rounds of bytes",
        what: "hellos that come a byte at a time",
        act: slow_bytes,
    },
    Attack { id: "garbage", counts: "connections", what: "garbage on each connection", act: garbage },
    Attack { id: "false-proofs", counts: "hellos", what: "hellos with a false proof", act: false_proofs },
    Attack { id: "sessions", counts: "sessions", what: "proved sessions that end at once", act: sessions },
    Attack {
        id: "forged",
        counts: "acknowledgements",
        what: "acknowledgements of requests that are not its own",
        act: forged,
    },
    Attack {
        id: "unread",
        counts: "sessions",
        what: "a program that it fetches and does not read",
        act: unread,
    },
    Attack { id: "output", counts: "bytes", what: "output without end", act: output },
];

impl Neighbour {
    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    /// Again and again, until it is told to stop.
    fn again(&mut self, mut one: impl FnMut(&mut Self)) -> u64 {
        let mut done = 0_u64;
        while self.goes_on() {
            one(self);
            done += 1;
        }
        done
    }

    /// Until the manager has closed the connection.
    fn await_end(&self, line: &mut Line) {
        while self.goes_on() && line.try_hear() != Some(Heard::Closed) {}
    }

    /// A session with a request in its hand.
    fn enter_with(&mut self, request: &serde_json::Value) -> Option<(Line, Box<Offer>)> {
        self.api.submit("hostile", request).ok()?;
        match self.intruder.enter() {
            (line, FromHost::Offer(offer)) => Some((line, offer)),
            _ => None,
        }
    }
}

/// They are kept, whether the manager has closed them or not, and made anew until all are there.
fn crowd(neighbour: &mut Neighbour) -> u64 {
    let mut crowd = Vec::new();
    while neighbour.goes_on() {
        match UnixStream::connect(&neighbour.intruder.door) {
            Ok(stream) if crowd.len() < CROWD => crowd.push(stream),
            Ok(_) | Err(_) => crate::children::pause(A_MOMENT),
        }
    }
    crowd.len() as u64
}

fn connects(neighbour: &mut Neighbour) -> u64 {
    neighbour.again(|neighbour| drop(UnixStream::connect(&neighbour.intruder.door)))
}

fn slow_bytes(neighbour: &mut Neighbour) -> u64 {
    let mut places: Vec<(Line, std::vec::IntoIter<u8>)> = Vec::new();
    neighbour.again(|neighbour| {
        if places.len() < SLOW {
            let (line, greeting) = neighbour.intruder.meet();
            let hello = FromGuest::Hello(Box::new(neighbour.intruder.identity.hello(&greeting)));
            places.push((line, guest_bytes(&hello).into_iter()));
        }
        places.retain_mut(|(line, bytes)| bytes.next().is_some_and(|byte| line.send(&[byte])));
        crate::children::pause(A_MOMENT);
    })
}

fn garbage(neighbour: &mut Neighbour) -> u64 {
    neighbour.again(|neighbour| {
        let (mut line, _) = neighbour.intruder.meet();
        line.send(b"GET / HTTP/1.1\r\n\r\n");
        neighbour.await_end(&mut line);
    })
}

fn false_proofs(neighbour: &mut Neighbour) -> u64 {
    neighbour.again(|neighbour| {
        let (mut line, greeting) = neighbour.intruder.meet();
        let hello = Hello { proof: Signature::new([3; 64]), ..neighbour.intruder.identity.hello(&greeting) };
        line.say(&FromGuest::Hello(Box::new(hello)));
        neighbour.await_end(&mut line);
    })
}

fn sessions(neighbour: &mut Neighbour) -> u64 {
    neighbour.again(|neighbour| {
        let (mut line, _) = neighbour.intruder.enter();
        line.say(&FromGuest::GuestBye(Reason::GOODBYE));
    })
}

fn forged(neighbour: &mut Neighbour) -> u64 {
    neighbour.again(|neighbour| {
        let Some((mut line, mut offer)) = neighbour.enter_with(&command(&["true"])) else { return };
        let own = offer.request;
        offer.request = RequestId::new([0xee; 16]);
        line.say(&FromGuest::Acknowledge(Box::new(succeeded(&offer))));
        neighbour.await_end(&mut line);
        let _ = neighbour.api.post(&format!("requests/{own}/cancel"), &json!({}));
    })
}

/// It takes back credit for bytes that it leaves in the socket.
fn unread(neighbour: &mut Neighbour) -> u64 {
    let large = neighbour.api.upload("large", vec![b'x'; 16 << 20]).unwrap_or_default();
    let request = json!({ "action": { "type": "run", "program": large } });
    neighbour.again(|neighbour| {
        let Some((mut line, offer)) = neighbour.enter_with(&request) else { return };
        line.say(&FromGuest::Fetch(Fetch { request: offer.request, offset: 0 }));
        for _ in 0..16 {
            line.say(&FromGuest::ChunkCredit(Credit { bytes: BULK_WINDOW }));
            crate::children::pause(A_MOMENT);
        }
        let _ = neighbour.api.post(&format!("requests/{}/cancel", offer.request), &json!({}));
    })
}

/// As much as it gets credit for, to the limit of the request and then of the next one.
fn output(neighbour: &mut Neighbour) -> u64 {
    let mut written = 0_u64;
    while neighbour.goes_on() {
        let Some((mut line, offer)) = neighbour.enter_with(&command(&["yes"])) else { continue };
        let request = offer.request;
        line.say(&FromGuest::Progress(Progress { request, stage: Stage::Started, at_us: 1 }));
        written += print(neighbour, &mut line, request);
        line.say(&FromGuest::Acknowledge(Box::new(succeeded(&offer))));
    }
    written
}

/// Bytes that were taken from it, at most as many as a request without a limit of its own keeps.
fn print(neighbour: &Neighbour, line: &mut Line, request: RequestId) -> u64 {
    let (mut offset, mut credit) = (0, u64::from(BULK_WINDOW));
    while neighbour.goes_on() && offset < KEPT {
        let len = CHUNK_LEN_MAX.min(usize::try_from(credit).unwrap_or(usize::MAX));
        if len > 0 {
            let bytes = vec![b'y'; len];
            line.say(&FromGuest::Output(Output { request, stream: Stream::Stdout, offset, bytes }));
            (offset, credit) = (offset + len as u64, credit - len as u64);
            continue;
        }
        match line.try_hear() {
            Some(Heard::Frame(frame)) => {
                if let Ok(FromHost::OutputCredit(more)) = FromHost::from_frame(&frame) {
                    credit += u64::from(more.bytes);
                }
            }
            Some(Heard::Closed) => break,
            None => {}
        }
    }
    offset
}

const CROWD: usize = 10_000;
const SLOW: usize = 32;
const KEPT: u64 = 64 << 20;
const A_MOMENT: Duration = Duration::from_millis(5);
