//! What the store promises, one test for each promise. This file has what the tests share.

mod approvals;
mod awaited;
mod durability;
mod enrol;
mod guests;
mod life;
mod offers;
mod receipts;
mod requests;
mod stages;
mod tenants;
mod tokens;
mod trail;

use super::*;
use crate::actor::Actor;
use crate::output::OutputKept;
use doorbell_api::request::{OnDisconnect, State};
use doorbell_wire::ids::{BootId, GuestName, Nonce, PublicKey, RequestId, SessionToken};
use doorbell_wire::limits::OUTPUT_LEN_DEFAULT;
use doorbell_wire::message::action::Action;
use doorbell_wire::message::outcome::{Acknowledgement, Evidence, Outcome, OutputTotals};
use doorbell_wire::message::{Capabilities, Claims};
use serde_json::json;

const ROOT: Actor = Actor::Uid { uid: 0, name: None };
const KEY: PublicKey = PublicKey::new([9; 32]);

/// A store in a directory of its own, with one approved guest.
struct Bench {
    dir: tempfile::TempDir,
    store: Store,
    guest: GuestRow,
}

impl Bench {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&config(dir.path())).unwrap();
        let guest = store.add_guest(&ROOT, new_guest("web-3", 7, Some(KEY))).await.unwrap();
        Self { dir, store, guest }
    }

    fn restart(self) -> Self {
        self.restart_with(Vec::new())
    }

    /// The same, with these actions for a second person.
    fn restart_with(self, second_person: Vec<ActionName>) -> Self {
        let Self { dir, store, guest } = self;
        drop(store);
        let store = Store::open(&Config { second_person, ..config(dir.path()) }).unwrap();
        Self { dir, store, guest }
    }

    async fn accept(&self, new: AcceptRequest) -> RequestRow {
        self.store.accept(&ROOT, &self.guest.name, new).await.unwrap().1
    }

    async fn offered(&self) -> Option<RequestId> {
        self.next().await.offer.map(|offer| offer.request)
    }

    async fn next(&self) -> NextOffer {
        self.next_beside(&[]).await
    }

    /// What a pull gives a guest that has these in hand.
    async fn next_beside(&self, in_hand: &[RequestId]) -> NextOffer {
        let pull = Pull { in_hand: in_hand.to_vec(), rung_us: None, pulled_us: 1 };
        self.store.next_offer(self.guest.id, pull).await.unwrap()
    }

    async fn state(&self, id: RequestId) -> State {
        self.store.request(id).await.unwrap().state
    }

    async fn acknowledge(&self, id: RequestId, outcome: Outcome) -> RequestRow {
        let ack = ack(id, outcome);
        let kept = OutputKept::default();
        self.store.store_receipt(self.guest.id, ack, kept, Vec::new()).await.unwrap().unwrap()
    }

    /// The events of the trail, oldest first.
    async fn events(&self) -> Vec<String> {
        let records = self.store.audit_records(0, 1000).await.unwrap();
        records.into_iter().map(|record| record.event).collect()
    }

    /// A hand in the data base of a store that is closed for it.
    fn by_hand(self, sql: &str) -> Self {
        let Self { dir, store, guest } = self;
        drop(store);
        Connection::open(dir.path().join("state/doorbell.sqlite")).unwrap().execute_batch(sql).unwrap();
        let store = Store::open(&config(dir.path())).unwrap();
        Self { dir, store, guest }
    }
}

fn config(dir: &Path) -> Config {
    Config { state_dir: dir.join("state"), ..Config::default() }
}

fn name(text: &str) -> GuestName {
    text.parse().unwrap()
}

fn cid(number: u32) -> Place {
    Place::Cid(number.try_into().unwrap())
}

fn new_guest(text: &str, number: u32, key: Option<PublicKey>) -> AddGuest {
    AddGuest {
        name: name(text),
        place: cid(number),
        qmp: None,
        key,
        concurrency: None,
        share: None,
        trigger: None,
        set_clock: false,
        tenant: None,
        enrolment: None,
        trust_first_key: false,
    }
}

fn command(args: &[&str]) -> Action {
    let parts = json!({"executable": {"InGuest": "true"}, "args": args, "env": [], "input": "None", "limits": limits()});
    serde_json::from_value(json!({ "Run": parts })).unwrap()
}

fn program(digest: &str, len: u64) -> Action {
    let program = json!({"digest": digest, "len": len, "name": "fix"});
    let parts = json!({"executable": {"Program": program}, "args": [], "env": [], "input": "None", "limits": limits()});
    serde_json::from_value(json!({ "Run": parts })).unwrap()
}

fn limits() -> serde_json::Value {
    json!({"output_len_max": OUTPUT_LEN_DEFAULT})
}

fn plain() -> AcceptRequest {
    AcceptRequest {
        id: None,
        action: command(&[]),
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

fn ack(request: RequestId, outcome: Outcome) -> Acknowledgement {
    Acknowledgement { request, outcome, evidence: Evidence::None, output: OutputTotals::default(), ran: None }
}

fn claims(key: PublicKey, token: Option<SessionToken>) -> Claims {
    Claims {
        version: 0,
        nonce: Nonce::new([1; 32]),
        public_key: key,
        boot_id: BootId::new([2; 16]),
        generation: None,
        token,
        capabilities: Capabilities::RUN.with(Capabilities::LINK),
        agent: "0.1.0".parse().unwrap(),
        sequence_max: 0,
        clock_us: 0,
    }
}

fn token(byte: u8) -> SessionToken {
    SessionToken::new([byte; 32])
}
