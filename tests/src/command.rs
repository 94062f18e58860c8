//! The real command line: `doorbell` as a script calls it, with its exit status and both outputs.
//!
//! Called by suites whose subject it is.

use crate::build::program;
use crate::place::Place;
use crate::process::read;
use crate::wait::{PATIENCE, within};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// How a command ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Its exit status.
    pub code: Option<i32>,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

impl Ended {
    /// Requires this exit status.
    #[track_caller]
    #[must_use]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout: {}stderr: {}", self.stdout, self.stderr);
        self
    }

    /// Requires a refusal: this exit status, nothing on standard output, and one line on standard error that
    /// holds these words.
    #[track_caller]
    pub fn refused(self, code: i32, words: &[&str]) {
        let ended = self.expect(code);
        assert_eq!(ended.stdout, "");
        assert_eq!(ended.stderr.trim_end().lines().count(), 1, "one line was expected: {:?}", ended.stderr);
        for word in words {
            assert!(ended.stderr.contains(word), "{word:?} is not in {:?}", ended.stderr);
        }
    }

    /// Standard output as JSON.
    #[track_caller]
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error} in {:?}", self.stdout))
    }
}

/// A command that has begun. Dropping it ends it.
#[derive(Debug)]
pub struct Running {
    child: Child,
    words: String,
    stdout: PathBuf,
    stderr: PathBuf,
}

/// `doorbell` against one manager's socket.
#[derive(Debug)]
pub struct Doorbell<'a> {
    place: &'a Place,
    socket: PathBuf,
}

impl<'a> Doorbell<'a> {
    /// For the manager with this socket.
    #[must_use]
    pub fn new(place: &'a Place, socket: &Path) -> Self {
        Self { place, socket: socket.to_owned() }
    }

    /// Runs a command to its end.
    #[must_use]
    pub fn run<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Ended {
        self.begin(arguments).ended()
    }

    /// Begins a command that reads what the test writes.
    #[must_use]
    pub fn begin_fed<A: AsRef<OsStr>>(&self, arguments: &[A]) -> (Running, ChildStdin) {
        let mut running = begin_reading(self.place, &mut self.command(arguments), Stdio::piped());
        let stdin = running.child.stdin.take().expect("a pipe");
        (running, stdin)
    }

    /// Begins a command.
    #[must_use]
    pub fn begin<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Running {
        begin(self.place, &mut self.command(arguments))
    }

    fn command<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Command {
        let mut command = Command::new(program("doorbell"));
        command.args(arguments).env("DOORBELL_SOCKET", &self.socket);
        command
    }
}

/// Begins any command, its outputs kept in the test's directory.
#[must_use]
pub fn begin(place: &Place, command: &mut Command) -> Running {
    begin_reading(place, command, Stdio::null())
}

fn begin_reading(place: &Place, command: &mut Command, stdin: Stdio) -> Running {
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let (stdout, stderr) = (place.join(&format!("{number}.out")), place.join(&format!("{number}.err")));
    let words = format!("{command:?}");
    let child = command
        .stdin(stdin)
        .stdout(File::create(&stdout).expect("a file for the output"))
        .stderr(File::create(&stderr).expect("a file for the output"))
        .spawn()
        .unwrap_or_else(|error| panic!("{words} does not start: {error}"));
    Running { child, words, stdout, stderr }
}

impl Running {
    /// What it has written to standard output so far.
    #[must_use]
    pub fn stdout(&self) -> String {
        read(&self.stdout)
    }

    /// What it has written to standard error so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        read(&self.stderr)
    }

    /// The file that its standard output goes to.
    #[must_use]
    pub fn stdout_file(&self) -> &Path {
        &self.stdout
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.id()).expect("a process id");
        kill(Pid::from_raw(id), signal).expect("a running command");
    }

    /// Waits for its end and gives its exit status alone: its output may be too much to look at.
    #[must_use]
    pub fn code_within(&mut self, limit: Duration) -> Option<i32> {
        within(limit, &self.words, || self.child.try_wait().expect("a child of ours")).code()
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it has written something to standard output; fails when it ends before.
    pub fn await_stdout(&mut self, limit: Duration, what: &str, mut look: impl FnMut(&str) -> bool) {
        within(limit, what, || {
            let text = self.stdout();
            if look(&text) {
                return Some(());
            }
            let ended = self.child.try_wait().expect("a child of ours");
            assert!(ended.is_none(), "{} ended before {what}: {text}{}", self.words, read(&self.stderr));
            None
        });
    }

    /// Waits for its end.
    #[must_use]
    pub fn ended(self) -> Ended {
        self.ended_within(PATIENCE)
    }

    /// Waits for its end, that may take longer than most.
    #[must_use]
    pub fn ended_within(mut self, limit: Duration) -> Ended {
        let status = within(limit, &self.words, || self.child.try_wait().expect("a child of ours"));
        Ended { code: status.code(), stdout: read(&self.stdout), stderr: read(&self.stderr) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

static COUNT: AtomicU32 = AtomicU32::new(0);
