//! Archives of an enemy: nothing of them gets outside, what is refused is told, and nothing is left behind by
//! one that ends early.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed step is a failed test")]

mod maker;

use doorbell_archive::{Owner, UnpackError};
use maker::{Item, Yard, archive};
use proptest::prelude::*;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

#[test]
fn what_leads_out_is_refused_and_the_others_go_on() {
    for (what, hostile) in [
        ("an absolute name", vec![Item::file("/etc/x", b"x")]),
        ("a way up", vec![Item::file("t/../../secret/key", b"x")]),
        ("a way up within", vec![Item::file("t/a/../b", b"x")]),
        ("a directory above", vec![Item::directory("t/..")]),
        ("an absolute link", vec![Item::link("t/l", "/etc/passwd")]),
        ("a link above the top", vec![Item::link("t/l", "../../secret")]),
        ("a link that goes up behind a name", vec![Item::link("t/l", "d/../../secret")]),
        ("a link to nothing", vec![Item::link("t/l", "")]),
        ("a hard link", vec![Item { link: b"t/kept".to_vec(), ..Item::new(b'1', "t/h") }]),
        ("a hard link out", vec![Item { link: b"/etc/passwd".to_vec(), ..Item::new(b'1', "t/h") }]),
        ("a device", vec![Item::new(b'3', "t/zero")]),
        ("a pipe", vec![Item::new(b'6', "t/pipe")]),
        ("a kind of tomorrow", vec![Item { content: vec![1; 700], ..Item::new(b'Z', "t/z") }]),
        ("a file twice", vec![Item::file("t/kept", b"other")]),
        ("a link over a file", vec![Item::link("t/kept", "first")]),
        ("a link, then a file through it", vec![Item::link("t/d", "."), Item::file("t/d/kept", b"other")]),
        ("a link, then a file over it", vec![Item::file("t/l2", b"x"), Item::link("t/l2", "kept")]),
        ("a file, then something beneath it", vec![Item::file("t/kept/x", b"x")]),
    ] {
        let mut yard = Yard::new();
        let mut items = vec![Item::directory("t/"), Item::file("t/kept", b"kept")];
        items.extend(hostile);
        items.push(Item::file("t/last", b"last"));
        let unpacked = yard.unpack_items(&items).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!((unpacked.faults, yard.told.0.len()), (1, 1), "{what}: {:?}", yard.told);
        assert_eq!(std::fs::read(yard.top().join("kept")).unwrap(), b"kept", "{what}");
        assert_eq!(std::fs::read(yard.top().join("last")).unwrap(), b"last", "{what}");
        assert!(yard.is_untouched(), "{what}");
    }
}

#[test]
fn what_ends_an_archive_leaves_nothing_behind() {
    let good = || vec![Item::directory("t"), Item::file("t/a", &[1; 3000])];
    let with = |item: Item| archive(&[good(), vec![item]].concat());
    let whole = archive(&good());
    for (what, bytes) in [
        ("no entry", archive(&[])),
        ("nothing", Vec::new()),
        ("cut in a file", whole[..2000].to_vec()),
        ("cut in front of its end", whole[..whole.len() - 1024].to_vec()),
        ("a second top", with(Item::file("u/a", b"x"))),
        ("a second top beside", with(Item::file("ta", b"x"))),
        ("more than 1 GiB", with(Item { size: Some(1 << 30), ..Item::file("t/huge", b"") })),
        ("more than there is", with(Item { size: Some(5000), ..Item::file("t/huge", b"") })),
        ("a directory with contents", with(Item { content: vec![0; 512], ..Item::directory("t/d") })),
        ("a first entry that is deep", archive(&[Item::file("t/a", b"x")])),
        ("a first entry above", archive(&[Item::directory("../secret")])),
        ("a first entry that is absolute", archive(&[Item::directory("/t")])),
        ("a lone link", archive(&[Item::link("t", "neighbour")])),
        ("a lone device", archive(&[Item::new(b'3', "t")])),
        ("noise", vec![0xa5; 4096]),
        (
            "too many",
            archive(&[good(), (0..10_000).map(|n| Item::file(format!("t/{n}"), b"")).collect()].concat()),
        ),
    ] {
        let mut yard = Yard::new();
        let error = yard.unpack(bytes.as_slice()).map(|_| what).unwrap_err();
        assert!(std::fs::symlink_metadata(yard.top()).is_err(), "{what}: {error}");
        assert!(yard.is_untouched(), "{what}");
    }
}

#[test]
fn directories_that_nobody_asked_for_count_too() {
    let mut yard = Yard::new();
    yard.options.entries_max = 50;
    let deep = |n: u32| Item::file(format!("t/{n}/{}", "d/".repeat(40)), b"");
    let refused = yard.unpack_items(&[Item::directory("t"), deep(1), deep(2)]).unwrap_err();
    assert!(matches!(refused, UnpackError::TooMany { max: 50 }), "{refused}");
    let mut yard = Yard::new();
    let below = format!("t/{}x", "d/".repeat(300));
    assert_eq!(yard.unpack_items(&[Item::directory("t"), Item::file(below, b"")]).unwrap().faults, 1);
}

#[test]
fn a_name_that_is_there_is_never_written_through() {
    let mut yard = Yard::new();
    symlink(yard.outside().join("secret/key"), yard.top()).unwrap();
    assert!(yard.unpack_items(&[Item::file("t", b"x")]).is_err());
    assert!(yard.unpack_items(&[Item::directory("t"), Item::file("t/key", b"x")]).is_err());
    assert!(yard.is_untouched());
    assert!(yard.top().is_symlink(), "what was there before is not ours to remove");
}

