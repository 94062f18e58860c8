//! What the fuzz targets do with their bytes: functions that end in assertions.
//!
//! Called by the targets under a nightly compiler, and by `tests/corpus.rs` on the committed corpora with any.

use doorbell_wire::error::{Malformed, Reason};
use doorbell_wire::frame::{Deframer, Frame};
use doorbell_wire::ids::{
    BootId, Digest, Nonce, PublicKey, RequestId, SessionToken, ShortText, Signature, Tick,
};
use doorbell_wire::limits::{
    BULK_WINDOW, FILE_LEN_MAX, HANDS_MAX, HEADER_LEN, INPUT_WINDOW, OUTPUT_LEN_MAX, PAYLOAD_LEN_MAX,
};
use doorbell_wire::message::action::{
    Action, Command, Executable, Form, Input, Limits, Payload, Put, Run, RunParts, Window,
};
use doorbell_wire::message::outcome::{Acknowledgement, Evidence, Outcome, OutputTotals};
use doorbell_wire::message::{
    self, Attach, Attached, Capabilities, Chunk, Claims, Credit, Fetch, FromGuest, FromHost, Greeting, Hello,
    InputCredit, InputEnd, Kind, Offer, Offsets, Output, Polls, Progress, Push, Resize, Spooled, Stage,
    Stream, Welcome,
};
use doorbell_wire::session::guest::{Guest, Owed as GuestOwed};
use doorbell_wire::session::host::{Host, Owed as HostOwed};
use std::collections::BTreeMap;

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
    /// By request: where each stream stands, what of its output awaits credit, what of its input waits.
    printed: BTreeMap<RequestId, [Option<u64>; 2]>,
    due: BTreeMap<RequestId, u64>,
    input: BTreeMap<RequestId, u64>,
}

impl HostBook {
    fn heard(&mut self, message: &FromGuest) {
        match message {
            FromGuest::Pull => (self.rings, self.pings) = (0, 0),
            FromGuest::ChunkCredit(credit) => {
                self.chunks = self.chunks.saturating_sub(u64::from(credit.bytes))
            }
            FromGuest::Attach(attach) => {
                self.input.insert(attach.request, attach.input.saturating_sub(attach.taken));
            }
            FromGuest::InputCredit(credit) => {
                let waits = self.input.entry(credit.request).or_default();
                *waits = waits.saturating_sub(u64::from(credit.bytes));
            }
            _ => {}
        }
    }

    fn drain(&mut self, host: &mut Host, now: Tick) {
        loop {
            match host.poll() {
                HostOwed::Wait(tick) => {
                    assert!(host.in_hand().count() <= HANDS_MAX, "more in hand than there are hands");
                    let due: u64 = self.due.values().sum();
                    assert_eq!(due, self.output, "output and its credit");
                    return assert!(tick >= now || !host.is_open(), "{tick:?} lies before {now:?}");
                }
                HostOwed::Send(message) => {
                    self.sent(&message);
                    assert!(message.to_frame().is_ok(), "{message:?} cannot be written");
                }
                HostOwed::Spool(output) => self.spool(&output),
                HostOwed::Judge(_)
                | HostOwed::Polls(_)
                | HostOwed::Pulled
                | HostOwed::Attach(_)
                | HostOwed::Serve(_)
                | HostOwed::Progress(_)
                | HostOwed::InputTaken(_)
                | HostOwed::Store(_) => {}
            }
        }
    }

