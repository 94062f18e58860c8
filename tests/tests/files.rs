//! Files and trees go both ways whole, in one step or not at all: with a connection that breaks in the middle, a
//! disk that is full at the far end, and things that change while they are read.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed step is a failed test"
)]

use doorbell_api::request::State;
use doorbell_tests::command::{Doorbell, begin};
use doorbell_tests::daemon::{Daemon, sh};
use doorbell_tests::guest::Machine;
use doorbell_tests::lab::{GUEST, Lab, System, fresh_id};
use doorbell_tests::place::{Place, sha256_of};
use doorbell_tests::proxy::{Proxy, Verdict};
use doorbell_tests::skip::tell;
use doorbell_tests::wait::{on, until};
use doorbell_wire::message::{FromGuest, Kind};
use nix::sys::signal::Signal;
use std::fs::{File, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

#[test]
fn files_and_trees_go_both_ways_whole() {
    let lab = Lab::boot(System::Initramfs);
    a_file_is_put_with_its_rights_and_named_in_the_receipt(&lab);
    empty_and_sparse_files_come_back_as_they_were(&lab);
    a_tree_comes_back_as_it_was_and_replaces_another_whole(&lab);
    what_cannot_be_done_is_one_line(&lab);
    a_lone_link_is_not_made_and_what_it_leads_to_is_pulled(&lab);
    lab.daemon.assert_audit_intact();
}

fn a_file_is_put_with_its_rights_and_named_in_the_receipt(lab: &Lab) {
    let doorbell = lab.doorbell();
    let file = lab.place.file("motd", b"hello\n");
    let source = file.to_str().unwrap();
    std::fs::set_permissions(&file, Permissions::from_mode(0o751)).unwrap();
    let sum = sha256_of(&file);
    let put = doorbell.run(&["push", source, &at("/srv-motd")]).expect(0);
    assert_eq!(put.stdout, format!("{GUEST}:/srv-motd: 6 bytes, mode 0751, owner 0:0, sha256 {sum}\n"));
    assert_eq!(lab.look("stat -c '%a %u:%g %s' /srv-motd; cat /srv-motd"), "751 0:0 6\nhello\n");
    let words = ["push", "--mode", "4711", "--owner", "12:34", source, &at("/tmp/")];
    let document = doorbell.run(&[&["--json"], words.as_slice()].concat()).expect(0).json();
    assert_eq!(document["receipt"]["file"]["path"], "/tmp/motd");
    assert_eq!(document["receipt"]["file"]["sha256"], sum);
    assert_eq!(lab.look("stat -c '%a %u:%g %s' /tmp/motd"), "4711 12:34 6\n");
    // What stands there is replaced, and nobody who has it open sees it change.
    std::fs::write(&file, "other\n").unwrap();
    let script = "exec 3</srv-motd; touch /tmp/open; while [ -e /tmp/open ]; do cat /proc/uptime >/dev/null; done; cat <&3";
    let reader = lab.submit(sh(script));
    until("the reader to have it open", || (lab.look("ls /tmp").contains("open")).then_some(()));
    let _put = doorbell.run(&["push", "--urgent", source, &at("/srv-motd")]).expect(0);
    lab.look("rm /tmp/open");
    assert_eq!(lab.daemon.finished(&reader).state, State::Succeeded);
    assert_eq!((lab.output(&reader).as_str(), lab.look("cat /srv-motd").as_str()), ("hello\n", "other\n"));
}

fn empty_and_sparse_files_come_back_as_they_were(lab: &Lab) {
    let doorbell = lab.doorbell();
    let empty = lab.place.file("empty", b"");
    let sparse = lab.place.join("sparse");
    let file = File::create(&sparse).unwrap();
    file.write_all_at(b"begin", 0).unwrap();
    file.write_all_at(b"middle", 20_000_001).unwrap();
    file.set_len(40_000_000).unwrap();
    for (path, name) in [(&empty, "empty"), (&sparse, "sparse")] {
        let back = lab.place.join(&format!("{name}-back"));
        let target = at(&format!("/var/lib/{name}"));
        let _put = doorbell.run(&["push", path.to_str().unwrap(), &target]).expect(0);
        let _got = doorbell.run(&["pull", &target, back.to_str().unwrap()]).expect(0);
        assert_eq!(sha256_of(&back), sha256_of(path));
        assert!(back.metadata().unwrap().blocks() <= 64, "{name} is not sparse here");
        let blocks: u64 = lab.look(&format!("stat -c %b /var/lib/{name}")).trim().parse().unwrap();
        assert!(blocks <= 64, "{name} has {blocks} blocks in the guest");
    }
}

fn a_tree_comes_back_as_it_was_and_replaces_another_whole(lab: &Lab) {
    let doorbell = lab.doorbell();
    let (from, back) = (lab.place.join("tree"), lab.place.join("tree-back"));
    let deep = from.join("d".repeat(150)).join("e");
    std::fs::create_dir_all(&deep).unwrap();
    std::fs::write(deep.join("odd\nname \u{e4}"), "odd").unwrap();
    std::fs::write(from.join("run"), "#!/bin/sh\n").unwrap();
    std::fs::set_permissions(from.join("run"), Permissions::from_mode(0o750)).unwrap();
    symlink("../../run", deep.join("up")).unwrap();
    symlink("run", from.join("link")).unwrap();
    std::fs::write(from.join("large"), noise(3_000_000, 1)).unwrap();
    let source = from.to_str().unwrap();
    let put = doorbell.run(&["push", source, &at("/tmp/opt")]).expect(0);
    assert!(put.stdout.contains(" in 8 entries, mode "), "{}", put.stdout);
    lab.look("touch /tmp/opt/old");
    doorbell.run(&["push", source, &at("/tmp/opt")]).refused(121, &["a tree is there already", "--replace"]);
    let _again = doorbell.run(&["push", "--replace", source, &at("/tmp/opt")]).expect(0);
    assert_eq!(lab.look("ls -a /tmp | grep -e doorbell -e opt; ls /tmp/opt | grep old || true"), "opt\n");
    let _got = doorbell.run(&["pull", &at("/tmp/opt"), back.to_str().unwrap()]).expect(0);
    same_trees(&from, &back);
    // A directory that is there takes it in; only --replace replaces it.
    let _inside = doorbell.run(&["pull", &at("/tmp/opt"), back.to_str().unwrap()]).expect(0);
    same_trees(&from, &back.join("opt"));
    doorbell
        .run(&["pull", &at("/tmp/opt"), back.to_str().unwrap()])
        .refused(1, &["a directory is there already", "--replace"]);
    let _replaced = doorbell.run(&["pull", "--replace", &at("/tmp/opt"), back.to_str().unwrap()]).expect(0);
    same_trees(&from, &back);
    // Into a directory right below the root, but never in its place.
    doorbell.run(&["push", source, &at("/tmp")]).refused(121, &["end the path with / to put it inside"]);
    // A tar archive for other programs.
    let mut tar = doorbell.begin(&["pull", &at("/tmp/opt"), "-"]);
    assert_eq!(tar.code_within(Duration::from_secs(60)), Some(0));
    let listed = Command::new("tar").arg("-tf").arg(tar.stdout_file()).output().unwrap();
    assert!(String::from_utf8_lossy(&listed.stdout).starts_with("opt/\n"), "{listed:?}");
    assert!(nothing_hidden(lab.place.path()));
}

fn what_cannot_be_done_is_one_line(lab: &Lab) {
    let doorbell = lab.doorbell();
    let file = lab.place.file("x", b"x");
    let source = file.to_str().unwrap();
    let to = lab.place.join("nothing");
    let to = to.to_str().unwrap();
    doorbell.run(&["pull", &at("/no/such"), to]).refused(1, &["web-3: /no/such: no such file or directory"]);
    doorbell.run(&["pull", &at("/dev/null"), to]).refused(1, &["/dev/null: a device"]);
    doorbell.run(&["push", source, &at("/no/such/x")]).refused(121, &["no such directory in the guest"]);
    doorbell.run(&["push", source, &at("/tmp")]).refused(121, &["end the path with / to put it inside"]);
    doorbell
        .run(&["push", "--owner", "nobody-here", source, &at("/tmp/x")])
        .refused(1, &["/tmp/x: this guest has no user or group \"nobody-here\""]);
    doorbell.run(&["push", "/no/such", &at("/tmp/x")]).refused(2, &["/no/such: no such file or directory"]);
    doorbell.run(&["push", source, "web-3:relative"]).refused(2, &["not an absolute path"]);
    doorbell.run(&["push", source, "/tmp/x"]).refused(2, &["expected GUEST:/PATH"]);
    doorbell.run(&["push", source, &at("/tmp/x"), "--mode", "999"]).refused(2, &["octal"]);
    doorbell
        .run(&["pull", &at("/etc/passwd"), "/no/such/x"])
        .refused(1, &["/no/such/x: no such file or directory"]);
    assert_eq!(lab.look("ls -a /tmp | grep doorbell; ls /var/lib/doorbell-agent/staging"), "");
    assert!(!Path::new(to).exists());
}

fn a_lone_link_is_not_made_and_what_it_leads_to_is_pulled(lab: &Lab) {
    let doorbell = lab.doorbell();
    lab.look(
        "mkdir -p /tmp/real; echo x >/tmp/real/x; ln -s real /tmp/link; ln -s /etc/passwd /tmp/real/out",
    );
    let to = lab.place.join("link");
    doorbell
        .run(&["pull", &at("/tmp/link"), to.to_str().unwrap()])
        .refused(1, &["a link to real and nothing else"]);
    let pulled = doorbell.run(&["pull", &at("/tmp/link/"), to.to_str().unwrap()]).expect(1);
    assert!(
        pulled.stderr.contains("a link that leads out of the tree, to /etc/passwd: left out"),
        "{}",
        pulled.stderr
    );
    assert_eq!(std::fs::read(to.join("x")).unwrap(), b"x\n");
    assert!(std::fs::symlink_metadata(to.join("out")).is_err());
}

/// The cut is at a frame; that what was there was not sent again shows by where the next fetch begins.
#[test]
fn a_gibibyte_goes_both_ways_with_the_connection_cut_in_the_middle() {
    let place = Place::new();
    let daemon = Daemon::start(&place);
    let machine = Machine { disk_mib: Some(2600), ..Machine::default() };
    let (proxy, _guest) = Proxy::between_machine(&daemon, &place, GUEST, &machine);
    let doorbell = Doorbell::new(&place, daemon.socket());
    let (source, back) = (place.join("large"), place.join("large-back"));
    write_noise(&source, 1 << 30);
    let sum = sha256_of(&source);
    let target = room(&doorbell, "large");

    let began = Instant::now();
    let mut bytes = 0_u64;
    proxy.arm(move |frame| {
        bytes += if frame.kind == Kind::Chunk { frame.payload.len() as u64 } else { 0 };
        if bytes > 512 << 20 { Verdict::Hold } else { Verdict::Pass }
    });
    let push = doorbell.begin(&["push", source.to_str().unwrap(), &target]);
    doorbell_tests::wait::within(LONG, "half of the file to be in the guest", || {
        proxy.has_reached().then_some(())
    });
    proxy.cut();
    let fetched = watch_fetches(&proxy);
    let put = push.ended_within(LONG).expect(0);
    assert!(put.stdout.contains(&sum), "{}", put.stdout);
    let offsets = fetched.lock().unwrap().clone();
    assert!(matches!(offsets[..], [offset] if offset > 400 << 20), "fetched again from {offsets:?}");
    tell(&format!("push of 1 GiB, cut once: {} s", began.elapsed().as_secs()));

    let began = Instant::now();
    let mut bytes = 0_u64;
    proxy.arm(move |frame| {
        bytes += if frame.kind == Kind::Output { frame.payload.len() as u64 } else { 0 };
        if bytes > 512 << 20 { Verdict::Hold } else { Verdict::Pass }
    });
    let pull = doorbell.begin(&["pull", &target, back.to_str().unwrap()]);
    doorbell_tests::wait::within(LONG, "half of the file to be here", || proxy.has_reached().then_some(()));
    proxy.cut();
    let _pulled = pull.ended_within(LONG).expect(0);
    assert_eq!(sha256_of(&back), sum);
    tell(&format!("pull of 1 GiB, cut once: {} s", began.elapsed().as_secs()));
    assert!(nothing_hidden(place.path()));
}

#[test]
fn a_manager_that_is_killed_in_the_middle_costs_nothing() {
    let place = Place::new();
    let mut daemon = Daemon::start(&place);
    let _guest = daemon.boot(&place, GUEST, &Machine { disk_mib: Some(600), ..Machine::default() });
    let (source, back) = (place.join("medium"), place.join("medium-back"));
    write_noise(&source, 96 << 20);
    let socket = daemon.socket().to_owned();
    let doorbell = Doorbell::new(&place, &socket);
    let target = room(&doorbell, "medium");
    for (words, state) in [
        (["push", source.to_str().unwrap(), &target], State::Offered),
        (["pull", &target, back.to_str().unwrap()], State::Started),
    ] {
        let id = fresh_id(u8::from(state == State::Started));
        let running = doorbell
            .begin(&[&["--socket", socket.to_str().unwrap()], words.as_slice(), &["--id", &id]].concat());
        until("the request to be under way", || {
            let request = on("the request", daemon.client().request(&id)).ok()?;
            (request.state == state).then_some(())
        });
        daemon.kill();
        daemon.restart();
        let _ended = running.ended_within(LONG).expect(0);
    }
    assert_eq!(sha256_of(&back), sha256_of(&source));
}

#[test]
fn a_full_disk_at_the_far_end_is_one_line_and_leaves_what_was_there() {
    let lab = Lab::boot(System::Initramfs);
    let doorbell = lab.doorbell();
    lab.look("mkdir -p /small && mount -t tmpfs -o size=4m tmpfs /small && mkdir /small/tree && echo old | tee /small/x >/small/tree/x");
    let large = lab.place.join("large");
    std::fs::create_dir(&large).unwrap();
    std::fs::write(large.join("x"), noise(8_000_000, 2)).unwrap();
    let file = large.join("x");
    doorbell
        .run(&["push", file.to_str().unwrap(), &at("/small/x")])
        .refused(121, &["there is no room for it on the guest's disk"]);
    doorbell
        .run(&["push", "--replace", large.to_str().unwrap(), &at("/small/tree")])
        .refused(1, &["/small/tree: no space left on device"]);
    let left = lab.look("cd /small; find . | sort; cat x tree/x; ls /var/lib/doorbell-agent/staging");
    assert_eq!(left, ".\n./tree\n./tree/x\n./x\nold\nold\n");

    // The same here, on a disk that nobody else sees.
    let _put = doorbell.run(&["push", file.to_str().unwrap(), &at("/tmp/large")]).expect(0);
    let small = lab.place.join("small");
    std::fs::create_dir(&small).unwrap();
    let script = "mount -t tmpfs -o size=2m tmpfs \"$1\" && echo old >\"$1/large\" && \
                  \"$2\" pull \"$3\" \"$1/large\"; echo \"status $?\"; ls -A \"$1\"; cat \"$1/large\"";
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"]).arg(&small);
    command.arg(doorbell_tests::build::program("doorbell")).arg(at("/tmp/large"));
    let ended = begin(&lab.place, command.env("DOORBELL_SOCKET", lab.daemon.socket())).ended().expect(0);
    assert_eq!(ended.stdout, "status 1\nlarge\nold\n", "{}", ended.stderr);
    assert!(ended.stderr.contains("no space left on device"), "{}", ended.stderr);
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
}

#[test]
fn what_changes_or_cannot_be_read_is_told_and_nothing_is_left_of_what_is_cancelled() {
    let lab = Lab::boot(System::Initramfs);
    what_cannot_be_read_is_left_out(&lab);
    a_growing_file_is_as_long_as_it_was(&lab);
    what_vanishes_is_no_success(&lab);
    what_is_cancelled_leaves_nothing(&lab);
}

/// Root reads every file but some of the kernel's.
fn what_cannot_be_read_is_left_out(lab: &Lab) {
    let to = lab.place.join("route");
    let pulled =
        lab.doorbell().run(&["pull", &at("/proc/sys/net/ipv4/route"), to.to_str().unwrap()]).expect(1);
    assert!(pulled.stderr.contains("web-3: route/flush: permission denied"), "{}", pulled.stderr);
    assert!(to.join("mtu_expires").exists() && !to.join("flush").exists());
    let put = lab.doorbell().run(&["push", "/proc/sys/net/ipv4/route", &at("/tmp/route")]).expect(1);
    assert!(put.stderr.contains("could not be read; nothing was put"), "{}", put.stderr);
    assert_eq!(lab.look("ls -A /tmp | grep route || true"), "");
}

fn a_growing_file_is_as_long_as_it_was(lab: &Lab) {
    let grow = "dd if=/dev/zero bs=1M count=8 2>/dev/null | tr '\\0' x >/tmp/growing; echo up; \
                while [ ! -e /tmp/enough ]; do echo xxxxxxxxxxxxxxx >>/tmp/growing; done";
    let grower = lab.submit(sh(grow));
    lab.await_output(&grower, "up\n");
    let to = lab.place.join("growing");
    let _pulled =
        lab.doorbell().run(&["pull", "--urgent", &at("/tmp/growing"), to.to_str().unwrap()]).expect(0);
    lab.look("touch /tmp/enough");
    assert_eq!(lab.daemon.finished(&grower).state, State::Succeeded);
    let content = std::fs::read(&to).unwrap();
    let len: usize = lab.look("stat -c %s /tmp/growing").trim().parse().unwrap();
    assert!((8 << 20..len).contains(&content.len()), "{} of {len}", content.len());
    assert!(content.iter().all(|byte| b"x\n".contains(byte)));
}

/// They go as soon as the guest has begun to read them: a supervisor's spool of the pull tells.
fn what_vanishes_is_no_success(lab: &Lab) {
    let id = fresh_id(7);
    lab.look("mkdir /tmp/many; cd /tmp/many; for n in $(seq 40); do head -c 1000000 /dev/urandom >$n; done");
    let remover = format!(
        "echo up; while [ ! -s /var/lib/doorbell-agent/run/{id}/stdout ]; do cat /proc/uptime >/dev/null; done; rm /tmp/many/*"
    );
    let remover = lab.submit(sh(&remover));
    lab.await_output(&remover, "up\n");
    let to = lab.place.join("many");
    let words = ["pull", "--urgent", "--id", &id, &at("/tmp/many"), to.to_str().unwrap()];
    let pulled = lab.doorbell().run(&words).expect(1);
    assert_eq!(lab.daemon.finished(&remover).state, State::Succeeded);
    assert!(pulled.stderr.contains(": no such file or directory"), "{}", pulled.stderr);
    let came = std::fs::read_dir(&to).unwrap().count();
    assert!((1..40).contains(&came), "{came} of 40 came");
}

fn what_is_cancelled_leaves_nothing(lab: &Lab) {
    lab.look("mkdir /tmp/huge; head -c 60000000 /dev/urandom >/tmp/huge/x");
    let to = lab.place.join("huge");
    let pull = lab.doorbell().begin(&["pull", &at("/tmp/huge"), to.to_str().unwrap()]);
    until("something of it to be here", || (!nothing_hidden(lab.place.path())).then_some(()));
    pull.signal(Signal::SIGINT);
    let ended = pull.ended().expect(123);
    assert!(ended.stderr.contains("cancelling request"), "{}", ended.stderr);
    assert!(!to.exists() && nothing_hidden(lab.place.path()));
}

/// Where every fetch from now on begins.
fn watch_fetches(proxy: &Proxy) -> Arc<Mutex<Vec<u64>>> {
    let offsets = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&offsets);
    proxy.arm(move |frame| {
        if let (Kind::Fetch, Ok(FromGuest::Fetch(fetch))) = (frame.kind, FromGuest::from_frame(frame)) {
            seen.lock().unwrap().push(fetch.offset);
        }
        Verdict::Pass
    });
    offsets
}

