//! Guests that are met in a shared directory: one with no vsock device at all, over 9p; one that is rung to look; and
//! receipts that a hostile guest has filled with what it should not.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed step is a failed test"
)]

use doorbell_api::guest::{GuestChange, NewGuest, Presence, Trigger};
use doorbell_api::request::{Action, State};
use doorbell_client::Stream;
use doorbell_tests::daemon::{Daemon, sh, uploaded};
use doorbell_tests::guest::{Guest, Machine, door};
use doorbell_tests::honest::{Honest, Identity};
use doorbell_tests::image::Image;
use doorbell_tests::lab::AGENT_PID;
use doorbell_tests::place::{Place, files_below};
use doorbell_tests::skip::tell;
use doorbell_tests::wait::{on, until};
use doorbell_wire::frame::Frame;
use doorbell_wire::ids::{Nonce, RequestId};
use doorbell_wire::message::outcome::{Acknowledgement, Evidence, Outcome, OutputTotals};
use doorbell_wire::message::{Claims, FromGuest, FromHost};
use doorbell_wire::share::{self, Of, ack_file, read_manager, read_prompt, receipt_transcript};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const GUEST: &str = "web-4";

/// A manager and a guest whose requests go through a share.
struct Shared {
    daemon: Daemon,
    guest: Guest,
    share: PathBuf,
    // Last: it goes when nothing uses it.
    _place: Place,
}

impl Shared {
    /// A guest with no vsock device: its agent looks once a second.
    fn alone() -> Self {
        let place = Place::new();
        let daemon = Daemon::start(&place);
        let share = add(&daemon, &place, None, Trigger::Store);
        let machine = Machine { vsock: false, ..machine(&share, "--no-channel,--look-every=1s") };
        let guest = Guest::boot(&place, GUEST, &machine);
        daemon.approve(&guest);
        Self { daemon, guest, share, _place: place }
    }

    fn run(&self, action: Action) -> (State, String) {
        let ended = self.daemon.finished(&self.daemon.submit(GUEST, action).id);
        let output = self.daemon.output(&ended.id, Stream::Stdout, 0);
        (ended.state, String::from_utf8(output).unwrap())
    }
}

fn machine(share: &Path, arguments: &str) -> Machine {
    let append = format!(
        "doorbell.agent_args=--share,/srv/doorbell/share,--receipts,/srv/doorbell/receipts,{arguments}"
    );
    Machine { image: Image::Share, nic: false, share: Some(share.to_owned()), append, ..Machine::default() }
}

/// Adds a guest with a share, and waits until the manager has greeted there.
fn add(daemon: &Daemon, place: &Place, socket: Option<&Path>, trigger: Trigger) -> PathBuf {
    add_named(daemon, place, GUEST, socket, trigger, None)
}

fn add_named(
    daemon: &Daemon,
    place: &Place,
    name: &str,
    socket: Option<&Path>,
    trigger: Trigger,
    public_key: Option<String>,
) -> PathBuf {
    let share = place.join(&format!("s-{name}"));
    std::fs::create_dir(&share).unwrap();
    let new = NewGuest {
        name: name.into(),
        hybrid_socket: socket.map(|socket| socket.display().to_string()),
        share: Some(share.display().to_string()),
        trigger: Some(trigger),
        public_key,
        ..NewGuest::default()
    };
    on("the manager to add a guest", daemon.client().add_guest(&new)).unwrap();
    until("the greeting in the share", || share.join("out/manager").exists().then_some(()));
    share
}

