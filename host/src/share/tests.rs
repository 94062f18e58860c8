//! The stand-in against a manager's half that is played by hand.

use super::places::{Places, Seen, SeenOf, frame_bytes};
use super::stand_in::StandIn;
use doorbell_wire::frame::{Deframer, Frame};
use doorbell_wire::handshake::transcript;
use doorbell_wire::ids::{BootId, Nonce, PublicKey, RequestId, SessionToken, Signature};
use doorbell_wire::message::outcome::{Acknowledgement, Evidence, Outcome, OutputTotals};
use doorbell_wire::message::{Capabilities, Claims, FromGuest, FromHost, Greeting, Hello, Offer, Welcome};
use doorbell_wire::share::{ack_file, receipt_transcript};
use ed25519_dalek::{Signer as _, SigningKey};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

/// A session that is open, with a request whose prompt is in the share.
struct Bench {
    stand_in: StandIn,
    manager: DuplexStream,
    deframer: Deframer,
    key: SigningKey,
    _dir: tempfile::TempDir,
}

impl Bench {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let places = Places::new(dir.path());
        places.begin().unwrap();
        let key = SigningKey::from_bytes(&[3; 32]);
        let (ours, manager) = tokio::io::duplex(64 * 1024);
        let stand_in = StandIn::new(places, Box::new(hello(&key)), ours);
        let mut bench = Self { stand_in, manager, deframer: Deframer::new(), key, _dir: dir };
        bench.order(FromHost::Greeting(greeting())).await;
        assert!(matches!(bench.heard().await, FromGuest::Hello(_)));
        let token = SessionToken::new([4; 32]);
        bench.order(FromHost::Welcome(Welcome { token, host_time_ms: 1, proof: None })).await;
        bench.stand_in.found(Seen { attach: Some(Vec::new()), ..Seen::default() }).await.unwrap();
        assert_eq!(bench.heard().await, FromGuest::Pull);
        bench.order(FromHost::Offer(Box::new(offer()))).await;
        bench
    }

    /// The manager's half says something, and the stand-in works it off.
    async fn order(&mut self, message: FromHost) {
        self.manager.write_all(&frame_bytes(message.to_frame()).unwrap()).await.unwrap();
        self.turn().await;
    }

    async fn turn(&mut self) {
        let mut buffer = vec![0; 64 * 1024];
        let moved = self.stand_in.moved(&mut buffer).await.unwrap();
        self.stand_in.work(moved, &buffer).await.unwrap();
    }

    /// What the manager's half hears next.
    async fn heard(&mut self) -> FromGuest {
        self.turn().await;
        let mut frames = self.all_heard().await;
        assert_eq!(frames.len(), 1, "{frames:?}");
        FromGuest::from_frame(&frames.remove(0)).unwrap()
    }

    /// All frames that lie in the stream.
    async fn all_heard(&mut self) -> Vec<Frame> {
        let mut bytes = vec![0; 64 * 1024];
        let count = self.manager.read(&mut bytes).await.unwrap();
        let (mut rest, mut frames) = (&bytes[..count], Vec::new());
        while let Some(frame) = self.deframer.next(&mut rest).unwrap() {
            frames.push(frame);
        }
        frames
    }

    /// What a look finds where the guest has put its outcome.
    fn outcome(&self) -> Seen {
        let (evidence, output) = (Evidence::None, OutputTotals::default());
        let ack =
            Acknowledgement { request: REQUEST, outcome: Outcome::Succeeded, evidence, output, ran: None };
        let sign =
            |frame: &Frame| Signature::new(self.key.sign(&receipt_transcript(&NONCE, frame)).to_bytes());
        let ack = Some(ack_file(&ack, sign).unwrap());
        Seen { hands: vec![(REQUEST, SeenOf { ack, ..SeenOf::default() })], ..Seen::default() }
    }
}

#[tokio::test]
async fn an_outcome_that_still_lies_there_is_passed_on_once() {
    let mut bench = Bench::new().await;
    for _ in 0..3 {
        let seen = bench.outcome();
        bench.stand_in.found(seen).await.unwrap();
    }
    let FromGuest::Acknowledge(ack) = bench.heard().await else { panic!("no acknowledgement") };
    assert_eq!((ack.request, &ack.outcome), (REQUEST, &Outcome::Succeeded));
    bench.order(FromHost::Noted(REQUEST)).await;
    let seen = bench.outcome();
    bench.stand_in.found(seen).await.unwrap();
    assert!(bench.stand_in.wanted().noted.contains(&REQUEST));
}

fn greeting() -> Greeting {
    Greeting { version_min: 0, version_max: 1, nonce: Nonce::new([5; 32]), host_time_ms: 1 }
}

fn hello(key: &SigningKey) -> Hello {
    let claims = Claims {
        version: 1,
        nonce: NONCE,
        public_key: PublicKey::new(key.verifying_key().to_bytes()),
        boot_id: BootId::new([2; 16]),
        generation: None,
        token: None,
        capabilities: Capabilities::RUN,
        agent: "0.1.0".parse().unwrap(),
        sequence_max: 0,
        clock_us: 1,
    };
    let proof = Signature::new(key.sign(&transcript(&greeting(), &claims).unwrap()).to_bytes());
    Hello { claims, proof, enrolment: None }
}

const REQUEST: RequestId = RequestId::new([6; 16]);
const NONCE: Nonce = Nonce::new([7; 32]);

fn offer() -> Offer {
    let run = json!({"executable": {"InGuest": "true"}, "args": [], "env": [], "input": "None",
                     "limits": {"output_len_max": 1000}});
    let action = serde_json::from_value(json!({ "Run": run })).unwrap();
    Offer {
        request: REQUEST,
        sequence: Some(1_u64.try_into().unwrap()),
        floor: 0,
        action,
        timeout_ms: None,
        idempotent: false,
        signed: None,
    }
}
