//! A guest whose every text is hostile: what commands a terminal, turns the reading direction, ends a line or is markup
//! arrives escaped wherever it is shown, and JSON stays JSON.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed step is a failed test"
)]

use doorbell_tests::command::{Doorbell, Ended};
use doorbell_tests::daemon::Daemon;
use doorbell_tests::guest::door;
use doorbell_tests::honest::{Identity, succeeded};
use doorbell_tests::line::{Heard, Line, bytes};
use doorbell_tests::place::Place;
use doorbell_tests::wait::until;
use doorbell_wire::frame::Frame;
use doorbell_wire::ids::{Digest, GuestPath, LinkName, RequestId, ShortText};
use doorbell_wire::message::action::{Action, Mode};
use doorbell_wire::message::outcome::{
    Acknowledgement, Evidence, FileEvidence, FileKind, LinkChange, LinkState, Links, Outcome, Refusal,
    SignatureFault,
};
use doorbell_wire::message::{Fetch, FromGuest, FromHost, Greeting, Offer, Output, Progress, Stage, Stream};
use doorbell_wire::text::is_harmful;
use sha2::{Digest as _, Sha256};
use std::io::Read as _;
use std::path::PathBuf;

const GUEST: &str = "web-3";
/// A text as the protocol lets one pass: no control characters, but signs of direction, and markup.
const SHORT: &str = "v1\u{202e}\u{2066}<script>alert(1)</script>\u{200b}";
const SHORT_SHOWN: &str = "v1\\u{202e}\\u{2066}<script>alert(1)</script>\\u{200b}";
/// A text with all that a terminal obeys: CSI, OSC 8 and 52, a C1 control, a new line.
const LONG: &str = "/x\x1b[2J\x1b]8;;http://e\x07\x1b]52;c;eA==\x07\u{9b}31m\u{202d}\n\r<script>";
const LONG_SHOWN: &str =
    "/x\\u{1b}[2J\\u{1b}]8;;http://e\\u{7}\\u{1b}]52;c;eA==\\u{7}\\u{9b}31m\\u{202d}\\n\\r<script>";
/// A link's name, in its fifteen bytes.
const LINK: &str = "<b>\u{202e}x\u{2069}";
const LINK_SHOWN: &str = "<b>\\u{202e}x\\u{2069}";

/// A manager and a guest that is spoken by hand.
struct Hostile {
    identity: Identity,
    daemon: Daemon,
    door: PathBuf,
    place: Place,
}

impl Hostile {
    fn new() -> Self {
        let place = Place::new();
        let daemon = Daemon::start(&place);
        let identity = Identity::fresh();
        daemon.add(GUEST, &place.join(GUEST), Some(identity.public_key()));
        Self { identity, daemon, door: door(&place.join(GUEST)), place }
    }

    fn doorbell(&self) -> Doorbell<'_> {
        Doorbell::new(&self.place, self.daemon.socket())
    }

    fn run(&self, words: &[&str]) -> Ended {
        self.doorbell().run(words)
    }

    /// Dials and is greeted.
    fn meet(&self) -> (Line, Greeting) {
        let mut line = Line::dial(&self.door);
        let FromHost::Greeting(greeting) = line.hear_host() else { panic!("no greeting") };
        (line, greeting)
    }

    /// A session, with a hostile name of its agent's.
    fn enter(&mut self) -> Line {
        let (mut line, greeting) = self.meet();
        let version = doorbell_wire::handshake::choose_version(&greeting).unwrap();
        let mut claims = self.identity.claims(version);
        claims.agent = short(SHORT);
        line.say(&FromGuest::Hello(Box::new(self.identity.prove(&greeting, claims))));
        let FromHost::Welcome(welcome) = line.hear_host() else { panic!("not welcome") };
        self.identity.token = Some(welcome.token);
        line
    }

    /// The next offer of a session.
    fn offered(&mut self, line: &mut Line) -> Box<Offer> {
        line.say(&FromGuest::Pull);
        let mut answer = line.hear_host();
        while !matches!(answer, FromHost::Offer(_)) {
            if answer == FromHost::Ring {
                line.say(&FromGuest::Pull);
            }
            answer = line.hear_host();
        }
        let FromHost::Offer(offer) = answer else { panic!("no offer") };
        self.identity.remember(&offer);
        offer
    }

    /// Begins a command, takes what it asks for, and says this of it. The command's end.
    fn answered(&mut self, words: &[&str], said: impl FnOnce(&mut Line, &Offer) -> Acknowledgement) -> Ended {
        let mut line = self.enter();
        let running = Doorbell::new(&self.place, self.daemon.socket()).begin(words);
        let offer = self.offered(&mut line);
        let ack = said(&mut line, &offer);
        line.say(&FromGuest::Acknowledge(Box::new(ack)));
        assert_eq!(heard_noted(&mut line), offer.request);
        running.ended()
    }

    fn last_request(&self) -> String {
        let newest = self.run(&["--json", "request", "ls", "--limit", "1"]).expect(0).json();
        newest["requests"][0]["id"].as_str().unwrap().to_owned()
    }
}

