//! The model of a manager: a store that a crash does not touch, and the driver of its half of the session.

use crate::common::samples;
use crate::world::{input_bytes, program_bytes};
use doorbell_wire::ids::{Digest, RequestId, Sequence, Tick};
use doorbell_wire::message::action::{Action, Command, Executable, Input, Limits, Program, Run, RunParts};
use doorbell_wire::message::outcome::Outcome;
use doorbell_wire::message::{Attach, FromHost, Offer, Offsets, Output, Stage, Stream};
use doorbell_wire::session::host::{Host, Owed};

#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum State {
    Queued,
    Offered,
    Started,
    Done(Outcome),
}

#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) id: RequestId,
    pub(crate) sequence: u64,
    pub(crate) len: usize,
    pub(crate) state: State,
    pub(crate) cancelled: bool,
    pub(crate) spooled: Vec<u8>,
}

#[derive(Debug, Default)]
pub(crate) struct Manager {
    pub(crate) store: Vec<Stored>,
    /// Bytes of one chunk at most; what credit allows where it is 0.
    pub(crate) piece: usize,
    /// Requests that may be in the guest's hands at once.
    pub(crate) concurrency: usize,
}

impl Manager {
    /// What was not synced is gone.
    pub(crate) fn crash(&mut self) {
        for stored in self.store.iter_mut().filter(|stored| !matches!(stored.state, State::Done(_))) {
            stored.spooled.truncate(stored.spooled.len() / 2);
        }
    }

    pub(crate) fn accept(&mut self, len: usize) {
        let sequence = self.store.len() as u64 + 1;
        let mut id = [0; 16];
        id[..8].copy_from_slice(&sequence.to_le_bytes());
        let id = RequestId::new(id);
        let (state, cancelled, spooled) = (State::Queued, false, Vec::new());
        self.store.push(Stored { id, sequence, len, state, cancelled, spooled });
    }

    /// Does what the session wants, all of it but writing.
    pub(crate) fn serve(&mut self, host: Host, owed: Owed) -> Host {
        match owed {
            Owed::Send(_) | Owed::Wait(_) => panic!("the world does this"),
            Owed::Polls(_) => host,
            Owed::Judge(_) => host.welcome(samples::welcome()).unwrap(),
            Owed::Pulled => self.pulled(host),
            Owed::Attach(attach) => self.attach(host, attach),
            Owed::Serve(_) | Owed::InputTaken(_) => host,
            Owed::Progress(progress) => {
                let stored = self.find(progress.request);
                if progress.stage == Stage::Started && !matches!(stored.state, State::Done(_)) {
                    stored.state = State::Started;
                }
                host
            }
            Owed::Spool(output) => self.spool(host, &output),
            Owed::Store(outcome) => {
                let stored = self.find(outcome.request);
                match &stored.state {
                    State::Done(first) => assert_eq!(*first, outcome.outcome, "two outcomes of one request"),
                    State::Queued | State::Offered | State::Started => {
                        stored.state = State::Done(outcome.outcome)
                    }
                }
                host.noted(outcome.request).unwrap()
            }
        }
    }

    /// Sends what the credit that came in allows: chunks, and input.
    pub(crate) fn continue_serving(&mut self, mut host: Host) -> Host {
        while let Some((request, offset, room)) = host.chunk_room() {
            let room = if self.piece == 0 { room } else { room.min(self.piece) };
            let sequence = self.find(request).sequence;
            host = host.chunk(request, program_bytes(sequence, offset..offset + room as u64)).unwrap();
        }
        for stored in self.store.iter().filter(|stored| stored.state == State::Started) {
            host = feed(host, stored, self.piece);
        }
        host
    }

    pub(crate) fn cancel(&mut self, host: Option<Host>, index: usize) -> Option<Host> {
        let Some(stored) = self.store.get_mut(index) else { return host };
        match stored.state {
            State::Queued => stored.state = State::Done(Outcome::Cancelled),
            State::Offered | State::Started => stored.cancelled = true,
            State::Done(_) => return host,
        }
        let open = stored.cancelled && host.as_ref().is_some_and(Host::is_open);
        let id = stored.id;
        host.map(|host| if open { host.cancel(id).unwrap() } else { host })
    }

    fn find(&mut self, id: RequestId) -> &mut Stored {
        self.store.iter_mut().find(|stored| stored.id == id).expect("a request that nobody accepted")
    }

