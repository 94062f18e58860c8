//! Staging: where, how far, and that nothing is left of it.

use super::*;
use crate::verify::{Verified, verify};
use doorbell_wire::message::action::{Put, Run, RunParts};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

pub(crate) const REQUEST: RequestId = RequestId::new([7; 16]);

/// A guest with a state directory and a directory of its own to put things into.
pub(crate) struct Guest {
    dir: TempDir,
    pub(crate) state: StateDir,
}

impl Guest {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("etc")).unwrap();
        let state = StateDir::open(&dir.path().join("state")).unwrap();
        Self { dir, state }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("etc").join(name)
    }

    pub(crate) fn names(&self) -> Vec<String> {
        let list = fs::read_dir(self.dir.path().join("etc")).unwrap();
        let mut names: Vec<_> = list.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    pub(crate) fn put(&self, name: &str, form: Form, bytes: &[u8]) -> Put {
        let path = self.path(name).to_str().unwrap().parse().unwrap();
        Put { path, payload: payload(bytes), form, mode: None, owner: None, replace: true }
    }

    pub(crate) fn begin(&self, action: Action) -> Result<Staging, NotReceived> {
        Fetches::default().begin(&self.state, &offer(action, 5)).map(Option::unwrap)
    }

    pub(crate) fn staged(&self) -> usize {
        fs::read_dir(self.state.root().join("staging")).map_or(0, Iterator::count)
    }
}

fn payload(bytes: &[u8]) -> Payload {
    Payload::new(Digest::new(Sha256::digest(bytes).into()), bytes.len() as u64).unwrap()
}

fn offer(action: Action, sequence: u64) -> Offer {
    let sequence = Some(sequence.try_into().unwrap());
    Offer { request: REQUEST, sequence, floor: 0, action, timeout_ms: None, idempotent: false, signed: None }
}

#[test]
fn what_a_lost_connection_left_half_goes_on_where_it_was() {
    let guest = Guest::new();
    let bytes: Vec<u8> = (0..100_000_u32).map(|at| at.to_le_bytes()[1]).collect();
    let action = || Action::Put(guest.put("motd", Form::File, &bytes));
    let mut fetches = Fetches::default();
    let mut staging = fetches.begin(&guest.state, &offer(action(), 5)).unwrap().unwrap();
    staging.add(&bytes[..40_000]).unwrap();
    fetches.keep(staging);
    fetches.settle(5);
    let mut staging = fetches.begin(&guest.state, &offer(action(), 5)).unwrap().unwrap();
    assert_eq!(staging.offset(), 40_000);
    staging.add(&bytes[40_000..]).unwrap();
    let Verified::File(file) = verify(staging.finish().unwrap()).unwrap() else { panic!("no file") };
    assert!(fs::read(file.path()).unwrap() == bytes);
    clear(&guest.state, REQUEST);
    assert_eq!((guest.names().len(), guest.staged()), (0, 0));
}

#[test]
fn what_is_settled_or_has_other_bytes_is_not_gone_on_with() {
    let guest = Guest::new();
    let action = |bytes: &[u8]| Action::Put(guest.put("motd", Form::File, bytes));
    let mut fetches = Fetches::default();
    for (floor, bytes, offset) in [(5, b"four", 2), (6, b"four", 0), (5, b"five", 0)] {
        let mut staging = fetches.begin(&guest.state, &offer(action(b"four"), 5)).unwrap().unwrap();
        staging.add(b"fo").unwrap();
        fetches.keep(staging);
        fetches.settle(floor);
        let again = fetches.begin(&guest.state, &offer(action(bytes), 5)).unwrap().unwrap();
        assert_eq!(again.offset(), offset, "{floor}");
    }
    assert_eq!(guest.names(), [] as [&str; 0]);
}

#[test]
fn a_file_is_staged_beside_its_target_for_nobody_else_to_read() {
    let guest = Guest::new();
    symlink(guest.path(""), guest.dir.path().join("link")).unwrap();
    let path = guest.dir.path().join("link/motd").to_str().unwrap().parse().unwrap();
    let put = Put { path, ..guest.put("motd", Form::File, b"four") };
    let staging = guest.begin(Action::Put(put)).unwrap();
    let name = format!(".doorbell-{REQUEST}.part");
    assert_eq!(guest.path(&name).metadata().unwrap().mode() & 0o7777, 0o600);
    assert_eq!(guest.names(), [name]);
    drop(staging);
    assert_eq!(guest.names(), [] as [&str; 0]);
    clear(&guest.state, REQUEST);
    assert_eq!(guest.staged(), 0);
}

#[test]
fn zeros_take_no_room_and_count() {
    let guest = Guest::new();
    let bytes = [vec![0; 300_000], b"x".to_vec(), vec![0; 300_000]].concat();
    let mut staging = guest.begin(Action::Put(guest.put("disk", Form::File, &bytes))).unwrap();
    bytes.chunks(32_768).for_each(|piece| staging.add(piece).unwrap());
    let Verified::File(file) = verify(staging.finish().unwrap()).unwrap() else { panic!("no file") };
    let meta = file.path().metadata().unwrap();
    assert!(meta.len() == 600_001 && meta.blocks() <= 16, "{} blocks", meta.blocks());
    assert!(fs::read(file.path()).unwrap() == bytes);
}

