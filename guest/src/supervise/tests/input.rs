//! What programs read: streams to their end, and terminals.

use super::*;
use crate::supervise::feed::Feed;
use doorbell_wire::message::action::Window;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use std::io::{ErrorKind, Read};
use std::os::fd::AsRawFd;

fn with_input(script: &str, input: Input) -> (Rig, Supervised) {
    let rig = Rig::new();
    let mut parts = parts("/bin/sh", &["-c", script]);
    parts.input = input;
    let supervised = rig.start(order(parts));
    (rig, supervised)
}

const WINDOW: Window = Window { rows: 24, columns: 80 };

#[test]
fn without_input_there_is_an_end_at_once() {
    let (_rig, mut supervised) = with_input("cat; echo end", Input::None);
    assert_eq!(end(&mut supervised).outcome, Outcome::Succeeded);
    assert_eq!(text(&supervised), "end\n");
    assert!(supervised.add_input(0, b"x").is_err());
}

#[test]
fn a_stream_goes_through_to_its_end_within_the_window() {
    let (_rig, mut supervised) = with_input("cat", Input::Stream);
    let bytes: Vec<u8> = (0..10 * MIB).map(|at| u8::try_from(at % 251).unwrap()).collect();
    let mut given = 0_usize;
    let over = wait_for(&mut supervised, |supervised, sight| {
        let taken = usize::try_from(supervised.input_taken()).unwrap();
        let to = bytes.len().min(taken + 64 * 1024);
        if to > given {
            supervised.add_input(given as u64, &bytes[given..to]).unwrap();
            given = to;
            if given == bytes.len() {
                supervised.end_input(given as u64);
            }
        }
        if let Sight::Over(over) = sight { Some(over.clone()) } else { None }
    });
    assert_eq!((over.outcome, over.output.stdout.digest), (Outcome::Succeeded, digest(&bytes)));
    assert_eq!(supervised.input_taken(), bytes.len() as u64);
}

#[test]
fn an_end_may_come_before_the_bytes_and_more_than_once() {
    let (_rig, mut supervised) = with_input("cat", Input::Stream);
    supervised.end_input(6);
    supervised.add_input(0, b"abc").unwrap();
    supervised.add_input(1, b"bcde").unwrap();
    supervised.end_input(6);
    assert!(supervised.add_input(9, b"gap").is_err());
    assert_eq!(supervised.input_len(), 5);
    supervised.add_input(0, b"abcdef").unwrap();
    assert_eq!(end(&mut supervised).outcome, Outcome::Succeeded);
    assert_eq!(text(&supervised), "abcdef");
}

#[test]
fn input_that_nobody_reads_any_more_counts_as_taken() {
    let (_rig, mut supervised) = with_input("exec < /dev/null; echo closed; sleep 1000", Input::Stream);
    printed(&mut supervised, "closed\n");
    supervised.add_input(0, &vec![0; 300_000]).unwrap();
    wait_for(&mut supervised, |supervised, _| (supervised.input_taken() == 300_000).then_some(()));
    supervised.stop();
    assert_eq!(end(&mut supervised).outcome, Outcome::Cancelled);
}

#[test]
fn a_terminal_is_one_for_all_three_and_has_its_size() {
    let script = "test -t 0 && test -t 1 && test -t 2 && echo yes; stty size; echo $TERM; : > /dev/tty && echo mine; \
                  trap 'stty size; exit 0' WINCH; echo ready; while :; do sleep 0.01; done";
    let (_rig, mut supervised) = with_input(script, Input::Terminal(WINDOW));
    printed(&mut supervised, "ready\r\n");
    assert_eq!(text(&supervised), "yes\r\n24 80\r\nxterm\r\nmine\r\nready\r\n");
    supervised.resize(Window { rows: 50, columns: 132 });
    let over = end(&mut supervised);
    assert_eq!(over.outcome, Outcome::Succeeded);
    assert!(text(&supervised).ends_with("ready\r\n50 132\r\n"), "{}", text(&supervised));
    assert_eq!(over.output.stderr.kept, 0);
}

