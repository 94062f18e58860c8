//! A session against a guest that is played by hand: every frame it sends is chosen by the test.

mod power;

use super::*;
use crate::actor::Actor;
use crate::config::Config;
use crate::ring::Query;
use crate::store::{AcceptRequest, AddGuest, ChangeGuest, Place};
use crate::trace::STATIONS;
use doorbell_api::request::{OnDisconnect, State};
use doorbell_api::trace::Station;
use doorbell_wire::handshake::transcript;
use doorbell_wire::ids::{BootId, Digest, Nonce, PublicKey, RequestId, Signature};
use doorbell_wire::message::action::{Action, Window};
use doorbell_wire::message::outcome::{Acknowledgement, Evidence, Outcome, OutputTotals, Ran, StreamTotal};
use doorbell_wire::message::{
    Attach, Attached, Capabilities, Claims, Fetch, FromHost, Hello, InputCredit, InputEnd, Offsets, Output,
    Progress, Resize, Stage, Stream,
};
use ed25519_dalek::{Signer as _, SigningKey};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::io::DuplexStream;

/// A manager with one approved guest.
struct Bench {
    manager: Arc<Manager>,
    guest: GuestRow,
    key: SigningKey,
    _dir: tempfile::TempDir,
}

impl Bench {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = Config { state_dir: dir.path().join("state"), ..Config::default() };
        let key = SigningKey::from_bytes(&[3; 32]);
        let add = AddGuest {
            name: "web-3".parse().unwrap(),
            place: cid(7),
            qmp: None,
            key: Some(PublicKey::new(key.verifying_key().to_bytes())),
            concurrency: None,
            share: None,
            trigger: None,
            set_clock: false,
            tenant: None,
            enrolment: None,
            trust_first_key: false,
        };
        let manager = Manager::open(config, String::new()).unwrap();
        let guest = manager.store.add_guest(&ROOT, add).await.unwrap();
        Self { manager: Arc::new(manager), guest, key, _dir: dir }
    }

    /// Connects, and says hello with the token of the last welcome.
    async fn dial(&self, token: Option<SessionToken>) -> Peer {
        let (ours, theirs) = tokio::io::duplex(PIPE_LEN);
        let entry = self.manager.doors.enter("cid 7").unwrap();
        let session = serve(Arc::clone(&self.manager), theirs, self.guest.clone(), "cid 7".into(), entry);
        tokio::spawn(session);
        let mut peer = Peer { stream: ours, deframer: Deframer::new(), unread: Vec::new() };
        let FromHost::Greeting(greeting) = peer.hear().await else { panic!("no greeting") };
        let claims = Claims {
            version: 0,
            nonce: Nonce::new([1; 32]),
            public_key: PublicKey::new(self.key.verifying_key().to_bytes()),
            boot_id: BootId::new([2; 16]),
            generation: None,
            token,
            capabilities: Capabilities::RUN,
            agent: "0.1.0".parse().unwrap(),
            sequence_max: 1_000,
            clock_us: 1_000_000,
        };
        let proof = self.key.sign(&transcript(&greeting, &claims).unwrap());
        let proof = Signature::new(proof.to_bytes());
        peer.say(&FromGuest::Hello(Box::new(Hello { claims, proof, enrolment: None }))).await;
        peer
    }

    async fn enter(&self, token: Option<SessionToken>) -> (Peer, SessionToken) {
        let mut peer = self.dial(token).await;
        let FromHost::Welcome(welcome) = peer.hear().await else { panic!("not welcome") };
        (peer, welcome.token)
    }

    async fn accept(&self, idempotent: bool) -> RequestId {
        self.accept_run(idempotent, json!({"InGuest": "true"})).await
    }

    async fn accept_run(&self, idempotent: bool, executable: Value) -> RequestId {
        self.accept_new(AcceptRequest { idempotent, ..run(&executable, "None") }).await
    }

    async fn accept_new(&self, new: AcceptRequest) -> RequestId {
        self.manager.store.accept(&ROOT, &self.guest.name, new).await.unwrap().1.id
    }

    async fn printed(&self, request: RequestId) -> Vec<u8> {
        self.manager.outputs.read(request, Stream::Stdout, 0, 100).await.unwrap()
    }
}

struct Peer {
    stream: DuplexStream,
    deframer: Deframer,
    unread: Vec<u8>,
}

