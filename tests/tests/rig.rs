//! The rig itself: a guest or a manager that dies fails the test that waits for something else, at once and
//! with its last words, and a test leaves nothing running behind it.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use doorbell_tests::daemon::Daemon;
use doorbell_tests::guest::{Guest, Machine};
use doorbell_tests::place::Place;
use doorbell_tests::process::read;
use doorbell_tests::wait::{comes_within, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::Path;
use std::time::{Duration, Instant};

#[test]
fn a_dead_guest_fails_the_waiting_test_at_once() {
    let place = Place::new();
    let why = failure_of(|| {
        let guest = Guest::boot(&place, "doomed", &Machine::default());
        let pid = read(&Guest::directory_of(&place, "doomed").join("qemu.pid"));
        end(pid.trim().parse().unwrap());
        guest
    });
    assert!(why.contains("guest doomed ended by itself"), "{why}");
}

#[test]
fn a_dead_manager_fails_the_waiting_test_at_once() {
    let place = Place::new();
    let why = failure_of(|| {
        let daemon = Daemon::start(&place);
        end(daemon.id());
        daemon
    });
    assert!(why.contains("doorbelld ended by itself"), "{why}");
}

#[test]
fn a_test_leaves_nothing_running_behind_it() {
    let place = Place::new();
    let directory = Guest::directory_of(&place, "brief");
    let guest = Guest::boot(&place, "brief", &Machine::default());
    let qemu = read(&directory.join("qemu.pid"));
    let qemu = Path::new("/proc").join(qemu.trim());
    assert!(qemu.exists());
    drop(guest);
    assert!(comes_within(Duration::from_secs(10), || !qemu.exists()), "QEMU outlived its test");
}

/// Runs a test in a thread of its own that breaks something and then waits in vain; gives why it failed.
fn failure_of<T>(breaks: impl FnOnce() -> T + Send) -> String {
    std::thread::scope(|scope| {
        let test = scope.spawn(|| {
            let _broken = breaks();
            let since = Instant::now();
            // The limit of this wait is far above the time that the failure may take.
            until("what never comes", || (since.elapsed() > SOON).then_some(()));
        });
        let failure = test.join().unwrap_err();
        failure.downcast_ref::<String>().cloned().unwrap_or_default()
    })
}

fn end(pid: u32) {
    kill(Pid::from_raw(i32::try_from(pid).unwrap()), Signal::SIGKILL).unwrap();
}

const SOON: Duration = Duration::from_secs(10);
