//! What a backup promises: it is whole and consistent, comes back as it was, and is refused when it is not.

use super::restore::restore;
use super::*;
use crate::config::Config;
use crate::retention::tests::{Bench, DAY, ROOT, command, program};
use crate::store::{Door, NextOffer, Pull};
use crate::time::unix_ms;
use doorbell_api::error::ErrorCode;
use doorbell_wire::ids::{BootId, Nonce, PublicKey, SessionToken};
use doorbell_wire::message::{Capabilities, Claims, Stream};
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt;

async fn taken(bench: &Bench) -> Vec<u8> {
    let backup = bench.manager.begin_backup(&ROOT, &Cause::default()).await.unwrap();
    let about = backup.about();
    let mut bytes = Vec::new();
    backup.write(&mut bytes).unwrap();
    assert!(about <= bytes.len() as u64);
    bytes
}

fn open(dir: &Path) -> Manager {
    Manager::open(Config { state_dir: dir.to_owned(), ..Config::default() }, String::new()).unwrap()
}

/// What is beside the lock.
fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        dir.read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_backup_of_a_running_manager_comes_back_as_it_was() {
    let bench = Bench::new().await;
    let digest = bench.upload(b"#!/bin/sh\n").await;
    let done = bench.accept(1, program(digest, 10)).await;
    bench.finish(done, b"hello\n").await;
    let waits = bench.accept(2, command()).await;
    let empty = bench.accept(3, command()).await;
    bench.finish(empty, b"").await;
    let archive = taken(&bench).await;
    assert_eq!(names(&bench.dir.path().join("state/backup")), [""; 0], "the copy is gone with the backup");
    // What comes later is not in it.
    let later = bench.accept(4, command()).await;

    let to = bench.dir.path().join("restored");
    let restored = restore(archive.as_slice(), &to, &ROOT, &Cause::default()).unwrap();
    assert_eq!((restored.guests, restored.requests, restored.files), (1, 3, 3));
    assert!(restored.missing.is_empty());
    let manager = open(&to);
    let row = manager.store.request(done).await.unwrap();
    assert_eq!(row.receipt.unwrap().stdout.bytes, 6);
    assert_eq!(manager.outputs.read(done, Stream::Stdout, 0, 99).await.unwrap(), b"hello\n");
    assert_eq!(manager.programs.read(digest, 0, 99).await.unwrap(), b"#!/bin/sh\n");
    assert!(!manager.store.request(waits).await.unwrap().state.is_final());
    assert_eq!(manager.store.request(later).await.unwrap_err().code(), ErrorCode::NotFound);
    let mode = |path: &str| to.join(path).metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("."), mode("output"), mode("doorbell.sqlite")), (0o700, 0o700, 0o600));
    assert_eq!(mode(&format!("output/{done}.stdout")), 0o600);
    assert_eq!(mode("audit.key"), 0o600);
    assert_eq!(manager.signer.public(), bench.manager.signer.public(), "one manager signs on");
}

#[tokio::test]
async fn a_restored_trail_goes_on_and_says_from_what() {
    let bench = Bench::new().await;
    let archive = taken(&bench).await;
    let to = bench.dir.path().join("restored");
    let restored = restore(archive.as_slice(), &to, &ROOT, &Cause::default()).unwrap();
    let manager = open(&to);
    let check = manager.store.audit_check().await.unwrap();
    assert!(check.intact, "{:?}", check.broken);
    let records = manager.store.audit_records(0, 100).await.unwrap();
    let [.., begun, last] = records.as_slice() else { panic!("too few records") };
    assert_eq!((begun.event.as_str(), begun.hash.as_str()), ("backup-begun", restored.audit_head.as_str()));
    assert_eq!((last.event.as_str(), last.actor.as_str()), ("manager-restored", "uid 0"));
    for part in [restored.sha256.as_str(), begun.hash.as_str(), "The tokens of 1 guests start afresh"] {
        assert!(last.detail.contains(part), "{part} in {}", last.detail);
    }
}

fn claims(token: Option<SessionToken>) -> Claims {
    Claims {
        version: 0,
        nonce: Nonce::new([1; 32]),
        public_key: PublicKey::new([9; 32]),
        boot_id: BootId::new([2; 16]),
        generation: None,
        token,
        capabilities: Capabilities::RUN,
        agent: "0.1.0".parse().unwrap(),
        sequence_max: 0,
        clock_us: 0,
    }
}