impl Peer {
    async fn say(&mut self, message: &FromGuest) {
        self.stream.write_all(&bytes(message)).await.unwrap();
    }

    async fn hear(&mut self) -> FromHost {
        loop {
            let mut rest = self.unread.as_slice();
            let frame = self.deframer.next(&mut rest).unwrap();
            self.unread = rest.to_vec();
            if let Some(frame) = frame {
                return FromHost::from_frame(&frame).unwrap();
            }
            let mut buffer = [0; 1024];
            let read = tokio::time::timeout(PATIENCE, self.stream.read(&mut buffer));
            let count = read.await.expect("the manager says something").unwrap();
            assert!(count > 0, "the manager closed the connection");
            self.unread.extend_from_slice(&buffer[..count]);
        }
    }

    async fn pull_offer(&mut self, expected: RequestId) {
        self.say(&FromGuest::Pull).await;
        let heard = self.hear().await;
        assert!(matches!(&heard, FromHost::Offer(offer) if offer.request == expected), "{heard:?}");
    }

    /// Takes the next input, and gives where it ends.
    async fn hear_input(&mut self, expected: RequestId, from: u64) -> u64 {
        let FromHost::Input(input) = self.hear().await else { panic!("no input") };
        assert_eq!((input.request, input.offset), (expected, from));
        from + input.bytes.len() as u64
    }

    async fn say_started(&mut self, request: RequestId) {
        self.say(&FromGuest::Progress(Progress { request, stage: Stage::Started, at_us: 1_000_001 })).await;
    }

    async fn say_output(&mut self, request: RequestId, bytes: &[u8]) {
        let bytes = bytes.to_vec();
        self.say(&FromGuest::Output(Output { request, stream: Stream::Stdout, offset: 0, bytes })).await;
        assert!(matches!(self.hear().await, FromHost::OutputCredit(_)));
    }

    async fn say_succeeded(&mut self, request: RequestId) {
        let ack = Acknowledgement {
            request,
            outcome: Outcome::Succeeded,
            evidence: Evidence::None,
            output: OutputTotals::default(),
            ran: None,
        };
        self.say(&FromGuest::Acknowledge(Box::new(ack))).await;
        assert_eq!(self.hear().await, FromHost::Noted(request));
    }
}

#[tokio::test]
async fn the_output_of_a_request_with_a_receipt_is_out_of_its_guests_reach() {
    let bench = Bench::new().await;
    let request = bench.accept(false).await;
    let (mut peer, token) = bench.enter(None).await;
    peer.say(&FromGuest::Pull).await;
    assert!(matches!(peer.hear().await, FromHost::Offer(_)));
    peer.say_started(request).await;
    peer.say_output(request, b"evidence").await;
    peer.say_succeeded(request).await;
    let receipt = format!("{:?}", bench.manager.store.request(request).await.unwrap().receipt);
    let (mut peer, _) = bench.enter(Some(token)).await;
    peer.say(&FromGuest::Attach(attach(request))).await;
    assert_eq!(peer.hear().await, FromHost::Attached(Attached { request, from: None }));
    peer.say_started(request).await;
    peer.say_succeeded(request).await;
    assert_eq!(bench.printed(request).await, b"evidence");
    assert_eq!(format!("{:?}", bench.manager.store.request(request).await.unwrap().receipt), receipt);
}

#[tokio::test]
async fn output_of_an_earlier_start_is_not_continued_by_a_start_nobody_told_of() {
    let bench = Bench::new().await;
    let request = bench.accept(true).await;
    bench.manager.outputs.append(request, Stream::Stdout, 0, b"earlier".to_vec(), 100).await.unwrap();
    let (mut peer, _) = bench.enter(None).await;
    peer.say(&FromGuest::Attach(attach(request))).await;
    let from = Some(Offsets::default());
    assert_eq!(peer.hear().await, FromHost::Attached(Attached { request, from }));
    peer.say_output(request, b"now").await;
    assert_eq!(bench.printed(request).await, b"now");
}

#[tokio::test]
async fn output_of_a_start_that_was_told_is_continued() {
    let bench = Bench::new().await;
    let request = bench.accept(false).await;
    let (mut peer, token) = bench.enter(None).await;
    peer.say(&FromGuest::Pull).await;
    assert!(matches!(peer.hear().await, FromHost::Offer(_)));
    peer.say_started(request).await;
    peer.say_output(request, b"half").await;
    drop(peer);
    let (mut peer, _) = bench.enter(Some(token)).await;
    peer.say(&FromGuest::Attach(attach(request))).await;
    let from = Some(Offsets { stdout: 4, stderr: 0 });
    assert_eq!(peer.hear().await, FromHost::Attached(Attached { request, from }));
}

