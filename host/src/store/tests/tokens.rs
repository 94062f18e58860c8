//! Session tokens: what a copied or rewound guest gets, and what a crash costs.

use super::*;
use doorbell_wire::message::Stage;

async fn admit(bench: &Bench, presented: Option<u8>, fresh: u8) -> Verdict {
    bench
        .store
        .admit(bench.guest.id, &claims(KEY, presented.map(token)), token(fresh), Door::Channel, "cid 7", None)
        .await
        .unwrap()
}

async fn confirm(bench: &Bench, byte: u8) -> Result<(), StoreError> {
    bench.store.confirm(bench.guest.id, Door::Channel, token(byte)).await
}

#[tokio::test]
async fn an_honest_guest_presents_each_token_once() {
    let mut bench = Bench::new().await;
    assert_eq!(admit(&bench, None, 1).await, Verdict::Welcome);
    confirm(&bench, 1).await.unwrap();
    for byte in 1..5 {
        assert_eq!(admit(&bench, Some(byte), byte + 1).await, Verdict::Welcome);
        confirm(&bench, byte + 1).await.unwrap();
        bench = bench.restart();
    }
    let guest = bench.store.guest(&bench.guest.name).await.unwrap();
    let agent = guest.agent.unwrap();
    assert_eq!((agent.version.as_str(), agent.protocol), ("0.1.0", 0));
    assert_eq!(agent.capabilities, ["run", "link"]);
    assert!(guest.last_seen_ms.is_some());
}

#[tokio::test]
async fn a_crash_between_welcome_and_confirm_is_accepted_with_the_old_token() {
    let bench = Bench::new().await;
    assert_eq!(admit(&bench, None, 1).await, Verdict::Welcome);
    assert_eq!(admit(&bench, None, 2).await, Verdict::Welcome, "no token reached the guest's disk");
    confirm(&bench, 2).await.unwrap();
    assert_eq!(admit(&bench, Some(2), 3).await, Verdict::Welcome);
    let bench = bench.restart();
    assert_eq!(admit(&bench, Some(2), 4).await, Verdict::Welcome, "token 3 did not reach the guest's disk");
}

#[tokio::test]
async fn a_crash_after_the_guests_write_and_before_confirm_is_accepted_with_the_new_token() {
    let bench = Bench::new().await;
    assert_eq!(admit(&bench, None, 1).await, Verdict::Welcome);
    assert_eq!(admit(&bench, Some(1), 2).await, Verdict::Welcome);
    assert_eq!(admit(&bench, Some(2), 3).await, Verdict::Welcome);
}

#[tokio::test]
async fn a_copy_that_presents_the_old_token_after_confirm_is_fenced() {
    let bench = Bench::new().await;
    admit(&bench, None, 1).await;
    confirm(&bench, 1).await.unwrap();
    admit(&bench, Some(1), 2).await;
    confirm(&bench, 2).await.unwrap();
    assert_eq!(admit(&bench, Some(1), 3).await, Verdict::Fenced);
    let copy = bench.store.guest(&bench.guest.name).await.unwrap().copy.unwrap();
    assert_eq!(copy.met_at, "cid 7");
    assert!(copy.reason.starts_with("a stale session token"), "{}", copy.reason);
    assert!(bench.events().await.contains(&"session-fenced".to_owned()));
}

#[tokio::test]
async fn a_guest_without_a_token_is_fenced_once_one_was_confirmed() {
    let bench = Bench::new().await;
    admit(&bench, None, 1).await;
    confirm(&bench, 1).await.unwrap();
    assert_eq!(admit(&bench, None, 2).await, Verdict::Fenced);
}

#[tokio::test]
async fn a_copy_stays_fenced_until_it_is_approved_and_the_guest_is_served_beside_it() {
    let bench = Bench::new().await;
    admit(&bench, None, 1).await;
    confirm(&bench, 1).await.unwrap();
    assert_eq!(admit(&bench, Some(99), 2).await, Verdict::Fenced);
    let bench = bench.restart();
    let events = bench.events().await;
    assert_eq!(admit(&bench, Some(99), 2).await, Verdict::Fenced);
    assert_eq!(bench.events().await, events, "a copy that comes back fills no trail");
    assert_eq!(
        admit(&bench, Some(1), 3).await,
        Verdict::Welcome,
        "whoever has the newest token is the guest"
    );
    confirm(&bench, 3).await.unwrap();
    assert_eq!(admit(&bench, Some(99), 4).await, Verdict::Fenced);
    assert!(bench.store.guest(&bench.guest.name).await.unwrap().copy.is_some(), "both are visible");
    let guest = bench.store.approve(&ROOT, &bench.guest.name, None).await.unwrap();
    assert!(guest.copy.is_none());
    assert_eq!(admit(&bench, Some(1), 4).await, Verdict::Welcome, "what it has left is where it starts");
    assert_eq!(admit(&bench, Some(1), 5).await, Verdict::Welcome, "and a crash before confirm costs nothing");
    confirm(&bench, 5).await.unwrap();
    assert_eq!(admit(&bench, Some(1), 6).await, Verdict::Fenced);
}

