//! What is packed is what is unpacked: contents, rights, times, links, holes; and what cannot be packed is told.
//! Other programs read our archives, and we read theirs.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed step is a failed test")]

mod maker;

use doorbell_archive::{Kind, PackError, Packed, Watch, pack};
use maker::{Told, Yard};
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

fn packed(path: &Path, top: &str) -> (Vec<u8>, Packed, Vec<String>) {
    let (mut bytes, mut told) = (Vec::new(), Told::default());
    let packed = pack(path, top.as_bytes(), &mut bytes, &mut told).unwrap();
    (bytes, packed, told.0)
}

/// A tree with one of each.
fn tree(top: &Path) {
    let long = format!("{}/{}", "d".repeat(120), "n".repeat(200));
    std::fs::create_dir_all(top.join(&long).parent().unwrap()).unwrap();
    std::fs::write(top.join(&long), "long").unwrap();
    std::fs::write(top.join("empty"), "").unwrap();
    std::fs::write(top.join("odd\nname \u{e4}"), "odd").unwrap();
    std::fs::write(top.join("block"), [7; 512]).unwrap();
    std::fs::write(top.join("large"), (0..300_000_u32).flat_map(u32::to_le_bytes).collect::<Vec<u8>>())
        .unwrap();
    std::fs::create_dir(top.join("shut")).unwrap();
    std::fs::write(top.join("shut/in"), "in").unwrap();
    symlink("../block", top.join("shut/up")).unwrap();
    symlink(format!("{}/x", "t".repeat(150)), top.join("nowhere")).unwrap();
    std::fs::hard_link(top.join("block"), top.join("again")).unwrap();
    std::fs::set_permissions(top.join("block"), Permissions::from_mode(0o640)).unwrap();
    std::fs::set_permissions(top.join("shut"), Permissions::from_mode(0o555)).unwrap();
    let file = File::options().write(true).open(top.join("empty")).unwrap();
    file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000)).unwrap();
}

/// Every path beneath a directory with what can be compared of it.
fn listing(top: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut waiting = vec![top.to_owned()];
    while let Some(path) = waiting.pop() {
        let meta = std::fs::symlink_metadata(&path).unwrap();
        let name = path.strip_prefix(top).unwrap().display().to_string();
        let (mode, mtime) = (meta.mode(), meta.mtime());
        if meta.is_dir() {
            waiting.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            lines.push(format!("{name} {mode:o} {mtime}"));
        } else if meta.is_symlink() {
            lines.push(format!("{name} -> {:?} {mtime}", std::fs::read_link(&path).unwrap()));
        } else {
            let sum = std::fs::read(&path)
                .unwrap()
                .iter()
                .fold(0_u64, |sum, &byte| sum * 31 % 1_000_003 + u64::from(byte));
            lines.push(format!("{name} {mode:o} {mtime} {} {sum}", meta.len()));
        }
    }
    lines.sort();
    lines
}

#[test]
fn a_tree_comes_back_as_it_was() {
    let from = tempfile::tempdir().unwrap();
    tree(from.path());
    let (bytes, packed, told) = packed(from.path(), "top");
    assert!(told.is_empty(), "{told:?}");
    assert_eq!((packed.kind, packed.entries, packed.faults), (Kind::Tree, 12, 0));
    let mut yard = Yard::new();
    let unpacked = yard.unpack(bytes.as_slice()).unwrap();
    assert!(yard.told.0.is_empty(), "{:?}", yard.told);
    assert_eq!((unpacked.kind, unpacked.entries, unpacked.len), (Kind::Tree, 12, packed.len));
    let mode = from.path().metadata().unwrap().mode();
    std::fs::set_permissions(from.path(), Permissions::from_mode(mode & !0o022)).unwrap();
    assert_eq!(listing(&yard.top()), listing(from.path()));
}

#[test]
fn other_programs_read_ours_and_we_read_theirs() {
    let from = tempfile::tempdir().unwrap();
    let top = from.path().join("top");
    std::fs::create_dir(&top).unwrap();
    tree(&top);
    // Their hard links are not ours.
    std::fs::remove_file(top.join("again")).unwrap();
    let (bytes, ..) = packed(&top, "top");
    let file = from.path().join("ours.tar");
    std::fs::write(&file, &bytes).unwrap();
    let to = tempfile::tempdir().unwrap();
    let status = Command::new("tar").arg("-xpf").arg(&file).arg("-C").arg(to.path()).status().unwrap();
    assert!(status.success());
    assert_eq!(listing(&to.path().join("top")), listing(&top));
    for format in ["gnu", "pax", "posix"] {
        let theirs = from.path().join("theirs.tar");
        let mut command = Command::new("tar");
        command.arg(format!("--format={format}")).arg("-cf").arg(&theirs).arg("-C").arg(from.path());
        assert!(command.arg("top").status().unwrap().success());
        let mut yard = Yard::new();
        yard.unpack(File::open(&theirs).unwrap()).unwrap_or_else(|error| panic!("{format}: {error}"));
        assert!(yard.told.0.is_empty(), "{format}: {:?}", yard.told);
        assert_eq!(listing(&yard.top()), listing(&top), "{format}");
    }
}

#[test]
fn one_file_is_one_entry_and_its_holes_stay_holes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk.img");
    let file = File::create(&path).unwrap();
    file.write_all_at(b"begin", 0).unwrap();
    file.write_all_at(b"middle", 5_000_001).unwrap();
    file.set_len(20_000_000).unwrap();
    let (bytes, packed, told) = packed(&path, "disk.img");
    assert_eq!((packed.kind, packed.len, packed.entries, told.len()), (Kind::File, 20_000_000, 1, 0));
    let mut yard = Yard::new();
    assert_eq!(yard.unpack(bytes.as_slice()).unwrap().kind, Kind::File);
    let meta = yard.top().metadata().unwrap();
    assert!(meta.blocks() <= 32, "{} blocks", meta.blocks());
    assert!(std::fs::read(yard.top()).unwrap() == std::fs::read(&path).unwrap());
}