#[tokio::test]
async fn a_program_that_cannot_be_read_ends_its_request_and_holds_up_no_other() {
    let bench = Bench::new().await;
    let digest = "11".repeat(32);
    // A directory is there and has a length, and nobody can read it as a file.
    let place = bench.manager.config.state_dir.join("programs").join("11").join(&digest);
    std::fs::create_dir_all(&place).unwrap();
    let len = place.metadata().unwrap().len();
    let unreadable =
        bench.accept_run(false, json!({"Program": {"digest": digest, "len": len, "name": "fix"}})).await;
    let next = bench.accept(false).await;
    let (mut peer, token) = bench.enter(None).await;
    peer.say(&FromGuest::Pull).await;
    assert!(matches!(peer.hear().await, FromHost::Offer(offer) if offer.request == unreadable));
    peer.say(&FromGuest::Fetch(Fetch { request: unreadable, offset: 0 })).await;
    assert_eq!(peer.hear().await, FromHost::HostBye(Reason::INTERNAL));
    let (mut peer, _) = bench.enter(Some(token)).await;
    peer.say(&FromGuest::Pull).await;
    assert!(matches!(peer.hear().await, FromHost::Offer(offer) if offer.request == next));
    assert_eq!(bench.manager.store.request(unreadable).await.unwrap().state, State::NotRetrieved);
}

#[tokio::test]
async fn urgent_requests_and_queries_go_beside_what_runs() {
    let bench = Bench::new().await;
    let slow = bench.accept(false).await;
    let (mut peer, _) = bench.enter(None).await;
    peer.pull_offer(slow).await;
    peer.say_started(slow).await;
    let urgent =
        bench.accept_new(AcceptRequest { urgent: true, ..run(&json!({"InGuest": "true"}), "None") }).await;
    bench.manager.registry.ring(bench.guest.id);
    assert_eq!(peer.hear().await, FromHost::Ring);
    peer.pull_offer(urgent).await;
    let (answer, answered) = tokio::sync::oneshot::channel();
    let bell = bench.manager.registry.bell(bench.guest.id).unwrap();
    bell.query(Query { action: Action::LinkList, answer }).unwrap();
    assert_eq!(peer.hear().await, FromHost::Ring);
    peer.say(&FromGuest::Pull).await;
    let FromHost::Offer(query) = peer.hear().await else { panic!("no query is offered") };
    assert_eq!((query.sequence, query.floor), (None, 1));
    assert_eq!(peer.hear().await, FromHost::Ring, "what else waits is asked for behind a query");
    peer.say_succeeded(query.request).await;
    assert_eq!(answered.await.unwrap().outcome, Outcome::Succeeded);
    peer.say(&FromGuest::Pull).await;
    assert_eq!(peer.hear().await, FromHost::Nothing, "what is in hand is not offered again");
    peer.say_succeeded(urgent).await;
    peer.say_succeeded(slow).await;
    for request in [slow, urgent] {
        assert_eq!(bench.manager.store.request(request).await.unwrap().state, State::Succeeded);
    }
}

#[tokio::test]
async fn a_guest_that_may_run_several_is_rung_for_the_next_one() {
    let bench = Bench::new().await;
    let asked = ChangeGuest { concurrency: Some(2), ..ChangeGuest::default() };
    bench.manager.store.change_guest(&ROOT, &bench.guest.name, asked).await.unwrap();
    let ids = [bench.accept(false).await, bench.accept(false).await, bench.accept(false).await];
    let (mut peer, _) = bench.enter(None).await;
    peer.pull_offer(ids[0]).await;
    assert_eq!(peer.hear().await, FromHost::Ring);
    peer.pull_offer(ids[1]).await;
    peer.say(&FromGuest::Pull).await;
    assert_eq!(peer.hear().await, FromHost::Nothing, "two are in hand");
    for id in &ids[..2] {
        peer.say_started(*id).await;
        peer.say_output(*id, id.to_string().as_bytes()).await;
    }
    peer.say_succeeded(ids[0]).await;
    peer.pull_offer(ids[2]).await;
    for id in &ids[..2] {
        assert_eq!(bench.printed(*id).await, id.to_string().as_bytes());
    }
}