#[test]
fn a_guest_without_a_vsock_device_is_served_through_its_share() {
    let shared = Shared::alone();
    let devices = shared.run(sh("ls /sys/class/misc /dev | grep -c vsock || true"));
    assert_eq!(devices, (State::Succeeded, "0\n".into()), "there is no vsock in this guest");
    assert_eq!(shared.run(sh("echo out; echo err >&2; exit 7")).0, State::Failed);

    let bytes = program(5 << 20);
    let program = shared.daemon.upload("large.sh", bytes);
    let (state, output) = shared.run(uploaded(program.clone()));
    assert_eq!((state, output), (State::Succeeded, format!("{}\n", program.digest)));
    let (state, output) = shared.run(sh("seq 1 400000"));
    let expected: String = (1..=400_000).map(|number| format!("{number}\n")).collect();
    assert!(state == State::Succeeded && output == expected, "{} bytes of output", output.len());

    a_program_that_was_changed_in_the_share_is_not_started(&shared);
    what_is_over_leaves_nothing_in_the_share(&shared);
    shared.daemon.assert_audit_intact();
}

/// Some script of this length that prints its own digest.
fn program(len: usize) -> Vec<u8> {
    let mut bytes = b"#!/bin/sh\nsha256sum \"$0\" | cut -d ' ' -f 1; exit 0\n".to_vec();
    // No run of equal bytes: what is lost or swapped must show.
    bytes.extend((bytes.len()..len).map(|at| at.wrapping_mul(2_654_435_761).to_le_bytes()[2]));
    bytes
}

/// The guest stands still while its program is changed, so that it is met before its fetch.
fn a_program_that_was_changed_in_the_share_is_not_started(shared: &Shared) {
    let program = shared.daemon.upload("changed.sh", program(300_000));
    shared.guest.pause();
    let submitted = shared.daemon.submit(GUEST, uploaded(program.clone()));
    let path = shared.share.join("out/programs").join(&program.digest);
    until("the program in the share", || path.exists().then_some(()));
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[100_000] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    shared.guest.resume();
    let ended = shared.daemon.finished(&submitted.id);
    assert_eq!(ended.state, State::NotVerified, "{:?}", ended.receipt);
    assert!(ended.receipt.unwrap().detail.unwrap().contains(&program.digest));
}

fn what_is_over_leaves_nothing_in_the_share(shared: &Shared) {
    until("an empty share", || {
        let left: Vec<_> = ["out/programs", "out/sessions", "in/sessions"]
            .iter()
            .flat_map(|name| files_below(&shared.share.join(name)))
            .filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()))
            .filter(|name| !["answer", "attach", "beat"].contains(&name.as_str()))
            .collect();
        left.is_empty().then_some(())
    });
}

#[test]
fn a_guest_that_goes_down_and_an_agent_that_is_killed_start_nothing_twice() {
    let mut shared = Shared::alone();
    let effect = "echo \"ran $DOORBELL_REQUEST\" >>/var/lib/doorbell-agent/effects.log; sync";
    let killed = format!("{effect}; echo before; {AGENT_PID} && kill -9 $agent; echo after");
    assert_eq!(shared.run(sh(&killed)), (State::Succeeded, "before\nafter\n".into()));

    shared.daemon.kill();
    shared.daemon.restart();
    assert_eq!(shared.run(sh("echo again")), (State::Succeeded, "again\n".into()));

    let cut = shared.daemon.submit(GUEST, sh(&format!("{effect}; echo up; sleep 600")));
    until("output of what is cut off", || {
        (shared.daemon.output(&cut.id, Stream::Stdout, 0) == b"up\n").then_some(())
    });
    let behind = shared.daemon.submit(GUEST, sh(effect));
    shared.guest.reset();
    shared.guest.await_boot(2);
    assert_eq!(shared.daemon.finished(&behind.id).state, State::Succeeded);
    assert_eq!(shared.daemon.finished(&cut.id).state, State::Interrupted);
    let (_, effects) = shared.run(sh("cat /var/lib/doorbell-agent/effects.log"));
    for id in [&cut.id, &behind.id] {
        assert_eq!(effects.matches(id.as_str()).count(), 1, "request {id} in {effects}");
    }
    assert_eq!(effects.lines().count(), 3, "{effects}");
    shared.daemon.assert_audit_intact();
}

