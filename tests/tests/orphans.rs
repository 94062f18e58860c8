//! What a program leaves behind: an open pipe does not hold its result beyond the drain deadline, and whatever it
//! started is gone after a timeout and after a cancel, by the guest's own cgroups and processes. In an initramfs
//! and in Debian 13.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed step is a failed test")]

use doorbell_api::request::{Action, Limits, NewRequest, ProgramRef, Request, Run, State};
use doorbell_client::Stream;
use doorbell_tests::daemon::{new_request, sh};
use doorbell_tests::lab::{GUEST, Lab, Members, System};
use doorbell_tests::misfit;
use doorbell_tests::wait::{on, until};

#[test]
fn nothing_of_a_program_outlives_its_end_in_an_initramfs() {
    orphans(System::Initramfs);
}

#[test]
fn nothing_of_a_program_outlives_its_end_on_debian_13() {
    orphans(System::Debian13);
}

fn orphans(system: System) {
    let lab = Lab::boot(system);
    an_open_pipe_holds_no_result(&lab);
    let misfit = lab.daemon.upload("misfit", misfit::bytes());
    for (number, (name, action)) in (4711..).zip(broods(system, &misfit)) {
        let action = action(number);
        ends(&lab, name, number, action.clone(), How::Timeout);
        ends(&lab, name, number, action, How::Cancel);
    }
    lab.daemon.assert_audit_intact();
}

/// The shell ends at once; what it started would hold the pipe for a minute and more.
fn an_open_pipe_holds_no_result(lab: &Lab) {
    let id = lab.submit(sh("echo hi; echo ho >&2; sleep 4710 &"));
    let request = lab.daemon.finished(&id);
    assert_eq!(request.state, State::Succeeded, "{:?}", request.receipt);
    assert_eq!(lab.daemon.output(&id, Stream::Stdout, 0), b"hi\n");
    assert_eq!(lab.daemon.output(&id, Stream::Stderr, 0), b"ho\n");
    let ran = request.receipt.unwrap().ran.unwrap();
    let held = ran.ended_us - ran.exited_us;
    assert!(held <= DRAIN_US + BUSY_US, "the result was held for {held} µs after the program's end");
    is_gone(lab, "an open pipe", &id, 4710);
}

type Brood = (&'static str, Box<dyn Fn(u32) -> Action>);

/// Programs that start others in every way that is meant to outlive them; each process has the number as its
/// last argument.
fn broods(system: System, misfit: &ProgramRef) -> Vec<Brood> {
    fn of(script: &'static str) -> Box<dyn Fn(u32) -> Action> {
        Box::new(move |number| sh(&script.replace("NUMBER", &number.to_string())))
    }
    let mut all: Vec<Brood> = vec![
        ("a session of its own", of("setsid sleep NUMBER & echo up; sleep NUMBER")),
        (
            "a double fork",
            of("(setsid sh -c 'sleep NUMBER & sleep NUMBER' >/dev/null 2>&1 &) ; echo up; sleep NUMBER"),
        ),
        (
            "deaf to TERM",
            of("trap '' TERM; (trap '' TERM; sleep NUMBER) & echo up; while :; do sleep NUMBER; done"),
        ),
        (
            "stopped",
            of(
                "sleep NUMBER & until grep -q sleep /proc/$!/comm; do :; done; kill -STOP $!; echo up; sleep NUMBER",
            ),
        ),
    ];
    if system == System::Debian13 {
        all.push((
            "another user by su",
            of("su -s /bin/sh nobody -c 'sleep NUMBER & sleep NUMBER' & echo up; wait"),
        ));
    }
    let misfit = misfit.clone();
    all.push(("a fork bomb", Box::new(move |number| bomb(&misfit, number))));
    all
}

/// Without a limit a bomb ends its guest; the limit is what an operator gives with `--processes`.
fn bomb(misfit: &ProgramRef, number: u32) -> Action {
    let limits = Limits { processes_max: Some(BOMB_MAX), ..Limits::default() };
    let args = vec!["bomb".to_owned(), number.to_string()];
    Action::Run(Run { program: Some(misfit.clone()), args, limits, ..Run::default() })
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum How {
    Timeout,
    Cancel,
}

fn ends(lab: &Lab, name: &str, number: u32, action: Action, how: How) {
    let timeout_ms = (how == How::Timeout).then_some(TIMEOUT_MS);
    let id = lab.daemon.submit_as(GUEST, NewRequest { timeout_ms, ..new_request(action) }).id;
    if how == How::Cancel {
        // The brood is there and is seen there: otherwise nothing is shown by its being gone.
        until(&format!("{name}: the brood"), || (lab.processes_with(number) >= 2).then_some(()));
        let Members::Some(count) = lab.members(&id) else { panic!("{name}: no cgroup, or an empty one") };
        assert!(count >= 2, "{name}: {count} processes in the cgroup");
        let asked = on("the cancel", lab.daemon.client().cancel(&id)).unwrap();
        assert!(asked.cancel_asked || asked.state.is_final());
    }
    let request = lab.daemon.finished(&id);
    let wanted = if how == How::Timeout { State::TimedOut } else { State::Cancelled };
    assert_eq!(request.state, wanted, "{name}: {:?}", request.receipt);
    is_gone(lab, &format!("{name}, {how:?}"), &id, number);
    ended_in_time(name, &request);
}

fn is_gone(lab: &Lab, name: &str, id: &str, number: u32) {
    let members = lab.members(id);
    assert!(
        matches!(members, Members::NoCgroup | Members::Empty),
        "{name}: {members:?} are left in the cgroup"
    );
    assert_eq!(lab.processes_with(number), 0, "{name}: processes are left");
}

/// TERM and its grace, then the whole cgroup; nothing of it waits for the brood.
fn ended_in_time(name: &str, request: &Request) {
    let ran = request.receipt.as_ref().unwrap().ran.unwrap();
    let took = ran.ended_us - ran.started_us;
    if request.state == State::TimedOut {
        let limit = TIMEOUT_MS * 1000 + GRACE_US + DRAIN_US + BUSY_US;
        assert!((TIMEOUT_MS * 1000..=limit).contains(&took), "{name}: ended {took} µs after its start");
    }
}

const TIMEOUT_MS: u64 = 1_500;
const GRACE_US: u64 = 2_000_000;
const DRAIN_US: u64 = 2_000_000;
/// What an emulated processor with a fork bomb on it may take to get to anything.
const BUSY_US: u64 = 8_000_000;
const BOMB_MAX: u32 = 40;
