//! What housekeeping promises, in virtual time: what is over goes, what somebody needs stays, and no id that was
//! accepted once is ever accepted again.

use super::*;
use crate::output::OutputKept;
use crate::request::Admission;
use crate::store::{AcceptRequest, AddGuest, GuestRow, Place, RequestRow};
use crate::time::unix_ms;
use doorbell_api::error::ErrorCode;
use doorbell_api::request::OnDisconnect;
use doorbell_wire::ids::{Digest, PublicKey};
use doorbell_wire::limits::OUTPUT_LEN_DEFAULT;
use doorbell_wire::message::Stream;
use doorbell_wire::message::action::Action;
use doorbell_wire::message::outcome::{Acknowledgement, Evidence, Outcome, OutputTotals};
use futures_util::stream;
use proptest::prelude::*;
use serde_json::json;
use std::path::Path;

pub(crate) const ROOT: Actor = Actor::Uid { uid: 0, name: None };
pub(crate) const DAY: u64 = 86_400_000;

/// A manager without sessions, with one guest.
pub(crate) struct Bench {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) manager: Manager,
    pub(crate) guest: GuestRow,
}

impl Bench {
    pub(crate) async fn new() -> Self {
        Self::with(Config::default()).await
    }

    pub(crate) async fn with(config: Config) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = Config { state_dir: dir.path().join("state"), ..config };
        let manager = Manager::open(config, String::new()).unwrap();
        let (place, key) = (Place::Cid(7.try_into().unwrap()), Some(PublicKey::new([9; 32])));
        let name = "web-3".parse().unwrap();
        let add = AddGuest {
            name,
            place,
            qmp: None,
            key,
            concurrency: None,
            share: None,
            trigger: None,
            set_clock: false,
            tenant: None,
            enrolment: None,
            trust_first_key: false,
        };
        let guest = manager.store.add_guest(&ROOT, add).await.unwrap();
        Self { dir, manager, guest }
    }

    pub(crate) async fn try_accept(
        &self,
        id: u8,
        action: Action,
    ) -> Result<(Admission, RequestRow), StoreError> {
        let new = AcceptRequest { id: Some(RequestId::new([id; 16])), action, ..plain() };
        self.manager.store.accept(&ROOT, &self.guest.name, new).await
    }

    pub(crate) async fn accept(&self, id: u8, action: Action) -> RequestId {
        self.try_accept(id, action).await.unwrap().1.id
    }

    /// The request ends, and has printed this.
    pub(crate) async fn finish(&self, id: RequestId, printed: &[u8]) {
        let Manager { outputs, store, .. } = &self.manager;
        outputs.append(id, Stream::Stdout, 0, printed.to_vec(), 1 << 30).await.unwrap();
        let output = OutputTotals::default();
        let kept: OutputKept = outputs.finish(id, output).await.unwrap();
        let (outcome, evidence) = (Outcome::Succeeded, Evidence::None);
        let ack = Acknowledgement { request: id, outcome, evidence, output, ran: None };
        store.store_receipt(self.guest.id, ack, kept, Vec::new()).await.unwrap().unwrap();
    }

    pub(crate) async fn upload(&self, bytes: &[u8]) -> Digest {
        let body = stream::iter([Ok::<_, std::io::Error>(bytes.to_vec())]);
        self.manager.programs.put(body).await.unwrap().0
    }

    async fn sweep(&self, now: u64) -> Sweep {
        self.manager.sweep(&ROOT, &Cause::default(), false, now).await.unwrap()
    }

    async fn assert_audit_intact(&self) {
        let check = self.manager.store.audit_check().await.unwrap();
        assert!(check.intact, "{:?}", check.broken);
    }

    async fn removals(&self) -> Vec<String> {
        let records = self.manager.store.audit_records(0, 1000).await.unwrap();
        let removals = records.into_iter().filter(|record| record.event == "retention-removed");
        removals.map(|record| format!("{}: {}", record.actor, record.detail)).collect()
    }
}

pub(crate) fn command() -> Action {
    run(&json!({"InGuest": "true"}))
}

pub(crate) fn program(digest: Digest, len: u64) -> Action {
    run(&json!({"Program": {"digest": digest.to_string(), "len": len, "name": "fix"}}))
}

fn run(executable: &serde_json::Value) -> Action {
    let limits = json!({"output_len_max": OUTPUT_LEN_DEFAULT});
    let parts = json!({"executable": executable, "args": [], "env": [], "input": "None", "limits": limits});
    serde_json::from_value(json!({ "Run": parts })).unwrap()
}

