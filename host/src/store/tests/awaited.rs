//! Requests whose program lives elsewhere: they hold their place, and go on or are over with their program.

use super::*;
use crate::programs::Programs;
use crate::request::Admission;
use crate::retrieve::Errand;
use doorbell_api::request::{Action as Shown, Source};
use doorbell_wire::ids::Digest;
use futures_util::stream;
use std::io;

const URL: &str = "https://a.example/fix.sh";

/// A request for a program that is not here yet.
fn from(url: &str, digest: &Digest) -> AcceptRequest {
    let digest = digest.to_string();
    let source = Source { url: url.into(), sha256: digest.clone(), name: Some("fix".into()) };
    AcceptRequest { action: program(&digest, 0), source: Some(source), awaits_program: true, ..plain() }
}

fn errand(url: &str, digest: Digest) -> Errand {
    Errand { digest, url: url.into(), tenant: None }
}

async fn here(bench: &Bench, bytes: &'static [u8]) -> Digest {
    let programs = Programs::open(&bench.dir.path().join("state")).unwrap();
    programs.put(stream::iter([Ok::<_, io::Error>(bytes)])).await.unwrap().0
}

#[tokio::test]
async fn what_is_awaited_is_told_once_in_order_and_after_a_restart() {
    let bench = Bench::new().await;
    let (one, two) = (Digest::new([1; 32]), Digest::new([2; 32]));
    for new in [from(URL, &two), from("https://b.example/", &one), from(URL, &two), from(URL, &one), plain()]
    {
        bench.accept(new).await;
    }
    let bench = bench.restart();
    let awaited = bench.store.awaited().await.unwrap();
    assert_eq!(awaited, [errand(URL, two), errand("https://b.example/", one), errand(URL, one)]);
    let row =
        bench.store.requests(RequestFilter { guest: None, open: true, limit: 9 }).await.unwrap().0.remove(1);
    assert_eq!((row.state, row.errand()), (State::Queued, Some(errand(URL, one))));
    let Shown::Run(run) = &row.shown else { panic!("{:?}", row.shown) };
    assert_eq!((run.program.is_none(), run.from.as_ref()), (true, row.source.as_ref()));
}

#[tokio::test]
async fn a_request_holds_its_place_until_its_program_is_there() {
    let bench = Bench::new().await;
    let digest = here(&bench, b"echo").await;
    let waiting = bench.accept(from(URL, &digest)).await.id;
    let behind = bench.accept(plain()).await.id;
    assert_eq!(bench.offered().await, None, "what stands behind it overtook it");
    let urgent = bench.accept(AcceptRequest { urgent: true, ..plain() }).await.id;
    let next = bench.next().await;
    assert_eq!((next.offer.unwrap().request, next.more), (urgent, false));
    bench.acknowledge(urgent, Outcome::Succeeded).await;

    let moved = bench.store.arrived(&errand("", digest), 4, "4 bytes from there").await.unwrap();
    assert_eq!(moved.iter().map(|row| row.id).collect::<Vec<_>>(), [waiting]);
    assert!(bench.store.arrived(&errand("", digest), 4, "").await.unwrap().is_empty());
    assert!(bench.store.awaited().await.unwrap().is_empty());
    let bench = bench.restart();
    let offer = bench.next().await.offer.unwrap();
    assert_eq!((offer.request, offer.action.payload().unwrap().len), (waiting, 4));
    assert_eq!(bench.next_beside(&[waiting]).await.offer.map(|offer| offer.request), None);
    bench.acknowledge(waiting, Outcome::Succeeded).await;
    assert_eq!(bench.offered().await, Some(behind));
    let records = bench.store.audit_records(0, 99).await.unwrap();
    let told = |event: &str| records.iter().find(|record| record.event == event).unwrap().detail.clone();
    assert_eq!(told("program-retrieved"), "4 bytes from there");
    let accepted = told("request-accepted");
    assert!(accepted.ends_with(&format!("sha256:{digest} with arguments: 0, from {URL}")), "{accepted}");
}

