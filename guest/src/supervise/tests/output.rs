//! What programs print: kept, counted, within its space.

use super::*;
use doorbell_wire::message::Stream;
use doorbell_wire::message::outcome::StreamTotal;
use std::os::unix::fs::MetadataExt;

/// Prints `count` MiB to standard output, each of them filled with one letter of the alphabet in turn.
fn letters(count: usize) -> (String, Vec<u8>) {
    let script = format!(
        "i=0; while [ $i -lt {count} ]; do l=$(printf '%b' \"\\\\0$(printf %o $((97 + i % 26)))\"); \
         head -c {MIB} /dev/zero | tr '\\0' $l; i=$((i+1)); done"
    );
    let letter = |at: usize| vec![b'a' + u8::try_from(at % 26).unwrap(); MIB];
    (script, (0..count).flat_map(letter).collect())
}

#[test]
fn both_streams_are_kept_apart_with_counts_and_digests() {
    let mut supervised = Rig::new().shell("printf 'out\\000\\377'; printf err >&2");
    let over = end(&mut supervised);
    let (stdout, stderr) = output(&supervised);
    assert_eq!((stdout.as_slice(), stderr.as_slice()), (b"out\0\xff".as_slice(), b"err".as_slice()));
    let total = |bytes: &[u8]| StreamTotal { kept: bytes.len() as u64, dropped: 0, digest: digest(bytes) };
    assert_eq!((over.output.stdout, over.output.stderr), (total(b"out\0\xff"), total(b"err")));
}

#[test]
fn a_line_is_there_while_its_program_runs() {
    let rig = Rig::new();
    let mut parts = parts("/bin/sh", &["-c", "echo first; read x; echo $x"]);
    parts.input = Input::Stream;
    let mut supervised = rig.start(order(parts));
    printed(&mut supervised, "first\n");
    assert!(matches!(supervised.look(), Sight::Running { .. }));
    supervised.add_input(0, b"second\n").unwrap();
    assert_eq!(end(&mut supervised).outcome, Outcome::Succeeded);
    assert_eq!(text(&supervised), "first\nsecond\n");
}

#[test]
fn beyond_the_limit_is_counted_and_the_program_goes_on() {
    let rig = Rig::new();
    let mut parts = parts("/bin/sh", &["-c", "head -c 3000000 /dev/zero; echo done >&2"]);
    parts.limits.output_len_max = 1_000_000;
    let mut supervised = rig.start(order(parts));
    let over = end(&mut supervised);
    assert_eq!(over.outcome, Outcome::Succeeded);
    let digest = digest(&vec![0; 1_000_000]);
    assert_eq!(over.output.stdout, StreamTotal { kept: 1_000_000, dropped: 2_000_000, digest });
    assert_eq!(output(&supervised).1, b"done\n");
}

#[test]
fn a_backlog_in_the_pipe_of_a_program_that_has_ended_is_read_whole() {
    let (script, bytes) = letters(3);
    let mut supervised = Rig::new().shell(&script);
    let over = end(&mut supervised);
    assert_eq!(
        over.output.stdout,
        StreamTotal { kept: bytes.len() as u64, dropped: 0, digest: digest(&bytes) }
    );
    assert!(output(&supervised).0 == bytes);
}

#[test]
fn while_a_manager_takes_output_a_program_waits_for_space_and_the_disk_stays_small() {
    let mut rig = Rig::new();
    rig.margins.space = Space { len: 4 * MIB as u64, behind: 2 * MIB as u64 };
    rig.margins.drain_ms = 100;
    let (script, expected) = letters(24);
    let mut supervised = rig.shell(&script);
    supervised.connected(true);
    let spool = File::open(rig.run().join(REQUEST.to_string()).join("stdout")).unwrap();
    let (mut sent, mut got, mut most) = (Offsets::default(), Vec::new(), 0);
    let over = wait_for(&mut supervised, |supervised, sight| {
        most = most.max(spool.metadata().unwrap().blocks() * 512);
        while let Some(piece) = supervised.read_output(&sent, 32 * 1024) {
            sent = sent.moved(Stream::Stdout, piece.offset + piece.bytes.len() as u64);
            got.extend(piece.bytes);
            supervised.stored(Stream::Stdout, sent.stdout);
        }
        match sight {
            Sight::Over(over) if sent.stdout == over.output.stdout.kept => Some(over.clone()),
            Sight::Lost => panic!("lost"),
            Sight::Over(_) | Sight::Starting | Sight::Running { .. } => None,
        }
    });
    let total = StreamTotal { kept: expected.len() as u64, dropped: 0, digest: digest(&expected) };
    assert_eq!(over.output.stdout, total);
    assert!(got == expected, "the bytes");
    assert!(most <= 5 * MIB as u64, "{most} bytes were on the disk at once");
}