    fn pulled(&mut self, host: Host) -> Host {
        let in_hand: Vec<RequestId> = host.in_hand().collect();
        let away = |stored: &&mut Stored| !in_hand.contains(&stored.id);
        for stored in self.store.iter_mut().filter(away) {
            assert!(stored.state != State::Started, "the guest pulls and does not know of {stored:?}");
            if stored.cancelled && stored.state == State::Offered {
                stored.state = State::Done(Outcome::Cancelled);
            }
        }
        let is_open = |stored: &&mut Stored| !matches!(stored.state, State::Done(_));
        let floor = self.store.iter_mut().find(is_open).map_or(0, |stored| stored.sequence);
        let mut waiting = self.store.iter_mut().filter(is_open).filter(away);
        let next = waiting.next().filter(|_| in_hand.len() < self.concurrency);
        let Some(stored) = next else { return host.nothing().unwrap() };
        stored.state = State::Offered;
        let offer = offer(stored, floor);
        let more = waiting.next().is_some() && in_hand.len() + 1 < self.concurrency;
        let host = host.offer(offer).unwrap();
        if more { host.ring().unwrap() } else { host }
    }

    fn attach(&mut self, host: Host, attach: Attach) -> Host {
        let stored = self.find(attach.request);
        let known = input_bytes(stored.sequence, stored.len).len() as u64;
        assert!(attach.input <= known, "the guest has input that nobody sent");
        let stdout = stored.spooled.len() as u64;
        let wanted = !matches!(stored.state, State::Done(_));
        if wanted {
            stored.state = State::Started;
        }
        let from = wanted.then_some(Offsets { stdout, stderr: 0 });
        let host = host.attached(attach.request, from, OUTPUT_MAX).unwrap();
        if stored.cancelled && wanted { host.cancel(attach.request).unwrap() } else { host }
    }

    fn spool(&mut self, host: Host, output: &Output) -> Host {
        let stored = self.find(output.request);
        assert_eq!((output.stream, output.offset), (Stream::Stdout, stored.spooled.len() as u64));
        stored.spooled.extend_from_slice(&output.bytes);
        let (end, bytes) = (stored.spooled.len() as u64, u32::try_from(output.bytes.len()).unwrap());
        host.spooled(output.request, Stream::Stdout, end, bytes).unwrap()
    }
}

/// Sends what a request's input has room for, and its end.
fn feed(mut host: Host, stored: &Stored, piece: usize) -> Host {
    if host.input_room(stored.id).is_none() {
        return host;
    }
    let input = input_bytes(stored.sequence, stored.len);
    while let Some((offset, room)) = host.input_room(stored.id) {
        let rest = input.get(usize::try_from(offset).unwrap()..).unwrap();
        let room = if piece == 0 { room } else { room.min(piece) };
        host = match rest.get(..room.min(rest.len())).filter(|bytes| !bytes.is_empty()) {
            Some(bytes) => host.input(stored.id, bytes.to_vec()).unwrap(),
            None => host.input_end(stored.id).unwrap(),
        };
    }
    host
}

pub(crate) fn accepted(now: Tick) -> Host {
    Host::accepted(now, samples::greeting())
}

pub(crate) fn is_ring(message: &FromHost) -> bool {
    matches!(message, FromHost::Ring)
}

fn offer(stored: &Stored, floor: u64) -> Offer {
    let digest = Digest::new([u8::try_from(stored.sequence % 251).unwrap(); 32]);
    let executable = match stored.len {
        0 => Executable::InGuest(Command::try_from("true".to_owned()).unwrap()),
        len => Executable::Program(Program::new(digest, len as u64, samples::text("program")).unwrap()),
    };
    let (args, env, cwd, user) = (Vec::new(), Vec::new(), None, None);
    let reads = !input_bytes(stored.sequence, stored.len).is_empty();
    let input = if reads { Input::Stream } else { Input::None };
    let limits = Limits { output_len_max: OUTPUT_MAX, ..Limits::default() };
    let parts = RunParts { executable, args, env, cwd, user, input, limits, new_privileges: false };
    Offer {
        request: stored.id,
        sequence: Some(Sequence::try_from(stored.sequence).unwrap()),
        floor,
        action: Action::Run(Run::try_from(parts).unwrap()),
        timeout_ms: None,
        idempotent: false,
        signed: None,
    }
}

/// More than any program here prints.
const OUTPUT_MAX: u64 = 1_000_000;