fn files(dir: &Path) -> usize {
    dir.read_dir().unwrap().count()
}

#[tokio::test]
async fn output_goes_before_its_request_and_the_id_is_refused_for_years() {
    let bench = Bench::new().await;
    let store = &bench.manager.store;
    let id = bench.accept(1, command()).await;
    bench.finish(id, b"hello\n").await;
    let now = unix_ms();
    assert_eq!(bench.sweep(now + 29 * DAY).await.outputs.count, 0, "it is younger than it is kept");

    let output = bench.dir.path().join("state/output");
    let dry = bench.manager.sweep(&ROOT, &Cause::default(), true, now + 31 * DAY).await.unwrap();
    assert_eq!((dry.outputs.count, dry.outputs.bytes, dry.things.len()), (1, 6, 1));
    assert_eq!(files(&output), 1, "a dry run removes nothing");
    let done = bench.sweep(now + 31 * DAY).await;
    assert_eq!((done.outputs, done.requests.count), (dry.outputs, 0));
    assert_eq!(files(&output), 0);
    let row = store.request(id).await.unwrap();
    assert_eq!(row.output_removed_at_ms, Some(now + 31 * DAY));
    assert_eq!(row.receipt.unwrap().stdout.bytes, 6, "the receipt stays as it was sealed");
    bench.assert_audit_intact().await;

    let done = bench.sweep(now + 91 * DAY).await;
    assert_eq!((done.requests.count, done.requests.bytes), (1, 0));
    for asked in [store.request(id).await, store.find_request("010101").await] {
        let gone = asked.unwrap_err();
        assert_eq!(gone.code(), ErrorCode::Gone, "{gone}");
        assert!(gone.to_string().contains("for guest web-3 ended as succeeded at"), "{gone}");
    }
    let again = bench.try_accept(1, command()).await.unwrap_err();
    assert_eq!(again.code(), ErrorCode::Gone, "{again}");
    assert!(again.to_string().contains("it is not run again"), "{again}");
    let other = bench.try_accept(1, program(Digest::new([1; 32]), 3)).await.unwrap_err();
    assert_eq!(other.code(), ErrorCode::Gone, "whatever else it asks for");
    bench.assert_audit_intact().await;

    let done = bench.sweep(now + 91 * DAY + 5 * 365 * DAY + 1).await;
    assert_eq!(done.ids, 1);
    bench.try_accept(1, command()).await.unwrap();
    assert_eq!(
        bench.removals().await,
        [
            "uid 0: 0 requests and 1 more outputs, 6 bytes of output; 0 programs, 0 bytes; 0 ids",
            "uid 0: 1 requests and 0 more outputs, 0 bytes of output; 0 programs, 0 bytes; 0 ids",
            "uid 0: 0 requests and 0 more outputs, 0 bytes of output; 0 programs, 0 bytes; 1 ids",
        ]
    );
}

#[tokio::test]
async fn what_an_open_request_needs_stays_however_old_it_is() {
    let bench = Bench::new().await;
    let (needed, unused) = (bench.upload(b"needed").await, bench.upload(b"unused").await);
    let open = bench.accept(1, program(needed, 6)).await;
    let now = unix_ms() + 10 * 365 * DAY;
    let done = bench.sweep(now).await;
    assert_eq!((done.requests.count, done.programs.count, done.programs.bytes), (0, 1, 6));
    assert_eq!(bench.manager.programs.len(needed).await, Some(6));
    assert_eq!(bench.manager.programs.len(unused).await, None);
    bench.manager.store.request(open).await.unwrap();
    // Once it is over, its program stays as long as one is kept after its last use.
    bench.finish(open, b"").await;
    assert_eq!(bench.sweep(unix_ms() + 29 * DAY).await.programs.count, 0);
    assert_eq!(bench.sweep(unix_ms() + 31 * DAY).await.programs.count, 1);
    assert_eq!(bench.manager.programs.len(needed).await, None);
}

