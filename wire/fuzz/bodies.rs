//! What the fuzz targets do with their bytes: functions that end in assertions.
//!
//! Called by the targets under a nightly compiler, and by `tests/corpus.rs` on the committed corpora with any.

use doorbell_wire::error::{Malformed, Reason};
use doorbell_wire::frame::{Deframer, Frame};
use doorbell_wire::ids::{
    BootId, Digest, Nonce, PublicKey, RequestId, SessionToken, ShortText, Signature, Tick,
};
use doorbell_wire::limits::{BULK_WINDOW, HEADER_LEN, OUTPUT_LEN_MAX, PAYLOAD_LEN_MAX, PROGRAM_LEN_MAX};
use doorbell_wire::message::action::{Action, Command, Executable, Program, Run, RunParts};
use doorbell_wire::message::outcome::{Acknowledgement, Evidence, Outcome, OutputTotals};
use doorbell_wire::message::{
    Attached, Capabilities, Chunk, Claims, Credit, Fetch, FromGuest, FromHost, Greeting, Hello, Kind, Offer,
    Offsets, Output, Progress, Stage, Stream, Welcome,
};
use doorbell_wire::session::guest::{Guest, Owed as GuestOwed};
use doorbell_wire::session::host::{Host, Owed as HostOwed};

/// Any bytes in any pieces: no panic, a bounded buffer, the same frames and the same end for all pieces; and
/// what reads as a message is written as one that reads the same.
pub fn deframe(data: &[u8]) {
    let (whole, end) = frames(std::iter::once(data));
    assert_eq!((&whole, &end), (&frames(data.chunks(1)).0, &frames(data.chunks(1)).1), "byte by byte");
    let step = data.first().map_or(1, |first| usize::from(*first).max(1));
    assert_eq!(frames(data.chunks(step)), (whole.clone(), end), "in pieces of {step}");
    for frame in whole {
        let mut bytes = Vec::new();
        frame.write(&mut bytes).expect("a frame that was read can be written");
        assert_eq!(frames(std::iter::once(&bytes[..])), (vec![frame.clone()], Ok(0)));
        if let Ok(message) = FromHost::from_frame(&frame) {
            let again = message.to_frame().expect("a message that was read can be written");
            assert_eq!(FromHost::from_frame(&again), Ok(message));
        }
        if let Ok(message) = FromGuest::from_frame(&frame) {
            let again = message.to_frame().expect("a message that was read can be written");
            assert_eq!(FromGuest::from_frame(&again), Ok(message));
        }
    }
}

/// Any frames of an agent and any calls of a driver: no panic, and what is owed stays bounded.
pub fn host_session(data: &[u8]) {
    let mut from = Source(data);
    let mut now = Tick(0);
    let mut host = Host::accepted(now, greeting());
    let mut book = HostBook::default();
    loop {
        book.drain(&mut host, now);
        let Some(step) = from.byte() else { return };
        let next = match step {
            0..=159 => {
                let Some(message) = from_guest(step, &mut from) else { continue };
                book.heard(&message);
                host.receive(now, message)
            }
            160..=239 => host_call(host, step, &mut from, &mut book),
            _ => {
                now = now.after(u64::from(from.byte().unwrap_or(1)) * 250);
                host.expire(now)
            }
        };
        match next {
            Ok(next) => host = next,
            Err(error) => {
                assert!(!error.to_string().is_empty());
                return;
            }
        }
    }
}

/// Any frames of a manager and any calls of a driver: no panic, and what is owed stays bounded.
pub fn guest_session(data: &[u8]) {
    let mut from = Source(data);
    let mut now = Tick(0);
    let mut guest = Guest::connected(now);
    let mut book = GuestBook::default();
    loop {
        book.drain(&mut guest, now);
        let Some(step) = from.byte() else { return };
        let next = match step {
            0..=159 => {
                let Some(message) = from_host(step, &mut from) else { continue };
                book.heard(&message);
                guest.receive(now, message)
            }
            160..=239 => guest_call(guest, now, step, &mut from),
            _ => {
                now = now.after(u64::from(from.byte().unwrap_or(1)) * 250);
                guest.expire(now)
            }
        };
        match next {
            Ok(next) => guest = next,
            Err(error) => {
                assert!(!error.to_string().is_empty());
                return;
            }
        }
    }
}