#[test]
fn a_link_is_read_as_a_link_unless_asked_for_what_it_leads_to() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("real")).unwrap();
    symlink("real", dir.path().join("link")).unwrap();
    let (_, as_link, _) = packed(&dir.path().join("link"), "link");
    assert_eq!((as_link.kind, as_link.entries), (Kind::Link, 1));
    let (_, followed, _) = packed(&dir.path().join("link/"), "link");
    assert_eq!(followed.kind, Kind::Tree);
}

#[test]
fn what_is_no_file_is_left_out_and_what_cannot_be_read_is_no_success() {
    let dir = tempfile::tempdir().unwrap();
    let _socket = UnixListener::bind(dir.path().join("socket")).unwrap();
    assert!(Command::new("mkfifo").arg(dir.path().join("pipe")).status().unwrap().success());
    std::fs::write(dir.path().join("file"), "x").unwrap();
    let (_, tree, mut told) = packed(dir.path(), "t");
    told.sort();
    assert_eq!(told, ["t/pipe: a named pipe: left out", "t/socket: a socket: left out"]);
    assert_eq!((tree.entries, tree.faults), (2, 0));
    for (path, why) in
        [("pipe", "a named pipe"), ("gone", "no such file or directory"), ("file/x", "not a directory")]
    {
        let path = dir.path().join(path);
        let error = pack(&path, b"t", &mut Vec::new(), &mut Told::default()).unwrap_err();
        let expected = format!("{}: {why}", path.display());
        assert!(error.to_string().starts_with(&expected), "{error} is not {expected}");
    }
    // Files of the kernel do not say how long they are, and reading some of them fails.
    let (bytes, version, _) = packed(Path::new("/proc/version"), "v");
    assert!(version.len > 10 && bytes.len() == 2048, "{version:?}");
    let (_, own, told) = packed(Path::new("/proc/self/task"), "t");
    assert!(own.faults > 0 && !told.is_empty(), "{own:?}");
}

/// Does something to the tree as soon as so many bytes have been written.
struct Meanwhile<F> {
    bytes: Vec<u8>,
    at: usize,
    act: Option<F>,
}

impl<F: FnOnce()> Write for Meanwhile<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        if self.bytes.len() >= self.at
            && let Some(act) = self.act.take()
        {
            act();
        }
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_file_that_changes_while_it_is_read_is_as_long_as_it_said() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let len = |file: &File, len: u64| file.set_len(len).unwrap();
    for (after, fault) in
        [(3_000_000, None), (70_000, Some("t: became shorter while it was read; the rest is zeros"))]
    {
        std::fs::write(&path, vec![7; 1_000_000]).unwrap();
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        let mut out = Meanwhile { bytes: Vec::new(), at: 100_000, act: Some(|| len(&file, after)) };
        let mut told = Told::default();
        let packed = pack(&path, b"t", &mut out, &mut told).unwrap();
        assert_eq!(packed.len, 1_000_000);
        assert_eq!(packed.faults, u64::from(fault.is_some()));
        assert_eq!(told.0.first().map(String::as_str), fault);
        let mut yard = Yard::new();
        yard.unpack(out.bytes.as_slice()).unwrap();
        let content = std::fs::read(yard.top()).unwrap();
        let kept = content.iter().filter(|&&byte| byte == 7).count();
        assert_eq!(content.len(), 1_000_000);
        assert_eq!(fault.is_some(), kept < 1_000_000);
    }
}

#[test]
fn what_vanishes_is_told_and_the_rest_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    for number in 0..200 {
        std::fs::write(dir.path().join(format!("{number}")), [1; 5000]).unwrap();
    }
    let vanish = || {
        for number in 0..200 {
            std::fs::remove_file(dir.path().join(format!("{number}"))).unwrap();
        }
    };
    let mut out = Meanwhile { bytes: Vec::new(), at: 50_000, act: Some(vanish) };
    let mut told = Told::default();
    let packed = pack(dir.path(), b"t", &mut out, &mut told).unwrap();
    assert!(packed.faults > 0 && packed.entries > 5, "{packed:?}");
    assert!(told.0.iter().all(|fault| fault.ends_with(": no such file or directory")), "{told:?}");
    assert_eq!(Yard::new().unpack(out.bytes.as_slice()).unwrap().faults, 0);
}

#[test]
fn a_reader_that_goes_ends_the_packing() {
    struct Gone;
    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let error = pack(Path::new("/etc"), b"etc", &mut Gone, &mut Told::default()).unwrap_err();
    assert!(matches!(error, PackError::Write(_)), "{error}");
}

#[test]
fn the_content_of_a_lone_file_is_seen_on_the_way() {
    struct Seen(Vec<u8>);
    impl Watch for Seen {
        fn fault(&mut self, fault: &doorbell_archive::Fault) {
            panic!("{fault}");
        }
        fn content(&mut self, bytes: &[u8]) {
            self.0.extend_from_slice(bytes);
        }
    }
    let dir = tempfile::tempdir().unwrap();
    for len in [0, 1, 65_535, 65_536, 65_537, 200_000] {
        let content: Vec<u8> = (0..len).map(|at: u32| at.to_le_bytes()[0]).collect();
        std::fs::write(dir.path().join("f"), &content).unwrap();
        let mut seen = Seen(Vec::new());
        pack(&dir.path().join("f"), b"f", &mut Vec::new(), &mut seen).unwrap();
        assert!(seen.0 == content, "{len}");
    }
}
