//! Wherever the manager goes down and whatever is replaced meanwhile, a file is one request, and none is lost.

use super::*;
use crate::actor::Actor;
use crate::cause::Cause;
use crate::spool::entry::{Entry, Fault, Writers, about_of, list, open};
use crate::spool::{ask, desk};
use crate::store::Spooling;
use doorbell_wire::ids::RequestId;
use sha2::{Digest as _, Sha256};

/// Accepts the request of a file, as far as that goes without removing the file.
async fn accept_only(bench: &Bench, name: &str) -> RequestId {
    let entry = entry_of(bench, name);
    let sum: [u8; 32] = Sha256::digest(fs::read(bench.inbox(name)).unwrap()).into();
    let id = ask::ids(bench.guest.id, entry.about.same, &sum)[0];
    let digest = bench.manager.programs.keep(fs::File::open(bench.inbox(name)).unwrap()).unwrap();
    let new = ask::plain(digest, name).unwrap();
    let mut new =
        crate::api::convert::request(&bench.manager, &crate::access::Scope::All, new, Cause::default())
            .await
            .unwrap();
    new.id = Some(id);
    let file = Spooling { id, inode: entry.about.same.inode, stem: name.into(), used: BTreeSet::new() };
    let by = Actor::Spool { uid: 0, name: None };
    bench.manager.store.accept_spooled(&by, &bench.guest.name, new, file).await.unwrap();
    id
}

fn entry_of(bench: &Bench, name: &str) -> Entry {
    Entry { name: name.into(), about: about_of(&bench.owner().rooms.inbox, name.as_bytes()).unwrap() }
}

#[tokio::test]
async fn a_crash_between_acceptance_and_removal_gives_one_request() {
    let mut bench = Bench::new().await;
    bench.put("fix", SCRIPT);
    let id = accept_only(&bench, "fix").await;
    let mut bench = bench.restarted();
    // What its writer can do in between makes no other file of it.
    fs::rename(bench.inbox("fix"), bench.inbox("fix2")).unwrap();
    chmod(&bench.inbox("fix2"), 0o755);
    bench.moved_in("fix2");
    bench.pass().await;
    let requests = bench.requests().await;
    assert_eq!((requests.len(), requests[0].id), (1, id));
    assert!(bench.names("inbox").is_empty());
    // And what is put there later is another one, whatever number its file has.
    bench.put("fix", SCRIPT);
    bench.pass().await;
    assert_eq!(bench.requests().await.len(), 2);
}

#[tokio::test]
async fn a_crash_in_the_middle_of_the_removal_gives_one_request() {
    let mut bench = Bench::new().await;
    bench.put("fix", SCRIPT);
    let id = accept_only(&bench, "fix").await;
    let held = bench.home().join(format!("work/taken.{id}.fix"));
    fs::rename(bench.inbox("fix"), &held).unwrap();
    let mut bench = bench.restarted();
    bench.pass().await;
    assert_eq!(bench.requests().await.len(), 1);
    assert!(bench.names("inbox").is_empty() && bench.names("work").is_empty());
}

/// The writer replaced the file just before the manager moved it away and went down.
#[tokio::test]
async fn a_crash_with_another_file_in_hand_loses_none() {
    let mut bench = Bench::new().await;
    bench.put("fix", SCRIPT);
    let id = accept_only(&bench, "fix").await;
    bench.put("fix", "#!/bin/sh\nexit 7\n");
    fs::rename(bench.inbox("fix"), bench.home().join(format!("work/taken.{id}.fix"))).unwrap();
    let mut bench = bench.restarted();
    bench.moved_in("fix");
    bench.pass().await;
    assert_eq!(bench.requests().await.len(), 2);
    assert!(bench.names("inbox").is_empty() && bench.names("work").is_empty());
}

#[tokio::test]
async fn a_crash_in_the_middle_of_a_refusal_or_of_a_receipt_leaves_nothing_half() {
    let bench = Bench::new().await;
    fs::write(bench.home().join("work/in.fix"), "refused").unwrap();
    fs::write(bench.home().join("work/out.old.stdout"), "half").unwrap();
    let mut bench = bench.restarted();
    bench.pass().await;
    assert!(bench.names("work").is_empty());
    assert_eq!(bench.names("outbox"), ["fix.refused", "fix.refused.json"]);
    assert!(bench.refusal("fix").contains("when the manager went down"));
    assert!(bench.requests().await.is_empty());
}