#[test]
fn what_cannot_take_a_files_place_is_refused_before_anything_is_fetched() {
    let guest = Guest::new();
    fs::create_dir(guest.path("dir")).unwrap();
    fs::write(guest.path("file"), "x").unwrap();
    symlink("dir", guest.path("link")).unwrap();
    let errno = |name: &str, form| match guest.begin(Action::Put(guest.put(name, form, b"x"))) {
        Err(NotReceived::Unstageable(errno)) => errno,
        other => panic!("{other:?}"),
    };
    assert_eq!(errno("dir", Form::File), nix::libc::EISDIR);
    assert_eq!(errno("gone/x", Form::File), nix::libc::ENOENT);
    assert_eq!(errno("gone/x", Form::Archive), nix::libc::ENOENT);
    assert_eq!(errno("file/x", Form::File), nix::libc::ENOTDIR);
    assert_eq!(errno("file", Form::Archive), nix::libc::ENOTDIR);
    assert_eq!(errno("link", Form::Archive), nix::libc::ENOTDIR);
    assert_eq!(errno("..", Form::File), nix::libc::EISDIR);
    // A forgotten name must not cost a guest its /etc.
    let etc = Put { path: "/etc".parse().unwrap(), ..guest.put("x", Form::Archive, b"x") };
    let refusal = guest.begin(Action::Put(etc)).unwrap_err();
    assert_eq!(refusal, NotReceived::Unstageable(nix::libc::EPERM));
    let kept = Put { replace: false, ..guest.put("dir", Form::Archive, b"x") };
    let refusal = guest.begin(Action::Put(kept)).unwrap_err();
    assert_eq!(refusal, NotReceived::Unstageable(nix::libc::EEXIST));
    // A link is replaced itself, and not what it leads to.
    guest.begin(Action::Put(guest.put("link", Form::File, b"x"))).unwrap();
    assert_eq!(guest.names(), ["dir", "file", "link"]);
}

#[test]
fn an_agent_that_starts_again_removes_what_another_one_left() {
    let guest = Guest::new();
    let staging = guest.begin(Action::Put(guest.put("motd", Form::File, b"four"))).unwrap();
    // It goes down in the middle: nothing of it is dropped.
    std::mem::forget(staging);
    fs::create_dir_all(guest.path(&format!(".doorbell-{REQUEST}/half"))).unwrap();
    fs::write(guest.state.programs().join("left.part"), "x").unwrap();
    sweep(&guest.state, &[REQUEST]);
    assert_eq!((guest.names().len(), guest.staged()), (2, 1));
    sweep(&guest.state, &[]);
    assert_eq!((guest.names().len(), guest.staged()), (0, 0));
    assert_eq!(fs::read_dir(guest.state.programs()).unwrap().count(), 0);
}

#[test]
fn more_bytes_than_offered_are_refused_before_they_are_written() {
    let guest = Guest::new();
    let mut staging = guest.begin(Action::Put(guest.put("motd", Form::File, b"four"))).unwrap();
    staging.add(b"fou").unwrap();
    assert_eq!(staging.add(b"rs"), Err(NotReceived::Length { expected: 4, got: 5 }));
    assert_eq!(staging.finish().unwrap_err(), NotReceived::Length { expected: 4, got: 3 });
    assert_eq!(guest.names(), [] as [&str; 0]);
}

#[test]
fn a_state_directory_that_is_gone_is_named_by_errno() {
    let guest = Guest::new();
    fs::remove_dir_all(guest.state.programs()).unwrap();
    let refusal = guest.begin(crate::verify::tests::run(b"x")).unwrap_err();
    assert_eq!(refusal, NotReceived::Unstageable(nix::libc::ENOENT));
}

#[test]
fn a_program_of_the_guest_needs_no_bytes() {
    let parts = RunParts {
        executable: Executable::InGuest("sh".to_owned().try_into().unwrap()),
        args: Vec::new(),
        env: Vec::new(),
        cwd: None,
        user: None,
        input: Default::default(),
        limits: Default::default(),
        new_privileges: false,
    };
    let guest = Guest::new();
    let action = Action::Run(Run::try_from(parts).unwrap());
    assert!(Fetches::default().begin(&guest.state, &offer(action, 1)).unwrap().is_none());
    assert!(Path::new(&guest.path("")).exists());
}

#[test]
fn rights_of_a_staged_archive_are_the_agents_own() {
    let guest = Guest::new();
    let _staging = guest.begin(Action::Put(guest.put("tree", Form::Archive, b"x"))).unwrap();
    let file = guest.state.root().join("staging").join(format!("{REQUEST}.payload"));
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(guest.names(), [] as [&str; 0]);
}

#[test]
fn halves_are_kept_up_to_a_bound_and_the_oldest_goes() {
    let guest = Guest::new();
    let mut fetches = Fetches::default();
    for number in 1..=3 {
        let bytes = vec![number; 1000];
        let request = RequestId::new([number; 16]);
        let name = format!("part-{number}");
        let offered = Offer { request, ..offer(Action::Put(guest.put(&name, Form::File, &bytes)), 5) };
        let mut staging = fetches.begin(&guest.state, &offered).unwrap().unwrap();
        staging.add(&bytes[..400]).unwrap();
        fetches.keep(staging);
    }
    fetches.shorten(1200);
    assert_eq!(guest.names().len(), 3);
    fetches.shorten(800);
    assert_eq!(guest.names().len(), 2, "{:?}", guest.names());
    assert!(fetches.0.iter().all(|kept| kept.request != RequestId::new([1; 16])));
    fetches.shorten(0);
    assert_eq!(guest.names(), [""; 0]);
}