fn at(path: &str) -> String {
    format!("{GUEST}:{path}")
}

/// A place on the guest's disk that is not the agent's: its state directory, where the disk is mounted, is no target.
fn room(doorbell: &Doorbell<'_>, name: &str) -> String {
    let script =
        "mkdir -p /var/lib/doorbell-agent/room /room && mount -o bind /var/lib/doorbell-agent/room /room";
    let _ = doorbell.run(&["run", GUEST, "--", "sh", "-c", script]).expect(0);
    at(&format!("/room/{name}"))
}

/// Contents, links, permission bits and times.
fn same_trees(one: &Path, other: &Path) {
    let listing = |top: &Path| {
        let mut tar = Command::new("tar");
        tar.args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--exclude=./opt", "-c", "."]);
        tar.current_dir(top).output().unwrap().stdout
    };
    let (one, other) = (listing(one), listing(other));
    assert!(one.len() > 10_000 && one == other, "{} and {} bytes", one.len(), other.len());
}

/// Whether no directory right below has a hidden name of ours in it, nor the one itself.
fn nothing_hidden(directory: &Path) -> bool {
    let names = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name());
    !names.into_iter().any(|name| name.to_string_lossy().starts_with(".doorbell-"))
}

/// Bytes without any run of equal ones: what is lost or swapped must show.
fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

fn write_noise(path: &Path, len: u64) {
    let mut file = File::create(path).unwrap();
    for piece in 0..len >> 20 {
        file.write_all(&noise(1 << 20, piece + 1)).unwrap();
    }
}

/// A gibibyte through an emulated guest, on a machine that is busy with others.
const LONG: Duration = Duration::from_secs(900);
