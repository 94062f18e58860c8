//! What a pull settles and gives, one test for each rule.

use super::*;
use crate::output::Outputs;
use crate::programs::Programs;
use doorbell_wire::message::outcome::Refusal;
use doorbell_wire::message::{Stage, Stream};
use futures_util::stream;

async fn mark(bench: &Bench, id: RequestId, stage: Stage) -> Option<State> {
    bench.store.mark(bench.guest.id, id, stage, Vec::new()).await.unwrap().map(|row| row.state)
}

async fn started(bench: &Bench, new: AcceptRequest) -> RequestId {
    let id = bench.accept(new).await.id;
    assert_eq!(bench.offered().await, Some(id));
    assert_eq!(mark(bench, id, Stage::Started).await, Some(State::Started));
    id
}

fn moves(next: &NextOffer) -> Vec<(RequestId, State)> {
    next.moved.iter().map(|row| (row.id, row.state)).collect()
}

#[tokio::test]
async fn the_lowest_open_sequence_is_offered_and_its_offers_counted() {
    let bench = Bench::new().await;
    let first = bench.accept(AcceptRequest { timeout_ms: Some(9), idempotent: true, ..plain() }).await;
    bench.accept(plain()).await;
    for offers in 1..=2 {
        let next = bench.next().await;
        let offer = next.offer.clone().unwrap();
        assert_eq!((offer.request, offer.sequence), (first.id, Some(first.sequence)));
        assert_eq!((offer.timeout_ms, offer.idempotent, &offer.action), (Some(9), true, &first.action));
        assert_eq!(moves(&next), [(first.id, State::Offered)]);
        assert_eq!(bench.store.request(first.id).await.unwrap().offers, offers);
    }
}

#[tokio::test]
async fn an_offer_is_on_the_disk_before_it_is_made() {
    let bench = Bench::new().await;
    let id = bench.accept(plain()).await.id;
    bench.offered().await;
    let bench = bench.restart();
    assert_eq!(bench.state(id).await, State::Offered);
}

#[tokio::test]
async fn nothing_is_offered_when_nothing_is_open() {
    let bench = Bench::new().await;
    let next = bench.next().await;
    assert!(next.offer.is_none() && next.moved.is_empty());
}

#[tokio::test]
async fn a_started_request_that_its_guest_lost_is_interrupted() {
    let bench = Bench::new().await;
    let id = started(&bench, plain()).await;
    let outputs = Outputs::open(&bench.dir.path().join("state")).unwrap();
    outputs.append(id, Stream::Stdout, 0, b"half".to_vec(), 100).await.unwrap();
    let next = bench.next().await;
    assert!(next.offer.is_none());
    assert_eq!(moves(&next), [(id, State::Interrupted)]);
    let receipt = bench.store.request(id).await.unwrap().receipt.unwrap();
    assert_eq!(receipt.detail.unwrap(), "it had started, and its guest no longer knows it");
    assert_eq!(receipt.stdout.bytes, 4);
}

#[tokio::test]
async fn a_started_idempotent_request_that_its_guest_lost_is_offered_again() {
    let bench = Bench::new().await;
    let id = started(&bench, AcceptRequest { idempotent: true, ..plain() }).await;
    let next = bench.next().await;
    assert_eq!(next.offer.as_ref().map(|offer| offer.request), Some(id));
    assert_eq!(moves(&next), [(id, State::Queued), (id, State::Offered)]);
}

#[tokio::test]
async fn a_lost_idempotent_request_that_is_to_be_cancelled_is_interrupted() {
    let bench = Bench::new().await;
    let id = started(&bench, AcceptRequest { idempotent: true, ..plain() }).await;
    bench.store.cancel(&ROOT, id, None).await.unwrap();
    assert_eq!(moves(&bench.next().await), [(id, State::Interrupted)]);
}

#[tokio::test]
async fn an_offered_request_past_its_expiry_is_expired_at_the_next_pull() {
    let bench = Bench::new().await;
    let id = bench.accept(AcceptRequest { expires_in_ms: Some(3_600_000), ..plain() }).await.id;
    assert_eq!(bench.offered().await, Some(id));
    let bench = bench.by_hand("UPDATE requests SET expires_at_ms = 1");
    assert_eq!(moves(&bench.next().await), [(id, State::Expired)]);
}

#[tokio::test]
async fn a_request_that_had_started_once_is_never_said_not_to_have_begun() {
    let bench = Bench::new().await;
    let new = AcceptRequest { idempotent: true, expires_in_ms: Some(3_600_000), ..plain() };
    let id = started(&bench, new).await;
    assert_eq!(bench.offered().await, Some(id), "queued and offered again");
    let bench = bench.by_hand("UPDATE requests SET expires_at_ms = 1");
    assert_eq!(moves(&bench.next().await), [(id, State::Interrupted)]);
    let detail = bench.store.request(id).await.unwrap().receipt.unwrap().detail.unwrap();
    assert!(detail.contains("but it had started before"), "{detail}");
}