#[test]
fn the_end_of_input_is_an_end_on_a_terminal_too() {
    for last in ["one\n", "one"] {
        let (_rig, mut supervised) =
            with_input("stty -echo; echo ready; cat; echo end", Input::Terminal(WINDOW));
        printed(&mut supervised, "ready\r\n");
        supervised.add_input(0, last.as_bytes()).unwrap();
        supervised.end_input(last.len() as u64);
        assert_eq!(end(&mut supervised).outcome, Outcome::Succeeded);
        let expected = format!("ready\r\n{}end\r\n", last.replace('\n', "\r\n"));
        assert_eq!(text(&supervised), expected);
    }
}

#[test]
fn keys_of_a_terminal_are_signals() {
    let (_rig, mut supervised) = with_input("echo ready; exec sleep 1000", Input::Terminal(WINDOW));
    printed(&mut supervised, "ready\r\n");
    supervised.add_input(0, b"\x03").unwrap();
    assert_eq!(end(&mut supervised).outcome, Outcome::Killed(2.try_into().unwrap()));
}

#[test]
fn what_a_terminals_program_leaves_behind_loses_it() {
    let (_rig, mut supervised) = with_input("trap '' HUP; sleep 1000 & echo $!", Input::Terminal(WINDOW));
    let orphan: i32 =
        wait_for(&mut supervised, |supervised, _| text(supervised).split("\r\n").next()?.parse().ok());
    let orphan = pidfd(orphan);
    assert_eq!(end(&mut supervised).outcome, Outcome::Succeeded);
    let _ = rustix::process::pidfd_send_signal(&orphan, rustix::process::Signal::KILL);
    assert!(is_gone(&orphan));
}

#[test]
fn a_user_owns_its_terminal() {
    let rig = Rig::new();
    let mut parts = parts("/bin/sh", &["-c", "stat -c '%U %a' $(tty)"]);
    (parts.input, parts.user) = (Input::Terminal(WINDOW), Some("nobody".parse().unwrap()));
    let mut supervised = rig.start(order(parts));
    end(&mut supervised);
    assert_eq!(text(&supervised), "nobody 620\r\n");
}

#[test]
fn input_of_a_terminal_that_nobody_has_any_more_counts_as_taken() {
    let script = "echo ready; exec <&- >&- 2>&-; exec sleep 1000";
    let (_rig, mut supervised) = with_input(script, Input::Terminal(WINDOW));
    printed(&mut supervised, "ready\r\n");
    supervised.add_input(0, &vec![b'x'; MIB]).unwrap();
    wait_for(&mut supervised, |supervised, _| (supervised.input_taken() == MIB as u64).then_some(()));
    supervised.stop();
    assert_eq!(end(&mut supervised).outcome, Outcome::Cancelled);
}

#[test]
fn a_terminal_that_is_full_gets_its_end_when_there_is_room() {
    let (mut ours, theirs) = crate::supervise::terminal::open(WINDOW, None).unwrap();
    let mut theirs = File::from(theirs);
    fcntl(&theirs, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
    raw(&theirs);
    let full = loop {
        if let Err(error) = ours.write(b"aaaaaaa") {
            break error;
        }
    };
    assert_eq!(full.kind(), ErrorKind::WouldBlock);
    let mut feed = Feed::new(None, Some(ours), true);
    feed.has(0, Some(0));
    feed.step(false);
    let (deadline, mut piece) = (now().after(PATIENCE_MS), [0; 4096]);
    let mut ends = || {
        let count = theirs.read(&mut piece).unwrap_or(0);
        piece[..count].iter().filter(|&&byte| byte == 4).count()
    };
    while ends() == 0 {
        assert!(now() < deadline, "all was read, and no end came behind it");
        feed.step(false);
    }
    feed.step(false);
    assert!(feed.watched().is_none() && ends() == 0, "it comes once");
}

/// Without lines: each byte is read as it was written.
fn raw(terminal: &File) {
    let mut settings = std::mem::MaybeUninit::<nix::libc::termios>::uninit();
    // SAFETY: the first call fills the structure, and the terminal is open.
    unsafe {
        assert_eq!(nix::libc::tcgetattr(terminal.as_raw_fd(), settings.as_mut_ptr()), 0);
        nix::libc::cfmakeraw(settings.as_mut_ptr());
        assert_eq!(nix::libc::tcsetattr(terminal.as_raw_fd(), nix::libc::TCSANOW, settings.as_ptr()), 0);
    }
}
