//! A scripted manager: the real host half of a session, over a socket pair.
//!
//! Used by the tests of the link; does what its script says and records what the guest said.

use doorbell_wire::frame::Deframer;
use doorbell_wire::ids::{Nonce, RequestId, SessionToken, Tick};
use doorbell_wire::limits::OUTPUT_LEN_MAX;
use doorbell_wire::message::action::Window;
use doorbell_wire::message::outcome::Acknowledgement;
use doorbell_wire::message::{
    Attach, Capabilities, FromGuest, Greeting, Offer, Offsets, Output, Resize, Stage, Stream, Welcome,
};
use doorbell_wire::session::host::{Host, Owed};
use std::collections::{BTreeMap, VecDeque};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

pub(crate) struct Manager {
    pub(crate) stream: UnixStream,
    host: Option<Host>,
    deframer: Deframer,
    out: Vec<u8>,
    serving: BTreeMap<RequestId, Vec<u8>>,
    printed: BTreeMap<(RequestId, Stream), u64>,
    pub(crate) script: Script,
    pub(crate) seen: Seen,
}

/// What the manager does.
#[derive(Default)]
pub(crate) struct Script {
    pub(crate) offers: VecDeque<(Offer, Vec<u8>)>,
    /// Whether outcomes are not stored.
    pub(crate) forgetful: bool,
    /// Whether program bytes are held back.
    pub(crate) holds_chunks: bool,
    /// Whether the guest's output gets no credit.
    pub(crate) holds_credit: bool,
    /// Input of a request, and whether it ends there.
    pub(crate) input: Option<(RequestId, Vec<u8>, bool)>,
    /// What is said of an attached request's output.
    pub(crate) attach_from: Option<Offsets>,
}

/// What the guest did.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) sequence_max: u64,
    pub(crate) token: Option<SessionToken>,
    pub(crate) capabilities: Capabilities,
    pub(crate) pulls: usize,
    pub(crate) attached: Vec<RequestId>,
    /// Input bytes that the guest had of each attached request.
    pub(crate) inputs: Vec<u64>,
    pub(crate) stages: Vec<Stage>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    pub(crate) outcomes: Vec<Acknowledgement>,
}

impl Manager {
    pub(crate) fn new(stream: UnixStream, now: Tick, script: Script) -> Self {
        stream.set_nonblocking(true).unwrap();
        let nonce = Nonce::new([3; 32]);
        let greeting = Greeting { version_min: 0, version_max: 0, nonce, host_time_ms: 1 };
        let host = Some(Host::accepted(now, greeting));
        let (deframer, out, serving) = (Deframer::new(), Vec::new(), BTreeMap::new());
        let printed = BTreeMap::new();
        Self { stream, host, deframer, out, serving, printed, script, seen: Seen::default() }
    }

    /// Reads what is there, does what is owed, writes what fits.
    pub(crate) fn pump(&mut self, now: Tick) {
        let mut buffer = [0; 16 * 1024];
        let host = self.host.take().unwrap();
        let mut host = self.drain(host);
        while let Ok(count @ 1..) = self.stream.read(&mut buffer) {
            let mut bytes = &buffer[..count];
            while let Some(frame) = self.deframer.next(&mut bytes).unwrap() {
                host = host.receive(now, FromGuest::from_frame(&frame).unwrap()).unwrap();
                host = self.drain(host);
            }
        }
        while !self.script.holds_chunks
            && let Some((request, offset, room)) = host.chunk_room()
        {
            let at = usize::try_from(offset).unwrap();
            host = host.chunk(request, self.serving[&request][at..at + room].to_vec()).unwrap();
            host = self.drain(host);
        }
        host = self.send_input(host);
        self.host = Some(host);
        self.flush();
    }

    pub(crate) fn ring(&mut self) {
        self.with(|host| host.ring().unwrap());
    }

    pub(crate) fn cancel(&mut self, request: RequestId) {
        self.with(|host| host.cancel(request).unwrap());
    }