#[test]
fn a_ring_makes_the_agent_look_into_its_share_at_once() {
    let place = Place::new();
    let daemon = Daemon::start(&place);
    let socket = Guest::socket_of(&place, GUEST);
    let share = add(&daemon, &place, Some(&socket), Trigger::RingStore);
    let guest = Guest::boot(&place, GUEST, &machine(&share, "--look-every=30s"));
    daemon.approve(&guest);
    until("a session through the share", || session_of(&share).map(drop));
    for round in 0..3 {
        // Whatever the round before left on its way has come, and the next look of the timer is far.
        until("a quiet share", || prompts(&share).is_empty().then_some(()));
        let began = Instant::now();
        let ended = daemon.finished(&daemon.submit(GUEST, sh("echo hello")).id);
        assert_eq!(ended.state, State::Succeeded, "{:?}", ended.receipt);
        tell(&format!("ring and store, round {round}: {:?}", began.elapsed()));
        assert!(began.elapsed() < Duration::from_secs(15), "the timer alone takes up to 30 s");
    }
    let change = GuestChange { trigger: Some(Trigger::Store), ..GuestChange::default() };
    on("the change", daemon.client().guest(GUEST).change(&change)).unwrap();
    daemon.await_presence(GUEST, Presence::Connected);
}

/// A guest by hand: what it says is files, and some of them break rules.
struct ByHand<'a> {
    share: &'a Path,
    identity: Identity,
    hellos: u8,
    session: Nonce,
}

impl ByHand<'_> {
    /// Says hello, and waits until it is welcome and its empty hands are known.
    fn enter(&mut self) {
        self.hellos += 1;
        self.session = Nonce::new([self.hellos; 32]);
        let greeting = read_manager(&std::fs::read(self.share.join("out/manager")).unwrap()).unwrap();
        let claims = self.identity.claims(greeting.version_min);
        let hello = self.identity.prove(&greeting, Claims { nonce: self.session, ..claims });
        std::fs::create_dir_all(self.to("")).unwrap();
        put(&self.share.join("in/hello"), &FromGuest::Hello(Box::new(hello)));
        let answer = self.share.join("out").join(share::session(&self.session)).join("answer");
        let answer = until("an answer", || std::fs::read(&answer).ok());
        let answer = FromHost::from_frame(&share::one_frame("answer", &answer).unwrap()).unwrap();
        let FromHost::Welcome(welcome) = answer else { panic!("{answer:?}") };
        self.identity.token = Some(welcome.token);
        put(&self.to("beat"), &FromGuest::Pong(1));
        std::fs::write(self.to("attach"), b"").unwrap();
    }

    fn to(&self, name: &str) -> PathBuf {
        self.share.join("in").join(share::session(&self.session)).join(name)
    }

    fn prompt(&self) -> RequestId {
        until("a prompt", || prompts(self.share).first().copied())
    }

    fn acknowledge(&self, request: RequestId, key: &Identity) {
        let (evidence, output) = (Evidence::None, OutputTotals::default());
        let ack = Acknowledgement { request, outcome: Outcome::Succeeded, evidence, output, ran: None };
        let sign = |frame: &Frame| key.sign(&receipt_transcript(&self.session, frame));
        std::fs::write(self.to("fresh"), ack_file(&ack, sign).unwrap()).unwrap();
        std::fs::rename(self.to("fresh"), self.to(&Of::Ack.name(request))).unwrap();
    }
}