#[tokio::test]
async fn input_is_sent_as_it_comes_and_as_the_program_takes_it() {
    let bench = Bench::new().await;
    let request = bench.accept_new(run(&json!({"InGuest": "cat"}), "Stream")).await;
    let inputs = &bench.manager.inputs;
    inputs.begin(request).await.unwrap();
    inputs.append(request, 0, vec![b'a'; 70_000]).await.unwrap();
    let (mut peer, token) = bench.enter(None).await;
    peer.pull_offer(request).await;
    peer.say_started(request).await;
    let mut next = 0;
    while next < 65_536 {
        next = peer.hear_input(request, next).await;
    }
    assert_eq!(next, 65_536, "the window is full");
    peer.say(&FromGuest::InputCredit(InputCredit { request, bytes: 10_000 })).await;
    assert_eq!(peer.hear_input(request, next).await, 70_000);
    inputs.append(request, 70_000, b"bc".as_slice()).await.unwrap();
    let bell = bench.manager.registry.bell(bench.guest.id).unwrap();
    bell.touch(request);
    assert_eq!(peer.hear_input(request, 70_000).await, 70_002);
    inputs.end(request).await.unwrap();
    bell.touch(request);
    assert_eq!(peer.hear().await, FromHost::InputEnd(InputEnd { request, len: 70_002 }));
    drop(peer);
    let (mut peer, _) = bench.enter(Some(token)).await;
    peer.say(&FromGuest::Attach(Attach { request, input: 69_999, taken: 69_000 })).await;
    let from = Some(Offsets::default());
    assert_eq!(peer.hear().await, FromHost::Attached(Attached { request, from }));
    assert_eq!(peer.hear_input(request, 69_999).await, 70_002);
    assert_eq!(peer.hear().await, FromHost::InputEnd(InputEnd { request, len: 70_002 }));
    peer.say_succeeded(request).await;
    assert!(inputs.all().await.unwrap().is_empty(), "input stays behind a request that is over");
}

#[tokio::test]
async fn the_last_size_of_a_terminal_is_told_once_it_has_started() {
    let bench = Bench::new().await;
    let window = json!({"Terminal": {"rows": 24, "columns": 80}});
    let mut new = run(&json!({"InGuest": "top"}), "None");
    let mut action = serde_json::to_value(&new.action).unwrap();
    action["Run"]["input"] = window;
    new.action = serde_json::from_value(action).unwrap();
    let request = bench.accept_new(new).await;
    let size = |rows| Window { rows, columns: 100 };
    bench.manager.inputs.set_window(request, size(1));
    let (mut peer, _) = bench.enter(None).await;
    peer.pull_offer(request).await;
    let bell = bench.manager.registry.bell(bench.guest.id).unwrap();
    bench.manager.inputs.set_window(request, size(2));
    bell.touch(request);
    peer.say_started(request).await;
    assert_eq!(peer.hear().await, FromHost::Resize(Resize { request, window: size(2) }));
    bench.manager.inputs.set_window(request, size(3));
    bell.touch(request);
    assert_eq!(peer.hear().await, FromHost::Resize(Resize { request, window: size(3) }));
}

#[tokio::test]
async fn two_fetches_at_once_take_turns() {
    let bench = Bench::new().await;
    let asked = ChangeGuest { concurrency: Some(2), ..ChangeGuest::default() };
    bench.manager.store.change_guest(&ROOT, &bench.guest.name, asked).await.unwrap();
    let mut ids = Vec::new();
    for byte in [1_u8, 2] {
        let body = futures_util::stream::iter([Ok::<_, std::io::Error>(vec![byte; 100_000])]);
        let (digest, len, _) = bench.manager.programs.put(body).await.unwrap();
        let program = json!({"Program": {"digest": digest.to_string(), "len": len, "name": "fix"}});
        ids.push(bench.accept_run(false, program).await);
    }
    let (mut peer, _) = bench.enter(None).await;
    peer.pull_offer(ids[0]).await;
    assert_eq!(peer.hear().await, FromHost::Ring);
    peer.pull_offer(ids[1]).await;
    let fetches = [0, 1].map(|at| bytes(&FromGuest::Fetch(Fetch { request: ids[at], offset: 0 }))).concat();
    peer.stream.write_all(&fetches).await.unwrap();
    let mut order = Vec::new();
    for _ in 0..4 {
        let FromHost::Chunk(chunk) = peer.hear().await else { panic!("no chunk") };
        let at = ids.iter().position(|id| *id == chunk.request).unwrap();
        assert!(chunk.bytes.iter().all(|byte| usize::from(*byte) == at + 1));
        order.push(at);
    }
    assert!(order.contains(&0) && order.contains(&1), "one fetch waits for the other: {order:?}");
}

