//! Requests: accepted once, found, listed, cancelled, expired.

use super::*;
use crate::request::Admission;
use doorbell_wire::ids::{Digest, Fingerprint, Nonce};
use doorbell_wire::message::{Proof, Signed, SshSignature, Stage, Target, Terms};

const ID: RequestId = RequestId::new([0xab; 16]);

fn signed() -> Signed {
    let target = Target::Guest(Fingerprint::new(Digest::new([1; 32])));
    let terms = Terms { target, not_before_s: None, expires_s: 9, nonce: Nonce::new([3; 32]) };
    let signature = SshSignature::try_from(b"SSHSIG and so on".to_vec()).unwrap();
    Signed { terms, proof: Proof::default(), signature }
}

#[tokio::test]
async fn a_signature_is_offered_as_it_came_and_to_an_agent_that_checks_it_only() {
    let bench = Bench::new().await;
    let refused = bench.accept(AcceptRequest { signed: Some(signed()), ..plain() }).await.id;
    assert!(bench.next().await.offer.is_none());
    let detail = bench.store.request(refused).await.unwrap().receipt.unwrap().detail.unwrap();
    assert!(detail.contains("checks no signatures"), "{detail}");
}

fn named() -> AcceptRequest {
    AcceptRequest { id: Some(ID), reason: Some("CVE".parse().unwrap()), ..plain() }
}

#[tokio::test]
async fn the_same_request_twice_is_one_row() {
    let bench = Bench::new().await;
    let (first, row) = bench.store.accept(&ROOT, &bench.guest.name, named()).await.unwrap();
    let bench = bench.restart();
    let (second, again) = bench.store.accept(&ROOT, &bench.guest.name, named()).await.unwrap();
    assert_eq!((first, second), (Admission::Accepted, Admission::Unchanged));
    assert_eq!((row.id, row.sequence, row.accepted_at_ms), (again.id, again.sequence, again.accepted_at_ms));
    let filter = RequestFilter { guest: None, open: false, limit: 10 };
    assert_eq!(bench.store.requests(filter).await.unwrap().0.len(), 1);
    assert_eq!(bench.events().await, ["guest-added", "request-accepted"]);
}

#[tokio::test]
async fn another_content_under_the_same_id_is_refused() {
    let bench = Bench::new().await;
    bench.accept(named()).await;
    let others = [
        AcceptRequest { action: command(&["-v"]), ..named() },
        AcceptRequest { timeout_ms: Some(1), ..named() },
        AcceptRequest { expires_in_ms: Some(1), ..named() },
        AcceptRequest { idempotent: true, ..named() },
        AcceptRequest { signed: Some(signed()), ..named() },
        AcceptRequest { reason: None, ..named() },
    ];
    for other in others {
        let error = bench.store.accept(&ROOT, &bench.guest.name, other).await.unwrap_err();
        assert!(matches!(error, StoreError::Conflict { .. }), "{error:?}");
        assert!(error.to_string().contains("give this one an id of its own"), "{error}");
    }
    let guest = bench.store.add_guest(&ROOT, new_guest("web-4", 8, None)).await.unwrap();
    assert!(bench.store.accept(&ROOT, &guest.name, named()).await.is_err());
}

#[tokio::test]
async fn many_callers_at_once_get_one_row_each_and_sequences_without_gaps() {
    let bench = Bench::new().await;
    let tasks: Vec<_> = (0..200)
        .map(|_| {
            let (store, name) = (bench.store.clone(), bench.guest.name.clone());
            tokio::spawn(async move { store.accept(&ROOT, &name, plain()).await.unwrap().1.sequence })
        })
        .collect();
    let mut sequences = Vec::new();
    for task in tasks {
        sequences.push(u64::from(task.await.unwrap()));
    }
    sequences.sort_unstable();
    assert_eq!(sequences, (1..=200).collect::<Vec<_>>());
    assert!(bench.store.audit_check().await.unwrap().intact);
}