    pub(crate) fn resize(&mut self, request: RequestId, window: Window) {
        self.with(|host| host.resize(Resize { request, window }).unwrap());
    }

    fn send_input(&mut self, mut host: Host) -> Host {
        let Some((request, bytes, ends)) = self.script.input.clone() else { return host };
        while let Some((offset, room)) = host.input_room(request) {
            let rest = &bytes[usize::try_from(offset).unwrap()..];
            host = match rest.len() {
                0 if ends => host.input_end(request).unwrap(),
                0 => return host,
                len => host.input(request, rest[..len.min(room)].to_vec()).unwrap(),
            };
            host = self.drain(host);
        }
        host
    }

    fn with(&mut self, call: impl FnOnce(Host) -> Host) {
        let host = call(self.host.take().unwrap());
        self.host = Some(self.drain(host));
        self.flush();
    }

    fn flush(&mut self) {
        while !self.out.is_empty() {
            let Ok(count) = self.stream.write(&self.out) else { return };
            self.out.drain(..count);
        }
    }

    fn drain(&mut self, mut host: Host) -> Host {
        loop {
            host = match host.poll() {
                Owed::Wait(_) => return host,
                Owed::Send(message) => {
                    message.to_frame().unwrap().write(&mut self.out).unwrap();
                    host
                }
                owed @ (Owed::Judge(_)
                | Owed::Polls(_)
                | Owed::Pulled
                | Owed::Attach(_)
                | Owed::Serve(_)
                | Owed::Progress(_)
                | Owed::InputTaken(_)
                | Owed::Spool(_)
                | Owed::Store(_)) => self.owed(host, owed),
            }
        }
    }

    fn owed(&mut self, host: Host, owed: Owed) -> Host {
        match owed {
            Owed::Judge(hello) => {
                self.seen.sequence_max = hello.claims.sequence_max;
                self.seen.token = hello.claims.token;
                self.seen.capabilities = hello.claims.capabilities;
                host.welcome(Welcome { token: SessionToken::new([4; 32]), host_time_ms: 1, proof: None })
                    .unwrap()
            }
            Owed::Polls(_) => host,
            Owed::Pulled => {
                self.seen.pulls += 1;
                let Some((offer, bytes)) = self.script.offers.pop_front() else {
                    return host.nothing().unwrap();
                };
                self.serving.insert(offer.request, bytes);
                host.offer(offer).unwrap()
            }
            Owed::Attach(Attach { request, input, .. }) => {
                self.seen.attached.push(request);
                self.seen.inputs.push(input);
                let from = self.script.attach_from;
                for (stream, at) in from
                    .iter()
                    .flat_map(|from| [(Stream::Stdout, from.stdout), (Stream::Stderr, from.stderr)])
                {
                    self.printed.insert((request, stream), at);
                }
                host.attached(request, from, OUTPUT_LEN_MAX).unwrap()
            }
            Owed::Progress(progress) => {
                self.seen.stages.push(progress.stage);
                host
            }
            Owed::Spool(output) => self.spool(host, &output),
            Owed::Store(acknowledgement) => {
                let request = acknowledgement.request;
                self.seen.outcomes.push(*acknowledgement);
                if self.script.forgetful { host } else { host.noted(request).unwrap() }
            }
            Owed::Serve(_) | Owed::InputTaken(_) | Owed::Send(_) | Owed::Wait(_) => host,
        }
    }

    fn spool(&mut self, host: Host, output: &Output) -> Host {
        let Output { request, stream, offset, bytes } = output;
        let printed = self.printed.entry((*request, *stream)).or_default();
        assert_eq!(printed, offset, "output of {request} has a hole or comes twice");
        *printed += bytes.len() as u64;
        match stream {
            Stream::Stdout => self.seen.stdout.extend_from_slice(bytes),
            Stream::Stderr => self.seen.stderr.extend_from_slice(bytes),
        }
        let spooled = u32::try_from(bytes.len()).unwrap();
        if self.script.holds_credit {
            host
        } else {
            host.spooled(*request, *stream, *printed, spooled).unwrap()
        }
    }
}