#[test]
fn hostile_receipts_are_refused_and_the_neighbour_is_served() {
    let place = Place::new();
    let daemon = Daemon::start(&place);
    let identity = Identity::fresh();
    let key = Some(identity.public_key());
    let share = add_named(&daemon, &place, "evil", None, Trigger::Store, key);
    let neighbour = Neighbour::of(&daemon, &place);
    let mut evil = ByHand { share: &share, identity, hellos: 0, session: Nonce::new([0; 32]) };
    evil.enter();
    let submitted = daemon.submit("evil", sh("true"));
    let request = evil.prompt();
    assert_eq!(request.to_string(), submitted.id);

    let ack = evil.to(&Of::Ack.name(request));
    let refused = |what: &str, path: &Path| {
        daemon.await_log(0, what);
        neighbour.is_served();
        std::fs::remove_file(path).unwrap();
        assert_eq!(daemon.request(&submitted.id).state, State::Offered, "{what}");
    };
    symlink("/etc/passwd", &ack).unwrap();
    refused(".ack: it is no plain file", &ack);
    let fifo = evil.to(&Of::Stdout.name(request));
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    refused(".stdout: it is no plain file", &fifo);
    std::fs::write(evil.to("one"), b"").unwrap();
    std::fs::hard_link(evil.to("one"), &ack).unwrap();
    refused("it has 2 names where one is expected", &ack);
    for number in 0..100 {
        std::fs::write(evil.to(&format!("junk-{number}")), b"junk").unwrap();
    }
    neighbour.is_served();

    std::fs::write(&ack, vec![0xff; 1000]).unwrap();
    daemon.await_log(0, "its receipts broke a rule");
    evil.enter();
    assert_eq!(evil.prompt(), request);
    evil.acknowledge(request, &Identity::fresh());
    daemon.await_log(0, "is not signed with the guest's key");
    neighbour.is_served();

    fill(&share.join("in/filler"));
    daemon.await_log(0, "its receipts take more than");
    neighbour.is_served();
    assert!(daemon.resident_kib() < 200 * 1024, "{} KiB", daemon.resident_kib());
    std::fs::remove_file(share.join("in/filler")).unwrap();
    daemon.await_log(0, "its receipts are within their limits again");
    evil.enter();
    assert_eq!(evil.prompt(), request);
    assert_eq!(daemon.request(&submitted.id).state, State::Offered, "nothing of all that counted");
    evil.acknowledge(request, &evil.identity);
    assert_eq!(daemon.finished(&submitted.id).state, State::Succeeded);
    daemon.assert_audit_intact();
}

/// An honest guest on a connection of its own.
struct Neighbour<'a> {
    daemon: &'a Daemon,
    _guest: Honest,
}

impl<'a> Neighbour<'a> {
    fn of(daemon: &'a Daemon, place: &Place) -> Self {
        let (identity, base) = (Identity::fresh(), place.join("n.vsock"));
        daemon.add("neighbour", &base, Some(identity.public_key()));
        let door = door(&base);
        until("the neighbour's door", || door.exists().then_some(()));
        Self { daemon, _guest: Honest::start(&door, identity) }
    }

    fn is_served(&self) {
        let ended = self.daemon.finished(&self.daemon.submit("neighbour", sh("true")).id);
        assert_eq!(ended.state, State::Succeeded);
    }
}

fn session_of(share: &Path) -> Option<PathBuf> {
    files_below(&share.join("in")).into_iter().find(|path| path.ends_with("attach"))
}

fn prompts(share: &Path) -> Vec<RequestId> {
    let files = files_below(&share.join("out/sessions"));
    files.iter().filter_map(|path| Some(read_prompt(path.file_name()?.to_str()?)?.1)).collect()
}

fn put(path: &Path, message: &FromGuest) {
    let mut bytes = Vec::new();
    message.to_frame().unwrap().write(&mut bytes).unwrap();
    std::fs::write(path.with_extension("fresh"), bytes).unwrap();
    std::fs::rename(path.with_extension("fresh"), path).unwrap();
}

/// More than the receipts of one guest may take, on the disk and not only in length.
fn fill(path: &Path) {
    let file = std::fs::File::create(path).unwrap();
    nix::fcntl::posix_fallocate(&file, 0, 300 << 20).unwrap();
}
