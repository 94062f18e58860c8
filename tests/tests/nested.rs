//! In an L1 guest with KVM and the kernel's own vhost-vsock: who is let in at the manager's AF_VSOCK door, what is
//! left of a guest's requests when it is paused, reset, killed, rewound or moved, and that what the manager accepted
//! outlives a reset of the machine it runs on.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed step is a failed test"
)]

use doorbell_tests::build::{program, root, script};
use doorbell_tests::command::{Running, begin};
use doorbell_tests::guest::execute;
use doorbell_tests::image::Image;
use doorbell_tests::place::Place;
use doorbell_tests::skip::tell;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

#[test]
fn only_a_known_guest_with_a_privileged_port_is_let_in() {
    let expected = [
        "the manager listens on AF_VSOCK",
        "an unknown CID is turned away",
        "the guest of that CID is served",
        "an unprivileged source port is refused",
        "a privileged source port is not to be had without privileges",
        "reserved CIDs are refused",
    ];
    see("doors", false, &expected);
}

#[test]
fn a_guest_that_is_paused_reset_or_killed_has_each_request_done_once() {
    let expected = [
        "a request is held while the guest is paused",
        "to a guest that is paused nothing is written",
        "both are done once after it, and the next one is served",
        "a guest that was reset is back with its kernel, and the next request is served",
        "a request that was submitted right behind a reset is done once",
        "after a kill what had started is interrupted, or runs again where it may, and what waited is done once",
    ];
    see("stops", false, &expected);
}

#[test]
fn a_guest_that_is_rewound_is_fenced_and_one_that_moves_has_each_request_done_once() {
    let expected = [
        "the guest is fenced after the first restore",
        "let back in by an operator it is served",
        "the guest is fenced after the second restore",
        "let back in by an operator it is served",
        "nothing that had ended is begun again, and no second word takes the place of a receipt",
        "a guest that has moved is not taken for one that nobody knows of",
        "at its new place it has what it had in hand, and is served",
        "the same guest in another QEMU has what it had in hand, and is served",
    ];
    see("moves", true, &expected);
}

#[test]
fn what_the_manager_accepted_outlives_a_reset_of_its_machine() {
    let place = Place::new();
    let (disk, monitor) = (place.join("data.ext4"), place.join("l1.qmp"));
    let disk = ["--disk".into(), disk, "--qmp".into(), monitor.clone(), "--allow-reset".into()];
    let mut running = nested(&place, "reset", &disk);
    running.await_stdout(LIMIT, "accepted requests", |said| said.matches("accepted: ").count() >= ACCEPTED);
    execute(&monitor, "\"system_reset\"");
    let ended = running.ended_within(LIMIT).expect(0);
    assert!(ended.stdout.contains("all said"), "{}", ended.stdout);

    let with = |prefix: &str| -> Vec<String> {
        ended
            .stdout
            .lines()
            .filter_map(|line| line.strip_prefix(prefix))
            .map(|text| text.trim().to_owned())
            .collect()
    };
    // A line that the reset cut short was not told.
    let accepted: Vec<String> = with("accepted: ").into_iter().filter(|id| id.len() == 32).collect();
    let ends: BTreeMap<String, String> = with("ended: ")
        .iter()
        .filter_map(|line| line.split_once(' '))
        .map(|(id, end)| (id.into(), end.into()))
        .collect();
    let ran = with("ran ");
    for id in &accepted {
        let end = ends.get(id).unwrap_or_else(|| panic!("request {id} was accepted and is lost"));
        let times = ran.iter().filter(|other| *other == id).count();
        let right = if end == "interrupted" { times <= 1 } else { end == "succeeded" && times == 1 };
        assert!(right, "request {id} is {end} and ran {times} times");
    }
    let interrupted = ends.values().filter(|end| *end == "interrupted").count();
    tell(&format!(
        "{} accepted before the reset, {} known after it, {interrupted} interrupted",
        accepted.len(),
        ends.len()
    ));
}

/// Runs a script that says what it has looked at, and what it has measured.
fn see(name: &str, disk: bool, expected: &[&str]) {
    let place = Place::new();
    let options: Vec<PathBuf> =
        if disk { vec!["--disk".into(), place.join("data.ext4")] } else { Vec::new() };
    let ended = nested(&place, name, &options).ended_within(LIMIT).expect(0);
    let with = |prefix| ended.stdout.lines().filter_map(move |line| line.strip_prefix(prefix));
    with("measured: ").for_each(tell);
    assert_eq!(with("seen: ").collect::<Vec<_>>(), expected, "{}", ended.stdout);
}

/// Runs one of the scripts in `tests/nested` in an L1 guest.
fn nested(place: &Place, name: &str, options: &[PathBuf]) -> Running {
    let tree = place.join("payload");
    let target = tree.join("opt/doorbell/tests");
    fs::create_dir_all(&target).unwrap();
    for file in ["common", "witness", name] {
        fs::copy(root().join("tests/nested").join(file), target.join(file)).unwrap();
    }
    let mut command = Command::new(script("nested"));
    command
        .arg("--image")
        .arg(Image::Sockets.directory())
        .arg("--payload")
        .arg(tree)
        .args(["--timeout", "560"]);
    command.arg("--bin").arg(program("doorbelld")).arg("--bin").arg(program("doorbell")).args(options);
    begin(place, command.args(["--", "bash"]).arg(PathBuf::from("tests").join(name)))
}

const LIMIT: Duration = Duration::from_secs(570);
const ACCEPTED: usize = 25;