fn heard_noted(line: &mut Line) -> RequestId {
    until("the outcome to be noted", || {
        if let FromHost::Noted(request) = line.hear_host() { Some(request) } else { None }
    })
}

fn short(text: &str) -> ShortText {
    ShortText::try_from(text.to_owned()).unwrap()
}

/// Nothing in it commands a terminal, and the hostile text stands there escaped.
#[track_caller]
fn is_shown(text: &str, escaped: &str) {
    is_harmless(text);
    assert!(text.contains(escaped), "{escaped:?} is not in {text}");
}

#[track_caller]
fn is_harmless(text: &str) {
    assert!(!text.contains(|sign| sign != '\n' && is_harmful(sign)), "{text:?}");
}

/// It is JSON that commands no terminal, and its reader has the text as it was sent.
#[track_caller]
fn is_json(ended: &Ended, sent: &str) {
    is_harmless(&ended.stdout);
    is_harmless(&ended.stderr);
    for line in ended.stdout.lines().filter(|line| line.starts_with("{\"")) {
        serde_json::from_str::<serde_json::Value>(line).unwrap();
    }
    let text = |value: &serde_json::Value| holds(value, sent);
    let all = serde_json::Deserializer::from_str(&ended.stdout).into_iter::<serde_json::Value>();
    let values: Vec<_> = all.map(Result::unwrap).collect();
    assert!(values.iter().any(text), "{sent:?} is not in {}", ended.stdout);
}

fn holds(value: &serde_json::Value, sent: &str) -> bool {
    let is_it = value.as_str().is_some_and(|text| text.contains(sent));
    let in_list = value.as_array().is_some_and(|all| all.iter().any(|value| holds(value, sent)));
    is_it || in_list || value.as_object().is_some_and(|all| all.values().any(|value| holds(value, sent)))
}

fn link(name: &str) -> LinkState {
    LinkState {
        index: 2,
        name: LinkName::try_from(name.to_owned()).unwrap(),
        mac: Some("52:54:00:12:34:56".parse().unwrap()),
        flags: 0,
        carrier: Some(true),
        mtu: 1500,
    }
}

#[test]
fn what_an_agent_says_of_itself_is_escaped_in_lists_and_in_the_log() {
    let mut hostile = Hostile::new();
    let from = hostile.daemon.log().len();
    let _line = hostile.enter();
    hostile.daemon.await_log(from, "session open");
    let log = hostile.daemon.log();
    is_shown(log.get(from..).unwrap(), &format!("agent={SHORT_SHOWN}"));
    is_shown(&hostile.run(&["guest", "show", GUEST]).expect(0).stdout, SHORT_SHOWN);
    is_harmless(&hostile.run(&["guest", "ls"]).expect(0).stdout);
    is_json(&hostile.run(&["--json", "guest", "show", GUEST]).expect(0), SHORT);
    is_json(&hostile.run(&["--json", "guest", "ls"]).expect(0), SHORT);
}