#[tokio::test]
async fn a_copy_of_the_output_is_compared_with_what_the_guest_kept() {
    let bench = Bench::new().await;
    let request = bench.accept(false).await;
    let (mut peer, _) = bench.enter(None).await;
    peer.pull_offer(request).await;
    peer.say_started(request).await;
    peer.say_output(request, b"evidence").await;
    let digest = Some(Digest::new(Sha256::digest(b"evidence").into()));
    let stdout = StreamTotal { kept: 8, dropped: 3, digest };
    let ran = Ran {
        started_us: 1_000_001,
        first_output_us: Some(1_000_002),
        exited_us: 1_000_003,
        ended_us: 1_000_004,
        usage: None,
    };
    let ack = Acknowledgement {
        request,
        outcome: Outcome::Succeeded,
        evidence: Evidence::None,
        output: OutputTotals { stdout, ..OutputTotals::default() },
        ran: Some(ran),
    };
    peer.say(&FromGuest::Acknowledge(Box::new(ack))).await;
    assert_eq!(peer.hear().await, FromHost::Noted(request));
    let receipt = bench.manager.store.request(request).await.unwrap().receipt.unwrap();
    assert_eq!((receipt.stdout.intact, receipt.stdout.lost), (Some(true), 3));
    let trace = bench.manager.store.trace(request).await.unwrap();
    let passed: Vec<_> = trace.passed.iter().map(|one| one.station).collect();
    for station in STATIONS.into_iter().filter(|one| !matches!(one, Station::Rung | Station::Fetched)) {
        let told = !matches!(station, Station::Verified | Station::Journalled);
        assert_eq!(passed.contains(&station), told, "{station:?} of {passed:?}");
    }
    assert!(trace.clock_error_us.is_some());
}

#[tokio::test]
async fn a_request_that_is_cancelled_while_it_runs_ends_by_its_guests_word() {
    let bench = Bench::new().await;
    let request = bench.accept(false).await;
    let (mut peer, _) = bench.enter(None).await;
    peer.pull_offer(request).await;
    peer.say_started(request).await;
    bench.manager.clients.watch(request, Instant::now());
    bench.manager.cancel_deserted(Instant::now() + Duration::from_secs(60)).await;
    assert_eq!(peer.hear().await, FromHost::Cancel(request));
    let records = bench.manager.store.audit_records(0, 100).await.unwrap();
    let asked = records.into_iter().find(|record| record.event == "request-cancel-asked").unwrap();
    assert_eq!(asked.actor, "manager");
    assert!(asked.detail.ends_with(": its client is gone"), "{}", asked.detail);
}

#[tokio::test]
async fn a_word_that_is_said_again_is_counted_once() {
    let bench = Bench::new().await;
    let request = bench.accept(false).await;
    let (mut peer, token) = bench.enter(None).await;
    peer.pull_offer(request).await;
    peer.say_started(request).await;
    peer.say_succeeded(request).await;
    let (mut peer, _) = bench.enter(Some(token)).await;
    peer.say(&FromGuest::Attach(attach(request))).await;
    assert!(matches!(peer.hear().await, FromHost::Attached(_)));
    peer.say_succeeded(request).await;
    let counted = || {
        let shown = bench.manager.histograms.show(&crate::access::Scope::All).stations;
        shown.into_iter().find(|one| one.station == Station::Stored).map(|one| one.count)
    };
    let end = Instant::now() + PATIENCE;
    while counted().is_none() && Instant::now() < end {
        tokio::task::yield_now().await;
    }
    assert_eq!(counted(), Some(1));
}

