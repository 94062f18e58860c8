//! On a machine without `/dev/vhost-vsock` nobody opens an AF_VSOCK socket outside guests, nor `/dev/vsock`:
//! what answers there is not one of ours. Seen by strace, of the manager, every command, and a guest's run.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use doorbell_tests::build::{program, script};
use doorbell_tests::command::begin;
use doorbell_tests::daemon::{Daemon, command};
use doorbell_tests::guest::{Guest, door};
use doorbell_tests::honest::{Honest, Identity};
use doorbell_tests::image::Image;
use doorbell_tests::place::Place;
use doorbell_tests::process::{Process, read};
use doorbell_tests::skip::skipped;
use doorbell_tests::wait::until;
use std::path::Path;
use std::process::Command;

#[test]
fn the_manager_and_every_command_open_no_vsock_socket() {
    if is_vsock_host() {
        return skipped("this machine has /dev/vhost-vsock, so the manager listens there");
    }
    let place = Place::new();
    let trace = place.join("doorbelld.trace");
    let mut daemon = Daemon::start_under(&place, &words_before(&trace));
    let (socket, identity) = (place.join("h"), Identity::fresh());
    daemon.add("web-3", &socket, Some(identity.public_key()));
    let _honest = Honest::start(&door(&socket), identity);
    let id = daemon.submit("web-3", command(&["true"])).id;
    let _ = daemon.finished(&id);

    let man = place.join("man");
    let commands: &[&[&str]] = &[
        &["guest", "add", "web-4", "--cid", "7"],
        &["guest", "set", "web-4", "--cid", "8"],
        &["guest", "ls"],
        &["guest", "show", "web-3"],
        &["guest", "pending"],
        &["guest", "approve", "web-4"],
        &["guest", "rm", "web-4", "--yes"],
        &["run", "web-3", "--", "true"],
        &["link", "web-3", "ls", "--timeout", "1s"],
        &["link", "web-3", "down", "eth0"],
        &["link", "web-3", "up", "eth0"],
        &["request", "ls"],
        &["request", "show", &id],
        &["request", "output", &id],
        &["request", "wait", &id],
        &["request", "cancel", &id],
        &["audit", "verify"],
        &["audit", "ls"],
        &["doctor"],
        &["completions", "bash"],
        &["man", man.to_str().unwrap()],
    ];
    for (number, arguments) in commands.iter().enumerate() {
        let trace = place.join(&format!("doorbell-{number}.trace"));
        let words = words_before(&trace);
        let mut traced = Command::new(words[0]);
        traced
            .args(&words[1..])
            .arg(program("doorbell"))
            .args(*arguments)
            .env("DOORBELL_SOCKET", daemon.socket());
        let ended = begin(&place, &mut traced).ended();
        let speaks = !matches!(arguments[0], "completions" | "man");
        opens_no_vsock(&trace, &format!("doorbell {arguments:?} ({ended:?})"), speaks);
    }
    daemon.stop();
    opens_no_vsock(&trace, "doorbelld", true);
}

#[test]
fn a_guests_run_opens_no_vsock_socket_on_this_machine() {
    if is_vsock_host() {
        return skipped("this machine has /dev/vhost-vsock, so guests have the kernel's own vsock");
    }
    let place = Place::new();
    let (trace, log) = (place.join("run-guest.trace"), place.join("run-guest.log"));
    let directory = Guest::directory_of(&place, "web-3");
    let image = Image::Plain.directory();
    let words = words_before(&trace);
    let run_guest = script("run-guest");
    let arguments = [
        &words[1..],
        &[
            run_guest.to_str().unwrap(),
            "--image",
            image.to_str().unwrap(),
            "--dir",
            directory.to_str().unwrap(),
        ],
    ]
    .concat();
    let console = directory.join("console.log");
    let run = Process::start(
        "a traced guest",
        Path::new(words[0]),
        &arguments,
        &log,
        vec![log.clone(), console.clone()],
        &[],
    );
    until("the guest's kernel", || read(&console).contains("doorbell-guest: booted").then_some(()));
    let _ = run.stop();
    opens_no_vsock(&trace, "run-guest, QEMU and the vsock back end", true);
}

fn is_vsock_host() -> bool {
    Path::new("/dev/vhost-vsock").exists()
}

/// The tracer stands beside, so that the traced program keeps its process id and its signals.
fn words_before(trace: &Path) -> [&str; 8] {
    let calls = "trace=socket,socketpair,connect,bind,open,openat,openat2";
    ["strace", "-D", "-f", "--seccomp-bpf", "-e", calls, "-o", trace.to_str().unwrap()]
}

fn opens_no_vsock(trace: &Path, who: &str, speaks: bool) {
    let text = until(&format!("the end of the trace of {who}"), || {
        let text = read(trace);
        let first = text.split_whitespace().next()?.to_owned();
        // The first process traced is the program itself, and its last line is written last.
        let ended = |line: &str| {
            line.starts_with(&first) && line.contains("+++ exited") || line.contains("+++ killed")
        };
        text.lines().any(ended).then_some(text)
    });
    assert!(!speaks || text.contains("AF_UNIX"), "{who}: the tracer saw no socket at all: {text}");
    let vsock = |line: &&str| {
        line.contains("AF_VSOCK") || line.contains("socket(0x28") || line.contains("/dev/vsock")
    };
    let found: Vec<&str> = text.lines().filter(vsock).collect();
    assert!(found.is_empty(), "{who}: {found:?}");
    let vhost: Vec<&str> = text.lines().filter(|line| line.contains("\"/dev/vhost-vsock\"")).collect();
    assert!(vhost.iter().all(|line| line.contains("ENOENT")), "{who}: {vhost:?}");
}
