//! `--pty` on a real terminal: raw while the program has it, and put back however that ends.

use super::manager::{ID, Log, Manager, ended, line, send};
use super::program::Program;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Query};
use axum::routing::{post, put};
use axum::{Json, Router};
use doorbell_client::api::request::State;
use nix::pty::openpty;
use nix::sys::signal::Signal;
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use std::collections::HashMap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::Child;
use std::sync::Arc;

/// The operator's terminal, with the command on it.
struct Terminal {
    screen: File,
    tty: OwnedFd,
    child: Child,
}

impl Terminal {
    fn with(manager: &Manager, words: &[&str]) -> Self {
        let pair = openpty(None, None).expect("a terminal");
        let (screen, tty) = (File::from(pair.master), pair.slave);
        resize(&tty, 40, 120);
        let end = || tty.try_clone().expect("a descriptor");
        let mut command = manager.command(words);
        command.env("TERM", "xterm-256color").stdin(end()).stdout(end()).stderr(end());
        let child = command.spawn().expect("it runs");
        Self { screen, tty, child }
    }

    fn type_in(&mut self, keys: &[u8]) {
        self.screen.write_all(keys).expect("typed");
    }

    /// Reads the screen until this is on it.
    fn see(&mut self, wanted: &str) -> String {
        let mut seen = Vec::new();
        let mut byte = [0];
        while !String::from_utf8_lossy(&seen).contains(wanted) {
            self.screen.read_exact(&mut byte).expect("more on the screen");
            seen.push(byte[0]);
        }
        String::from_utf8_lossy(&seen).into_owned()
    }

    fn is_raw(&self) -> bool {
        let modes = tcgetattr(&self.tty).expect("modes").local_modes;
        !modes.intersects(LocalModes::ECHO | LocalModes::ISIG | LocalModes::ICANON)
    }
}

fn resize(tty: &OwnedFd, rows: u16, columns: u16) {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(tty, size).expect("a size");
}

fn begun() -> (Program, Manager, Terminal) {
    let program = Program::new();
    program.start();
    let manager = program.manager();
    let mut terminal = Terminal::with(&manager, &["run", "web-3", "--pty", "--", "sh"]);
    program.print(b"$ ");
    terminal.see("$ ");
    (program, manager, terminal)
}

#[test]
fn the_program_has_the_terminal_with_every_key_and_its_size() {
    let (program, manager, mut terminal) = begun();
    assert!(terminal.is_raw());
    // Ctrl-C, Ctrl-Z, Ctrl-D and a tilde in a line are the program's.
    terminal.type_in(b"a~.\x03\x1a\x04\xff\r");
    manager.log.wait_for("input has 8 bytes");
    assert_eq!(program.disk().input, b"a~.\x03\x1a\x04\xff\r");
    resize(&terminal.tty, 50, 132);
    send(&terminal.child, Signal::SIGWINCH);
    manager.log.wait_for(&format!("window 132x50 of {ID}"));
    program.end(State::Succeeded);
    assert_eq!(ended(&mut terminal.child), 0);
    assert!(!terminal.is_raw());
    let submitted = manager.log.said().concat();
    assert!(submitted.contains(r#""input":{"type":"terminal","rows":40,"columns":120}"#), "{submitted}");
    assert!(submitted.contains(r#"{"name":"TERM","value":"xterm-256color"}"#), "{submitted}");
}

#[test]
fn a_tilde_and_a_dot_lead_out_and_attach_leads_back() {
    let (program, manager, mut terminal) = begun();
    terminal.type_in(b"ls\r~.");
    let said = terminal.see("goes on with it\r\n");
    assert!(said.contains(&format!("detached from request {ID}; `doorbell request attach {ID}`")), "{said}");
    assert_eq!(ended(&mut terminal.child), 126);
    assert!(!terminal.is_raw());
    assert_eq!(program.disk().input, b"ls\r");
    let mut terminal = Terminal::with(&manager, &["request", "attach", ID, "--pty", "--from-now"]);
    manager.log.wait_for(&format!("window 120x40 of {ID}"));
    manager.log.wait_for("stdout from 5, attached: true");
    terminal.type_in(b"id\r");
    manager.log.wait_for("input has 6 bytes");
    assert_eq!(program.disk().input, b"ls\rid\r");
    program.end(State::Succeeded);
    assert_eq!(ended(&mut terminal.child), 0);
    assert!(!terminal.is_raw());
}

#[test]
fn the_terminal_is_put_back_by_every_signal_and_failure_that_ends_us() {
    for signal in [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT] {
        let (_program, _manager, mut terminal) = begun();
        assert!(terminal.is_raw());
        send(&terminal.child, signal);
        assert_eq!(ended(&mut terminal.child), 126, "{signal}");
        assert!(!terminal.is_raw(), "{signal}");
    }
    let (_program, mut manager, mut terminal) = begun();
    manager.cut();
    terminal.see(&format!("`doorbell request attach {ID}` goes on with it\r\n"));
    assert_eq!(ended(&mut terminal.child), 125);
    assert!(!terminal.is_raw());
}

#[test]
fn a_line_of_ours_stands_at_the_left_of_a_raw_terminal() {
    let program = Program::new();
    let manager = program.manager();
    let mut terminal = Terminal::with(&manager, &["run", "web-3", "--pty", "--", "sh"]);
    let said = terminal.see(&format!("(request {ID})\r\n"));
    assert!(said.starts_with("doorbell: waiting: web-3 is not connected"), "{said:?}");
    assert!(terminal.is_raw());
    program.end(State::Succeeded);
    assert_eq!(ended(&mut terminal.child), 0);
}

/// A manager that takes one upload and says that it is something else.
fn upload(log: &Arc<Log>) -> Router {
    let log = Arc::clone(log);
    let append = put(move |Query(query): Query<HashMap<String, u64>>, body: Bytes| async move {
        let len = query["offset"] + body.len() as u64;
        log.say(format!("upload has {len} bytes"));
        Json(serde_json::json!({ "len": len }))
    });
    let finish = post(|| async { Json(serde_json::json!({ "digest": "ab".repeat(32), "len": 1 })) });
    Router::new()
        .route("/v1/uploads/{id}", append)
        .route("/v1/uploads/{id}/finish", finish)
        .layer(DefaultBodyLimit::disable())
}

#[test]
fn an_upload_has_a_bar_on_a_terminal_and_nowhere_else() {
    let manager = Manager::with(|log| upload(&log));
    let path = manager.dir.path().join("fix.sh");
    File::create(&path).and_then(|file| file.set_len(9 << 20)).expect("a file");
    let words = ["run", "web-3", "--program", path.to_str().expect("utf-8")];
    let output = manager.run(&words);
    manager.log.wait_for(&format!("upload has {} bytes", 9 << 20));
    // Only the one line on what became of it, and no program is run that is not the one that was sent.
    assert!(line(&output).contains("what was uploaded, with its own digest"), "{output:?}");
    assert_eq!(output.status.code(), Some(125));
    let mut terminal = Terminal::with(&manager, &words);
    let seen = terminal.see("doorbell: ");
    assert!(seen.contains("upload ") && seen.contains("/9.00 MiB"), "{seen:?}");
    assert_eq!(ended(&mut terminal.child), 125);
}
