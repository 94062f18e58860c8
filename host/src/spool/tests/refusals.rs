//! What is no file of a writer's own, or not fit, is refused with one clear line and moved out of the way.

use super::*;
use crate::spool::entry::{Entry, Fault, Writers, about_of, open};
use nix::sys::stat::{Mode, SFlag, mknod};
use nix::unistd::{Gid, Uid, mkfifo};
use std::fs::{File, hard_link};
use std::os::unix::fs::{chown, symlink};
use std::os::unix::net::UnixListener;

#[tokio::test]
async fn links_pipes_sockets_and_devices_are_refused_and_removed_unopened() {
    let mut bench = Bench::new().await;
    symlink("/etc/shadow", bench.inbox("link")).unwrap();
    symlink("../outbox", bench.inbox("up")).unwrap();
    mkfifo(&bench.inbox("pipe"), Mode::S_IRWXU).unwrap();
    let _listener = UnixListener::bind(bench.inbox("socket")).unwrap();
    let device = mknod(&bench.inbox("device"), SFlag::S_IFCHR, Mode::S_IRUSR, nix::libc::makedev(1, 3));
    let all = ["link", "up", "pipe", "socket", "device"];
    all.iter().for_each(|name| bench.moved_in(name));
    bench.pass().await;
    assert!(bench.refusal("link").starts_with("it is a symbolic link; only a regular file"));
    assert!(bench.refusal("up").starts_with("it is a symbolic link"));
    assert!(bench.refusal("pipe").starts_with("it is a FIFO"));
    assert!(bench.refusal("socket").starts_with("it is a socket"));
    // Only root can make one.
    if device.is_ok() {
        assert!(bench.refusal("device").starts_with("it is a device"));
    }
    assert!(bench.names("inbox").is_empty() && bench.names("work").is_empty());
    assert!(
        bench.names("outbox").iter().all(|name| name.ends_with(".refused.json")),
        "{:?}",
        bench.names("outbox")
    );
    assert!(bench.requests().await.is_empty());
}

#[tokio::test]
async fn a_directory_is_refused_once_and_stays() {
    let mut bench = Bench::new().await;
    fs::create_dir(bench.inbox("sub")).unwrap();
    for _ in 0..3 {
        bench.moved_in("sub");
        bench.pass().await;
    }
    assert!(bench.refusal("sub").starts_with("it is a directory"));
    assert_eq!(
        (bench.names("inbox"), bench.names("outbox")),
        (vec!["sub".into()], vec!["sub.refused.json".into()])
    );
}

#[tokio::test]
async fn a_file_with_two_names_is_refused() {
    let mut bench = Bench::new().await;
    bench.put("fix", SCRIPT);
    hard_link(bench.inbox("fix"), bench.dir.path().join("other")).unwrap();
    bench.moved_in("fix");
    bench.pass().await;
    assert!(bench.refusal("fix").starts_with("it has 2 names, expected one"));
    assert_eq!(bench.names("outbox"), ["fix.refused", "fix.refused.json"]);
    assert_eq!(fs::read_to_string(bench.outbox("fix.refused")).unwrap(), SCRIPT, "nothing is lost");
}

#[tokio::test]
async fn modes_and_lengths_that_do_not_hold_are_refused() {
    let mut bench = Bench::new().await;
    for (name, mode) in [("setuid", 0o4755), ("setgid", 0o2755)] {
        bench.put(name, SCRIPT);
        chmod(&bench.inbox(name), mode);
    }
    bench.put("empty", "");
    bench.put("large", "x");
    File::options().write(true).open(bench.inbox("large")).unwrap().set_len((64 << 20) + 1).unwrap();
    bench.put("most", "x");
    File::options().write(true).open(bench.inbox("most")).unwrap().set_len(64 << 20).unwrap();
    bench.put("long.json", " ".repeat((512 << 10) + 1));
    for name in ["setuid", "setgid", "large", "most"] {
        bench.moved_in(name);
    }
    bench.pass().await;
    assert!(bench.refusal("setuid").contains("mode 4755 sets a user or group"));
    assert!(bench.refusal("setgid").contains("mode 2755 sets a user or group"));
    assert_eq!(bench.refusal("empty"), "it is empty");
    assert_eq!(bench.refusal("large"), "it has 67108865 bytes, 67108864 are allowed");
    assert!(bench.refusal("long").ends_with("524288 are allowed"));
    assert_eq!(bench.requests().await.len(), 1, "the longest program is taken");
}

