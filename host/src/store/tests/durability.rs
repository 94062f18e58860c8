//! State directories: whose they are, who has them, and what a full disk does.

use super::*;
use crate::input::Inputs;
use crate::output::Outputs;
use crate::programs::Programs;
use crate::uploads::{UploadId, Uploads};
use doorbell_wire::message::Stream;
use futures_util::stream;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

#[tokio::test]
async fn a_restart_keeps_everything() {
    let bench = Bench::new().await;
    let open = bench.accept(plain()).await;
    let done = bench.accept(plain()).await;
    bench.acknowledge(done.id, Outcome::Succeeded).await;
    bench.store.pend_key(bench.guest.id, PublicKey::new([8; 32]), "cid 7").await.unwrap();
    let before = (bench.store.guests().await.unwrap(), bench.store.audit_records(0, 100).await.unwrap());
    let bench = bench.restart();
    let after = (bench.store.guests().await.unwrap(), bench.store.audit_records(0, 100).await.unwrap());
    assert_eq!(format!("{before:?}"), format!("{after:?}"));
    assert_eq!(bench.state(open.id).await, State::Queued);
    assert_eq!(bench.state(done.id).await, State::Succeeded);
    assert_eq!(bench.store.pending().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_state_directory_is_made_for_its_owner_alone() {
    let bench = Bench::new().await;
    let mode = bench.dir.path().join("state").metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o700);
}

#[test]
fn a_state_directory_that_others_can_enter_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    std::fs::create_dir(&state).unwrap();
    for mode in [0o755, 0o710, 0o701, 0o740] {
        std::fs::set_permissions(&state, std::fs::Permissions::from_mode(mode)).unwrap();
        let error = Store::open(&config(dir.path())).unwrap_err();
        let shown = state.display();
        assert_eq!(
            error.to_string(),
            format!(
                "state directory {shown} has mode {mode:04o}, so that others can enter it, expected 0700: \
                 `chmod 0700 {shown}`, or give another one with --state-dir"
            )
        );
        assert_eq!(state.read_dir().unwrap().count(), 0, "nothing was written to it");
    }
}

#[test]
fn a_state_file_that_others_can_open_is_refused_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    drop(Store::open(&config(dir.path())).unwrap());
    let file = dir.path().join("state/doorbell.sqlite");
    let before = std::fs::read(&file).unwrap();
    for mode in [0o640, 0o604, 0o602, 0o610, 0o666] {
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        let error = Store::open(&config(dir.path())).unwrap_err();
        let shown = file.display();
        assert_eq!(
            error.to_string(),
            format!(
                "{shown} has mode {mode:04o}, so that others can open it, expected 0600: `chmod 0600 {shown}` once you \
                 know who could"
            )
        );
        assert_eq!(std::fs::read(&file).unwrap(), before);
    }
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    drop(Store::open(&config(dir.path())).unwrap());
}

#[test]
fn a_state_directory_of_another_user_is_refused() {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: only root can give a directory away");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    std::fs::create_dir(&state).unwrap();
    std::os::unix::fs::chown(&state, Some(65534), None).unwrap();
    let line = Store::open(&config(dir.path())).unwrap_err().to_string();
    assert!(line.contains("belongs to uid 65534, expected uid 0, who runs this daemon: `chown 0 "), "{line}");
}

#[tokio::test]
async fn a_second_daemon_on_the_same_state_is_told_who_has_it() {
    let bench = Bench::new().await;
    let error = Store::open(&config(bench.dir.path())).unwrap_err();
    assert!(matches!(error, StoreError::InUse { .. }), "{error:?}");
    let pid = std::process::id();
    let line = error.to_string();
    assert!(line.ends_with(&format!("is in use by the daemon with pid {pid}: stop that one, or give another directory with --state-dir")), "{line}");
    bench.accept(plain()).await;
    bench.restart();
}