#[tokio::test]
async fn one_callers_error_in_a_batch_undoes_nothing_of_its_neighbours() {
    let bench = Bench::new().await;
    let tasks: Vec<_> = (0..100)
        .map(|number| {
            let (store, name) = (bench.store.clone(), bench.guest.name.clone());
            // Every other one is refused after it has taken a sequence.
            let expires_in_ms = (number % 2 == 0).then_some(u64::MAX);
            let new = AcceptRequest { expires_in_ms, ..plain() };
            tokio::spawn(async move { store.accept(&ROOT, &name, new).await })
        })
        .collect();
    let mut accepted = 0;
    for task in tasks {
        match task.await.unwrap() {
            Ok(_) => accepted += 1,
            Err(error) => assert!(matches!(error, StoreError::Invalid { .. }), "{error}"),
        }
    }
    assert_eq!(accepted, 50);
    assert_eq!(u64::from(bench.accept(plain()).await.sequence), 51);
    assert!(bench.store.audit_check().await.unwrap().intact);
}

#[tokio::test]
async fn a_query_is_no_request() {
    let bench = Bench::new().await;
    let new = AcceptRequest { action: Action::LinkList, ..plain() };
    let error = bench.store.accept(&ROOT, &bench.guest.name, new).await.unwrap_err();
    assert_eq!(error.to_string(), "link-list only reads: send it as a query");
}

#[tokio::test]
async fn a_request_is_found_by_a_unique_prefix() {
    let bench = Bench::new().await;
    let id = |text: &str| Some(format!("{text:0<32}").parse().unwrap());
    for text in ["abcdef0", "abcdef1", "123456"] {
        bench.accept(AcceptRequest { id: id(text), ..plain() }).await;
    }
    assert_eq!(bench.store.find_request("123456").await.unwrap().id, id("123456").unwrap());
    assert_eq!(bench.store.find_request("ABCDEF1").await.unwrap().id, id("abcdef1").unwrap());
    assert!(matches!(bench.store.find_request("abcdef").await, Err(StoreError::Conflict { .. })));
    assert!(matches!(bench.store.find_request("fffffff").await, Err(StoreError::NotFound { .. })));
    for text in ["12345", "xyzxyz", "+12345", "", &"a".repeat(33)] {
        let error = bench.store.find_request(text).await.unwrap_err();
        assert!(matches!(error, StoreError::Invalid { .. }), "{text:?}: {error}");
    }
}

#[tokio::test]
async fn requests_are_listed_newest_first_and_cut_where_asked() {
    let bench = Bench::new().await;
    let mut ids = Vec::new();
    for _ in 0..4 {
        ids.push(bench.accept(plain()).await.id);
    }
    ids.reverse();
    bench.acknowledge(ids[1], Outcome::Succeeded).await;
    let list = async |open, limit| {
        let filter = RequestFilter { guest: Some(bench.guest.name.clone()), open, limit };
        let (rows, more) = bench.store.requests(filter).await.unwrap();
        (rows.into_iter().map(|row| row.id).collect::<Vec<_>>(), more)
    };
    assert_eq!(list(false, 2).await, (ids[..2].to_vec(), true));
    assert_eq!(list(false, 4).await, (ids.clone(), false));
    assert_eq!(list(true, 9).await, (vec![ids[0], ids[2], ids[3]], false));
    let filter = RequestFilter { guest: Some(name("nobody")), open: false, limit: 1 };
    assert!(matches!(bench.store.requests(filter).await, Err(StoreError::NotFound { .. })));
}

#[tokio::test]
async fn a_request_nobody_has_seen_is_cancelled_at_once_and_once() {
    let bench = Bench::new().await;
    let id = bench.accept(plain()).await.id;
    let row = bench.store.cancel(&ROOT, id, None).await.unwrap();
    assert_eq!((row.state, row.cancel_asked), (State::Cancelled, true));
    assert!(row.receipt.unwrap().detail.unwrap().contains("before its guest had seen it"));
    let events = bench.events().await;
    assert_eq!(bench.store.cancel(&ROOT, id, None).await.unwrap().state, State::Cancelled);
    assert_eq!(bench.events().await, events);
}

#[tokio::test]
async fn a_request_the_guest_has_seen_is_asked_to_end() {
    let bench = Bench::new().await;
    let id = bench.accept(plain()).await.id;
    assert_eq!(bench.offered().await, Some(id));
    let row = bench.store.cancel(&ROOT, id, None).await.unwrap();
    assert_eq!((row.state, row.cancel_asked), (State::Offered, true));
    assert_eq!(bench.acknowledge(id, Outcome::Succeeded).await.state, State::Succeeded, "it was faster");
}