/// The guest's tokens have moved on, twice over.
#[tokio::test]
async fn a_restored_manager_takes_each_guest_once_by_its_key_alone() {
    let bench = Bench::new().await;
    let token = |byte| SessionToken::new([byte; 32]);
    let admit = async |manager: &Manager, presented, fresh| {
        let verdict = manager
            .store
            .admit(bench.guest.id, &claims(presented), fresh, Door::Channel, "cid 7", None)
            .await
            .unwrap();
        if verdict == crate::store::Verdict::Welcome {
            manager.store.confirm(bench.guest.id, Door::Channel, fresh).await.unwrap();
        }
        verdict
    };
    assert_eq!(admit(&bench.manager, None, token(1)).await, crate::store::Verdict::Welcome);
    let archive = taken(&bench).await;
    assert_eq!(admit(&bench.manager, Some(token(1)), token(2)).await, crate::store::Verdict::Welcome);
    assert_eq!(admit(&bench.manager, Some(token(2)), token(3)).await, crate::store::Verdict::Welcome);

    let to = bench.dir.path().join("restored");
    restore(archive.as_slice(), &to, &ROOT, &Cause::default()).unwrap();
    let manager = open(&to);
    assert_eq!(admit(&manager, Some(token(3)), token(4)).await, crate::store::Verdict::Welcome);
    assert_eq!(admit(&manager, Some(token(3)), token(5)).await, crate::store::Verdict::Fenced, "only once");
}

