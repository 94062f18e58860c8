//! What is in the memory of a daemon that breaks stays there. Beside each stands a program that does leave a core file,
//! so that its absence says something.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use doorbell_api::request::State;
use doorbell_tests::build::program;
use doorbell_tests::daemon::Daemon;
use doorbell_tests::guest::Machine;
use doorbell_tests::lab::GUEST;
use doorbell_tests::place::Place;
use doorbell_tests::skip::skipped;
use doorbell_tests::wait::until;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command};

#[test]
fn a_manager_that_breaks_leaves_no_core() {
    let place = Place::new();
    let mut other = unlimited(&place, "exec sleep 1000").spawn().unwrap();
    until("the other program", || (name_of(&other)? == "sleep").then_some(()));
    if !leaves_core(&mut other) {
        skipped("this machine keeps no core files");
        return;
    }
    let socket = place.join("d.sock");
    let mut command = unlimited(&place, "exec \"$0\" --vsock off --state-dir \"$1\" --socket \"$2\"");
    command.arg(program("doorbelld")).arg(place.join("state")).arg(&socket);
    let mut manager = command.spawn().unwrap();
    until("the manager's socket", || UnixStream::connect(&socket).ok());
    assert!(!leaves_core(&mut manager), "what was in the manager's memory lies in a file");
}

#[test]
fn an_agent_that_breaks_leaves_no_core() {
    let place = Place::new();
    let daemon = Daemon::start(&place);
    let _guest = daemon.boot(&place, GUEST, &Machine::default());
    let (run, cores) = daemon.run_sh(GUEST, BREAKS);
    assert_eq!(run.state, State::Succeeded, "{cores}");
    assert_eq!(cores.trim(), "/run/core.sh", "the shell's is the only one");
}

/// A shell that may leave a core file of any size.
fn unlimited(place: &Place, script: &str) -> Command {
    let mut command = Command::new("sh");
    command.current_dir(place.path()).args(["-c", &format!("ulimit -c unlimited; {script}")]);
    command
}

fn name_of(child: &Child) -> Option<String> {
    let name = std::fs::read_to_string(format!("/proc/{}/comm", child.id())).ok()?;
    Some(name.trim().to_owned())
}

fn leaves_core(child: &mut Child) -> bool {
    kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGABRT).unwrap();
    let ended = child.wait().unwrap();
    assert_eq!(ended.signal(), Some(Signal::SIGABRT as i32), "{ended}");
    ended.core_dumped()
}

/// A second agent with a state of its own is ended as by a fault of its own, and a shell before it.
const BREAKS: &str = "echo /run/core.%e >/proc/sys/kernel/core_pattern; ulimit -c unlimited; mkdir -m 700 /run/other; \
    sh -c 'kill -ABRT $$'; \
    /sbin/doorbell-agent --state-dir /run/other 2>/run/other.log & agent=$!; \
    until grep -q SHA256 /run/other.log; do usleep 10000; done; \
    kill -ABRT $agent; wait $agent; ls /run/core.*";