#[tokio::test]
async fn what_started_at_an_earlier_offer_and_is_refused_now_is_interrupted() {
    let bench = Bench::new().await;
    let id = started(&bench, AcceptRequest { idempotent: true, ..plain() }).await;
    assert_eq!(bench.offered().await, Some(id), "queued and offered again");
    let row = bench.acknowledge(id, Outcome::Refused(Refusal::StateUnwritable(28))).await;
    assert_eq!(row.state, State::Interrupted);
    let detail = row.receipt.unwrap().detail.unwrap();
    assert!(detail.contains("had started before") && detail.contains("it was refused: "), "{detail}");

    let once = started(&bench, plain()).await;
    let row = bench.acknowledge(once, Outcome::Refused(Refusal::StateUnwritable(28))).await;
    assert_eq!(row.state, State::Refused, "of one offer the guest's word stands");
}

#[tokio::test]
async fn a_cancelled_request_that_has_not_started_is_closed_and_the_next_one_offered() {
    let bench = Bench::new().await;
    let first = bench.accept(plain()).await.id;
    let second = bench.accept(plain()).await.id;
    assert_eq!(bench.offered().await, Some(first));
    bench.store.cancel(&ROOT, first, None).await.unwrap();
    let next = bench.next().await;
    assert_eq!(moves(&next), [(first, State::Cancelled), (second, State::Offered)]);
}

#[tokio::test]
async fn a_program_that_vanished_closes_its_request_and_the_next_one_is_offered() {
    let bench = Bench::new().await;
    let programs = Programs::open(&bench.dir.path().join("state")).unwrap();
    let body = stream::iter([Ok::<_, std::io::Error>(b"true\n".to_vec())]);
    let (digest, len, _) = programs.put(body).await.unwrap();
    let gone = bench.accept(AcceptRequest { action: program(&"11".repeat(32), 5), ..plain() }).await.id;
    let there = AcceptRequest { action: program(&digest.to_string(), len), ..plain() };
    let there = bench.accept(there).await.id;
    assert_eq!(moves(&bench.next().await), [(gone, State::NotRetrieved), (there, State::Offered)]);
    let detail = bench.store.request(gone).await.unwrap().receipt.unwrap().detail.unwrap();
    assert!(detail.contains(&"11".repeat(32)), "{detail}");
}

#[tokio::test]
async fn stations_only_go_forwards() {
    let bench = Bench::new().await;
    let id = bench.accept(plain()).await.id;
    bench.offered().await;
    assert_eq!(mark(&bench, id, Stage::Fetched).await, Some(State::Fetched));
    assert_eq!(mark(&bench, id, Stage::Verified).await, None, "nothing moved, so nobody is told");
    assert_eq!(mark(&bench, id, Stage::Journalled).await, None);
    assert_eq!(mark(&bench, id, Stage::Started).await, Some(State::Started));
    assert_eq!(mark(&bench, id, Stage::Fetched).await, None);
    bench.acknowledge(id, Outcome::Succeeded).await;
    assert_eq!(mark(&bench, id, Stage::Started).await, None);
}

#[tokio::test]
async fn a_guest_sees_and_moves_only_its_own_requests() {
    let bench = Bench::new().await;
    let other = bench.store.add_guest(&ROOT, new_guest("web-4", 8, None)).await.unwrap();
    let id = bench.accept(plain()).await.id;
    assert!(bench.store.next_offer(other.id, Pull::default()).await.unwrap().offer.is_none());
    assert!(bench.store.mark(other.id, id, Stage::Started, Vec::new()).await.unwrap().is_none());
    assert!(bench.store.attach(other.id, id).await.unwrap().is_none());
    assert!(bench.store.attach(bench.guest.id, id).await.unwrap().is_some());
    let ack = ack(id, Outcome::Succeeded);
    assert!(
        bench.store.store_receipt(other.id, ack, OutputKept::default(), Vec::new()).await.unwrap().is_none()
    );
    assert_eq!(bench.state(id).await, State::Queued);
    assert_eq!(bench.events().await.last().unwrap(), "receipt-refused");
}

#[tokio::test]
async fn ordinary_requests_run_one_by_one_and_urgent_ones_beside_them() {
    let bench = Bench::new().await;
    let first = bench.accept(plain()).await.id;
    let second = bench.accept(plain()).await.id;
    let mut in_hand = vec![first];
    assert_eq!(bench.offered().await, Some(first));
    let next = bench.next_beside(&in_hand).await;
    assert!(next.offer.is_none() && next.moved.is_empty(), "the second one waits for the first");
    let mut urgent = Vec::new();
    for _ in 0..6 {
        urgent.push(bench.accept(AcceptRequest { urgent: true, ..plain() }).await.id);
    }
    for (at, id) in urgent[..4].iter().enumerate() {
        let next = bench.next_beside(&in_hand).await;
        assert_eq!(next.offer.map(|offer| offer.request), Some(*id));
        assert_eq!(next.more, at < 3, "no more than four urgent ones at once");
        in_hand.push(*id);
    }
    assert!(bench.next_beside(&in_hand).await.offer.is_none());
    in_hand.remove(0);
    bench.acknowledge(first, Outcome::Succeeded).await;
    assert_eq!(bench.next_beside(&in_hand).await.offer.map(|offer| offer.request), Some(second));
}

