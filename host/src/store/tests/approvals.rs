//! The second person: what waits for one, what lets it go on, and what does not.

use super::*;
use doorbell_api::request::Action as Shown;
use doorbell_wire::message::Stage;

const OTHER: Actor = Actor::Uid { uid: 1001, name: None };

async fn bench() -> Bench {
    Bench::new().await.restart_with(vec![ActionName::Run])
}

#[tokio::test]
async fn what_nobody_has_approved_is_not_offered_and_holds_nobody_up() {
    let bench = bench().await;
    let waits = bench.accept(plain()).await;
    assert_eq!(waits.state, State::Unapproved);
    let link = json!({"LinkSet": {"link": {"Name": "eth0"}, "up": true}});
    let link = bench.accept(AcceptRequest { action: serde_json::from_value(link).unwrap(), ..plain() }).await;
    assert_eq!((link.state, link.to_api().action.name()), (State::Queued, ActionName::LinkUp));
    assert!(matches!(waits.to_api().action, Shown::Run(_)));
    let next = bench.next().await;
    assert_eq!(next.offer.map(|offer| offer.request), Some(link.id));
    // It is open, so its guest must not take its sequence for settled.
    assert_eq!(next.floor, u64::from(waits.sequence));
    bench.acknowledge(link.id, Outcome::Succeeded).await;
    assert_eq!(bench.offered().await, None);
    bench.store.approve_request(&OTHER, waits.id).await.unwrap();
    assert_eq!(bench.offered().await, Some(waits.id));
}

#[tokio::test]
async fn no_word_of_a_guest_moves_what_nobody_has_approved() {
    let bench = bench().await;
    let id = bench.accept(plain()).await.id;
    for stage in [Stage::Fetched, Stage::Started] {
        assert!(bench.store.mark(bench.guest.id, id, stage, Vec::new()).await.unwrap().is_none());
    }
    for outcome in [Outcome::Succeeded, Outcome::Continues(2.try_into().unwrap())] {
        let row = bench.acknowledge(id, outcome).await;
        assert_eq!((row.state, row.step, row.receipt.is_none()), (State::Unapproved, 1, true));
    }
    assert!(bench.store.attach(bench.guest.id, id).await.unwrap().is_none());
    assert_eq!(bench.state(id).await, State::Unapproved);
}

#[tokio::test]
async fn who_asked_is_no_second_person_whichever_way_it_comes() {
    let bench = bench().await;
    let id = bench.accept(plain()).await.id;
    let spool = Actor::Spool { uid: 0, name: Some("root".into()) };
    for same in [ROOT, spool, Actor::Manager] {
        for refuses in [false, true] {
            let asked = if refuses {
                bench.store.refuse_request(&same, id).await
            } else {
                bench.store.approve_request(&same, id).await
            };
            assert!(matches!(asked, Err(StoreError::Conflict { .. })), "{same}: {asked:?}");
        }
    }
    assert_eq!(bench.state(id).await, State::Unapproved);
    let events = bench.events().await;
    assert!(!events.iter().any(|event| event == "request-approved"), "{events:?}");
}

#[tokio::test]
async fn an_approval_is_kept_with_who_gave_it_and_is_given_once() {
    let bench = bench().await;
    let id = bench.accept(plain()).await.id;
    let bench = bench.restart();
    assert_eq!(bench.state(id).await, State::Unapproved, "what is configured now lets nothing go on");
    let row = bench.store.approve_request(&OTHER, id).await.unwrap();
    assert_eq!((row.state, row.approved_by.as_deref()), (State::Queued, Some("uid 1001")));
    let bench = bench.restart_with(vec![ActionName::Run]);
    let row = bench.store.approve_request(&OTHER, id).await.unwrap();
    assert_eq!(row.to_api().approved_by.as_deref(), Some("uid 1001"));
    let third = Actor::Uid { uid: 1002, name: None };
    assert!(bench.store.approve_request(&third, id).await.is_err());
    assert!(bench.store.refuse_request(&OTHER, id).await.is_err());
    let records = bench.store.audit_records(0, 100).await.unwrap();
    let approved: Vec<_> = records.iter().filter(|record| record.event == "request-approved").collect();
    assert_eq!(
        (approved.len(), &*approved[0].actor, &*approved[0].detail),
        (1, "uid 1001", "asked by uid 0")
    );
    assert!(bench.store.audit_check().await.unwrap().intact);
}

#[tokio::test]
async fn what_nobody_has_approved_expires_is_cancelled_and_goes_with_its_guest() {
    let bench = bench().await;
    let due = bench.accept(AcceptRequest { expires_in_ms: Some(0), ..plain() }).await.id;
    let later = bench.accept(AcceptRequest { expires_in_ms: Some(3_600_000), ..plain() }).await.id;
    assert_eq!(bench.store.expire_due().await.unwrap().len(), 1);
    assert_eq!(bench.state(due).await, State::Expired);
    assert!(bench.store.approve_request(&OTHER, due).await.is_err());
    assert_eq!(bench.store.cancel(&ROOT, later, None).await.unwrap().state, State::Cancelled);
    let refused = bench.accept(plain()).await.id;
    let row = bench.store.refuse_request(&OTHER, refused).await.unwrap();
    let detail = row.receipt.unwrap().detail.unwrap();
    assert_eq!((row.state, &*detail), (State::Cancelled, "uid 1001 did not approve it"));
    let last = bench.accept(plain()).await.id;
    bench.store.remove_guest(&ROOT, &name("web-3")).await.unwrap();
    assert_eq!(bench.state(last).await, State::Undeliverable);
    assert!(bench.store.audit_check().await.unwrap().intact);
}