#[tokio::test]
async fn an_urgent_request_that_awaits_its_program_keeps_only_its_kind() {
    let bench = Bench::new().await;
    bench.accept(AcceptRequest { urgent: true, ..from(URL, &Digest::new([1; 32])) }).await;
    bench.accept(AcceptRequest { urgent: true, ..plain() }).await;
    let ordinary = bench.accept(plain()).await.id;
    assert_eq!(bench.offered().await, Some(ordinary));
    assert_eq!(bench.next_beside(&[ordinary]).await.offer.map(|offer| offer.request), None);
}

#[tokio::test]
async fn what_cannot_be_had_from_one_place_may_come_from_another() {
    let bench = Bench::new().await;
    let digest = Digest::new([1; 32]);
    let here = bench.accept(from(URL, &digest)).await.id;
    let there = bench.accept(from("https://b.example/", &digest)).await.id;
    let other = bench.accept(from(URL, &Digest::new([2; 32]))).await.id;
    let moved = bench.store.not_retrieved(&errand(URL, digest), "HTTP status 404").await.unwrap();
    assert_eq!(
        moved.iter().map(|row| (row.id, row.state)).collect::<Vec<_>>(),
        [(here, State::NotRetrieved)]
    );
    assert_eq!(moved[0].receipt.as_ref().unwrap().detail.as_deref(), Some("HTTP status 404"));
    assert!(bench.store.not_retrieved(&errand(URL, digest), "").await.unwrap().is_empty());
    assert_eq!((bench.state(there).await, bench.state(other).await), (State::Queued, State::Queued));
    assert_eq!(bench.store.awaited().await.unwrap().len(), 2);
    assert!(bench.store.audit_check().await.unwrap().intact);
}

#[tokio::test]
async fn a_cancel_and_an_expiry_end_the_wait() {
    let bench = Bench::new().await;
    let digest = Digest::new([1; 32]);
    let cancelled = bench.accept(from(URL, &digest)).await.id;
    let expired = bench.accept(AcceptRequest { expires_in_ms: Some(0), ..from(URL, &digest) }).await.id;
    bench.store.cancel(&ROOT, cancelled, None).await.unwrap();
    bench.store.expire_due().await.unwrap();
    assert_eq!(
        (bench.state(cancelled).await, bench.state(expired).await),
        (State::Cancelled, State::Expired)
    );
    assert!(bench.store.awaited().await.unwrap().is_empty());
    assert!(bench.store.arrived(&errand("", digest), 4, "").await.unwrap().is_empty());
    let last = bench.accept(plain()).await.id;
    assert_eq!(bench.offered().await, Some(last));
}

#[tokio::test]
async fn many_requests_for_one_program_all_go_on() {
    let bench = Bench::new().await;
    let digest = Digest::new([1; 32]);
    for _ in 0..300 {
        bench.accept(from(URL, &digest)).await;
    }
    assert_eq!(bench.store.awaited().await.unwrap().len(), 1);
    let first = bench.store.arrived(&errand("", digest), 4, "").await.unwrap().len();
    let second = bench.store.arrived(&errand("", digest), 4, "").await.unwrap().len();
    assert_eq!((first, second), (256, 44), "no transaction moves more than others can wait for");
}

#[tokio::test]
async fn the_same_request_twice_is_one_also_when_its_program_has_come() {
    let bench = Bench::new().await;
    let digest = here(&bench, b"echo").await;
    let named = || AcceptRequest { id: Some(RequestId::new([7; 16])), ..from(URL, &digest) };
    bench.accept(named()).await;
    bench.store.arrived(&errand("", digest), 4, "").await.unwrap();
    // The second time the manager has the program, and so its length.
    let again = AcceptRequest { action: program(&digest.to_string(), 4), awaits_program: false, ..named() };
    let (admission, row) = bench.store.accept(&ROOT, &bench.guest.name, again).await.unwrap();
    assert_eq!((admission, row.awaits_program), (Admission::Unchanged, false));
    for other in [
        from("https://b.example/", &digest),
        from(URL, &Digest::new([2; 32])),
        AcceptRequest { action: program(&digest.to_string(), 4), ..plain() },
    ] {
        let other = AcceptRequest { id: named().id, ..other };
        assert!(bench.store.accept(&ROOT, &bench.guest.name, other).await.is_err());
    }
}
