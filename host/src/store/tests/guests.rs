//! Guests: names, places, keys, removal.

use super::*;

async fn refusal(bench: &Bench, new: AddGuest) -> String {
    let error = bench.store.add_guest(&ROOT, new).await.unwrap_err();
    assert!(matches!(error, StoreError::Conflict { .. }), "{error:?}");
    error.to_string()
}

#[tokio::test]
async fn a_duplicate_name_is_refused_with_what_to_do() {
    let bench = Bench::new().await;
    assert_eq!(
        refusal(&bench, new_guest("web-3", 8, None)).await,
        "there is a guest web-3 already: choose another name, or remove that one with `doorbell guest rm web-3`"
    );
}

#[tokio::test]
async fn a_duplicate_cid_is_refused_with_what_to_do() {
    let bench = Bench::new().await;
    assert_eq!(
        refusal(&bench, new_guest("web-4", 7, None)).await,
        "cid 7 belongs to guest web-3: give another one, or move that guest with `doorbell guest set web-3`"
    );
}

#[tokio::test]
async fn a_duplicate_socket_is_refused_under_any_spelling() {
    let bench = Bench::new().await;
    let at =
        |text: &str, path: &str| AddGuest { place: Place::Hybrid(path.into()), ..new_guest(text, 8, None) };
    bench.store.add_guest(&ROOT, at("a", "/run/vm/a.sock")).await.unwrap();
    for path in ["/run/vm/a.sock", "/run//vm/./a.sock"] {
        assert_eq!(
            refusal(&bench, at("b", path)).await,
            "hybrid socket /run/vm/a.sock belongs to guest a: give another one, or move that guest with `doorbell guest set a`"
        );
    }
}

#[tokio::test]
async fn a_key_of_another_guest_is_refused() {
    let bench = Bench::new().await;
    let line = refusal(&bench, new_guest("web-4", 8, Some(KEY))).await;
    assert!(line.contains("is the key of guest web-3: remove the agent's state in the copy"), "{line}");
}

#[tokio::test]
async fn a_socket_path_that_no_socket_can_have_is_refused() {
    let bench = Bench::new().await;
    let fits = format!("/{}", "a".repeat(102));
    let too_long = format!("{fits}a");
    for path in ["relative/a.sock", "/run/vm/../a.sock", "", "/run/\u{7}.sock", too_long.as_str()] {
        let new = AddGuest { place: Place::Hybrid(path.into()), ..new_guest("b", 8, None) };
        let error = bench.store.add_guest(&ROOT, new).await.unwrap_err();
        assert!(matches!(error, StoreError::Invalid { .. }), "{path:?}: {error}");
        assert!(!error.to_string().contains('\n'));
    }
    let new = AddGuest { place: Place::Hybrid(fits.into()), ..new_guest("b", 8, None) };
    bench.store.add_guest(&ROOT, new).await.unwrap();
}

#[tokio::test]
async fn reserved_cids_never_become_a_place() {
    use doorbell_wire::ids::GuestCid;
    for number in [0, 1, 2, u32::MAX] {
        let error = GuestCid::try_from(number).unwrap_err();
        assert!(error.to_string().contains("3 to 4294967294"), "{error}");
    }
    // The data base holds the same line, should a hand reach past the type.
    let bench = Bench::new().await;
    let conn = Connection::open(bench.dir.path().join("state/doorbell.sqlite")).unwrap();
    for number in [0_u32, 1, 2, u32::MAX] {
        let error = conn.execute("UPDATE guests SET cid = ?1", [number]).unwrap_err();
        assert!(error.to_string().contains("CHECK constraint failed"), "{error}");
    }
}

#[tokio::test]
async fn a_guest_moves_and_the_old_place_is_free() {
    let bench = Bench::new().await;
    let socket = Place::Hybrid("/run/vm/a.sock".into());
    let qmp = Some(Some("/run/vm/qmp".into()));
    let moved = bench
        .store
        .change_guest(
            &ROOT,
            &bench.guest.name,
            ChangeGuest { place: Some(socket.clone()), qmp, ..ChangeGuest::default() },
        )
        .await
        .unwrap();
    assert_eq!((moved.place, moved.qmp), (socket, Some("/run/vm/qmp".into())));
    bench.store.add_guest(&ROOT, new_guest("web-4", 7, None)).await.unwrap();
    let back = bench
        .store
        .change_guest(&ROOT, &bench.guest.name, ChangeGuest { place: Some(cid(7)), ..ChangeGuest::default() })
        .await
        .unwrap_err();
    assert!(matches!(back, StoreError::Conflict { .. }), "{back}");
    let events = bench.events().await;
    bench.store.change_guest(&ROOT, &bench.guest.name, ChangeGuest::default()).await.unwrap();
    assert_eq!(bench.events().await, events, "a change of nothing is no decision");
}

