//! A terminal with somebody at it: tmux with one window, whose keys the test types and whose screen it reads.
//!
//! Used by tests of programs that want a terminal. The shell in it is this machine's, with the command line at hand.

use crate::build::program;
use crate::place::Place;
use crate::process::Process;
use crate::wait::until;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the shell in the window says when it waits for a command.
pub const PROMPT: &str = "here$";

/// The terminal.
#[derive(Debug)]
pub struct Terminal {
    socket: PathBuf,
    _server: Process,
}

impl Terminal {
    /// Opens one of 24 lines and 80 columns with a shell that reaches the manager at this socket.
    #[must_use]
    pub fn open(place: &Place, manager: &Path) -> Self {
        let socket = place.join("tmux.sock");
        let log = place.join("tmux.log");
        let arguments: [&Path; 6] =
            ["-u".as_ref(), "-D".as_ref(), "-S".as_ref(), &socket, "-f".as_ref(), "/dev/null".as_ref()];
        let server =
            Process::start("tmux", "/usr/bin/tmux".as_ref(), &arguments, &log, vec![log.clone()], &[]);
        let terminal = Self { socket, _server: server };
        until("the terminal's server", || terminal.socket.exists().then_some(()));
        let doorbell = program("doorbell");
        let tools = doorbell.parent().expect("a directory").display();
        let shell = format!(
            "exec env -u ENV PS1='{PROMPT} ' PATH={tools}:$PATH DOORBELL_SOCKET={} sh",
            manager.display()
        );
        let _ = terminal.tmux(&["new-session", "-d", "-x", "80", "-y", "24", &shell]);
        let _ = terminal.tmux(&["set-option", "-g", "status", "off"]);
        let _ = terminal.tmux(&["set-option", "-s", "escape-time", "0"]);
        terminal.resize(24, 80);
        terminal.await_prompt();
        terminal
    }

    /// Types a line and Enter.
    pub fn enter(&self, line: &str) {
        let _ = self.tmux(&["send-keys", "-l", line]);
        self.key("Enter");
    }

    /// Types text and no Enter.
    pub fn write(&self, text: &str) {
        let _ = self.tmux(&["send-keys", "-l", text]);
    }

    /// Presses a key, by tmux's name of it.
    pub fn key(&self, key: &str) {
        let _ = self.tmux(&["send-keys", key]);
    }

    /// Changes the window's size.
    pub fn resize(&self, rows: u16, columns: u16) {
        let (rows, columns) = (rows.to_string(), columns.to_string());
        let _ = self.tmux(&["resize-window", "-x", &columns, "-y", &rows]);
    }

    /// What is to be seen.
    #[must_use]
    pub fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    /// Waits until the screen shows something.
    pub fn await_screen(&self, what: &str, look: impl Fn(&str) -> bool) {
        let mut last = String::new();
        let shown = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            until(&format!("{what} on the screen"), || {
                last = self.screen();
                look(&last).then_some(())
            });
        }));
        if let Err(failure) = shown {
            crate::skip::tell(&format!("--- the screen:\n{last}"));
            std::panic::resume_unwind(failure);
        }
    }

    /// Waits until a line is this and nothing else.
    pub fn await_line(&self, line: &str) {
        self.await_screen(&format!("the line {line:?}"), |screen| {
            screen.lines().any(|shown| shown.trim_end() == line)
        });
    }

    /// Waits until this machine's shell waits for a command.
    pub fn await_prompt(&self) {
        self.await_screen("the prompt", |screen| {
            screen.lines().rfind(|line| !line.trim().is_empty()).is_some_and(|line| line.trim_end() == PROMPT)
        });
    }

    /// How the terminal treats what is typed and printed: all its modes, in one word.
    #[must_use]
    pub fn modes(&self) -> String {
        let tty = self.tmux(&["display-message", "-p", "#{pane_tty}"]);
        let output = Command::new("stty").args(["-g", "-F", tty.trim()]).output().expect("stty");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// The process that the shell in the window waits for.
    #[must_use]
    pub fn foreground(&self) -> u32 {
        let shell = self.tmux(&["display-message", "-p", "#{pane_pid}"]);
        let shell = shell.trim();
        let children = PathBuf::from(format!("/proc/{shell}/task/{shell}/children"));
        until("the shell's child", || {
            crate::process::read(&children).split_whitespace().next().and_then(|child| child.parse().ok())
        })
    }

    fn tmux(&self, words: &[&str]) -> String {
        let output = Command::new("tmux").arg("-S").arg(&self.socket).args(words).output().expect("tmux");
        assert!(output.status.success(), "tmux {words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}