    fn sent(&mut self, message: &FromHost) {
        match message {
            FromHost::Chunk(chunk) => self.chunks += chunk.bytes.len() as u64,
            FromHost::OutputCredit(spooled) => {
                self.output -= u64::from(spooled.bytes);
                *self.due.entry(spooled.request).or_default() -= u64::from(spooled.bytes);
            }
            FromHost::Input(input) => {
                let waits = self.input.entry(input.request).or_default();
                *waits += input.bytes.len() as u64;
                assert!(*waits <= u64::from(INPUT_WINDOW), "{waits} bytes of input wait");
            }
            FromHost::Noted(request) => {
                assert_eq!(self.due.remove(request).unwrap_or(0), 0, "credit is lost with its request");
                self.printed.remove(request);
                self.input.remove(request);
            }
            FromHost::Ping(_) => self.pings += 1,
            FromHost::Ring => self.rings += 1,
            _ => {}
        }
        assert!(self.chunks <= u64::from(BULK_WINDOW), "{} program bytes in flight", self.chunks);
        assert!(self.rings <= 1 + self.pings, "{} rings and {} pings since a pull", self.rings, self.pings);
    }

    fn spool(&mut self, output: &Output) {
        let places = self.printed.entry(output.request).or_default();
        let place = &mut places[usize::from(output.stream == Stream::Stderr)];
        assert!(place.is_none_or(|end| end == output.offset), "output has a gap");
        let end = output.offset + output.bytes.len() as u64;
        *place = Some(end);
        assert!(end <= OUTPUT_LEN_MAX, "a stream of {end} bytes");
        self.output += output.bytes.len() as u64;
        *self.due.entry(output.request).or_default() += output.bytes.len() as u64;
        assert!(self.output <= u64::from(BULK_WINDOW), "{} output bytes in flight", self.output);
    }
}

/// What is known of an agent's half from outside.
#[derive(Default)]
struct GuestBook {
    pulls: u64,
    causes: u64,
    chunks: u64,
    output: u64,
    /// By request: how much of its payload is staged, and how much of its input waits.
    staged: BTreeMap<RequestId, u64>,
    input: BTreeMap<RequestId, u64>,
}

impl GuestBook {
    fn heard(&mut self, message: &FromHost) {
        match message {
            FromHost::Ring | FromHost::Noted(_) | FromHost::Welcome(_) => self.causes += 1,
            FromHost::OutputCredit(spooled) => {
                self.output = self.output.saturating_sub(u64::from(spooled.bytes))
            }
            FromHost::Chunk(chunk) => self.chunks += chunk.bytes.len() as u64,
            _ => {}
        }
    }

    fn drain(&mut self, guest: &mut Guest, now: Tick) {
        let mut owed = 0;
        assert!(self.chunks <= u64::from(BULK_WINDOW), "{} program bytes in flight", self.chunks);
        loop {
            owed += 1;
            match guest.poll() {
                GuestOwed::Wait(tick) => return assert!(tick >= now || guest.state() != "Working"),
                GuestOwed::Send(message) => {
                    self.sent(&message);
                    assert!(message.to_frame().is_ok(), "{message:?} cannot be written");
                }
                GuestOwed::Stage(chunk) => {
                    let staged = self.staged.entry(chunk.request).or_default();
                    assert_eq!(chunk.offset, *staged, "staged bytes have a gap");
                    *staged += chunk.bytes.len() as u64;
                    assert!(*staged <= FILE_LEN_MAX, "{staged} bytes staged");
                }
                GuestOwed::Input(input) => {
                    let waits = self.input.entry(input.request).or_default();
                    *waits += input.bytes.len() as u64;
                    assert!(*waits <= u64::from(INPUT_WINDOW), "{waits} bytes of input wait");
                }
                GuestOwed::Forget(request) => {
                    self.staged.remove(&request);
                    self.input.remove(&request);
                }
                GuestOwed::Introduce(_)
                | GuestOwed::Welcomed(_)
                | GuestOwed::Attached(..)
                | GuestOwed::Offered(_)
                | GuestOwed::Pushed(_)
                | GuestOwed::Clock(_)
                | GuestOwed::InputEnd(_)
                | GuestOwed::Resize(_)
                | GuestOwed::Spooled(_)
                | GuestOwed::Cancel(_) => {}
            }
            assert!(owed < 4, "one step owes {owed} things");
        }
    }

