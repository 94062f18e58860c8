//! Traces: what is kept of a request's way, and when it gets to the disk.

use super::*;
use crate::trace::{Clock, Stamp};
use doorbell_api::trace::{Passed, Station};
use doorbell_wire::message::Stage;

async fn trace(bench: &Bench, id: RequestId) -> Vec<Passed> {
    bench.store.trace(id).await.unwrap().passed
}

fn stations(passed: &[Passed]) -> Vec<Station> {
    passed.iter().map(|one| one.station).collect()
}

#[tokio::test]
async fn a_trace_has_every_station_in_the_order_of_their_times() {
    let bench = Bench::new().await;
    let id = bench.accept(plain()).await.id;
    assert_eq!(stations(&trace(&bench, id).await), [Station::Accepted, Station::Durable]);
    let now = crate::time::unix_us();
    let pull = Pull { in_hand: Vec::new(), rung_us: Some(now), pulled_us: now + 1 };
    assert!(bench.store.next_offer(bench.guest.id, pull).await.unwrap().offer.is_some());
    let clock = Clock::aligned(BootId::new([2; 16]), now + 3_600_000_000, 90, 500);
    let stage = |station, us| clock.stamp(station, us);
    let begun = vec![stage(Station::Journalled, 510), stage(Station::Started, 520)];
    bench.store.mark(bench.guest.id, id, Stage::Started, begun).await.unwrap();
    let ended = vec![
        stage(Station::FirstOutput, 530),
        stage(Station::Exited, 540),
        Stamp::host(Station::Acknowledged, now + 3_600_001_000),
    ];
    let ack = ack(id, Outcome::Succeeded);
    bench.store.store_receipt(bench.guest.id, ack, OutputKept::default(), ended).await.unwrap();
    let whole = bench.store.trace(id).await.unwrap();
    assert_eq!(whole.clock_error_us, Some(45));
    let mut expected = [
        Station::Accepted,
        Station::Durable,
        Station::Rung,
        Station::Pulled,
        Station::Offered,
        Station::Stored,
        Station::Journalled,
        Station::Started,
        Station::FirstOutput,
        Station::Exited,
        Station::Acknowledged,
    ];
    assert_eq!(stations(&whole.passed), expected, "the guest's clock runs an hour ahead in this test");
    let started = whole.passed.iter().find(|one| one.station == Station::Started).unwrap();
    assert_eq!((started.at_us, started.guest_us), (now + 3_600_000_065, Some(520)));
    let bench = bench.restart();
    let mut again = stations(&trace(&bench, id).await);
    expected.sort_unstable();
    again.sort_unstable();
    assert_eq!(again, expected, "what was stamped after its commit is on the disk after a restart");
}

#[tokio::test]
async fn a_second_start_leaves_nothing_of_the_first_in_the_trace() {
    let bench = Bench::new().await;
    let id = bench.accept(AcceptRequest { idempotent: true, ..plain() }).await.id;
    bench.offered().await;
    let clock = Clock::aligned(BootId::new([2; 16]), 1, 90, 500);
    let begun = vec![clock.stamp(Station::Started, 520)];
    bench.store.mark(bench.guest.id, id, Stage::Started, begun).await.unwrap();
    assert_eq!(bench.offered().await, Some(id));
    assert!(!stations(&trace(&bench, id).await).contains(&Station::Started));
}

#[tokio::test]
async fn a_ring_for_an_earlier_request_is_not_one_for_this() {
    let bench = Bench::new().await;
    let id = bench.accept(plain()).await.id;
    let pull = Pull { in_hand: Vec::new(), rung_us: Some(5), pulled_us: crate::time::unix_us() };
    bench.store.next_offer(bench.guest.id, pull).await.unwrap();
    assert!(!stations(&trace(&bench, id).await).contains(&Station::Rung));
}

#[tokio::test]
async fn a_request_that_does_not_exist_has_no_trace() {
    let bench = Bench::new().await;
    let error = bench.store.trace(RequestId::new([9; 16])).await.unwrap_err();
    assert!(matches!(error, StoreError::NotFound { .. }), "{error}");
}
