//! Programs that want a terminal have one: full-screen programs are used through `--pty` as if they ran here, with
//! the window's size and every key; and the terminal here is as it was when they have ended, however they did.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed step is a failed test")]

use doorbell_api::request::State;
use doorbell_tests::lab::{GUEST, Lab, System};
use doorbell_tests::terminal::Terminal;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

#[test]
fn a_full_screen_program_is_used_through_a_terminal_that_is_restored() {
    let lab = Lab::boot(System::Initramfs);
    let terminal = Terminal::open(&lab.place, lab.daemon.socket());
    let before = terminal.modes();
    a_text_is_edited(&lab, &terminal);
    assert_eq!(terminal.modes(), before, "the end of the editor did not restore the terminal");
    a_display_that_redraws_itself_is_left_by_a_key(&terminal);
    a_shell_knows_the_windows_size_and_takes_ctrl_c(&lab, &terminal);
    assert_eq!(terminal.modes(), before, "the end of the shell did not restore the terminal");
    for signal in [Signal::SIGTERM, Signal::SIGHUP] {
        a_killed_client_leaves_the_terminal_as_it_was(&lab, &terminal, &before, signal);
    }
    without_a_terminal_here_there_is_one_there(&lab);
}

fn a_text_is_edited(lab: &Lab, terminal: &Terminal) {
    terminal.enter(&format!("doorbell run {GUEST} --pty -- vi /run/letter"));
    // An empty text shows a tilde on every line below the first, down to the window's last but one.
    terminal.await_screen("an empty text", |screen| {
        screen.lines().filter(|line| line.trim_end() == "~").count() == 22
    });
    terminal.write("ihello from afar");
    terminal.key("Enter");
    terminal.write("and again");
    terminal.key("Escape");
    // The last line begins with I while keys are inserted, and with a dash when they are commands again.
    terminal.await_screen("the text", |screen| {
        screen.starts_with("hello from afar\nand again\n")
            && screen.lines().any(|line| line.starts_with("- "))
    });
    terminal.enter(":wq");
    terminal.await_prompt();
    assert_eq!(lab.look("cat /run/letter"), "hello from afar\nand again\n");
}

fn a_display_that_redraws_itself_is_left_by_a_key(terminal: &Terminal) {
    terminal.enter(&format!("clear; doorbell run {GUEST} --pty -- top -d 1"));
    terminal.await_screen("the processes", |screen| screen.contains("Mem:") && screen.contains("PID"));
    terminal.write("q");
    terminal.await_prompt();
}

fn a_shell_knows_the_windows_size_and_takes_ctrl_c(lab: &Lab, terminal: &Terminal) {
    terminal.enter(&format!("clear; doorbell run {GUEST} --env PS1='there$ ' --pty -- sh"));
    terminal.await_line("there$");
    terminal.enter("stty size; test -t 0 && test -t 1 && test -t 2 && echo all''three");
    terminal.await_line("24 80");
    terminal.await_line("allthree");
    terminal.enter("until [ \"$(stty size)\" = '30 100' ]; do sleep 0.1; done; echo re''sized");
    terminal.resize(30, 100);
    terminal.await_line("resized");

    // The key is the program's: neither the shell there nor the command here ends by it.
    terminal
        .enter("sh -c 'trap \"echo cau\"\"ght\" INT; echo wai\"\"ting; read line; read line; echo go\"\"ne'");
    terminal.await_line("waiting");
    terminal.key("C-c");
    terminal.await_screen("the trap", |screen| screen.contains("caught"));
    terminal.enter("");
    terminal.enter("");
    terminal.await_line("gone");
    terminal.enter("exit 7");
    terminal.await_prompt();
    terminal.enter("echo status $?");
    terminal.await_line("status 7");
    terminal.resize(24, 80);
    let list = lab.doorbell().run(&["--json", "request", "ls", "--limit", "1"]).expect(0).json();
    assert_eq!(list["requests"][0]["state"], "failed", "a Ctrl-C is no cancel: {list}");
}

fn a_killed_client_leaves_the_terminal_as_it_was(
    lab: &Lab,
    terminal: &Terminal,
    before: &str,
    signal: Signal,
) {
    // A prompt that no earlier shell has left on the screen.
    terminal.enter(&format!("clear; doorbell run {GUEST} --env PS1='{signal}$ ' --pty -- sh"));
    terminal.await_line(&format!("{signal}$"));
    assert_ne!(terminal.modes(), before, "every key goes to the guest, so the modes are others");
    let list = lab.doorbell().run(&["--json", "request", "ls", "--limit", "1"]).expect(0).json();
    let id = list["requests"][0]["id"].as_str().unwrap().to_owned();
    kill(Pid::from_raw(i32::try_from(terminal.foreground()).unwrap()), signal).unwrap();
    terminal.await_screen("the prompt", |screen| {
        screen
            .lines()
            .rfind(|line| !line.trim().is_empty())
            .is_some_and(|line| line.trim_end().ends_with("here$"))
    });
    assert_eq!(terminal.modes(), before, "{signal} left the terminal in the program's modes");
    assert_eq!(lab.daemon.request(&id).state, State::Started, "the program was to be kept");
    let _ = lab.doorbell().run(&["request", "cancel", &id]).expect(0);
    assert_eq!(lab.daemon.finished(&id).state, State::Cancelled);
}

/// In a script there is none here; the program has one all the same, and its output is one stream.
fn without_a_terminal_here_there_is_one_there(lab: &Lab) {
    let ended = lab.run(&["--pty", "--", "sh", "-c", "tty; echo err >&2; exit 4"]).ended().expect(4);
    assert!(ended.stdout.starts_with("/dev/pts/"), "{}", ended.stdout);
    assert!(ended.stdout.ends_with("err\r\n"), "{:?}", ended.stdout);
    assert_eq!(ended.stderr, "");
}