#[tokio::test]
async fn a_request_that_waits_for_a_second_start_is_cancelled_at_once() {
    let bench = Bench::new().await;
    let id = bench.accept(AcceptRequest { idempotent: true, ..plain() }).await.id;
    bench.offered().await;
    bench.store.mark(bench.guest.id, id, Stage::Started, Vec::new()).await.unwrap();
    let urgent = bench.accept(AcceptRequest { urgent: true, ..plain() }).await.id;
    assert_eq!(bench.offered().await, Some(urgent), "the lost one waits behind it");
    assert_eq!(bench.state(id).await, State::Queued);
    let row = bench.store.cancel(&Actor::Manager, id, Some("its client is gone")).await.unwrap();
    assert_eq!(row.state, State::Interrupted, "nobody knows how far its first start came");
    let detail = row.receipt.unwrap().detail.unwrap();
    assert!(
        detail.starts_with("it was cancelled before it was started again: its client is gone"),
        "{detail}"
    );
}

#[tokio::test]
async fn a_cancel_of_what_is_over_says_what_really_happened() {
    let bench = Bench::new().await;
    let id = bench.accept(plain()).await.id;
    bench.offered().await;
    for stage in [Stage::Fetched, Stage::Started] {
        bench.store.mark(bench.guest.id, id, stage, Vec::new()).await.unwrap();
        let row = bench.store.cancel(&ROOT, id, None).await.unwrap();
        assert!(row.cancel_asked && !row.state.is_final(), "its guest is asked");
    }
    bench.acknowledge(id, Outcome::Succeeded).await;
    let row = bench.store.cancel(&ROOT, id, None).await.unwrap();
    assert_eq!((row.state, row.receipt.is_some()), (State::Succeeded, true));
    let asked = bench.events().await.into_iter().filter(|event| event == "request-cancel-asked").count();
    assert_eq!(asked, 1);
}

#[tokio::test]
async fn open_requests_that_die_with_their_client_are_found_after_a_restart() {
    let bench = Bench::new().await;
    let kill = AcceptRequest { on_disconnect: OnDisconnect::Kill, ..plain() };
    let open = bench.accept(kill.clone()).await;
    let over = bench.accept(kill).await.id;
    bench.acknowledge(over, Outcome::Succeeded).await;
    bench.accept(plain()).await;
    let bench = bench.restart();
    assert_eq!(bench.store.killed_without_client().await.unwrap(), [open.id]);
    assert_eq!(bench.store.request(open.id).await.unwrap().on_disconnect, OnDisconnect::Kill);
}

#[tokio::test]
async fn only_what_is_queued_and_due_expires() {
    let bench = Bench::new().await;
    let seen = bench.accept(AcceptRequest { expires_in_ms: Some(3_600_000), ..plain() }).await.id;
    assert_eq!(bench.offered().await, Some(seen));
    let due = bench.accept(AcceptRequest { expires_in_ms: Some(0), ..plain() }).await.id;
    bench.accept(plain()).await;
    let moved = bench.store.expire_due().await.unwrap();
    assert_eq!(moved.iter().map(|row| (row.id, row.state)).collect::<Vec<_>>(), [(due, State::Expired)]);
    assert!(bench.store.expire_due().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_request_is_shown_as_it_was_asked() {
    let bench = Bench::new().await;
    let row =
        bench.accept(AcceptRequest { action: command(&["-a", "b c"]), timeout_ms: Some(5), ..named() }).await;
    let shown = serde_json::to_value(row.to_api()).unwrap();
    assert_eq!(
        shown["action"],
        json!({"type": "run", "command": "true", "args": ["-a", "b c"],
        "env": [], "input": {"type": "none"}, "limits": {}})
    );
    assert_eq!((&shown["reason"], &shown["timeout_ms"]), (&json!("CVE"), &json!(5)));
}

#[tokio::test]
async fn an_agent_that_claims_every_sequence_gets_no_request_and_the_asker_a_reason() {
    let bench = Bench::new().await;
    let claims = Claims { sequence_max: u64::MAX, ..claims(KEY, None) };
    bench.store.admit(bench.guest.id, &claims, token(1), Door::Channel, "cid 7", None).await.unwrap();
    let error = bench.store.accept(&ROOT, &bench.guest.name, plain()).await.unwrap_err();
    assert!(matches!(error, StoreError::Conflict { .. }), "{error}");
}