#[tokio::test]
async fn a_cancel_of_what_is_in_no_hand_is_settled_by_the_next_pull() {
    let bench = Bench::new().await;
    let running = bench.accept(false).await;
    let (mut peer, token) = bench.enter(None).await;
    peer.pull_offer(running).await;
    let urgent =
        bench.accept_new(AcceptRequest { urgent: true, ..run(&json!({"InGuest": "true"}), "None") }).await;
    peer.pull_offer(urgent).await;
    // The guest comes back with one of them only, and does not pull.
    let (mut peer, _) = bench.enter(Some(token)).await;
    peer.say(&FromGuest::Attach(attach(running))).await;
    assert!(matches!(peer.hear().await, FromHost::Attached(_)));
    bench.manager.cancel(&ROOT, urgent, None).await.unwrap();
    assert_eq!(peer.hear().await, FromHost::Cancel(urgent));
    assert_eq!(peer.hear().await, FromHost::Ring);
    peer.say(&FromGuest::Pull).await;
    assert_eq!(peer.hear().await, FromHost::Nothing);
    assert_eq!(bench.manager.store.request(urgent).await.unwrap().state, State::Cancelled);
}

#[tokio::test]
async fn a_session_is_open_only_after_the_last_step_of_the_one_before() {
    let bench = Bench::new().await;
    let older = Arc::new(Bell::default());
    assert!(bench.manager.registry.enter(bench.guest.id, Door::Channel, Arc::clone(&older)).is_none());
    let mut peer = bench.dial(None).await;
    assert_eq!(older.rung(false).await.close, Some(Reason::SUPERSEDED));
    let early = tokio::time::timeout(Duration::from_millis(100), peer.hear()).await;
    assert!(early.is_err(), "{early:?} although the older session may still store something");
    older.end();
    assert!(matches!(peer.hear().await, FromHost::Welcome(_)));
}

#[tokio::test]
async fn the_session_of_a_guest_is_written_to_when_a_copy_is_fenced() {
    let bench = Bench::new().await;
    let (mut peer, _) = bench.enter(None).await;
    peer.say(&FromGuest::Pull).await;
    assert_eq!(peer.hear().await, FromHost::Nothing);
    let mut copy = bench.dial(Some(SessionToken::new([9; 32]))).await;
    assert_eq!(copy.hear().await, FromHost::HostBye(Reason::FENCED));
    // Nothing waits: it is rung so that a connection whose guest has forgotten it ends now.
    assert_eq!(peer.hear().await, FromHost::Ring);
}

#[tokio::test]
async fn a_guest_that_moved_during_its_hello_is_not_let_in_at_the_old_place() {
    let bench = Bench::new().await;
    bench
        .manager
        .store
        .change_guest(&ROOT, &bench.guest.name, ChangeGuest { place: Some(cid(8)), ..ChangeGuest::default() })
        .await
        .unwrap();
    let mut peer = bench.dial(None).await;
    assert_eq!(peer.hear().await, FromHost::HostBye(Reason::UNKNOWN_GUEST));
}

#[tokio::test]
async fn a_guest_that_asks_and_never_reads_takes_no_more_memory_than_its_lane() {
    let bench = Bench::new().await;
    let (mut peer, _) = bench.enter(None).await;
    let pull = bytes(&FromGuest::Pull);
    let mut taken = 0;
    while taken < 40_000 {
        match tokio::time::timeout(Duration::from_secs(2), peer.stream.write_all(&pull)).await {
            Ok(written) => written.unwrap(),
            Err(_) => return,
        }
        taken += 1;
    }
    panic!("{taken} pulls were taken whose answers nobody reads");
}

fn run(executable: &Value, input: &str) -> AcceptRequest {
    let limits = json!({"output_len_max": 64 << 20});
    let run = json!({"executable": executable, "args": [], "env": [], "input": input, "limits": limits});
    AcceptRequest {
        id: None,
        action: serde_json::from_value(json!({ "Run": run })).unwrap(),
        timeout_ms: None,
        expires_in_ms: None,
        idempotent: false,
        urgent: false,
        on_disconnect: OnDisconnect::Keep,
        reason: None,
        ticket: None,
        signed: None,
        confirm_within_ms: None,
        source: None,
        awaits_program: false,
    }
}

fn attach(request: RequestId) -> Attach {
    Attach { request, input: 0, taken: 0 }
}

fn bytes(message: &FromGuest) -> Vec<u8> {
    let mut bytes = Vec::new();
    message.to_frame().unwrap().write(&mut bytes).unwrap();
    bytes
}

fn cid(number: u32) -> Place {
    Place::Cid(number.try_into().unwrap())
}

const ROOT: Actor = Actor::Uid { uid: 0, name: None };
const PIPE_LEN: usize = 4096;
const PATIENCE: Duration = Duration::from_secs(10);