#[test]
fn rights_of_others_are_not_handed_out() {
    let suid = |owner| {
        let mut yard = Yard::new();
        yard.options.owner = owner;
        let items = [
            Item { mode: 0o41_777, ..Item::directory("t") },
            Item { mode: 0o6777, ..Item::file("t/su", b"x") },
        ];
        yard.unpack_items(&items).unwrap();
        let of = |path: &Path| path.metadata().unwrap().mode() & 0o7777;
        (of(&yard.top()), of(&yard.top().join("su")))
    };
    assert_eq!(suid(Owner::Own), (0o755, 0o755));
    let own = rustix_uid();
    assert_eq!(suid(Owner::Given { uid: Some(own.0), gid: Some(own.1) }), (0o1755, 0o6755));
}

/// The owner of what this process makes.
fn rustix_uid() -> (u32, u32) {
    let made = tempfile::tempdir().unwrap().path().metadata().unwrap();
    (made.uid(), made.gid())
}

#[test]
fn names_in_messages_are_escaped_and_a_flood_of_them_is_cut() {
    let mut yard = Yard::new();
    let mut items = vec![Item::directory("t")];
    items.extend((0..500).map(|n| Item::file(format!("/\x1b[31m{n}\n"), b"")));
    let unpacked = yard.unpack_items(&items).unwrap();
    assert_eq!((unpacked.faults, yard.told.0.len()), (500, 100));
    assert_eq!(yard.told.0[0], "/\\u{1b}[31m0\\n: an absolute name: left out");
}

#[test]
fn memory_does_not_grow_with_links_that_never_end() {
    // Each link is a kilobyte; what never ends is refused long before it fills the memory.
    let item = Item::link("t/l", vec![b'a'; 4000]).bytes();
    let endless = Item::directory("t").bytes();
    let mut yard = Yard::new();
    yard.options.entries_max = u64::MAX;
    let error = yard.unpack(endless.as_slice().chain(Repeat { bytes: item, at: 0 })).unwrap_err();
    assert!(error.to_string().contains("remembered"), "{error}");
    assert!(yard.is_untouched());
}

/// The same bytes for ever.
struct Repeat {
    bytes: Vec<u8>,
    at: usize,
}

impl Read for Repeat {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let left = &self.bytes[self.at..];
        let count = left.len().min(buffer.len());
        buffer[..count].copy_from_slice(&left[..count]);
        self.at = (self.at + count) % self.bytes.len();
        Ok(count)
    }
}

/// Names and targets from a few parts that meet each other often.
fn name() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        4 => Just("a"), 4 => Just("b"), 2 => Just("c"), 1 => Just(".."), 1 => Just("."), 1 => Just(""),
        1 => Just("secret"), 1 => Just("key"), 1 => Just("neighbour"), 1 => Just("top"),
    ];
    (
        prop_oneof![8 => Just("t/"), 1 => Just(""), 1 => Just("/"), 1 => Just("../")],
        proptest::collection::vec(part, 0..5),
    )
        .prop_map(|(front, parts)| format!("{front}{}", parts.join("/")))
}

fn item() -> impl Strategy<Value = Item> {
    let link = prop_oneof![name(), name().prop_map(|name| name.trim_start_matches("t/").to_owned())];
    (
        name(),
        link,
        prop_oneof![3 => Just(b'0'), 3 => Just(b'5'), 4 => Just(b'2'), 1 => Just(b'1'), 1 => Just(b'3')],
    )
        .prop_map(|(name, link, flag)| match flag {
            b'0' => Item::file(name, b"written"),
            b'5' => Item::directory(name),
            flag => Item { link: link.into_bytes(), ..Item::new(flag, name) },
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_ever_written_outside(items in proptest::collection::vec(item(), 0..12)) {
        let mut yard = Yard::new();
        let items = [vec![Item::directory("t")], items].concat();
        let made = yard.unpack_items(&items).is_ok();
        prop_assert!(yard.is_untouched());
        prop_assert_eq!(made, yard.top().is_dir());
        // And no link that was made leads out.
        let top = yard.top();
        if made {
            prop_assert!(links_stay_within(&top, &top.canonicalize().unwrap()));
        }
    }

    #[test]
    fn any_damage_is_borne(at in 0_usize..8192, byte in any::<u8>(), cut in 0_usize..8192) {
        let items = [
            Item::directory("t"),
            Item::file("t/a", &[7; 700]),
            Item::link(format!("t/{}", "l".repeat(200)), "a"),
            Item::file(format!("t/{}", "n".repeat(150)), b"long"),
        ];
        let mut bytes = archive(&items);
        let at = at % bytes.len();
        bytes[at] = byte;
        bytes.truncate(cut.max(at + 1));
        let mut yard = Yard::new();
        let made = yard.unpack(bytes.as_slice()).is_ok();
        prop_assert!(yard.is_untouched());
        prop_assert_eq!(made, std::fs::symlink_metadata(yard.top()).is_ok());
    }
}

fn links_stay_within(directory: &Path, top: &Path) -> bool {
    std::fs::read_dir(directory).unwrap().all(|entry| {
        let path = entry.unwrap().path();
        if path.is_symlink() {
            // One that leads to nothing, or round and round, leads nowhere else either.
            path.canonicalize().map_or(true, |target| target.starts_with(top))
        } else {
            !path.is_dir() || links_stay_within(&path, top)
        }
    })
}
