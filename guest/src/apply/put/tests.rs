//! Putting in one step: what was there, or what was sent, and nothing beside it.

use super::*;
use crate::fetch::clear;
use crate::fetch::tests::{Guest, REQUEST};
use crate::verify::{Verified, verify};
use doorbell_wire::message::action::Action;
use std::fs::{self as std_fs, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

fn staged(guest: &Guest, put: &Put, bytes: &[u8]) -> VerifiedFile {
    let mut staging = guest.begin(Action::Put(put.clone())).unwrap();
    bytes.chunks(10_000).for_each(|piece| staging.add(piece).unwrap());
    match verify(staging.finish().unwrap()).unwrap() {
        Verified::File(file) => file,
        Verified::Program(_) => panic!("no file"),
    }
}

fn archive_of(tree: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    archive::pack(tree, b"top", &mut bytes, &mut StandardError).unwrap();
    bytes
}

#[test]
fn a_file_takes_the_place_of_the_one_before_with_its_rights() {
    let guest = Guest::new();
    let target = guest.path("motd");
    for (before, asked, after) in [
        (None, None, 0o644),
        (None, Some(0o755), 0o755),
        (Some(0o600), None, 0o600),
        (Some(0o600), Some(0o4711), 0o4711),
    ] {
        let _ = std_fs::remove_file(&target);
        if let Some(mode) = before {
            std_fs::write(&target, "before").unwrap();
            std_fs::set_permissions(&target, Permissions::from_mode(mode)).unwrap();
        }
        let mode = asked.map(|bits: u16| bits.try_into().unwrap());
        let put = Put { mode, ..guest.put("motd", Form::File, b"after") };
        let (evidence, faults) = put_file(&put, &staged(&guest, &put, b"after")).unwrap();
        assert_eq!((evidence.len, evidence.digest, faults), (5, Some(put.payload.digest), 0));
        assert_eq!(u16::from(evidence.mode), after);
        assert_eq!(
            (std_fs::read(&target).unwrap(), target.metadata().unwrap().mode() & 0o7777),
            (b"after".to_vec(), after.into())
        );
        clear(&guest.state, REQUEST);
        assert_eq!((guest.names().len(), guest.staged()), (1, 0));
    }
}

#[test]
fn of_somebody_elses_file_no_right_is_taken_over_that_would_be_another_one() {
    let guest = Guest::new();
    let target = guest.path("fix.sh");
    for (before, owner, after) in [
        (0o4777, Some("65534:65534"), 0o4777),
        (0o4777, None, 0o755),
        (0o640, None, 0o640),
        (0o2660, Some("0:65534"), 0o640),
    ] {
        let _ = std_fs::remove_file(&target);
        std_fs::write(&target, "before").unwrap();
        std::os::unix::fs::chown(&target, Some(65_534), Some(65_534)).unwrap();
        std_fs::set_permissions(&target, Permissions::from_mode(before)).unwrap();
        let owner = owner.map(|owner: &str| owner.parse().unwrap());
        let put = Put { owner, ..guest.put("fix.sh", Form::File, b"after") };
        let (evidence, _) = put_file(&put, &staged(&guest, &put, b"after")).unwrap();
        assert_eq!(u16::from(evidence.mode), after);
        clear(&guest.state, REQUEST);
    }
}

#[test]
fn a_link_is_replaced_and_what_it_leads_to_is_not() {
    let guest = Guest::new();
    std_fs::write(guest.path("real"), "real").unwrap();
    symlink("real", guest.path("link")).unwrap();
    let put = guest.put("link", Form::File, b"new");
    put_file(&put, &staged(&guest, &put, b"new")).unwrap();
    assert_eq!(std_fs::read(guest.path("real")).unwrap(), b"real");
    assert_eq!(std_fs::read(guest.path("link")).unwrap(), b"new");
    assert!(!guest.path("link").is_symlink());
}

#[test]
fn what_goes_wrong_is_one_line_and_leaves_what_was_there() {
    let guest = Guest::new();
    std_fs::write(guest.path("motd"), "before").unwrap();
    let put = Put { owner: Some("no-such-user".parse().unwrap()), ..guest.put("motd", Form::File, b"after") };
    let line = put_file(&put, &staged(&guest, &put, b"after")).unwrap_err();
    assert!(line.ends_with("motd: this guest has no user or group \"no-such-user\""), "{line}");
    clear(&guest.state, REQUEST);
    // A directory came there meanwhile.
    let put = guest.put("late", Form::File, b"after");
    let file = staged(&guest, &put, b"after");
    std_fs::create_dir(guest.path("late")).unwrap();
    let line = put_file(&put, &file).unwrap_err();
    assert!(line.ends_with("late: is a directory"), "{line}");
    clear(&guest.state, REQUEST);
    assert_eq!(guest.names(), ["late", "motd"]);
    assert_eq!(std_fs::read(guest.path("motd")).unwrap(), b"before");
}

#[test]
fn a_tree_takes_the_place_of_the_one_before_whole() {
    let guest = Guest::new();
    let tree = tempfile::tempdir().unwrap();
    std_fs::create_dir(tree.path().join("sub")).unwrap();
    std_fs::write(tree.path().join("sub/new"), "new").unwrap();
    symlink("sub/new", tree.path().join("link")).unwrap();
    let bytes = archive_of(tree.path());
    for had in [false, true] {
        if had {
            std_fs::write(guest.path("site/old"), "old").unwrap();
        }
        let put = guest.put("site", Form::Archive, &bytes);
        let (evidence, faults) = put_tree(&put, &staged(&guest, &put, &bytes)).unwrap();
        assert_eq!((evidence.kind, evidence.entries, evidence.len, faults), (FileKind::Tree, 4, 3, 0));
        clear(&guest.state, REQUEST);
        assert_eq!((guest.names(), guest.staged()), (vec!["site".to_owned()], 0));
        assert_eq!(std_fs::read(guest.path("site/link")).unwrap(), b"new");
        assert!(!guest.path("site/old").exists());
    }
}

#[test]
fn an_archive_that_is_none_leaves_the_tree_that_was_there() {
    let guest = Guest::new();
    std_fs::create_dir(guest.path("site")).unwrap();
    std_fs::write(guest.path("site/old"), "old").unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    let lone = archive_of(file.path());
    let cut = &archive_of(Path::new("/proc/sys/kernel"))[..5000];
    for (bytes, why) in [
        (b"nonsense".as_slice(), "the archive ends early"),
        (cut, "the archive ends early"),
        (&lone, "not a directory"),
    ] {
        let put = guest.put("site", Form::Archive, bytes);
        let line = put_tree(&put, &staged(&guest, &put, bytes)).unwrap_err();
        assert!(line.ends_with(&format!("site: {why}")), "{line}");
        clear(&guest.state, REQUEST);
        assert_eq!((guest.names(), guest.staged()), (vec!["site".to_owned()], 0));
        assert!(guest.path("site/old").exists());
    }
}