#[test]
fn a_program_does_not_hang_on_a_manager_that_stays_away() {
    let mut rig = Rig::new();
    rig.margins.space = Space { len: 2 * MIB as u64, behind: MIB as u64 };
    let mut supervised = rig.shell("head -c 9000000 /dev/zero; echo done >&2");
    let over = end(&mut supervised);
    assert_eq!(over.outcome, Outcome::Succeeded);
    let StreamTotal { kept, dropped, digest: found } = over.output.stdout;
    assert_eq!((kept, kept + dropped), (2 * MIB as u64, 9_000_000));
    assert_eq!(found, digest(&vec![0; 2 * MIB]));
    assert_eq!(output(&supervised).1, b"done\n");
}

#[test]
fn a_program_that_waits_for_space_can_be_ended() {
    let mut rig = Rig::new();
    rig.margins.space = Space { len: MIB as u64, behind: MIB as u64 };
    let mut supervised = rig.shell("exec cat /dev/zero");
    supervised.connected(true);
    wait_for(&mut supervised, |supervised, _| (supervised.kept().stdout == MIB as u64).then_some(()));
    supervised.stop();
    let over = end(&mut supervised);
    assert_eq!((over.outcome, over.output.stdout.kept), (Outcome::Cancelled, MIB as u64));
}

#[test]
fn a_job_of_the_agent_waits_for_its_manager_however_long_it_is_away() {
    let mut rig = Rig::new();
    rig.margins.space = Space { len: MIB as u64, behind: 0 };
    rig.margins.absent_ms = 0;
    let mut supervised = rig.own(OwnJob::new(|_| {
        let written = File::options().write(true).open("/dev/stdout");
        written.and_then(|mut out| out.write_all(&vec![5; 3 * MIB])).is_err().into()
    }));
    wait_for(&mut supervised, |supervised, _| (supervised.kept().stdout == MIB as u64).then_some(()));
    assert!(matches!(supervised.look(), Sight::Running { .. }));
    let over = wait_for(&mut supervised, |supervised, sight| {
        supervised.stored(Stream::Stdout, supervised.kept().stdout);
        if let Sight::Over(over) = sight { Some(over.clone()) } else { None }
    });
    assert_eq!(over.outcome, Outcome::Succeeded);
    assert_eq!((over.output.stdout.kept, over.output.stdout.dropped), (3 * MIB as u64, 0));
}

#[test]
fn a_full_disk_drops_output_and_still_has_an_outcome() {
    let mut rig = Rig::new();
    let dir = rig.path().join("small");
    std::fs::create_dir(&dir).unwrap();
    let flags = nix::mount::MsFlags::empty();
    nix::mount::mount(Some("none"), &dir, Some("tmpfs"), flags, Some("size=1m")).unwrap();
    let parts = parts("/bin/sh", &["-c", "head -c 3000000 /dev/zero; exit 5"]);
    let mut supervised = start_with(&dir, order(parts), None, rig.margins).unwrap();
    let over = end(&mut supervised);
    supervised.taken();
    drop(supervised);
    let unmounted = wait_until_unmounted(&dir);
    rig.margins.grace_ms = 0;
    assert!(unmounted);
    assert_eq!(over.outcome, Outcome::Failed(5.try_into().unwrap()));
    let StreamTotal { kept, dropped, .. } = over.output.stdout;
    assert!(kept > 0 && dropped > 1_900_000 && kept + dropped == 3_000_000, "{kept} and {dropped}");
}

/// The supervisor holds its files for a moment longer.
fn wait_until_unmounted(dir: &Path) -> bool {
    let deadline = now().after(PATIENCE_MS);
    while nix::mount::umount(dir).is_err() {
        if now() >= deadline {
            return false;
        }
        until(&mut [], now().after(10)).unwrap();
    }
    true
}
