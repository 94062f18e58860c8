//! Receipts: kept once, for ever, sealed.

use super::*;
use crate::output::StreamKept;

#[tokio::test]
async fn a_receipt_is_there_after_a_restart_and_any_number_of_readings() {
    let bench = Bench::new().await;
    bench
        .store
        .admit(bench.guest.id, &claims(KEY, None), token(1), Door::Channel, "cid 7", None)
        .await
        .unwrap();
    let id = bench.accept(plain()).await.id;
    bench.offered().await;
    let kept = OutputKept { stdout: StreamKept { len: 3, digest: None }, ..OutputKept::default() };
    let ack = ack(id, Outcome::Failed(7.try_into().unwrap()));
    bench.store.store_receipt(bench.guest.id, ack, kept, Vec::new()).await.unwrap().unwrap();
    let bench = bench.restart();
    for _ in 0..2 {
        let row = bench.store.request(id).await.unwrap();
        let receipt = row.receipt.unwrap();
        assert_eq!((row.state, receipt.exit_code, receipt.stdout.bytes), (State::Failed, Some(7), 3));
        assert_eq!(receipt.boot_id.as_deref(), Some("02".repeat(16).as_str()));
        let trail = bench.store.audit_records(0, 100).await.unwrap();
        let record = trail.into_iter().find(|record| record.hash == receipt.audit_hash).unwrap();
        assert_eq!((record.event.as_str(), record.actor.as_str()), ("receipt-stored", "guest web-3"));
        assert_eq!(record.request, Some(id.to_string()));
        assert!(record.detail.starts_with("failed with status 7; receipt sha256:"), "{}", record.detail);
    }
}

#[tokio::test]
async fn an_acknowledgement_twice_is_one_receipt() {
    let bench = Bench::new().await;
    let id = bench.accept(plain()).await.id;
    let first = bench.acknowledge(id, Outcome::Succeeded).await;
    let events = bench.events().await;
    let bench = bench.restart();
    let second = bench.acknowledge(id, Outcome::Succeeded).await;
    assert_eq!(first.receipt.unwrap().audit_hash, second.receipt.unwrap().audit_hash);
    assert_eq!(bench.events().await, events);
}

#[tokio::test]
async fn another_word_on_a_closed_request_changes_nothing_and_is_told_once() {
    let bench = Bench::new().await;
    let id = bench.accept(plain()).await.id;
    bench.store.cancel(&ROOT, id, None).await.unwrap();
    for _ in 0..3 {
        let row = bench.acknowledge(id, Outcome::Succeeded).await;
        assert_eq!(row.state, State::Cancelled);
    }
    let events = bench.events().await;
    assert_eq!(events.iter().filter(|event| *event == "receipt-late").count(), 1, "{events:?}");
    assert!(bench.store.audit_check().await.unwrap().intact);
}

#[tokio::test]
async fn a_request_no_one_has_is_refused() {
    let bench = Bench::new().await;
    let ack = ack(RequestId::new([0xee; 16]), Outcome::Succeeded);
    let answer =
        bench.store.store_receipt(bench.guest.id, ack, OutputKept::default(), Vec::new()).await.unwrap();
    assert!(answer.is_none());
}