/// A file of the same number, content and time as one that was taken and is gone is another one.
#[tokio::test]
async fn the_same_file_put_there_again_and_again_is_taken_each_time() {
    let mut bench = Bench::new().await;
    let kept = bench.dir.path().join("kept");
    bench.put("fix", SCRIPT);
    fs::hard_link(bench.inbox("fix"), &kept).unwrap();
    fs::remove_file(bench.inbox("fix")).unwrap();
    for number in 1..=5 {
        let id = {
            fs::rename(&kept, bench.inbox("fix")).unwrap();
            accept_only_next(&bench, "fix").await
        };
        // It is taken back under another name while it is removed.
        fs::rename(bench.inbox("fix"), &kept).unwrap();
        bench.manager.store.spool_gone(vec![id]).await.unwrap();
        assert_eq!(bench.requests().await.len(), number);
    }
}

async fn accept_only_next(bench: &Bench, name: &str) -> RequestId {
    let entry = entry_of(bench, name);
    let sum: [u8; 32] = Sha256::digest(fs::read(bench.inbox(name)).unwrap()).into();
    let ids = ask::ids(bench.guest.id, entry.about.same, &sum);
    let crate::store::Known::Free(id) = bench.manager.store.spool_look(ids).await.unwrap() else {
        panic!("taken")
    };
    let digest = bench.manager.programs.keep(fs::File::open(bench.inbox(name)).unwrap()).unwrap();
    let mut new = crate::api::convert::request(
        &bench.manager,
        &crate::access::Scope::All,
        ask::plain(digest, name).unwrap(),
        Cause::default(),
    )
    .await
    .unwrap();
    new.id = Some(id);
    let file = Spooling { id, inode: entry.about.same.inode, stem: name.into(), used: BTreeSet::new() };
    let by = Actor::Spool { uid: 0, name: None };
    bench.manager.store.accept_spooled(&by, &bench.guest.name, new, file).await.unwrap();
    id
}

#[tokio::test]
async fn a_file_that_is_replaced_between_look_and_open_is_not_taken_for_the_other() {
    let mut bench = Bench::new().await;
    bench.put("fix", SCRIPT);
    let rooms = bench.owner().rooms;
    let seen = list(&rooms.inbox).unwrap().remove(0);
    let writers = Writers::of(&rooms.inbox).unwrap();
    let look = |seen: &Entry| open(&rooms.inbox, seen, 99, &writers);
    bench.put("fix", "#!/bin/sh\nexit 7\n");
    assert!(matches!(look(&seen), Err(Fault::NotYet)));
    fs::remove_file(bench.inbox("fix")).unwrap();
    assert!(matches!(look(&seen), Err(Fault::NotYet)));
    std::os::unix::fs::symlink("/etc/passwd", bench.inbox("fix")).unwrap();
    assert!(matches!(look(&seen), Err(Fault::NotYet)));
    fs::remove_file(bench.inbox("fix")).unwrap();
    nix::unistd::mkfifo(&bench.inbox("fix"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(matches!(look(&seen), Err(Fault::NotYet)), "and nothing waits for a writer of the FIFO");
}

#[tokio::test]
async fn a_file_that_takes_the_place_of_a_taken_one_stays() {
    let mut bench = Bench::new().await;
    bench.put("fix", SCRIPT);
    let taken = entry_of(&bench, "fix");
    bench.put("fix", "#!/bin/sh\nexit 7\n");
    let rooms = bench.owner().rooms;
    desk::remove(&rooms, &taken, RequestId::new([1; 16])).unwrap();
    assert_eq!(fs::read_to_string(bench.inbox("fix")).unwrap(), "#!/bin/sh\nexit 7\n");
    assert!(bench.names("work").is_empty());
    fs::remove_file(bench.inbox("fix")).unwrap();
    desk::remove(&rooms, &taken, RequestId::new([1; 16])).unwrap();
}
