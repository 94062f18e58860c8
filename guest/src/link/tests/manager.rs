//! A scripted manager: the real host half of a session, over a socket pair.
//!
//! Used by the tests of the link; does what its script says and records what the guest said.

use doorbell_wire::frame::Deframer;
use doorbell_wire::ids::{Nonce, RequestId, SessionToken, Tick};
use doorbell_wire::message::outcome::Acknowledgement;
use doorbell_wire::message::{Capabilities, FromGuest, Greeting, Offer, Offsets, Stage, Stream, Welcome};
use doorbell_wire::session::host::{Host, Owed};
use std::collections::VecDeque;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

pub(crate) struct Manager {
    pub(crate) stream: UnixStream,
    host: Option<Host>,
    deframer: Deframer,
    out: Vec<u8>,
    serving: Vec<u8>,
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
    /// What is said of an attached request's output.
    pub(crate) attach_from: Option<Offsets>,
}

/// What the guest did.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) low_water: u64,
    pub(crate) token: Option<SessionToken>,
    pub(crate) capabilities: Capabilities,
    pub(crate) pulls: usize,
    pub(crate) attached: Vec<RequestId>,
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
        let (deframer, out, serving) = (Deframer::new(), Vec::new(), Vec::new());
        Self { stream, host, deframer, out, serving, script, seen: Seen::default() }
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
            && let Some((offset, room)) = host.chunk_room()
        {
            let at = usize::try_from(offset).unwrap();
            host = host.chunk(self.serving[at..at + room].to_vec()).unwrap();
            host = self.drain(host);
        }
        self.host = Some(host);
        self.flush();
    }

    pub(crate) fn ring(&mut self) {
        self.with(|host| host.ring().unwrap());
    }

    pub(crate) fn cancel(&mut self, request: RequestId) {
        self.with(|host| host.cancel(request).unwrap());
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
                | Owed::Pulled
                | Owed::Attach(_)
                | Owed::Serve(_)
                | Owed::Progress(_)
                | Owed::Spool(_)
                | Owed::Store(_)) => self.owed(host, owed),
            }
        }
    }

    fn owed(&mut self, host: Host, owed: Owed) -> Host {
        match owed {
            Owed::Judge(hello) => {
                self.seen.low_water = hello.claims.low_water;
                self.seen.token = hello.claims.token;
                self.seen.capabilities = hello.claims.capabilities;
                host.welcome(Welcome { token: SessionToken::new([4; 32]), host_time_ms: 1 }).unwrap()
            }
            Owed::Pulled => {
                self.seen.pulls += 1;
                let Some((offer, bytes)) = self.script.offers.pop_front() else {
                    return host.nothing().unwrap();
                };
                self.serving = bytes;
                host.offer(offer).unwrap()
            }
            Owed::Attach(request) => {
                self.seen.attached.push(request);
                host.attached(self.script.attach_from).unwrap()
            }
            Owed::Progress(progress) => {
                self.seen.stages.push(progress.stage);
                host
            }
            Owed::Spool(output) => {
                let stream = match output.stream {
                    Stream::Stdout => &mut self.seen.stdout,
                    Stream::Stderr => &mut self.seen.stderr,
                };
                stream.extend_from_slice(&output.bytes);
                let spooled = u32::try_from(output.bytes.len()).unwrap();
                if self.script.holds_credit { host } else { host.spooled(spooled).unwrap() }
            }
            Owed::Store(acknowledgement) => {
                self.seen.outcomes.push(*acknowledgement);
                if self.script.forgetful { host } else { host.noted().unwrap() }
            }
            Owed::Serve(_) | Owed::Send(_) | Owed::Wait(_) => host,
        }
    }
}
