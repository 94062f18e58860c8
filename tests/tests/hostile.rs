//! Peers that break one rule at a time, in both directions: each is closed within its deadline, the reason is
//! logged, and the honest peer is served after each, by a manager whose memory stays bounded.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "a failed step is a failed test")]

use doorbell_api::request::State;
use doorbell_tests::daemon::{Daemon, command, uploaded};
use doorbell_tests::guest::{Guest, Machine, await_cable, door};
use doorbell_tests::honest::{Honest, Identity};
use doorbell_tests::intruder::Intruder;
use doorbell_tests::line::{Line, guest_bytes, host_bytes};
use doorbell_tests::place::Place;
use doorbell_tests::rogue::{Rogue, greeting, offer};
use doorbell_tests::wait::{on, until, within};
use doorbell_wire::error::Reason;
use doorbell_wire::ids::{Digest, RequestId, ShortText, Signature};
use doorbell_wire::limits::{CHUNK_LEN_MAX, FRAME_MS_MAX, HANDSHAKE_MS_MAX, SILENCE_MS_MAX, WRITE_MS_MAX};
use doorbell_wire::message::action::{Action, Executable, Program, Run, RunParts};
use doorbell_wire::message::outcome::{Acknowledgement, Evidence, Outcome, OutputTotals};
use doorbell_wire::message::{
    Attach, Attached, Chunk, Credit, Fetch, FromGuest, FromHost, Greeting, Hello, Input, Offer, Output,
    Progress, Spooled, Stage, Stream,
};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{MsgFlags, recv};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

/// A manager with an honest guest and one that is not.
struct Manor {
    _honest: Honest,
    daemon: Daemon,
    rogue: Intruder,
    /// A place where no guest comes.
    away: PathBuf,
    // Last: it goes when nothing uses it.
    _place: Place,
}

impl Manor {
    fn new() -> Self {
        let place = Place::new();
        let daemon = Daemon::start(&place);
        let (honest, rogue) = (Identity::fresh(), Identity::fresh());
        for (name, identity) in [("honest", &honest), ("rogue", &rogue)] {
            daemon.add(name, &place.join(name), Some(identity.public_key()));
        }
        let honest = Honest::start(&door(&place.join("honest")), honest);
        let rogue = Intruder { door: door(&place.join("rogue")), identity: rogue };
        let away = place.join("away");
        let manor = Self { _honest: honest, daemon, rogue, away, _place: place };
        manor.honest_is_served("nothing");
        manor
    }

    /// A session of the rogue's with a request in its hand.
    fn enter_with(&mut self, action: doorbell_api::request::Action) -> (Line, Box<Offer>) {
        let _ = self.daemon.submit("rogue", action);
        let (line, FromHost::Offer(offer)) = self.rogue.enter() else {
            panic!("the rogue is offered nothing")
        };
        (line, offer)
    }

    fn honest_is_served(&self, after: &str) {
        let request = self.daemon.submit("honest", command(&["true"]));
        let ended = self.daemon.finished(&request.id);
        assert_eq!(ended.state, State::Succeeded, "after {after} the honest guest was not served");
    }

    /// The connection ends in time, the log says why, and the neighbour does not notice.
    fn closed(&self, what: &str, mut line: Line, limit: Duration, from: usize, reason: &str) {
        let _ = line.closed_within(limit);
        within(AT_ONCE, &format!("{what}: {reason:?} in the manager's log"), || {
            self.daemon.log().get(from..).is_some_and(|log| log.contains(reason)).then_some(())
        });
        self.honest_is_served(what);
    }
}

#[test]
fn bytes_that_break_a_rule_are_closed_and_the_neighbour_is_served() {
    let manor = Manor::new();
    let mut huge = guest_bytes(&FromGuest::Hello(Box::new(manor.rogue.identity.hello(&greeting()))));
    huge.splice(2..6, u32::MAX.to_le_bytes());
    let mut damaged = guest_bytes(&FromGuest::Pull);
    *damaged.last_mut().unwrap() ^= 1;
    let attacks: [(&str, Vec<u8>, &str); 6] = [
        ("garbage", b"GET / HTTP/1.1\r\n\r\n".to_vec(), "unknown to this version"),
        ("a huge length", huge, "has length 4294967295"),
        ("a wrong checksum", damaged, "has checksum"),
        ("a reserved flag", vec![0x21, 0xff], "has flags"),
        (
            "a frame of the other direction",
            host_bytes(&FromHost::Nothing),
            "came from the side that receives it",
        ),
        ("a frame out of order", guest_bytes(&FromGuest::Pull), "arrived while"),
    ];
    for (what, bytes, reason) in attacks {
        let from = manor.daemon.log().len();
        let (mut line, _) = manor.rogue.meet();
        line.send(&bytes);
        manor.closed(what, line, AT_ONCE, from, reason);
    }
}