#[tokio::test]
async fn a_data_base_of_a_newer_daemon_is_refused() {
    let bench = Bench::new().await;
    let Bench { dir, store, .. } = bench;
    drop(store);
    let conn = Connection::open(dir.path().join("state/doorbell.sqlite")).unwrap();
    conn.pragma_update(None, "user_version", 99).unwrap();
    let line = Store::open(&config(dir.path())).unwrap_err().to_string();
    assert_eq!(
        line,
        "the data base has form 99, this daemon knows form 8: start the newer daemon that wrote it"
    );
}

#[test]
fn a_data_base_of_a_form_that_was_never_released_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(Store::open(&config(dir.path())).unwrap());
    let conn = Connection::open(dir.path().join("state/doorbell.sqlite")).unwrap();
    conn.pragma_update(None, "user_version", 1).unwrap();
    let line = Store::open(&config(dir.path())).unwrap_err().to_string();
    assert!(
        line.starts_with("the data base has form 1, which no release wrote and this daemon does not read"),
        "{line}"
    );
}

#[test]
fn durability_is_asserted_by_reading_the_pragmas_back() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("state")).unwrap();
    let (writing, reading) = open::connections(&dir.path().join("state")).unwrap();
    let number = |pragma| writing.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0)).unwrap();
    let mode: String = writing.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
    assert_eq!((mode.as_str(), number("synchronous"), number("foreign_keys")), ("wal", 2, 1));
    assert!(reading.execute("DELETE FROM requests", []).is_err());
    // Without a file there is no WAL, so the assertion has to fail.
    let error = open::prepare(&Connection::open_in_memory().unwrap()).unwrap_err();
    assert!(
        error.to_string().starts_with("the data base has journal_mode \"memory\", expected \"wal\""),
        "{error}"
    );
}

/// A disk of its own that is full after a mebibyte.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            println!("skipped: only root can mount a small disk");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=1m,mode=0700", "doorbell-test"])
            .arg(dir.path())
            .output()
            .unwrap();
        if !mounted.status.success() {
            println!(
                "skipped: a small disk cannot be mounted here: {}",
                String::from_utf8_lossy(&mounted.stderr)
            );
            return None;
        }
        Some(Self(dir))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let done = Command::new("umount").arg(self.0.path()).status();
        if !done.is_ok_and(|status| status.success()) {
            println!("the small disk at {} stays mounted", self.0.path().display());
        }
    }
}

#[tokio::test]
async fn a_full_disk_refuses_requests_in_one_line_and_loses_none_it_accepted() {
    let Some(disk) = SmallDisk::mount() else { return };
    let store = Store::open(&config(disk.0.path())).unwrap();
    let guest = store.add_guest(&ROOT, new_guest("web-3", 7, Some(KEY))).await.unwrap();
    let big = AcceptRequest { action: command(&["x".repeat(20_000).as_str()]), ..plain() };
    let mut accepted = Vec::new();
    let error = loop {
        match store.accept(&ROOT, &guest.name, big.clone()).await {
            Ok((_, row)) => accepted.push(row.id),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StoreError::NoSpace { .. }), "{error:?}");
    assert!(error.to_string().contains("free some on the disk of the state directory"), "{error}");
    assert!(accepted.len() > 5, "{}", accepted.len());
    let check = async |store: &Store| {
        for id in &accepted {
            assert_eq!(store.request(*id).await.unwrap().state, State::Queued);
        }
        let trail = store.audit_check().await.unwrap();
        assert_eq!((trail.intact, trail.records), (true, accepted.len() as u64 + 1), "{trail:?}");
    };
    check(&store).await;
    drop(store);
    let enlarged = Command::new("mount").args(["-o", "remount,size=8m"]).arg(disk.0.path()).status().unwrap();
    assert!(enlarged.success());
    let store = Store::open(&config(disk.0.path())).unwrap();
    check(&store).await;
    store.accept(&ROOT, &guest.name, big).await.unwrap();
}

