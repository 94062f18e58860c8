//! One-time tokens: taken once, for their guest, in their time. And a first key that is trusted because that was asked for.

use super::*;
use crate::store::{Enrolled, NewEnrolment};

const TOKEN: PublicKey = PublicKey::new([0x77; 32]);
const OTHER: PublicKey = PublicKey::new([0x55; 32]);
const DAY_MS: u64 = 24 * 3_600_000;

async fn make(bench: &Bench, token: PublicKey) -> GuestRow {
    let new = NewEnrolment { token, expires_in_ms: DAY_MS };
    bench.store.make_enrolment(&ROOT, &bench.guest.name, new).await.unwrap()
}

async fn enrol(bench: &Bench, key: PublicKey, token: PublicKey) -> Enrolled {
    bench.store.enrol(bench.guest.id, key, token, "cid 7").await.unwrap()
}

async fn refused(bench: &Bench, key: PublicKey, token: PublicKey, why: &str) {
    match enrol(bench, key, token).await {
        Enrolled::Refused(text) => assert!(text.contains(why), "{text}"),
        other @ (Enrolled::Taken | Enrolled::Nothing) => panic!("{why}: {other:?}"),
    }
    assert_ne!(bench.store.guest(&bench.guest.name).await.unwrap().key, Some(key));
}

#[tokio::test]
async fn a_token_takes_one_key_and_no_second_one() {
    let bench = Bench::new().await;
    assert!(make(&bench, TOKEN).await.enrolment_until_ms.is_some());
    assert_eq!(enrol(&bench, OTHER, TOKEN).await, Enrolled::Taken);
    let row = bench.store.guest(&bench.guest.name).await.unwrap();
    assert_eq!((row.key, row.enrolment_until_ms), (Some(OTHER), None), "in the place of the key before");
    assert_eq!(enrol(&bench, OTHER, TOKEN).await, Enrolled::Nothing, "its own key needs none");
    refused(&bench, PublicKey::new([3; 32]), TOKEN, "it was used at").await;
    let events = bench.events().await;
    let count = |what: &str| events.iter().filter(|event| *event == what).count();
    assert_eq!((count("enrolment-made"), count("guest-enrolled"), count("enrolment-refused")), (1, 1, 1));
}

#[tokio::test]
async fn a_token_is_of_one_guest_of_its_time_and_of_the_newest_making() {
    let bench = Bench::new().await;
    refused(&bench, OTHER, TOKEN, "nobody made it").await;
    let neighbour = bench.store.add_guest(&ROOT, new_guest("web-4", 8, None)).await.unwrap();
    let new = NewEnrolment { token: TOKEN, expires_in_ms: DAY_MS };
    bench.store.make_enrolment(&ROOT, &neighbour.name, new).await.unwrap();
    refused(&bench, OTHER, TOKEN, "it was made for another guest").await;
    let mine = PublicKey::new([0x78; 32]);
    make(&bench, mine).await;
    make(&bench, PublicKey::new([0x79; 32])).await;
    refused(&bench, OTHER, mine, "a newer one has taken its place").await;
    let bench = bench.by_hand("UPDATE enrolments SET expires_at_ms = 1000");
    refused(&bench, OTHER, PublicKey::new([0x79; 32]), "it expired at 1970-01-01 00:00:01Z").await;
    for expires_in_ms in [0, 999, 30 * DAY_MS + 1] {
        let new = NewEnrolment { token: OTHER, expires_in_ms };
        let error = bench.store.make_enrolment(&ROOT, &bench.guest.name, new).await.unwrap_err();
        assert!(matches!(error, StoreError::Invalid { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn a_token_lifts_a_fence_and_lets_in_neither_a_neighbours_key_nor_a_rejected_one() {
    let bench = Bench::new().await;
    bench.store.add_guest(&ROOT, new_guest("web-4", 8, Some(OTHER))).await.unwrap();
    make(&bench, TOKEN).await;
    refused(&bench, OTHER, TOKEN, "is the key of guest web-4").await;
    let rejected = PublicKey::new([3; 32]);
    bench.store.pend_key(bench.guest.id, rejected, "cid 7").await.unwrap();
    bench.store.reject(&ROOT, &bench.guest.name, None).await.unwrap();
    assert_eq!(enrol(&bench, rejected, TOKEN).await, Enrolled::Nothing);
    assert_eq!(enrol(&bench, KEY, TOKEN).await, Enrolled::Taken, "the token is good still");
    let claims = claims(KEY, Some(token(9)));
    let admitted = bench.store.admit(bench.guest.id, &claims, token(1), Door::Channel, "cid 7", None);
    assert_eq!(admitted.await.unwrap(), Verdict::Welcome, "tokens of sessions start afresh");
}

#[tokio::test]
async fn a_guest_is_added_with_its_token() {
    let bench = Bench::new().await;
    let enrolment = Some(NewEnrolment { token: TOKEN, expires_in_ms: DAY_MS });
    let row =
        bench.store.add_guest(&ROOT, AddGuest { enrolment, ..new_guest("web-4", 8, None) }).await.unwrap();
    assert!(row.enrolment_until_ms.is_some() && row.key.is_none());
    let taken = bench.store.enrol(row.id, OTHER, TOKEN, "cid 8").await.unwrap();
    assert_eq!(taken, Enrolled::Taken);
}

#[tokio::test]
async fn a_first_key_is_trusted_once_and_only_where_that_was_asked_for() {
    let bench = Bench::new().await;
    let new = AddGuest { trust_first_key: true, ..new_guest("web-4", 8, None) };
    let guest = bench.store.add_guest(&ROOT, new).await.unwrap();
    let verdict = async |key, byte| {
        let claims = claims(key, None);
        bench.store.admit(guest.id, &claims, token(byte), Door::Channel, "cid 8", None).await.unwrap()
    };
    assert_eq!(verdict(KEY, 1).await, Verdict::NotApproved, "a neighbour's key is nobody's first");
    assert_eq!(verdict(OTHER, 1).await, Verdict::Welcome);
    assert_eq!(verdict(PublicKey::new([3; 32]), 2).await, Verdict::WrongKey);
    let row = bench.store.guest(&guest.name).await.unwrap();
    assert_eq!((row.key, row.trusts_first_key), (Some(OTHER), false));
    assert_eq!(bench.events().await.iter().filter(|event| *event == "first-key-trusted").count(), 1);
}

#[tokio::test]
async fn no_first_key_is_trusted_at_a_hybrid_socket() {
    let bench = Bench::new().await;
    let at = |place| AddGuest { place, trust_first_key: true, ..new_guest("web-4", 8, None) };
    let error = bench.store.add_guest(&ROOT, at(Place::Hybrid("/run/web-4".into()))).await.unwrap_err();
    assert!(error.to_string().contains("on AF_VSOCK alone, never at a hybrid socket"), "{error}");
    let guest = bench.store.add_guest(&ROOT, at(cid(8))).await.unwrap();
    let moved = ChangeGuest { place: Some(Place::Hybrid("/run/web-4".into())), ..ChangeGuest::default() };
    let error = bench.store.change_guest(&ROOT, &guest.name, moved).await.unwrap_err();
    assert!(error.to_string().contains("which is for AF_VSOCK alone"), "{error}");
    let known = AddGuest { key: Some(OTHER), ..at(cid(9)) };
    assert!(bench.store.add_guest(&ROOT, AddGuest { name: name("web-5"), ..known }).await.is_err());
}