#[test]
fn a_peer_that_proves_nothing_is_turned_away() {
    let mut manor = Manor::new();
    // A token is stale only where another was given.
    drop(manor.rogue.enter());
    let stranger = Identity::fresh();
    let unproved = |hello: Hello| Hello { proof: Signature::new([3; 64]), ..hello };
    let version = |version, greeting: &Greeting| {
        manor.rogue.identity.prove(greeting, manor.rogue.identity.claims(version))
    };
    let other = Greeting { host_time_ms: 1, ..greeting() };
    type Lie<'a> = &'a dyn Fn(&Greeting) -> Hello;
    let attacks: [(&str, Lie<'_>, &str); 5] = [
        (
            "a proof of nothing",
            &|greeting| unproved(manor.rogue.identity.hello(greeting)),
            "signature does not match",
        ),
        (
            "the proof of another connection",
            &|_| manor.rogue.identity.hello(&other),
            "signature does not match",
        ),
        ("another guest's key", &|greeting| stranger.hello(greeting), "is not this guest's"),
        ("a version that is not offered", &|greeting| version(77, greeting), "protocol versions 77 to 77"),
        ("a stale token", &|greeting| stale(&manor.rogue.identity, greeting), "token is stale"),
    ];
    for (what, hello, reason) in attacks {
        let from = manor.daemon.log().len();
        let (mut line, greeting) = manor.rogue.meet();
        line.say(&FromGuest::Hello(Box::new(hello(&greeting))));
        manor.closed(what, line, AT_ONCE, from, reason);
    }
}

fn stale(identity: &Identity, greeting: &Greeting) -> Hello {
    let token = Some(doorbell_wire::ids::SessionToken::new([1; 32]));
    let mut claims = identity.claims(0);
    claims.token = token;
    identity.prove(greeting, claims)
}

#[test]
fn a_silent_peer_is_closed_at_its_deadline() {
    let mut manor = Manor::new();
    let handshake = Duration::from_millis(HANDSHAKE_MS_MAX) + MARGIN;
    let from = manor.daemon.log().len();
    let (line, _) = manor.rogue.meet();
    manor.closed("nothing", line, handshake, from, "silent for 5000 ms");

    let from = manor.daemon.log().len();
    let (mut line, greeting) = manor.rogue.meet();
    let hello = guest_bytes(&FromGuest::Hello(Box::new(manor.rogue.identity.hello(&greeting))));
    line.send(&hello[..hello.len() / 2]);
    manor.closed("half a hello", line, handshake, from, "silent for 5000 ms");

    let (mut line, _) = manor.rogue.enter();
    let from = manor.daemon.log().len();
    line.send(&guest_bytes(&FromGuest::Pull)[..3]);
    manor.closed(
        "half a frame",
        line,
        Duration::from_millis(FRAME_MS_MAX) + MARGIN,
        from,
        "silent for 10000 ms",
    );
}

#[test]
fn a_guest_that_breaks_a_rule_of_its_session_loses_it() {
    let mut manor = Manor::new();
    let other = RequestId::new([0xee; 16]);
    let started = |request| FromGuest::Progress(Progress { request, stage: Stage::Started, at_us: 1 });
    let output = |request, offset, len| {
        FromGuest::Output(Output { request, stream: Stream::Stdout, offset, bytes: vec![b'x'; len] })
    };
    type Break<'a> = &'a dyn Fn(&mut Line, RequestId) -> bool;
    let attacks: [(&str, Break<'_>, &str); 6] = [
        (
            "an acknowledgement of another request",
            &|line, request| {
                line.say(&started(request));
                line.say(&FromGuest::Acknowledge(Box::new(of_another(other))))
            },
            "names a request that is not in hand",
        ),
        (
            "output before the start",
            &|line, request| line.say(&output(request, 0, 1)),
            "OUTPUT arrived while",
        ),
        (
            "a chunk beyond what a chunk has",
            &|line, request| {
                line.say(&started(request));
                line.say(&output(request, 0, CHUNK_LEN_MAX + 1))
            },
            "OUTPUT has 32769 bytes",
        ),
        (
            "output with a hole",
            &|line, request| {
                line.say(&started(request));
                line.say(&output(request, 1, 1))
            },
            "OUTPUT starts at offset 1",
        ),
        (
            "a word about another request",
            &|line, _| line.say(&started(other)),
            "names a request that is not in hand",
        ),
        ("an unasked pong", &|line, _| line.say(&FromGuest::Pong(9)), "PONG carries 9"),
    ];
    for (what, attack, reason) in attacks {
        let (mut line, offer) = manor.enter_with(command(&["true"]));
        let from = manor.daemon.log().len();
        attack(&mut line, offer.request);
        manor.closed(what, line, AT_ONCE, from, reason);
    }
}

#[test]
fn a_guest_that_asks_for_anothers_request_is_told_nothing_and_moves_nothing() {
    let mut manor = Manor::new();
    manor.daemon.add("away", &manor.away, Some(Identity::fresh().public_key()));
    let request = manor.daemon.submit("away", command(&["true"])).id;
    let id: RequestId = request.parse().unwrap();
    let mut line = manor.rogue.prove();
    line.say(&FromGuest::Attach(Attach { request: id, input: 0, taken: 0 }));
    assert_eq!(line.hear_host(), FromHost::Attached(Attached { request: id, from: None }));
    line.say(&FromGuest::Pull);
    assert_eq!(line.hear_host(), FromHost::Nothing);
    // What the manager does not know as this guest's may be forgotten, and is noted nowhere.
    line.say(&FromGuest::Acknowledge(Box::new(of_another(id))));
    assert_eq!(line.hear_host(), FromHost::Noted(id));
    let shown = on("the request", manor.daemon.client().request(&request)).unwrap();
    assert_eq!((shown.state, shown.starts), (State::Queued, 0));
    manor.honest_is_served("a look at another's request");
}

fn of_another(request: RequestId) -> Acknowledgement {
    let (outcome, evidence) = (Outcome::Succeeded, Evidence::None);
    Acknowledgement { request, outcome, evidence, output: OutputTotals::default(), ran: None }
}

#[test]
fn a_guest_that_grants_more_than_the_window_or_does_not_read_is_closed() {
    let mut manor = Manor::new();
    let program = manor.daemon.upload("large", vec![b'x'; 8 << 20]);
    let (mut line, offer) = manor.enter_with(uploaded(program));
    let from = manor.daemon.log().len();
    line.say(&FromGuest::Fetch(Fetch { request: offer.request, offset: 0 }));
    line.say(&FromGuest::ChunkCredit(Credit { bytes: u32::MAX }));
    manor.closed("a grant beyond the window", line, AT_ONCE, from, "granted 4294967295 bytes");

    let (mut line, FromHost::Offer(offer)) = manor.rogue.enter() else {
        panic!("the request is not offered again")
    };
    let from = manor.daemon.log().len();
    line.say(&FromGuest::Fetch(Fetch { request: offer.request, offset: 0 }));
    // It takes back credit for bytes that it leaves in the socket, until no more of them fit.
    let mut granted = 0;
    within(Duration::from_secs(60), "the manager to give up writing", || {
        let waiting = bytes_waiting(line.stream());
        if waiting >= granted + WINDOW {
            granted += WINDOW;
            line.say(&FromGuest::ChunkCredit(Credit { bytes: u32::try_from(WINDOW).unwrap() }));
        }
        manor.daemon.log().get(from..).is_some_and(|log| log.contains("does not read")).then_some(())
    });
    manor.closed("a slow reader", line, AT_ONCE, from, "does not read");
}

/// Bytes that the manager sent and nobody has read.
fn bytes_waiting(stream: &UnixStream) -> usize {
    let mut buffer = vec![0; 4 << 20];
    recv(stream.as_raw_fd(), &mut buffer, MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT).unwrap_or(0)
}

#[test]
fn thousands_of_connections_and_of_bytes_leave_the_managers_memory_bounded() {
    let manor = Manor::new();
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard.min(12_000).max(soft), hard).unwrap();
    let before = manor.daemon.resident_kib();
    let files = manor.daemon.open_files();
    let from = manor.daemon.log().len();
    let crowd: Vec<UnixStream> =
        (0..CROWD).filter_map(|_| UnixStream::connect(&manor.rogue.door).ok()).collect();
    assert!(crowd.len() >= CROWD / 2, "only {} connections were made", crowd.len());
    manor.daemon.await_log(from, "too many there");
    // One that nobody has answered yet would still be met when the crowd has gone, and count as one that connects again.
    until("an answer to each of the crowd", || crowd.iter().all(has_an_answer).then_some(()));
    manor.honest_is_served("a crowd");
    assert_bounded(&manor, before, "in the crowd");
    drop(crowd);

    // Each with the beginning of the largest frame there is.
    for _ in 0..500 {
        let (mut line, greeting) = manor.rogue.meet();
        let hello = guest_bytes(&FromGuest::Hello(Box::new(manor.rogue.identity.hello(&greeting))));
        line.send(&hello[..hello.len() - 1]);
    }
    manor.honest_is_served("half hellos");
    drop(manor.rogue.meet());
    assert_bounded(&manor, before, "after half hellos");
    // The rogue's last connection and a call of the API's may be on their way out.
    until("the descriptors to be closed", || (manor.daemon.open_files() <= files + 4).then_some(()));
}

fn has_an_answer(stream: &UnixStream) -> bool {
    recv(stream.as_raw_fd(), &mut [0], MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT).is_ok()
}

fn assert_bounded(manor: &Manor, before: u64, when: &str) {
    let now = manor.daemon.resident_kib();
    doorbell_tests::skip::tell(&format!("the manager had {before} KiB, {when} {now}"));
    assert!(now < before + GUEST_KIB + SLACK_KIB, "the manager grew from {before} KiB to {now} {when}");
}

/// Attacks of a manager on the agent: what it says, how long the agent may take, what the console then says.
#[test]
fn a_manager_that_breaks_a_rule_is_left_and_the_honest_one_is_served() {
    let place = Place::new();
    let rogue = Rogue::listen(&door(&Guest::socket_of(&place, "web-3")));
    let guest = Guest::boot(&place, "web-3", &Machine::default());
    let mut huge = host_bytes(&FromHost::Greeting(greeting()));
    huge.splice(2..6, u32::MAX.to_le_bytes());
    let mut damaged = host_bytes(&FromHost::Greeting(greeting()));
    *damaged.last_mut().unwrap() ^= 1;
    let half = host_bytes(&FromHost::Greeting(greeting()))[..12].to_vec();
    let newer =
        host_bytes(&FromHost::Greeting(Greeting { version_min: 900, version_max: 901, ..greeting() }));
    let pull = guest_bytes(&FromGuest::Pull);
    let handshake = Duration::from_millis(HANDSHAKE_MS_MAX) + MARGIN;
    let attacks: [(&str, Vec<u8>, Duration, &str); 8] = [
        ("garbage", b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(), AT_ONCE, "unknown to this version"),
        ("a huge length", huge, AT_ONCE, "has length 4294967295"),
        ("a wrong checksum", damaged, AT_ONCE, "has checksum"),
        ("a newer version", newer, AT_ONCE, "protocol versions 900 to 901"),
        ("a frame of the other direction", pull, AT_ONCE, "came from the side that receives it"),
        ("a frame out of order", host_bytes(&FromHost::Nothing), AT_ONCE, "arrived while"),
        ("half a frame", half, handshake, "silent for 5000 ms"),
        ("nothing", Vec::new(), handshake, "silent for 5000 ms"),
    ];
    let mut number = 0;
    for (what, bytes, limit, reason) in attacks {
        let from = guest.console().len();
        let mut line = rogue.accept();
        line.send(&bytes);
        let _ = line.closed_within(limit);
        said(&guest, what, from, reason);
        number += 1;
        honest_manager_is_served(&rogue, number);
    }
    bad_programs_are_refused(&rogue, &guest, number);
}

/// Rules that only a session has: each breaks one with a program half on its way.
fn bad_programs_are_refused(rogue: &Rogue, guest: &Guest, mut number: u8) {
    let chunk = |request, offset, len| FromHost::Chunk(Chunk { request, offset, bytes: vec![b'x'; len] });
    type Break<'a> = &'a dyn Fn(RequestId) -> FromHost;
    let other = RequestId::new([0xee; 16]);
    let attacks: [(&str, Break<'_>, &str); 5] = [
        ("a chunk with a hole before it", &|request| chunk(request, 1, 1), "CHUNK starts at offset 1"),
        ("an empty chunk", &|request| chunk(request, 0, 0), "CHUNK has 0 bytes"),
        ("a chunk beyond the end", &|request| chunk(request, 0, 101), "CHUNK ends at offset 101"),
        ("a chunk of another request", &|_| chunk(other, 0, 1), "CHUNK names a request that is not in hand"),
        (
            "credit for what was not sent",
            &|request| FromHost::OutputCredit(spooled(request)),
            "OUTPUT_CREDIT",
        ),
    ];
    for (what, attack, reason) in attacks {
        number += 2;
        let from = guest.console().len();
        let mut line = rogue.welcome();
        line.order(&FromHost::Offer(Box::new(program_of_100_bytes(number))));
        until("the agent to fetch", || matches!(line.hear_guest(), FromGuest::Fetch(_)).then_some(()));
        line.order(&attack(RequestId::new([number; 16])));
        let _ = line.closed_within(AT_ONCE);
        said(guest, what, from, reason);
        honest_manager_is_served(rogue, number + 1);
    }
}

fn spooled(request: RequestId) -> Spooled {
    Spooled { request, stream: Stream::Stdout, end: 0, bytes: 1 }
}

fn program_of_100_bytes(number: u8) -> Offer {
    let name = ShortText::try_from("program".to_owned()).unwrap();
    let executable = Executable::Program(Program::new(Digest::new([1; 32]), 100, name).unwrap());
    let offer = offer(number, "");
    let Action::Run(run) = &offer.action else { unreachable!("an offer to run") };
    let run = RunParts { executable, args: Vec::new(), ..run.parts().clone() };
    Offer { action: Action::Run(Run::try_from(run).unwrap()), ..offer }
}

#[test]
fn a_manager_that_falls_silent_is_left_after_a_minute_and_the_program_goes_on() {
    let place = Place::new();
    let rogue = Rogue::listen(&door(&Guest::socket_of(&place, "web-3")));
    let guest = Guest::boot(&place, "web-3", &Machine::default());
    let mut line = rogue.welcome();
    line.order(&FromHost::Offer(Box::new(offer(1, &await_cable(false)))));
    let from = guest.console().len();
    let _ = line.closed_within(Duration::from_millis(SILENCE_MS_MAX) + MARGIN);
    said(&guest, "silence", from, "silent for 60000 ms");
    // The request is still in its hand, and it says so to the manager that is there.
    let mut line = rogue.accept();
    line.order(&FromHost::Greeting(greeting()));
    let FromGuest::Hello(_) = line.hear_guest() else { panic!("the agent does not introduce itself") };
    let token = doorbell_wire::ids::SessionToken::new([4; 32]);
    line.order(&FromHost::Welcome(doorbell_wire::message::Welcome { token, host_time_ms: 0, proof: None }));
    let attach = Attach { request: RequestId::new([1; 16]), input: 0, taken: 0 };
    assert_eq!(line.hear_guest(), FromGuest::Attach(attach));
}

/// A manager that keeps the form of each frame and sends more of them than anybody needs.
#[test]
fn a_manager_that_floods_the_agent_leaves_its_memory_bounded() {
    let place = Place::new();
    let rogue = Rogue::listen(&door(&Guest::socket_of(&place, "web-3")));
    let guest = Guest::boot(&place, "web-3", &Machine::default());
    let before = agents_peak_kib(&rogue, 1);
    type Flood<'a> = &'a dyn Fn(&mut Line) -> bool;
    let floods: [(&str, Flood<'_>, Duration, &str); 4] = [
        ("a million rings", &|line| line.send(&vec![0x07; 1 << 20]), AT_ONCE, ""),
        (
            "pings that it does not wait for",
            &|line| (0..10_000_000).all(|number| line.order(&FromHost::Ping(number))),
            UNREAD,
            "not whole after 10000 ms",
        ),
        (
            "offers that were not asked for",
            &|line| {
                line.order(&FromHost::Nothing);
                (10..200).all(|number| line.order(&FromHost::Offer(Box::new(offer(number, "true")))))
            },
            AT_ONCE,
            "OFFER arrived while",
        ),
        (
            "input for a request that it does not have",
            &|line| {
                let bytes = vec![b'x'; CHUNK_LEN_MAX];
                let input = FromHost::Input(Input { request: RequestId::new([0xee; 16]), offset: 0, bytes });
                (0..100).all(|_| line.order(&input))
            },
            AT_ONCE,
            "INPUT names a request that is not in hand",
        ),
    ];
    for (number, (what, flood, limit, reason)) in (20_u8..).step_by(2).zip(floods) {
        let from = guest.console().len();
        let mut line = rogue.welcome();
        flood(&mut line);
        if reason.is_empty() {
            line.order(&FromHost::HostBye(Reason::GOODBYE));
        }
        let _ = line.closed_within(limit);
        said(&guest, what, from, reason);
        honest_manager_is_served(&rogue, number);
        let now = agents_peak_kib(&rogue, number + 1);
        doorbell_tests::skip::tell(&format!("the agent had {before} KiB at most, and {now} after {what}"));
        assert!(now <= before + AGENT_KIB, "the agent grew from {before} KiB to {now} by {what}");
    }
}

/// The most memory that the agent has had so far, in its own guest's words.
fn agents_peak_kib(rogue: &Rogue, number: u8) -> u64 {
    let mut line = rogue.welcome();
    let script = "for p in $(pidof doorbell-agent); do grep VmHWM /proc/$p/status; done";
    let offer = offer(number, script);
    line.order(&FromHost::Offer(Box::new(offer.clone())));
    let mut text = Vec::new();
    until("the acknowledgement", || {
        let said = line.hear_guest();
        if let FromGuest::Output(output) = &said {
            text.extend_from_slice(&output.bytes);
        }
        matches!(said, FromGuest::Acknowledge(_)).then_some(())
    });
    line.order(&FromHost::Noted(offer.request));
    let _ = line.hear_guest();
    line.order(&FromHost::HostBye(Reason::GOODBYE));
    let _ = line.closed_within(AT_ONCE);
    let text = String::from_utf8(text).unwrap();
    let words = text.lines().filter_map(|line| line.split_whitespace().nth(1)?.parse().ok());
    words.max().unwrap_or_else(|| panic!("no agent in {text:?}"))
}

fn said(guest: &Guest, what: &str, from: usize, reason: &str) {
    within(AT_ONCE, &format!("{what}: {reason:?} on the console"), || {
        guest.console().get(from..).is_some_and(|text| text.contains(reason)).then_some(())
    });
}

/// The whole way once, with a manager that keeps the rules.
fn honest_manager_is_served(rogue: &Rogue, number: u8) {
    let mut line = rogue.welcome();
    let offer = offer(number, "true");
    line.order(&FromHost::Offer(Box::new(offer.clone())));
    until("the acknowledgement", || matches!(line.hear_guest(), FromGuest::Acknowledge(_)).then_some(()));
    line.order(&FromHost::Noted(offer.request));
    assert_eq!(line.hear_guest(), FromGuest::Pull);
    line.order(&FromHost::Nothing);
    let mut ended = line;
    ended.order(&FromHost::HostBye(Reason::GOODBYE));
    let _ = ended.closed_within(AT_ONCE);
}

const AT_ONCE: Duration = Duration::from_secs(5);
const UNREAD: Duration = Duration::from_millis(WRITE_MS_MAX + 4_000);
const MARGIN: Duration = Duration::from_secs(4);
const WINDOW: usize = 128 * 1024;
const CROWD: usize = 10_000;
/// What one guest can make the manager hold, by docs/security.md.
const GUEST_KIB: u64 = 2_304;
/// What its allocator keeps for the next one.
const SLACK_KIB: u64 = 8 * 1024;
/// What a manager can make the agent hold, by docs/security.md.
const AGENT_KIB: u64 = 1_024;