/// What is known of a manager's half from outside.
#[derive(Default)]
struct HostBook {
    chunks: u64,
    output: u64,
    rings: u64,
    pings: u64,
    printed: [Option<u64>; 2],
}

impl HostBook {
    fn heard(&mut self, message: &FromGuest) {
        match message {
            FromGuest::Pull => (self.rings, self.pings) = (0, 0),
            FromGuest::Fetch(_) => self.chunks = 0,
            FromGuest::ChunkCredit(credit) => {
                self.chunks = self.chunks.saturating_sub(u64::from(credit.bytes))
            }
            _ => {}
        }
    }

    fn drain(&mut self, host: &mut Host, now: Tick) {
        loop {
            match host.poll() {
                HostOwed::Wait(tick) => {
                    return assert!(tick >= now || !host.is_open(), "{tick:?} lies before {now:?}");
                }
                HostOwed::Send(message) => {
                    self.sent(&message);
                    assert!(message.to_frame().is_ok(), "{message:?} cannot be written");
                }
                HostOwed::Spool(output) => self.spool(&output),
                HostOwed::Judge(_)
                | HostOwed::Pulled
                | HostOwed::Attach(_)
                | HostOwed::Serve(_)
                | HostOwed::Progress(_)
                | HostOwed::Store(_) => {}
            }
        }
    }

    fn sent(&mut self, message: &FromHost) {
        match message {
            FromHost::Chunk(chunk) => self.chunks += chunk.bytes.len() as u64,
            FromHost::OutputCredit(credit) => self.output -= u64::from(credit.bytes),
            FromHost::Ping(_) => self.pings += 1,
            FromHost::Ring => self.rings += 1,
            FromHost::Offer(_) | FromHost::Attached(_) => self.printed = [None; 2],
            _ => {}
        }
        assert!(self.chunks <= u64::from(BULK_WINDOW), "{} program bytes in flight", self.chunks);
        assert!(self.rings <= 1 + self.pings, "{} rings and {} pings since a pull", self.rings, self.pings);
    }

    fn spool(&mut self, output: &Output) {
        let place = &mut self.printed[usize::from(output.stream == Stream::Stderr)];
        assert!(place.is_none_or(|end| end == output.offset), "output has a gap");
        let end = output.offset + output.bytes.len() as u64;
        *place = Some(end);
        assert!(end <= OUTPUT_LEN_MAX, "a stream of {end} bytes");
        self.output += output.bytes.len() as u64;
        assert!(self.output <= u64::from(BULK_WINDOW), "{} output bytes in flight", self.output);
    }
}

/// What is known of an agent's half from outside.
#[derive(Default)]
struct GuestBook {
    pulls: u64,
    causes: u64,
    chunks: u64,
    staged: u64,
    output: u64,
}

impl GuestBook {
    fn heard(&mut self, message: &FromHost) {
        match message {
            FromHost::Ring | FromHost::Noted(_) | FromHost::Welcome(_) => self.causes += 1,
            FromHost::OutputCredit(credit) => {
                self.output = self.output.saturating_sub(u64::from(credit.bytes))
            }
            _ => {}
        }
    }

    fn drain(&mut self, guest: &mut Guest, now: Tick) {
        let mut owed = 0;
        loop {
            owed += 1;
            match guest.poll() {
                GuestOwed::Wait(tick) => return assert!(tick >= now || guest.state() != "Idle"),
                GuestOwed::Send(message) => {
                    self.sent(&message);
                    assert!(message.to_frame().is_ok(), "{message:?} cannot be written");
                }
                GuestOwed::Stage(chunk) => {
                    assert_eq!(chunk.offset, self.staged, "staged bytes have a gap");
                    self.staged += chunk.bytes.len() as u64;
                    self.chunks += chunk.bytes.len() as u64;
                    assert!(self.staged <= PROGRAM_LEN_MAX && self.chunks <= u64::from(BULK_WINDOW));
                }
                GuestOwed::Introduce(_)
                | GuestOwed::Welcomed(_)
                | GuestOwed::Attached(_)
                | GuestOwed::Offered(_)
                | GuestOwed::Cancel(_)
                | GuestOwed::Forget(_) => {}
            }
            assert!(owed < 4, "one step owes {owed} things");
        }
    }