#[tokio::test]
async fn a_disk_that_fills_under_many_callers_keeps_exactly_what_was_accepted() {
    let Some(disk) = SmallDisk::mount() else { return };
    let store = Store::open(&config(disk.0.path())).unwrap();
    let guest = store.add_guest(&ROOT, new_guest("web-3", 7, Some(KEY))).await.unwrap();
    let callers: Vec<_> = (0..32)
        .map(|_| {
            let (store, name) = (store.clone(), guest.name.clone());
            let big = AcceptRequest { action: command(&["x".repeat(5_000).as_str()]), ..plain() };
            tokio::spawn(async move {
                let mut accepted = Vec::new();
                loop {
                    match store.accept(&ROOT, &name, big.clone()).await {
                        Ok((_, row)) => accepted.push(row.id),
                        Err(error) => break (accepted, error),
                    }
                }
            })
        })
        .collect();
    let mut accepted = Vec::new();
    for caller in callers {
        let (ids, error) = caller.await.unwrap();
        assert!(matches!(error, StoreError::NoSpace { .. }), "{error:?}");
        accepted.extend(ids);
    }
    drop(store);
    let store = Store::open(&config(disk.0.path())).unwrap();
    let filter = RequestFilter { guest: None, open: true, limit: 10_000 };
    let mut found: Vec<_> = store.requests(filter).await.unwrap().0.into_iter().map(|row| row.id).collect();
    found.sort_unstable();
    accepted.sort_unstable();
    assert!(!accepted.is_empty());
    assert_eq!(found, accepted);
    assert!(store.audit_check().await.unwrap().intact);
}

#[tokio::test]
async fn a_full_disk_refuses_a_program_and_leaves_nothing_of_it() {
    let Some(disk) = SmallDisk::mount() else { return };
    let programs = Programs::open(disk.0.path()).unwrap();
    let pieces = stream::iter((0..64).map(|_| Ok::<_, std::io::Error>(vec![1_u8; 64 * 1024])));
    let error = programs.put(pieces).await.unwrap_err();
    assert!(matches!(error, StoreError::NoSpace { .. }), "{error:?}");
    let left = disk.0.path().join("programs/arriving").read_dir().unwrap().count();
    assert_eq!(left, 0);
    let small = stream::iter([Ok::<_, std::io::Error>(b"true\n".to_vec())]);
    programs.put(small).await.unwrap();
}

#[tokio::test]
async fn a_full_disk_refuses_output_and_keeps_no_torn_chunk() {
    let Some(disk) = SmallDisk::mount() else { return };
    let outputs = Outputs::open(disk.0.path()).unwrap();
    let id = RequestId::new([1; 16]);
    let chunk = 30_000;
    let mut end = 0;
    let error = loop {
        match outputs.append(id, Stream::Stdout, end, vec![2; chunk], u64::MAX).await {
            Ok(()) => end += chunk as u64,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StoreError::NoSpace { .. }), "{error:?}");
    assert_eq!(outputs.lens(id).await.unwrap().stdout, end);
}

#[tokio::test]
async fn a_full_disk_refuses_input_and_uploads_and_keeps_nothing_half_done() {
    let Some(disk) = SmallDisk::mount() else { return };
    let inputs = Inputs::open(disk.0.path()).unwrap();
    let id = RequestId::new([1; 16]);
    inputs.begin(id).await.unwrap();
    let mut len = 0;
    let error = loop {
        match inputs.append(id, len, vec![2; 30_000]).await {
            Ok(end) => len = end,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StoreError::NoSpace { .. }), "{error:?}");
    assert_eq!(inputs.state(id).await.unwrap().len, len);
    let uploads = Uploads::open(disk.0.path()).unwrap();
    let upload = UploadId::parse(&crate::access::Scope::All, &"0a".repeat(16)).unwrap();
    uploads.append(upload, 0, b"").await.unwrap();
    let error = uploads.append(upload, 0, vec![2; 1024 * 1024]).await.unwrap_err();
    assert!(matches!(error, StoreError::NoSpace { .. }), "{error:?}");
    let given_up = uploads.len(upload).await.unwrap_err();
    assert!(matches!(given_up, StoreError::NotFound { .. }), "its part takes the room that others need");
    inputs.remove(id).await;
    uploads.append(upload, 0, vec![2; 30_000]).await.unwrap();
}