#[tokio::test]
async fn a_session_whose_token_was_replaced_is_over() {
    let bench = Bench::new().await;
    admit(&bench, None, 1).await;
    admit(&bench, None, 2).await;
    let error = confirm(&bench, 1).await.unwrap_err();
    assert!(matches!(error, StoreError::Conflict { .. }), "{error}");
    confirm(&bench, 2).await.unwrap();
    confirm(&bench, 2).await.unwrap();
}

#[tokio::test]
async fn no_key_and_another_key_are_told_apart_and_told_once() {
    let bench = Bench::new().await;
    let other = PublicKey::new([8; 32]);
    let unknown = bench.store.add_guest(&ROOT, new_guest("web-4", 8, None)).await.unwrap();
    for _ in 0..3 {
        let verdict = bench
            .store
            .admit(unknown.id, &claims(other, None), token(1), Door::Channel, "cid 7", None)
            .await
            .unwrap();
        assert_eq!(verdict, Verdict::NotApproved);
        let verdict = bench
            .store
            .admit(bench.guest.id, &claims(other, None), token(1), Door::Channel, "cid 7", None)
            .await
            .unwrap();
        assert_eq!(verdict, Verdict::WrongKey);
        bench.store.pend_key(unknown.id, other, "cid 8").await.unwrap();
    }
    let events = bench.events().await;
    assert_eq!(events.iter().filter(|event| *event == "session-refused").count(), 2, "{events:?}");
    assert_eq!(events.iter().filter(|event| *event == "key-pending").count(), 1, "{events:?}");
}

#[tokio::test]
async fn the_newest_pending_key_waits_and_approval_takes_it() {
    let bench = Bench::new().await;
    let guest = bench.store.add_guest(&ROOT, new_guest("web-4", 8, None)).await.unwrap();
    let none = bench.store.approve(&ROOT, &guest.name, None).await.unwrap_err();
    assert_eq!(
        none.to_string(),
        "guest web-4 has not been met at cid 8: start the agent in it, then approve"
    );
    let (first, second) = (PublicKey::new([3; 32]), PublicKey::new([4; 32]));
    bench.store.pend_key(guest.id, first, "cid 8").await.unwrap();
    bench.store.pend_key(guest.id, second, "cid 8").await.unwrap();
    let pending = bench.store.pending().await.unwrap();
    assert_eq!(pending.len(), 1);
    assert_eq!((pending[0].key, pending[0].met_at.as_str()), (second, "cid 8"));
    let wrong = bench.store.approve(&ROOT, &guest.name, Some(fingerprint(&first))).await.unwrap_err();
    assert!(wrong.to_string().contains(&fingerprint(&second)), "{wrong}");
    let row = bench.store.approve(&ROOT, &guest.name, Some(fingerprint(&second))).await.unwrap();
    assert_eq!((row.key, row.pending), (Some(second), false));
    let again = bench.store.approve(&ROOT, &guest.name, None).await.unwrap_err();
    assert!(again.to_string().contains("approved already and no other key waits"), "{again}");
}