    fn sent(&mut self, message: &FromGuest) {
        match message {
            FromGuest::Pull => self.pulls += 1,
            FromGuest::Fetch(_) => (self.staged, self.chunks) = (0, 0),
            FromGuest::ChunkCredit(credit) => self.chunks -= u64::from(credit.bytes),
            FromGuest::Output(output) => self.output += output.bytes.len() as u64,
            _ => {}
        }
        assert!(self.pulls <= self.causes, "{} pulls for {} causes", self.pulls, self.causes);
        assert!(self.output <= u64::from(BULK_WINDOW), "{} output bytes in flight", self.output);
    }
}

fn host_call(
    host: Host,
    step: u8,
    from: &mut Source<'_>,
    book: &mut HostBook,
) -> Result<Host, doorbell_wire::error::SessionError> {
    match step % 10 {
        0 => host.welcome(Welcome { token: SessionToken::new([2; 32]), host_time_ms: 0 }),
        1 => host.ring(),
        2 => host.offer(offer(from)),
        3 => host.nothing(),
        4 => host.attached(from.flag().then(|| Offsets { stdout: from.place(), stderr: from.place() })),
        5 => match host.chunk_room() {
            Some((_, room)) => host.chunk(vec![0; from.len().clamp(1, room)]),
            None => Ok(host),
        },
        6 => match u32::try_from(book.output).unwrap_or(0) {
            0 => Ok(host),
            held => host.spooled(u32::try_from(from.len()).unwrap_or(1).clamp(1, held)),
        },
        7 => host.cancel(from.request()),
        8 => host.noted(),
        _ => host.chunk(vec![0; from.len()]),
    }
}

fn guest_call(
    guest: Guest,
    now: Tick,
    step: u8,
    from: &mut Source<'_>,
) -> Result<Guest, doorbell_wire::error::SessionError> {
    match step % 9 {
        0 => guest.introduce(hello()),
        1 => guest.pull(),
        2 => guest.attach(from.request()),
        3 => guest.fetch(now),
        4 => guest.staged(u32::try_from(from.len()).unwrap_or(1)),
        5 => guest.apply(),
        6 => guest.progress(progress(from)),
        7 => guest.output(output(from)),
        _ => guest.acknowledge(acknowledgement(from)),
    }
}

fn from_guest(step: u8, from: &mut Source<'_>) -> Option<FromGuest> {
    Some(match step % 11 {
        0 => FromGuest::Hello(Box::new(hello())),
        1 => FromGuest::Pull,
        2 => FromGuest::Fetch(Fetch { request: from.request(), offset: from.place() }),
        3 => FromGuest::ChunkCredit(Credit { bytes: u32::try_from(from.len()).ok()? }),
        4 => FromGuest::Attach(from.request()),
        5 => FromGuest::Progress(progress(from)),
        6 => FromGuest::Output(output(from)),
        7 => FromGuest::Acknowledge(Box::new(acknowledgement(from))),
        8 => FromGuest::Pong(u64::from(from.byte()?)),
        9 => FromGuest::GuestBye(Reason(u16::from(from.byte()?))),
        _ => FromGuest::from_frame(&raw(from)?).ok()?,
    })
}

fn from_host(step: u8, from: &mut Source<'_>) -> Option<FromHost> {
    Some(match step % 13 {
        0 => FromHost::Ring,
        1 => FromHost::Greeting(Greeting { version_max: u16::from(from.byte()? & 1), ..greeting() }),
        2 => FromHost::Welcome(Welcome { token: SessionToken::new([2; 32]), host_time_ms: 0 }),
        3 => FromHost::Offer(Box::new(offer(from))),
        4 => FromHost::Nothing,
        5 => FromHost::Chunk(Chunk {
            request: from.request(),
            offset: from.place(),
            bytes: vec![0; from.len()],
        }),
        6 => FromHost::OutputCredit(Credit { bytes: u32::try_from(from.len()).ok()? }),
        7 => {
            let request = from.request();
            let place = from.flag().then(|| Offsets { stdout: from.place(), stderr: from.place() });
            FromHost::Attached(Attached { request, from: place })
        }
        8 => FromHost::Noted(from.request()),
        9 => FromHost::Cancel(from.request()),
        10 => FromHost::Ping(u64::from(from.byte()?)),
        11 => FromHost::HostBye(Reason(u16::from(from.byte()?))),
        _ => FromHost::from_frame(&raw(from)?).ok()?,
    })
}