#[tokio::test]
async fn a_guest_gets_as_many_at_once_as_its_operator_says() {
    let bench = Bench::new().await;
    let asked = ChangeGuest { concurrency: Some(3), ..ChangeGuest::default() };
    bench.store.change_guest(&ROOT, &bench.guest.name, asked).await.unwrap();
    let mut in_hand = Vec::new();
    for _ in 0..5 {
        bench.accept(plain()).await;
    }
    let stranger = RequestId::new([0xee; 16]);
    for left in [true, true, false] {
        let with_stranger: Vec<_> = in_hand.iter().copied().chain([stranger]).collect();
        let next = bench.next_beside(&with_stranger).await;
        assert_eq!(next.more, left);
        in_hand.push(next.offer.unwrap().request);
    }
    assert!(bench.next_beside(&in_hand).await.offer.is_none());
    for concurrency in [0, 9] {
        let asked = ChangeGuest { concurrency: Some(concurrency), ..ChangeGuest::default() };
        let error = bench.store.change_guest(&ROOT, &bench.guest.name, asked).await.unwrap_err();
        assert!(error.to_string().contains("expected 1 to 8"), "{error}");
    }
}

#[tokio::test]
async fn what_is_in_hand_is_neither_lost_nor_expired_nor_closed_by_a_pull() {
    let bench = Bench::new().await;
    let started = started(&bench, AcceptRequest { expires_in_ms: Some(3_600_000), ..plain() }).await;
    let offer = AcceptRequest { urgent: true, expires_in_ms: Some(3_600_000), ..plain() };
    let offered = bench.accept(offer.clone()).await.id;
    assert_eq!(bench.next_beside(&[started]).await.offer.map(|offer| offer.request), Some(offered));
    for id in [started, offered] {
        bench.store.cancel(&ROOT, id, None).await.unwrap();
    }
    let bench = bench.by_hand("UPDATE requests SET expires_at_ms = 1");
    assert!(bench.next_beside(&[started, offered]).await.moved.is_empty());
    let next = bench.next_beside(&[]).await;
    assert_eq!(moves(&next), [(started, State::Interrupted), (offered, State::Expired)]);
}

#[tokio::test]
async fn the_floor_is_the_lowest_open_sequence_and_never_above_the_offer() {
    let bench = Bench::new().await;
    let slow = started(&bench, plain()).await;
    let urgent = bench.accept(AcceptRequest { urgent: true, ..plain() }).await;
    let next = bench.next_beside(&[slow]).await;
    let offer = next.offer.unwrap();
    assert_eq!((offer.request, offer.floor, next.floor), (urgent.id, 1, 1), "the slow one is open");
    assert!(offer.floor_is_valid());
    bench.acknowledge(slow, Outcome::Succeeded).await;
    assert_eq!(bench.next_beside(&[urgent.id]).await.floor, u64::from(urgent.sequence));
    bench.acknowledge(urgent.id, Outcome::Succeeded).await;
    assert_eq!(bench.next().await.floor, 3, "all are settled");
}

#[tokio::test]
async fn a_pull_of_a_guest_with_a_long_queue_looks_where_it_has_to() {
    let bench = Bench::new().await;
    let plan = |sql: &str| {
        let data_base = Connection::open(bench.dir.path().join("state/doorbell.sqlite")).unwrap();
        data_base.query_row(&format!("EXPLAIN QUERY PLAN {sql}"), [], |row| row.get::<_, String>(3)).unwrap()
    };
    let waiting = plan(
        "SELECT id FROM requests WHERE guest = x'00' AND urgent = 1
        AND state IN ('queued', 'offered', 'fetched') ORDER BY sequence",
    );
    assert!(waiting.contains("USING INDEX requests_waiting"), "{waiting}");
    let floor = plan(
        "SELECT min(sequence) FROM requests
        WHERE guest = x'00' AND state IN ('unapproved', 'queued', 'offered', 'fetched', 'started')",
    );
    assert!(floor.contains("requests_open"), "{floor}");
}

#[tokio::test]
async fn a_file_that_vanished_closes_its_put() {
    let bench = Bench::new().await;
    let payload = json!({"digest": "11".repeat(32), "len": 3});
    let put = json!({"path": "/etc/motd", "payload": payload, "form": "File", "mode": 420, "owner": "root",
        "replace": false});
    let action = serde_json::from_value(json!({ "Put": put })).unwrap();
    let id = bench.accept(AcceptRequest { action, ..plain() }).await.id;
    assert_eq!(moves(&bench.next().await), [(id, State::NotRetrieved)]);
    let row = bench.store.request(id).await.unwrap();
    let detail = row.receipt.as_ref().unwrap().detail.clone().unwrap();
    assert!(detail.contains("does not have the file sha256 1111"), "{detail}");
    let shown = serde_json::to_value(row.to_api()).unwrap();
    assert_eq!(
        shown["action"],
        json!({"type": "put", "path": "/etc/motd", "digest": "11".repeat(32),
        "form": "file", "mode": "0644", "owner": "root", "replace": false})
    );
}