    fn sent(&mut self, message: &FromGuest) {
        match message {
            FromGuest::Pull => self.pulls += 1,
            FromGuest::Fetch(fetch) => {
                self.staged.insert(fetch.request, fetch.offset);
            }
            FromGuest::Attach(attach) => {
                self.input.insert(attach.request, attach.input - attach.taken);
            }
            FromGuest::InputCredit(credit) => {
                *self.input.entry(credit.request).or_default() -= u64::from(credit.bytes)
            }
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
    match step % 14 {
        0 => host.welcome(Welcome { token: SessionToken::new([2; 32]), host_time_ms: 0, proof: None }),
        1 => host.ring(),
        2 => host.offer(offer(from)),
        3 => host.nothing(),
        4 => {
            let request = from.request();
            let place = from.flag().then(|| Offsets { stdout: from.place(), stderr: from.place() });
            host.attached(request, place, from.place())
        }
        5 => match host.chunk_room() {
            Some((request, _, room)) => host.chunk(request, vec![0; from.len().clamp(1, room)]),
            None => Ok(host),
        },
        6 => match book.due.iter().find(|(_, due)| **due > 0) {
            Some((&request, &due)) => {
                let bytes = u32::try_from(from.len()).unwrap_or(1).clamp(1, u32::try_from(due).unwrap_or(1));
                host.spooled(request, Stream::Stdout, 0, bytes)
            }
            None => Ok(host),
        },
        7 => host.cancel(from.request()),
        8 => host.noted(from.request()),
        9 => {
            let request = from.request();
            match host.input_room(request) {
                Some((_, room)) => host.input(request, vec![0; from.len().clamp(1, room)]),
                None => Ok(host),
            }
        }
        10 => host.input_end(from.request()),
        11 => host.resize(resize(from)),
        12 => host.input(from.request(), vec![0; from.len()]),
        _ => host.chunk(from.request(), vec![0; from.len()]),
    }
}

fn guest_call(
    guest: Guest,
    now: Tick,
    step: u8,
    from: &mut Source<'_>,
) -> Result<Guest, doorbell_wire::error::SessionError> {
    match step % 10 {
        0 => guest.introduce(hello()),
        1 => guest.pull(),
        2 => guest.attach(from.request(), from.place(), from.place()),
        3 => guest.fetch(now, from.request(), from.place()),
        4 => guest.staged(u32::try_from(from.len()).unwrap_or(1)),
        5 => guest.apply(from.request()),
        6 => guest.progress(progress(from)),
        7 => guest.output(output(from)),
        8 => guest.input_taken(from.request(), u32::try_from(from.len()).unwrap_or(1)),
        _ => guest.acknowledge(acknowledgement(from)),
    }
}

fn from_guest(step: u8, from: &mut Source<'_>) -> Option<FromGuest> {
    Some(match step % 12 {
        0 => FromGuest::Hello(Box::new(hello())),
        1 => FromGuest::Pull,
        2 => FromGuest::Fetch(Fetch { request: from.request(), offset: from.place() }),
        3 => FromGuest::ChunkCredit(Credit { bytes: u32::try_from(from.len()).ok()? }),
        4 => FromGuest::Attach(Attach { request: from.request(), input: from.place(), taken: from.place() }),
        5 => FromGuest::Progress(progress(from)),
        6 => FromGuest::Output(output(from)),
        7 => FromGuest::Acknowledge(Box::new(acknowledgement(from))),
        8 => FromGuest::Pong(u64::from(from.byte()?)),
        9 => FromGuest::GuestBye(Reason(u16::from(from.byte()?))),
        10 => FromGuest::InputCredit(InputCredit {
            request: from.request(),
            bytes: u32::try_from(from.len()).ok()?,
        }),
        11 => FromGuest::Polls(Polls { every_ms: u32::from(from.byte()?) }),
        _ => FromGuest::from_frame(&raw(from)?).ok()?,
    })
}

fn from_host(step: u8, from: &mut Source<'_>) -> Option<FromHost> {
    Some(match step % 16 {
        0 => FromHost::Ring,
        1 => FromHost::Greeting(Greeting { version_max: u16::from(from.byte()? & 1), ..greeting() }),
        2 => FromHost::Welcome(Welcome { token: SessionToken::new([2; 32]), host_time_ms: 0, proof: None }),
        3 => FromHost::Offer(Box::new(offer(from))),
        4 => FromHost::Nothing,
        5 => FromHost::Chunk(Chunk {
            request: from.request(),
            offset: from.place(),
            bytes: vec![0; from.len()],
        }),
        6 => FromHost::OutputCredit(Spooled {
            request: from.request(),
            stream: from.stream(),
            end: from.place(),
            bytes: u32::try_from(from.len()).ok()?,
        }),
        7 => {
            let request = from.request();
            let place = from.flag().then(|| Offsets { stdout: from.place(), stderr: from.place() });
            FromHost::Attached(Attached { request, from: place })
        }
        8 => FromHost::Noted(from.request()),
        9 => FromHost::Cancel(from.request()),
        10 => FromHost::Ping(u64::from(from.byte()?)),
        11 => FromHost::HostBye(Reason(u16::from(from.byte()?))),
        12 => FromHost::Input(message::Input {
            request: from.request(),
            offset: from.place(),
            bytes: vec![0; from.len()],
        }),
        13 => FromHost::InputEnd(InputEnd { request: from.request(), len: from.place() }),
        14 => FromHost::Resize(resize(from)),
        15 => FromHost::Clock(from.place()),
        16 => FromHost::Push(Box::new(Push { offer: offer(from), program: vec![b'#'; from.len()] })),
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

    /// One of a few requests, and now and then one of as many as fill every hand.
    fn request(&mut self) -> RequestId {
        RequestId::new(
            [match self.byte().unwrap_or(0) {
                few @ 0..=223 => few & 3,
                many => many & 31,
            }; 16],
        )
    }

    fn stream(&mut self) -> Stream {
        if self.flag() { Stream::Stderr } else { Stream::Stdout }
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
        sequence_max: 0,
        clock_us: 0,
    };
    Hello { claims, proof: Signature::new([6; 64]), enrolment: None }
}

fn offer(from: &mut Source<'_>) -> Offer {
    let request = from.request();
    let len = from.place();
    let action = if len == 0 { run(from) } else { put(len) };
    let floor = u64::from(from.flag());
    Offer { request, sequence: None, floor, action, timeout_ms: None, idempotent: false, signed: None }
}

fn run(from: &mut Source<'_>) -> Action {
    let executable = Executable::InGuest(Command::try_from("true".to_owned()).expect("a command"));
    let input = match from.byte().unwrap_or(0) & 3 {
        0 => Input::None,
        1 => Input::Terminal(Window { rows: 0, columns: 0 }),
        _ => Input::Stream,
    };
    let limits = Limits { output_len_max: from.place(), ..Limits::default() };
    let (args, env, cwd, user) = (Vec::new(), Vec::new(), None, None);
    let parts = RunParts { executable, args, env, cwd, user, input, limits, new_privileges: false };
    Action::Run(Run::try_from(parts).expect("a start within its limits"))
}

fn put(len: u64) -> Action {
    let payload = Payload::new(Digest::new([7; 32]), len).expect("a payload within its limit");
    let path = "/f".parse().expect("a path");
    Action::Put(Put { path, payload, form: Form::File, mode: None, owner: None, replace: false })
}

fn resize(from: &mut Source<'_>) -> Resize {
    Resize { request: from.request(), window: Window { rows: 24, columns: 80 } }
}

fn progress(from: &mut Source<'_>) -> Progress {
    let stage = match from.byte().unwrap_or(0) & 3 {
        0 => Stage::Fetched,
        1 => Stage::Verified,
        2 => Stage::Journalled,
        _ => Stage::Started,
    };
    Progress { request: from.request(), stage, at_us: 0 }
}

fn output(from: &mut Source<'_>) -> Output {
    let stream = from.stream();
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