#[test]
fn the_names_of_links_are_escaped_in_lists_and_evidence() {
    let mut hostile = Hostile::new();
    let links = |_: &mut Line, offer: &Offer| {
        assert!(matches!(offer.action, Action::LinkList));
        let evidence = Evidence::Links(Links::cut(vec![link(LINK)]));
        Acknowledgement { evidence, ..succeeded(offer) }
    };
    is_shown(&hostile.answered(&["link", GUEST, "ls"], links).expect(0).stdout, LINK_SHOWN);
    is_json(&hostile.answered(&["--json", "link", GUEST, "ls"], links).expect(0), LINK);

    let change = |_: &mut Line, offer: &Offer| {
        let evidence = Evidence::LinkChange(LinkChange { before: link(LINK), after: link(LINK) });
        Acknowledgement { evidence, ..succeeded(offer) }
    };
    let down = &["link", GUEST, "down", "52:54:00:12:34:56"];
    is_shown(&hostile.answered(down, change).expect(0).stdout, LINK_SHOWN);
    let id = hostile.last_request();
    is_shown(&hostile.run(&["request", "show", &id]).expect(0).stdout, LINK_SHOWN);
    is_json(&hostile.run(&["--json", "request", "show", &id]).expect(0), LINK);
}

#[test]
fn a_path_that_was_read_back_is_escaped() {
    let mut hostile = Hostile::new();
    let file = hostile.place.file("f", b"x");
    let put = |line: &mut Line, offer: &Offer| {
        line.say(&FromGuest::Fetch(Fetch { request: offer.request, offset: 0 }));
        let evidence = Evidence::File(FileEvidence {
            path: GuestPath::try_from(LONG.to_owned()).unwrap(),
            kind: FileKind::File,
            len: 1,
            digest: Some(Digest::new(Sha256::digest(b"x").into())),
            mode: Mode::try_from(0o644).unwrap(),
            uid: 0,
            gid: 0,
            entries: 1,
        });
        Acknowledgement { evidence, ..succeeded(offer) }
    };
    let target = format!("{GUEST}:/x");
    let ended = hostile.answered(&["push", file.to_str().unwrap(), &target], put);
    is_harmless(&ended.stdout);
    is_harmless(&ended.stderr);
    let id = hostile.last_request();
    is_shown(&hostile.run(&["request", "show", &id]).expect(0).stdout, LONG_SHOWN);
    is_json(&hostile.run(&["--json", "request", "show", &id]).expect(0), LONG);
}

#[test]
fn the_text_of_a_refusal_is_escaped_wherever_it_is_told() {
    let mut hostile = Hostile::new();
    let refusals = [
        Refusal::Unsupported(short(SHORT)),
        Refusal::Signature(SignatureFault::Unreadable(short(SHORT))),
        Refusal::Signature(SignatureFault::OtherNamespace(short(SHORT))),
        Refusal::Signature(SignatureFault::Signers(short(SHORT))),
        Refusal::Signature(SignatureFault::NotSignable(short(SHORT))),
    ];
    // The manager quotes one of them; what is the same in all of them is the markup.
    const MARKUP: &str = "<script>alert(1)</script>";
    for refusal in refusals {
        let refuse = |_: &mut Line, offer: &Offer| Acknowledgement {
            outcome: Outcome::Refused(refusal.clone()),
            ..succeeded(offer)
        };
        let ended = hostile.answered(&["run", GUEST, "--", "true"], refuse).expect(122);
        is_shown(&ended.stderr, SHORT_SHOWN);
        let id = hostile.last_request();
        is_shown(&hostile.run(&["request", "show", &id]).expect(0).stdout, SHORT_SHOWN);
        is_json(&hostile.run(&["--json", "request", "show", &id]).expect(0), MARKUP);
        is_harmless(&hostile.run(&["request", "ls"]).expect(0).stdout);
        is_json(&hostile.answered(&["--json", "run", GUEST, "--", "true"], refuse), MARKUP);
    }
    is_harmless(&hostile.daemon.log());
}