#[tokio::test]
async fn a_rejected_key_is_turned_away_until_that_very_key_is_approved() {
    let bench = Bench::new().await;
    let guest = bench.store.add_guest(&ROOT, new_guest("web-4", 8, None)).await.unwrap();
    let none = bench.store.reject(&ROOT, &guest.name, None).await.unwrap_err();
    assert!(none.to_string().starts_with("no key waits for guest web-4"), "{none}");
    let (key, other) = (PublicKey::new([3; 32]), PublicKey::new([4; 32]));
    bench.store.pend_key(guest.id, key, "cid 8").await.unwrap();
    let wrong = bench.store.reject(&ROOT, &guest.name, Some(fingerprint(&other))).await.unwrap_err();
    assert!(wrong.to_string().contains(&fingerprint(&key)), "{wrong}");
    let row = bench.store.reject(&ROOT, &guest.name, Some(fingerprint(&key))).await.unwrap();
    assert_eq!((row.pending, row.rejected.as_slice()), (false, &[key][..]));
    assert!(bench.store.pending().await.unwrap().is_empty());

    let verdict = async |key| {
        let claims = claims(key, None);
        bench.store.admit(guest.id, &claims, token(1), Door::Channel, "cid 8", None).await.unwrap()
    };
    for _ in 0..2 {
        assert_eq!(verdict(key).await, Verdict::Rejected);
    }
    assert_eq!(verdict(other).await, Verdict::NotApproved, "another key is another question");
    let plain = bench.store.approve(&ROOT, &guest.name, None).await.unwrap_err();
    assert!(
        plain.to_string().ends_with("a key that was rejected is approved by its --fingerprint"),
        "{plain}"
    );
    let row = bench.store.approve(&ROOT, &guest.name, Some(fingerprint(&key))).await.unwrap();
    assert_eq!((row.key, row.rejected.len()), (Some(key), 0));
    assert_eq!(verdict(key).await, Verdict::Welcome);
    let records = bench.store.audit_records(0, 1000).await.unwrap();
    let told = |event: &str, text: &str| {
        records.iter().filter(|record| record.event == event && record.detail.contains(text)).count()
    };
    assert_eq!(told("key-rejected", &fingerprint(&key)), 1);
    assert_eq!(told("session-refused", "the operator has rejected it"), 1, "{records:?}");
    assert_eq!(told("guest-approved", "which was rejected before"), 1, "{records:?}");
}

#[tokio::test]
async fn a_guest_is_served_while_another_key_is_rejected_at_its_place() {
    let bench = Bench::new().await;
    let other = PublicKey::new([8; 32]);
    bench.store.pend_key(bench.guest.id, other, "cid 7").await.unwrap();
    bench.store.reject(&ROOT, &bench.guest.name, None).await.unwrap();
    let claims = claims(other, None);
    let verdict = bench.store.admit(bench.guest.id, &claims, token(9), Door::Channel, "cid 7", None).await;
    assert_eq!(verdict.unwrap(), Verdict::Rejected);
    assert_eq!(admit(&bench, None, 1).await, Verdict::Welcome);
}

#[tokio::test]
async fn keys_are_rejected_up_to_a_bound() {
    let bench = Bench::new().await;
    let reject = async |number: u8| {
        bench.store.pend_key(bench.guest.id, PublicKey::new([number; 32]), "cid 7").await.unwrap();
        bench.store.reject(&ROOT, &bench.guest.name, None).await
    };
    for number in 100..164 {
        reject(number).await.unwrap();
    }
    let error = reject(200).await.unwrap_err();
    assert!(error.to_string().starts_with("64 keys of guest web-3 are rejected already"), "{error}");
}

#[tokio::test]
async fn an_approved_key_is_replaced_only_by_a_fingerprint() {
    let bench = Bench::new().await;
    let other = PublicKey::new([8; 32]);
    bench.store.pend_key(bench.guest.id, other, "cid 7").await.unwrap();
    let error = bench.store.approve(&ROOT, &bench.guest.name, None).await.unwrap_err();
    assert!(error.to_string().ends_with("say which one with --fingerprint"), "{error}");
    let row = bench.store.approve(&ROOT, &bench.guest.name, Some(fingerprint(&other))).await.unwrap();
    assert_eq!(row.key, Some(other));
}

#[tokio::test]
async fn a_store_older_than_its_guest_goes_on_above_what_the_guest_has_done() {
    let bench = Bench::new().await;
    let far = Claims { sequence_max: 57, ..claims(KEY, None) };
    bench.store.admit(bench.guest.id, &far, token(1), Door::Channel, "cid 7", None).await.unwrap();
    assert_eq!(u64::from(bench.accept(plain()).await.sequence), 58);
}

/// What a guest presents that was rewound within one session.
async fn admit_rewound(bench: &Bench, claimed: Claims, told: Option<ClockTold>) -> Verdict {
    let claims = Claims { token: Some(token(1)), ..claimed };
    bench.store.admit(bench.guest.id, &claims, token(2), Door::Channel, "cid 7", told).await.unwrap()
}

