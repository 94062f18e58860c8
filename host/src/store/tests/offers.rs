//! What a pull settles and gives, one test for each rule.

use super::*;
use crate::output::Outputs;
use crate::programs::Programs;
use doorbell_wire::message::{Stage, Stream};
use futures_util::stream;

async fn mark(bench: &Bench, id: RequestId, stage: Stage) -> Option<State> {
    bench.store.mark(bench.guest.id, id, stage, Some(1234)).await.unwrap().map(|row| row.state)
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
    outputs.append(id, Stream::Stdout, 0, b"half".to_vec()).await.unwrap();
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
    bench.store.cancel(&ROOT, id).await.unwrap();
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
async fn a_cancelled_request_that_has_not_started_is_closed_and_the_next_one_offered() {
    let bench = Bench::new().await;
    let first = bench.accept(plain()).await.id;
    let second = bench.accept(plain()).await.id;
    assert_eq!(bench.offered().await, Some(first));
    bench.store.cancel(&ROOT, first).await.unwrap();
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
    assert!(bench.store.next_offer(other.id).await.unwrap().offer.is_none());
    assert!(bench.store.mark(other.id, id, Stage::Started, Some(0)).await.unwrap().is_none());
    assert!(bench.store.attach(other.id, id).await.unwrap().is_none());
    assert!(bench.store.attach(bench.guest.id, id).await.unwrap().is_some());
    let ack = ack(id, Outcome::Succeeded);
    assert!(bench.store.store_receipt(other.id, ack, OutputKept::default()).await.unwrap().is_none());
    assert_eq!(bench.state(id).await, State::Queued);
    assert_eq!(bench.events().await.last().unwrap(), "receipt-refused");
}