/// A frame of any kind with any payload.
fn raw(from: &mut Source<'_>) -> Option<Frame> {
    let kind = Kind::from_byte(from.byte()?)?;
    let len = usize::from(from.byte()?).min(from.0.len());
    let (payload, rest) = from.0.split_at(len);
    from.0 = rest;
    Frame::new(kind, payload.to_vec()).ok()
}

/// Bytes as a source of choices; small ones are frequent, and so are those at a limit.
struct Source<'a>(&'a [u8]);

impl Source<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }

    fn flag(&mut self) -> bool {
        self.byte().is_some_and(|byte| byte & 1 == 1)
    }

    /// One of two requests.
    fn request(&mut self) -> RequestId {
        RequestId::new([self.byte().unwrap_or(0) & 1; 16])
    }

    fn len(&mut self) -> usize {
        match self.byte().unwrap_or(0) {
            small @ 0..=127 => usize::from(small),
            large => (usize::from(large) - 127) * 512,
        }
    }

    fn place(&mut self) -> u64 {
        match self.byte().unwrap_or(0) {
            small @ 0..=127 => u64::from(small),
            large @ 128..=250 => (u64::from(large) - 127) * 512,
            limit => OUTPUT_LEN_MAX - u64::from(limit - 250),
        }
    }
}

fn frames<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Frame>, Result<usize, Malformed>) {
    let mut deframer = Deframer::new();
    let mut frames = Vec::new();
    for mut piece in pieces {
        loop {
            match deframer.next(&mut piece) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Err(error)),
            }
            assert!(
                deframer.buffered() <= HEADER_LEN + PAYLOAD_LEN_MAX,
                "{} bytes held",
                deframer.buffered()
            );
        }
        assert!(piece.is_empty(), "bytes were left");
        assert!(deframer.buffered() <= HEADER_LEN + PAYLOAD_LEN_MAX, "{} bytes held", deframer.buffered());
    }
    (frames, Ok(deframer.buffered()))
}

fn greeting() -> Greeting {
    Greeting { version_min: 0, version_max: 0, nonce: Nonce::new([1; 32]), host_time_ms: 0 }
}

fn hello() -> Hello {
    let claims = Claims {
        version: 0,
        nonce: Nonce::new([3; 32]),
        public_key: PublicKey::new([4; 32]),
        boot_id: BootId::new([5; 16]),
        generation: None,
        token: None,
        capabilities: Capabilities::RUN,
        agent: text(),
        low_water: 0,
    };
    Hello { claims, proof: Signature::new([6; 64]) }
}

fn offer(from: &mut Source<'_>) -> Offer {
    let request = from.request();
    let len = from.place();
    let executable = match len {
        0 => Executable::InGuest(Command::try_from("true".to_owned()).expect("a command")),
        _ => Executable::Program(
            Program::new(Digest::new([7; 32]), len, text()).expect("a program within its limit"),
        ),
    };
    let parts = RunParts { executable, args: Vec::new(), env: Vec::new(), cwd: None };
    let action = Action::Run(Run::try_from(parts).expect("a start within its limits"));
    Offer { request, sequence: None, action, timeout_ms: None, idempotent: false }
}

fn progress(from: &mut Source<'_>) -> Progress {
    let stage = match from.byte().unwrap_or(0) & 3 {
        0 => Stage::Fetched,
        1 => Stage::Verified,
        2 => Stage::Journalled,
        _ => Stage::Started,
    };
    Progress { request: from.request(), stage, at_ms: 0 }
}

fn output(from: &mut Source<'_>) -> Output {
    let stream = if from.flag() { Stream::Stderr } else { Stream::Stdout };
    Output { request: from.request(), stream, offset: from.place(), bytes: vec![0; from.len()] }
}

fn acknowledgement(from: &mut Source<'_>) -> Acknowledgement {
    let request = from.request();
    let (outcome, evidence) = (Outcome::Succeeded, Evidence::None);
    Acknowledgement { request, outcome, evidence, output: OutputTotals::default(), ran: None }
}

fn text() -> ShortText {
    "0".parse().expect("a short text")
}