#[tokio::test]
async fn a_guest_that_has_forgotten_a_start_it_told_of_is_fenced_with_the_right_token() {
    let bench = Bench::new().await;
    admit(&bench, None, 1).await;
    confirm(&bench, 1).await.unwrap();
    let request = bench.accept(plain()).await;
    bench.offered().await.unwrap();
    bench.store.mark(bench.guest.id, request.id, Stage::Started, Vec::new()).await.unwrap().unwrap();
    let bench = bench.restart();
    let there = Claims { sequence_max: 1, ..claims(KEY, None) };
    assert_eq!(admit_rewound(&bench, there.clone(), None).await, Verdict::Welcome);
    let rewound = Claims { sequence_max: 0, ..there };
    assert_eq!(admit_rewound(&bench, rewound.clone(), None).await, Verdict::Fenced);
    let trail = bench.store.audit_records(0, 1000).await.unwrap();
    let why = "it had told of the start of sequence 1, and its journal ends at 0";
    assert!(trail.iter().any(|record| record.event == "session-fenced" && record.detail.contains(why)));
    bench.store.approve(&ROOT, &bench.guest.name, None).await.unwrap();
    for _ in 0..2 {
        assert_eq!(
            admit_rewound(&bench, rewound.clone(), None).await,
            Verdict::Welcome,
            "it starts where it is"
        );
    }
}

#[tokio::test]
async fn a_guest_whose_clock_was_turned_back_is_fenced_with_the_right_token() {
    let bench = Bench::new().await;
    admit(&bench, None, 1).await;
    confirm(&bench, 1).await.unwrap();
    let boot = BootId::new([2; 16]);
    let told = Some(ClockTold { boot, us: 60_000_000 });
    let at = |clock_us| Claims { clock_us, ..claims(KEY, None) };
    assert_eq!(admit_rewound(&bench, at(60_000_000), told).await, Verdict::Welcome);
    assert_eq!(admit_rewound(&bench, at(59_000_000), told).await, Verdict::Welcome, "clocks are no better");
    let rebooted = Claims { boot_id: BootId::new([3; 16]), ..at(1_000) };
    assert_eq!(admit_rewound(&bench, rebooted, told).await, Verdict::Welcome, "another run, another clock");
    assert_eq!(admit_rewound(&bench, at(50_000_000), told).await, Verdict::Fenced);
    assert_eq!(admit_rewound(&bench, at(70_000_000), told).await, Verdict::Fenced, "time heals it");
    bench.store.approve(&ROOT, &bench.guest.name, None).await.unwrap();
    assert_eq!(admit_rewound(&bench, at(50_000_000), told).await, Verdict::Welcome, "it starts where it is");
}

#[tokio::test]
async fn no_token_stands_in_the_data_base() {
    let bench = Bench::new().await;
    admit(&bench, None, 0xa7).await;
    confirm(&bench, 0xa7).await.unwrap();
    let dir = bench.dir.path().join("state");
    drop(bench.store);
    for entry in dir.read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let bytes = std::fs::read(&path).unwrap();
            assert!(!bytes.windows(32).any(|window| window == [0xa7; 32]), "{}", path.display());
        }
    }
}

#[tokio::test]
async fn a_hello_that_waited_in_a_share_is_not_made_stale_by_a_connection() {
    let bench = Bench::new().await;
    let at = async |door, presented: Option<u8>, fresh| {
        let claims = claims(KEY, presented.map(token));
        bench.store.admit(bench.guest.id, &claims, token(fresh), door, "there", None).await.unwrap()
    };
    assert_eq!(at(Door::Share, None, 1).await, Verdict::Welcome);
    bench.store.confirm(bench.guest.id, Door::Share, token(1)).await.unwrap();
    for byte in 2..5 {
        assert_eq!(at(Door::Channel, (byte > 2).then_some(byte - 1), byte).await, Verdict::Welcome);
        bench.store.confirm(bench.guest.id, Door::Channel, token(byte)).await.unwrap();
    }
    assert_eq!(at(Door::Share, Some(1), 9).await, Verdict::Welcome);
    bench.store.confirm(bench.guest.id, Door::Share, token(9)).await.unwrap();
    assert_eq!(at(Door::Share, Some(1), 10).await, Verdict::Fenced, "a copy has the token of before");
}
