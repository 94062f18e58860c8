//! A session against a guest that is played by hand: every frame it sends is chosen by the test.

use super::*;
use crate::actor::Actor;
use crate::config::Config;
use crate::doors::Doors;
use crate::events::Events;
use crate::output::Outputs;
use crate::programs::Programs;
use crate::registry::Registry;
use crate::store::{AcceptRequest, AddGuest, Place, Store};
use doorbell_api::request::State;
use doorbell_wire::handshake::transcript;
use doorbell_wire::ids::{BootId, Nonce, PublicKey, RequestId, Signature};
use doorbell_wire::message::outcome::{Acknowledgement, Evidence, Outcome, OutputTotals};
use doorbell_wire::message::{
    Attached, Capabilities, Claims, Fetch, FromHost, Hello, Offsets, Output, Progress, Stage, Stream,
};
use ed25519_dalek::{Signer as _, SigningKey};
use serde_json::{Value, json};
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
        let store = Store::open(&config).unwrap();
        let key = SigningKey::from_bytes(&[3; 32]);
        let add = AddGuest {
            name: "web-3".parse().unwrap(),
            place: cid(7),
            qmp: None,
            key: Some(PublicKey::new(key.verifying_key().to_bytes())),
        };
        let guest = store.add_guest(&ROOT, add).await.unwrap();
        let manager = Manager {
            store,
            programs: Programs::open(&config.state_dir).unwrap(),
            outputs: Outputs::open(&config.state_dir).unwrap(),
            registry: Registry::default(),
            events: Events::default(),
            doors: Doors::default(),
            vsock: String::new(),
            started_at_ms: 0,
            config,
        };
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
            low_water: 0,
        };
        let proof = self.key.sign(&transcript(&greeting, &claims).unwrap());
        let proof = Signature::new(proof.to_bytes());
        peer.say(&FromGuest::Hello(Box::new(Hello { claims, proof }))).await;
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
        let action = json!({"Run": {"executable": executable, "args": [], "env": [], "cwd": null}});
        let new = AcceptRequest {
            id: None,
            action: serde_json::from_value(action).unwrap(),
            timeout_ms: None,
            expires_in_ms: None,
            idempotent,
            reason: None,
        };
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

    async fn say_started(&mut self, request: RequestId) {
        self.say(&FromGuest::Progress(Progress { request, stage: Stage::Started, at_ms: 1 })).await;
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
    peer.say(&FromGuest::Attach(request)).await;
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
    bench.manager.outputs.append(request, Stream::Stdout, 0, b"earlier".to_vec()).await.unwrap();
    let (mut peer, _) = bench.enter(None).await;
    peer.say(&FromGuest::Attach(request)).await;
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
    peer.say(&FromGuest::Attach(request)).await;
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
async fn a_session_is_open_only_after_the_last_step_of_the_one_before() {
    let bench = Bench::new().await;
    let older = Arc::new(Bell::default());
    assert!(bench.manager.registry.enter(bench.guest.id, Arc::clone(&older)).is_none());
    let mut peer = bench.dial(None).await;
    assert_eq!(older.rung().await.close, Some(Reason::SUPERSEDED));
    let early = tokio::time::timeout(Duration::from_millis(100), peer.hear()).await;
    assert!(early.is_err(), "{early:?} although the older session may still store something");
    older.end();
    assert!(matches!(peer.hear().await, FromHost::Welcome(_)));
}

#[tokio::test]
async fn a_guest_that_moved_during_its_hello_is_not_let_in_at_the_old_place() {
    let bench = Bench::new().await;
    bench.manager.store.change_guest(&ROOT, &bench.guest.name, Some(cid(8)), None).await.unwrap();
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