#[tokio::test]
async fn the_oldest_output_goes_when_all_take_too_much() {
    let small = |text: &str| crate::config::Size::try_from(text.to_owned()).unwrap();
    let config = Config { keep_outputs_bytes: small("25"), ..Config::default() };
    let bench = Bench::with(config).await;
    let mut ids = Vec::new();
    for number in 1..=4 {
        let id = bench.accept(number, command()).await;
        bench.finish(id, &[b'x'; 10]).await;
        ids.push(id);
    }
    assert_eq!(
        bench.sweep(unix_ms()).await.outputs.count,
        0,
        "what has just ended is not removed for its size"
    );
    let later = unix_ms() + plan::FRESH_MS + 1;
    let held = bench.manager.outputs.hold(ids[0]);
    assert_eq!(bench.sweep(later).await.outputs.bytes, 20);
    let lens = async |id: RequestId| bench.manager.outputs.lens(id).await.unwrap().stdout;
    assert_eq!(
        (lens(ids[0]).await, lens(ids[1]).await, lens(ids[2]).await),
        (10, 0, 10),
        "one is being read"
    );
    drop(held);
    let done = bench.sweep(later).await;
    assert_eq!((done.outputs.count, done.leftovers.bytes), (0, 10), "its row says that it is gone");
    assert_eq!(lens(ids[0]).await, 0);
}

#[tokio::test]
async fn what_a_crash_left_between_row_and_file_is_found() {
    let bench = Bench::new().await;
    let id = bench.accept(1, command()).await;
    bench.finish(id, b"hello").await;
    let batch = Batch { requests: vec![id], now: unix_ms(), ..Batch::default() };
    let retired = bench.manager.store.retire(&ROOT, batch).await.unwrap();
    assert_eq!(retired.outputs, [id]);
    // Here it went down.
    assert_eq!(bench.manager.outputs.lens(id).await.unwrap().stdout, 5);
    let done = bench.sweep(unix_ms()).await;
    assert_eq!((done.leftovers.count, done.leftovers.bytes), (1, 5));
    assert!(bench.manager.outputs.all().await.unwrap().is_empty());
}

#[tokio::test]
async fn two_do_not_sweep_at_once() {
    let bench = Bench::new().await;
    let _other = bench.manager.housekeeping.lock().await;
    let error = bench.manager.sweep(&ROOT, &Cause::default(), false, unix_ms()).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Conflict);
    assert!(error.to_string().contains("under way"), "{error}");
}

#[tokio::test]
async fn more_than_one_transaction_takes_is_removed_in_several() {
    let bench = Bench::new().await;
    let count = BATCH_MAX as u64 + 3;
    for _ in 0..count {
        let new = AcceptRequest { id: None, ..plain() };
        let id = bench.manager.store.accept(&ROOT, &bench.guest.name, new).await.unwrap().1.id;
        bench.finish(id, b"").await;
    }
    let done = bench.sweep(unix_ms() + 91 * DAY).await;
    assert_eq!((done.requests.count, done.more), (count, false));
    assert_eq!(bench.removals().await.len(), 2);
    bench.assert_audit_intact().await;
}

fn plain() -> AcceptRequest {
    AcceptRequest {
        id: None,
        action: command(),
        timeout_ms: None,
        expires_in_ms: None,
        idempotent: false,
        urgent: false,
        on_disconnect: OnDisconnect::Keep,
        source: None,
        awaits_program: false,
        reason: None,
        ticket: None,
        signed: None,
        confirm_within_ms: None,
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Send(u8),
    Finish,
    Sweep(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1_u8..8).prop_map(Step::Send),
        2 => Just(Step::Finish),
        1 => (0_u64..100).prop_map(Step::Sweep),
    ];
    prop::collection::vec(step, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Over years of virtual time, and whatever was removed in between.
    #[test]
    fn an_id_is_accepted_once(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let bench = Bench::new().await;
            let (mut accepted, mut open, mut now) = (Vec::new(), Vec::new(), unix_ms());
            for step in steps {
                match step {
                    Step::Send(number) => match bench.try_accept(number, command()).await {
                        Ok((Admission::Accepted, row)) => {
                            assert!(!accepted.contains(&number), "{number} is accepted twice");
                            accepted.push(number);
                            open.push(row.id);
                        }
                        Ok((Admission::Unchanged, _)) => assert!(accepted.contains(&number)),
                        Err(error) => {
                            assert_eq!(error.code(), ErrorCode::Gone, "{error}");
                            assert!(accepted.contains(&number));
                        }
                    },
                    Step::Finish => {
                        if let Some(id) = open.pop() {
                            bench.finish(id, b"x").await;
                        }
                    }
                    Step::Sweep(days) => {
                        now = (now + days * DAY).min(unix_ms() + 4 * 365 * DAY);
                        let _ = bench.sweep(now).await;
                        bench.assert_audit_intact().await;
                    }
                }
            }
        });
    }
}