/// Whatever the old manager gave out after the backup, and whatever an earlier restore gave out.
#[tokio::test]
async fn sequences_of_a_restored_manager_are_above_all_that_went_before() {
    let bench = Bench::new().await;
    let waits = bench.accept(1, command()).await;
    let archive = taken(&bench).await;
    let mut highest = 0;
    for number in 2..5 {
        let id = bench.accept(number, command()).await;
        highest = u64::from(bench.manager.store.request(id).await.unwrap().sequence);
    }
    for round in 0..2 {
        let to = bench.dir.path().join(format!("restored-{round}"));
        restore(archive.as_slice(), &to, &ROOT, &Cause::default()).unwrap();
        let restored =
            Bench { dir: tempfile::tempdir().unwrap(), manager: open(&to), guest: bench.guest.clone() };
        let id = restored.accept(9, command()).await;
        let sequence = u64::from(restored.manager.store.request(id).await.unwrap().sequence);
        assert!(sequence > highest, "{sequence} is not above {highest}");
        assert!(sequence < 1 << 53, "{sequence} is no number for JSON");
        // What was open then keeps its place: the guest knows it by that.
        let NextOffer { offer, .. } =
            restored.manager.store.next_offer(bench.guest.id, Pull::default()).await.unwrap();
        let offer = offer.unwrap();
        assert_eq!((offer.request, u64::from(offer.sequence.unwrap())), (waits, 1));
        highest = sequence;
        // The next restore is of a later millisecond.
        let before = unix_ms();
        while unix_ms() == before {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn nothing_is_removed_while_a_backup_is_taken() {
    let bench = Bench::new().await;
    let id = bench.accept(1, command()).await;
    bench.finish(id, b"hello").await;
    let backup = bench.manager.begin_backup(&ROOT, &Cause::default()).await.unwrap();
    let sweep = bench.manager.sweep(&ROOT, &Cause::default(), false, unix_ms() + 91 * DAY).await.unwrap_err();
    assert_eq!(sweep.code(), ErrorCode::Conflict);
    assert_eq!(
        bench.manager.begin_backup(&ROOT, &Cause::default()).await.unwrap_err().code(),
        ErrorCode::Conflict
    );
    drop(backup);
    let swept = bench.manager.sweep(&ROOT, &Cause::default(), false, unix_ms() + 91 * DAY).await.unwrap();
    assert_eq!(swept.requests.count, 1);
    assert_eq!(names(&bench.dir.path().join("state/backup")), [""; 0]);
}

#[tokio::test]
async fn output_that_is_not_on_the_disk_is_told_and_the_rest_is_saved() {
    let bench = Bench::new().await;
    let (lost, kept) = (bench.accept(1, command()).await, bench.accept(2, command()).await);
    bench.finish(lost, b"lost").await;
    bench.finish(kept, b"kept").await;
    let path = format!("output/{lost}.stdout");
    std::fs::remove_file(bench.dir.path().join("state").join(&path)).unwrap();
    let archive = taken(&bench).await;
    let to = bench.dir.path().join("restored");
    let restored = restore(archive.as_slice(), &to, &ROOT, &Cause::default()).unwrap();
    assert_eq!(restored.missing, [path]);
    assert_eq!(open(&to).outputs.read(kept, Stream::Stdout, 0, 9).await.unwrap(), b"kept");
}

async fn sample() -> (Bench, Vec<u8>) {
    let bench = Bench::new().await;
    let id = bench.accept(1, command()).await;
    bench.finish(id, b"hello, this is output\n").await;
    let archive = taken(&bench).await;
    (bench, archive)
}

fn refused(archive: &[u8], to: &Path) -> StoreError {
    let error = restore(archive, to, &ROOT, &Cause::default()).unwrap_err();
    assert!(!error.to_string().contains('\n'), "{error}");
    error
}

#[tokio::test]
async fn a_backup_that_was_cut_off_or_altered_is_refused_and_leaves_nothing() {
    let (bench, archive) = sample().await;
    let to = bench.dir.path().join("restored");
    for end in [0, 1, 511, 512, 1024, archive.len() / 2, archive.len() - 1024, archive.len() - 513] {
        let error = refused(&archive[..end], &to);
        assert!(error.to_string().contains("nothing was restored"), "cut at {end}: {error}");
        assert!(!to.exists(), "cut at {end}");
    }
    let find = |what: &[u8]| archive.windows(what.len()).position(|bytes| bytes == what).unwrap();
    for (what, with) in
        [(&b"this is output"[..], &b"THIS IS OUTPUT"[..]), (b"\"requests\": 1", b"\"requests\": X")]
    {
        let mut bent = archive.clone();
        let at = find(what);
        bent[at..at + with.len()].copy_from_slice(with);
        let error = refused(&bent, &to);
        assert!(error.to_string().contains("not whole or was altered"), "{error}");
        assert!(!to.exists());
    }
    // A bit anywhere in the data base.
    for step in 1..16 {
        let mut bent = archive.clone();
        bent[1024 + step * 4096] ^= 1;
        refused(&bent, &to);
        assert!(!to.exists());
    }
    let noise = refused(&[0x55; 4096], &to);
    assert!(noise.to_string().contains("nothing was restored"), "{noise}");
}

/// A manifest that was made to fit does not hide a trail that does not.
#[tokio::test]
async fn a_trail_that_was_rewritten_in_the_archive_is_refused() {
    let (bench, archive) = sample().await;
    let dir = bench.dir.path().join("unpacked");
    std::fs::create_dir(&dir).unwrap();
    let tar = |words: &[&str]| {
        let status = std::process::Command::new("tar").args(words).current_dir(&dir).status().unwrap();
        assert!(status.success());
    };
    std::fs::write(dir.join("a.tar"), &archive).unwrap();
    tar(&["xf", "a.tar"]);
    let data_base = dir.join(TOP).join(DATA_BASE);
    let conn = rusqlite::Connection::open(&data_base).unwrap();
    let sql =
        "DROP TRIGGER audit_is_never_altered; UPDATE audit SET detail = 'nothing to see' WHERE number = 1";
    conn.execute_batch(sql).unwrap();
    drop(conn);
    let manifest = dir.join(TOP).join(NAME);
    let mut told: Manifest = serde_json::from_slice(&std::fs::read(&manifest).unwrap()).unwrap();
    let bytes = std::fs::read(&data_base).unwrap();
    let mut hashing = Hashing::of(bytes.as_slice());
    hashing.read_to_end(&mut Vec::new()).unwrap();
    told.files[0] = Entry { path: DATA_BASE.into(), len: bytes.len() as u64, sha256: hashing.finish() };
    std::fs::write(&manifest, serde_json::to_vec(&told).unwrap()).unwrap();
    tar(&["cf", "b.tar", TOP]);
    let to = bench.dir.path().join("restored");
    let error = refused(&std::fs::read(dir.join("b.tar")).unwrap(), &to);
    assert!(error.to_string().contains("record 1 was altered"), "{error}");
    assert!(!to.exists());
    // And something that nobody listed.
    std::fs::write(dir.join(TOP).join("extra"), b"x").unwrap();
    tar(&["cf", "c.tar", TOP]);
    let error = refused(&std::fs::read(dir.join("c.tar")).unwrap(), &to);
    assert!(error.to_string().contains("\"extra\" is in it and not in its manifest"), "{error}");
}

#[tokio::test]
async fn a_directory_with_something_in_it_is_left_alone() {
    let (bench, archive) = sample().await;
    let state = bench.dir.path().join("state");
    let before = names(&state);
    let error = refused(&archive, &state);
    assert_eq!(error.code(), ErrorCode::Conflict);
    assert!(error.to_string().contains("is in use by"), "{error}");
    assert_eq!(names(&state), before);

    let other = bench.dir.path().join("other");
    std::fs::create_dir(&other).unwrap();
    std::fs::write(other.join("letter"), b"dear").unwrap();
    let error = refused(&archive, &other);
    assert!(error.to_string().contains("is not empty, \"letter\" is in it"), "{error}");
    assert_eq!(names(&other), ["letter"]);

    std::fs::remove_file(other.join("letter")).unwrap();
    std::fs::set_permissions(&other, PermissionsExt::from_mode(0o700)).unwrap();
    restore(archive.as_slice(), &other, &ROOT, &Cause::default()).unwrap();
    assert_eq!(names(&other), ["audit.key", "doorbell.sqlite", "lock", "output"]);
}

#[tokio::test]
async fn a_manager_does_not_start_where_a_restore_was_cut_off() {
    let (bench, archive) = sample().await;
    let to = bench.dir.path().join("restored");
    restore(archive.as_slice(), &to, &ROOT, &Cause::default()).unwrap();
    std::fs::create_dir(to.join("restoring")).unwrap();
    let error = Manager::open(Config { state_dir: to, ..Config::default() }, String::new()).unwrap_err();
    assert!(error.to_string().contains("whose restore was cut off"), "{error}");
}