#[tokio::test]
async fn a_removed_guest_takes_its_open_requests_with_it_and_leaves_the_receipts() {
    let bench = Bench::new().await;
    let done = bench.accept(plain()).await;
    bench.acknowledge(done.id, Outcome::Succeeded).await;
    let open = bench.accept(plain()).await;
    let removed = bench.store.remove_guest(&ROOT, &bench.guest.name).await.unwrap();
    assert_eq!(removed.id, bench.guest.id);
    assert_eq!(removed.closed.iter().map(|row| row.id).collect::<Vec<_>>(), [open.id]);
    assert_eq!(bench.state(open.id).await, State::Undeliverable);
    let gone = bench.store.guest(&bench.guest.name).await.unwrap_err();
    assert!(gone.to_string().starts_with("there is no guest \"web-3\": `doorbell guest ls`"), "{gone}");
    assert_eq!(bench.store.request(done.id).await.unwrap().receipt.unwrap().exit_code, Some(0));
    let filter = RequestFilter { guest: Some(bench.guest.name.clone()), open: false, limit: 10 };
    assert_eq!(bench.store.requests(filter).await.unwrap().0.len(), 2);
}

#[tokio::test]
async fn a_guest_that_is_added_again_with_its_key_never_sees_a_sequence_twice() {
    let bench = Bench::new().await;
    let last = bench.accept(plain()).await;
    bench.store.remove_guest(&ROOT, &bench.guest.name).await.unwrap();
    let again = bench.store.add_guest(&ROOT, new_guest("web-3", 7, None)).await.unwrap();
    let early = bench.store.accept(&ROOT, &again.name, plain()).await.unwrap().1;
    bench.store.pend_key(again.id, KEY, "cid 7").await.unwrap();
    bench.store.approve(&ROOT, &again.name, None).await.unwrap();
    let later = bench.store.accept(&ROOT, &again.name, plain()).await.unwrap().1;
    let early = bench.store.request(early.id).await.unwrap();
    assert!(last.sequence < early.sequence && early.sequence < later.sequence, "{early:?} {later:?}");
}

#[tokio::test]
async fn guests_are_listed_by_name_with_what_waits_for_them() {
    let bench = Bench::new().await;
    bench.store.add_guest(&ROOT, new_guest("db-1", 8, None)).await.unwrap();
    bench.accept(plain()).await;
    let rows = bench.store.guests().await.unwrap();
    let seen: Vec<_> = rows.iter().map(|row| (row.name.as_str(), row.open_requests)).collect();
    assert_eq!(seen, [("db-1", 0), ("web-3", 1)]);
}

#[test]
fn a_fingerprint_is_what_ssh_keygen_prints() {
    let key = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
    let mut blob = b"\0\0\0\x0bssh-ed25519\0\0\0\x20".to_vec();
    blob.extend(hex::decode(key).unwrap());
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key.pub");
    let text = <base64ct::Base64 as base64ct::Encoding>::encode_string(&blob);
    std::fs::write(&file, format!("ssh-ed25519 {text} test\n")).unwrap();
    let ours = fingerprint(&key.parse().unwrap());
    assert_eq!(ours, RFC8032_FINGERPRINT);
    match std::process::Command::new("ssh-keygen").arg("-lf").arg(&file).output() {
        Ok(said) => assert!(String::from_utf8_lossy(&said.stdout).contains(&ours), "{said:?}"),
        Err(error) => println!("skipped: ssh-keygen cannot be asked: {error}"),
    }
}

const RFC8032_FINGERPRINT: &str = "SHA256:bbXpuKG6zhzdmnxq256TlqzFBzRl2f6OOg722cYNbU8";

#[tokio::test]
async fn a_guest_is_found_by_its_place_in_an_index() {
    let bench = Bench::new().await;
    let socket = Place::Hybrid("/run/vm/web-4".into());
    let add = AddGuest { place: socket.clone(), ..new_guest("web-4", 8, None) };
    bench.store.add_guest(&ROOT, add).await.unwrap();
    let found = async |place: &Place| bench.store.guest_at(place).await.unwrap().map(|row| row.name);
    assert_eq!(found(&cid(7)).await, Some(name("web-3")));
    assert_eq!(found(&socket).await, Some(name("web-4")));
    assert_eq!(found(&cid(9)).await, None);
    bench.store.remove_guest(&ROOT, &name("web-3")).await.unwrap();
    assert_eq!(found(&cid(7)).await, None);
    assert_eq!(bench.store.guest_count().await.unwrap(), 1);
    let plan = |column: &str| {
        let data_base = Connection::open(bench.dir.path().join("state/doorbell.sqlite")).unwrap();
        let sql = format!(
            "EXPLAIN QUERY PLAN SELECT id FROM guests g WHERE g.removed_at_ms IS NULL AND g.{column} = ?1"
        );
        data_base.query_row(&sql, [7], |row| row.get::<_, String>(3)).unwrap()
    };
    assert!(plan("cid").contains("USING INDEX guests_cid"), "{}", plan("cid"));
    assert!(plan("hybrid_socket").contains("USING INDEX guests_hybrid_socket"));
}