#[tokio::test]
async fn names_and_contents_that_mean_nothing_are_refused_by_name() {
    let mut bench = Bench::new().await;
    bench.put("fix.sh", SCRIPT);
    bench.put("two words", SCRIPT);
    bench.put("bad.json", r#"{"action": {"type": "run"}, "timeout": 5}"#);
    bench.put("none.json", r#"{"action": {"type": "run"}}"#);
    bench.put("gone.json", r#"{"action": {"type": "run", "program": {"file": "no.program"}}}"#);
    bench.put("out.json", r#"{"action": {"type": "run", "program": {"file": "../outbox/x.program"}}}"#);
    bench.put(
        "id.json",
        r#"{"id": "0123456789abcdef0123456789abcdef", "action": {"type": "link-up", "link": "eth0"}}"#,
    );
    bench.put(
        "lacks.json",
        format!(
            r#"{{"action": {{"type": "run", "program": {{"digest": "{}", "name": "x"}}}}}}"#,
            "0".repeat(64)
        ),
    );
    bench.pass().await;
    assert!(bench.refusal("fix.sh").contains(".json or .program behind"));
    assert!(
        bench.names("outbox").iter().any(|name| name.starts_with("name-")),
        "{:?}",
        bench.names("outbox")
    );
    assert!(bench.refusal("bad").contains("unknown field `timeout`"));
    assert_eq!(bench.refusal("none"), "a run needs a command, a program or from");
    assert!(bench.refusal("gone").starts_with("its program no.program does not lie beside it"));
    assert!(bench.refusal("out").contains("expected the name of a file beside it"));
    assert!(bench.refusal("id").contains("leave it out"));
    assert!(bench.refusal("lacks").starts_with("the manager has no program"));
    assert!(bench.requests().await.is_empty());
}

#[tokio::test]
async fn a_companion_is_looked_at_like_any_file() {
    let mut bench = Bench::new().await;
    symlink("/etc/shadow", bench.inbox("tool.program")).unwrap();
    bench.put("use.json", r#"{"action": {"type": "run", "program": {"file": "tool.program"}}}"#);
    bench.pass().await;
    assert!(bench.refusal("use").starts_with("it is a symbolic link"));
    assert!(bench.requests().await.is_empty());
}

#[tokio::test]
async fn one_refusal_does_not_take_the_place_of_another() {
    let mut bench = Bench::new().await;
    for _ in 0..3 {
        bench.put("fix", "");
        bench.pass().await;
    }
    assert_eq!(bench.names("outbox").len(), 6);
    assert_eq!(bench.refusal("fix.3"), "it is empty");
}

#[tokio::test]
async fn the_1025th_file_that_waits_is_refused() {
    let mut bench = Bench::new().await;
    for number in 0..1030 {
        bench.put(&format!("n{number:04}"), SCRIPT);
    }
    let mut passes = 0;
    while bench.pass().await.more {
        passes += 1;
        assert!(passes < 10, "it does not end");
    }
    assert_eq!(bench.requests().await.len(), 256, "no more are open at once");
    let refused = bench.names("outbox").iter().filter(|name| name.ends_with(".json")).count();
    assert_eq!((refused, bench.names("inbox").len()), (6, 1024 - 256));
    assert!(bench.refusal("n1029").starts_with("the inbox holds more than 1024 files"));
}

#[tokio::test]
async fn a_full_outbox_stops_its_guest_until_its_owner_removes_something() {
    let mut bench = Bench::new().await;
    for number in 0..8_192 {
        File::create(bench.outbox(&format!("old{number}"))).unwrap();
    }
    bench.put("fix", SCRIPT);
    let why = bench.try_pass().await.unwrap_err();
    assert!(why.starts_with("the outbox holds 8192 entries"), "{why}");
    assert_eq!(bench.names("inbox"), ["fix"]);
    fs::remove_file(bench.outbox("old0")).unwrap();
    bench.moved_in("fix");
    bench.pass().await;
    assert_eq!(bench.requests().await.len(), 1);
}

#[tokio::test]
async fn nothing_is_taken_from_an_inbox_that_everybody_may_write() {
    let mut bench = Bench::new().await;
    bench.put("fix", SCRIPT);
    chmod(&bench.home().join("inbox"), 0o1777);
    let why = bench.try_pass().await.unwrap_err();
    assert!(why.contains("mode 1777: everybody on this host may write there"), "{why}");
    assert!(bench.requests().await.is_empty());
}

/// Whoever may write into a directory can move a file of another there.
#[tokio::test]
async fn a_file_is_taken_only_from_who_may_write_there_and_never_in_the_managers_name() {
    if !Uid::effective().is_root() {
        return;
    }
    let (ci, other) = (Some(4_200_001), Some(4_200_002));
    let mut bench = Bench::new().await;
    let inbox = bench.home().join("inbox");
    let mut put = |name: &str, owner: Option<u32>| {
        bench.put(name, SCRIPT);
        chown(bench.inbox(name), owner, None).unwrap();
        bench.moved_in(name);
    };
    // An inbox that only root may write.
    put("mine", Some(0));
    put("strange", other);
    bench.pass().await;
    assert!(bench.refusal("strange").starts_with("it belongs to uid 4200002, who is neither"));
    assert_eq!(bench.requests().await.len(), 1);
    // One of a user.
    chown(&inbox, ci, None).unwrap();
    let mut put = |name: &str, owner: Option<u32>| {
        bench.put(name, SCRIPT);
        chown(bench.inbox(name), owner, None).unwrap();
        bench.moved_in(name);
    };
    put("theirs", ci);
    put("forged", Some(0));
    put("others", other);
    bench.pass().await;
    assert!(bench.refusal("forged").starts_with("it belongs to uid 0, in whose name others"));
    assert!(bench.refusal("others").starts_with("it belongs to uid 4200002"));
    let requests = bench.requests().await;
    assert_eq!((requests.len(), requests[1].asked_by.as_str()), (2, "uid 4200001 by spool"));
}

#[test]
fn a_file_that_the_manager_may_not_read_is_refused() {
    if !Uid::effective().is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    chmod(dir.path(), 0o755);
    fs::write(dir.path().join("fix"), SCRIPT).unwrap();
    chmod(&dir.path().join("fix"), 0o600);
    let path = dir.path().to_owned();
    // A thread of its own: it gives up root's rights over files.
    let refused = std::thread::spawn(move || {
        nix::unistd::setfsgid(Gid::from_raw(4_200_001));
        nix::unistd::setfsuid(Uid::from_raw(4_200_001));
        let room = std::os::fd::OwnedFd::from(File::open(path).unwrap());
        let entry = Entry { name: b"fix".to_vec(), about: about_of(&room, b"fix").unwrap() };
        let writers = Writers::of(&room).unwrap();
        match open(&room, &entry, 99, &writers) {
            Err(Fault::Refused(line)) => line,
            other => panic!("{other:?}"),
        }
    });
    assert_eq!(refused.join().unwrap(), "the manager may not read it");
}