#[test]
fn the_trail_is_escaped_where_it_is_shown_and_exported() {
    let mut hostile = Hostile::new();
    let refuse = |_: &mut Line, offer: &Offer| Acknowledgement {
        outcome: Outcome::Refused(Refusal::Unsupported(short(SHORT))),
        ..succeeded(offer)
    };
    let _ = hostile.answered(&["run", GUEST, "--", "true"], refuse).expect(122);
    // Whoever asks has a say in the trail too.
    let reason = format!("why {SHORT}");
    let _ = hostile.answered(&["--reason", &reason, "run", GUEST, "--", "true"], refuse).expect(122);
    let listed = hostile.run(&["audit", "ls"]).expect(0).stdout;
    is_shown(&listed, SHORT_SHOWN);
    let records = hostile.run(&["--json", "audit", "ls"]).expect(0);
    let number =
        records.json().as_array().unwrap().iter().find(|record| holds(record, SHORT)).unwrap()["number"]
            .to_string();
    is_json(&records, SHORT);
    is_shown(&hostile.run(&["audit", "show", &number]).expect(0).stdout, SHORT_SHOWN);
    is_json(&hostile.run(&["--json", "audit", "show", &number]).expect(0), SHORT);
    is_json(&hostile.run(&["audit", "export", "-"]).expect(0), SHORT);
    let export = hostile.place.join("trail.jsonl").display().to_string();
    let _ = hostile.run(&["audit", "export", &export]).expect(0);
    let _ = hostile.run(&["audit", "verify", "--export", &export]).expect(0);
    let _ = hostile.run(&["audit", "verify", "--against", &export]).expect(0);
}

#[test]
fn what_no_text_may_have_ends_the_connection_and_is_escaped_in_the_log() {
    let hostile = Hostile::new();
    // As long as the name it stands in place of.
    let attacks: [(&[u8; 8], &str); 5] = [
        (b"\x1b[2Jabcd", "\\u{1b}[2Jabcd"),
        (b"\x1b]52;c;x", "\\u{1b}]52;c;x"),
        (b"ab\xc2\x9b31mc", "\\u{9b}31mc"),
        (b"ab\ncd\0ef", "ab\\ncd\\0ef"),
        (b"ab\xff\xfe\x80cde", ""),
    ];
    for (name, shown) in attacks {
        let from = hostile.daemon.log().len();
        let (mut line, greeting) = hostile.meet();
        let frame = FromGuest::Hello(Box::new(hostile.identity.hello(&greeting))).to_frame().unwrap();
        let mut payload = frame.payload;
        let at = payload.windows(8).position(|window| window == b"scripted").unwrap();
        payload[at..at + 8].copy_from_slice(name);
        line.send(&bytes(&Frame::new(frame.kind, payload).unwrap()));
        until("the connection's end", || (line.hear() == Heard::Closed).then_some(()));
        hostile.daemon.await_log(from, "before its guest was accepted");
        let log = hostile.daemon.log();
        is_shown(log.get(from..).unwrap(), shown);
    }
}

#[test]
fn output_in_json_is_text_or_base64_and_commands_no_terminal() {
    let mut hostile = Hostile::new();
    for (output, text) in [(LONG.as_bytes(), Some(LONG)), (b"a\x1b[2J\xff\xfe\n".as_slice(), None)] {
        let print = |line: &mut Line, offer: &Offer| {
            let request = offer.request;
            line.say(&FromGuest::Progress(Progress { request, stage: Stage::Started, at_us: 1 }));
            for stream in [Stream::Stdout, Stream::Stderr] {
                line.say(&FromGuest::Output(Output { request, stream, offset: 0, bytes: output.to_vec() }));
            }
            let mut ack = succeeded(offer);
            for total in [&mut ack.output.stdout, &mut ack.output.stderr] {
                total.kept = output.len() as u64;
                total.digest = Some(Digest::new(Sha256::digest(output).into()));
            }
            ack
        };
        let ended = hostile.answered(&["--json", "run", GUEST, "--", "x"], print).expect(0);
        let base64 = "YRtbMkr//go=";
        is_json(&ended, text.unwrap_or(base64));
        let id = hostile.last_request();
        is_json(&hostile.run(&["--json", "request", "output", &id]).expect(0), text.unwrap_or(base64));
        // As it is where it is asked for as it is; a terminal's user knows whose output it is.
        let mut file = Vec::new();
        let running = hostile.doorbell().begin(&["request", "output", &id]);
        let shown = running.stdout_file().to_owned();
        let _ = running.ended().expect(0);
        std::fs::File::open(shown).unwrap().read_to_end(&mut file).unwrap();
        assert_eq!(file, output);
    }
}
