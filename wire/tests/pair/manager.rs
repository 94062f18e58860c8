//! The model of a manager: a store that a crash does not touch, and the driver of its half of the session.

use crate::common::samples;
use crate::world::program_bytes;
use doorbell_wire::ids::{Digest, RequestId, Sequence, Tick};
use doorbell_wire::message::action::{Action, Command, Executable, Program, Run, RunParts};
use doorbell_wire::message::outcome::Outcome;
use doorbell_wire::message::{FromHost, Offer, Offsets, Output, Stage, Stream};
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
        self.store.push(Stored {
            id,
            sequence,
            len,
            state: State::Queued,
            cancelled: false,
            spooled: Vec::new(),
        });
    }

    /// Does what the session wants, all of it but writing.
    pub(crate) fn serve(&mut self, host: Host, owed: Owed) -> Host {
        match owed {
            Owed::Send(_) | Owed::Wait(_) => panic!("the world does this"),
            Owed::Judge(_) => host.welcome(samples::welcome()).unwrap(),
            Owed::Pulled => self.pulled(host),
            Owed::Attach(request) => self.attach(host, request),
            Owed::Serve(request) => self.chunks(host, request),
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
                host.noted().unwrap()
            }
        }
    }

    /// Sends what the credit that came in allows.
    pub(crate) fn continue_serving(&mut self, host: Host) -> Host {
        let serving = self.store.iter().find(|stored| stored.state == State::Offered).map(|stored| stored.id);
        match serving {
            Some(request) if host.chunk_room().is_some() => self.chunks(host, request),
            _ => host,
        }
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
        let started = self.store.iter().find(|stored| stored.state == State::Started);
        assert!(started.is_none(), "the guest pulls and has {started:?} in hand");
        for stored in &mut self.store {
            if stored.cancelled && stored.state == State::Offered {
                stored.state = State::Done(Outcome::Cancelled);
            }
        }
        let next = self.store.iter_mut().find(|stored| !matches!(stored.state, State::Done(_)));
        let Some(stored) = next else { return host.nothing().unwrap() };
        stored.state = State::Offered;
        host.offer(offer(stored)).unwrap()
    }

    fn attach(&mut self, host: Host, request: RequestId) -> Host {
        let stored = self.find(request);
        let host = host.attached(Some(Offsets { stdout: stored.spooled.len() as u64, stderr: 0 })).unwrap();
        if stored.cancelled { host.cancel(request).unwrap() } else { host }
    }

    fn chunks(&self, mut host: Host, request: RequestId) -> Host {
        let stored = self.store.iter().find(|stored| stored.id == request).unwrap();
        while let Some((offset, room)) = host.chunk_room() {
            let room = if self.piece == 0 { room } else { room.min(self.piece) };
            host = host.chunk(program_bytes(stored.sequence, offset..offset + room as u64)).unwrap();
        }
        host
    }

    fn spool(&mut self, host: Host, output: &Output) -> Host {
        let stored = self.find(output.request);
        assert_eq!((output.stream, output.offset), (Stream::Stdout, stored.spooled.len() as u64));
        stored.spooled.extend_from_slice(&output.bytes);
        host.spooled(u32::try_from(output.bytes.len()).unwrap()).unwrap()
    }
}

pub(crate) fn accepted(now: Tick) -> Host {
    Host::accepted(now, samples::greeting())
}

pub(crate) fn is_ring(message: &FromHost) -> bool {
    matches!(message, FromHost::Ring)
}

fn offer(stored: &Stored) -> Offer {
    let digest = Digest::new([u8::try_from(stored.sequence % 251).unwrap(); 32]);
    let executable = match stored.len {
        0 => Executable::InGuest(Command::try_from("true".to_owned()).unwrap()),
        len => Executable::Program(Program::new(digest, len as u64, samples::text("program")).unwrap()),
    };
    let parts = RunParts { executable, args: Vec::new(), env: Vec::new(), cwd: None };
    Offer {
        request: stored.id,
        sequence: Some(Sequence::try_from(stored.sequence).unwrap()),
        action: Action::Run(Run::try_from(parts).unwrap()),
        timeout_ms: None,
        idempotent: false,
    }
}
