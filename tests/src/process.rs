//! Children of a test: their output goes to a file, they are watched while the test waits, they end with it.
//!
//! Started by [`crate::guest`], [`crate::daemon`] and by tests. Each belongs to the test's thread; the kernel
//! ends it when that thread is gone.

use crate::wait::comes_within;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::cell::RefCell;
use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::rc::{Rc, Weak};
use std::time::Duration;

/// A child that must not end by itself.
#[derive(Debug)]
pub struct Process(Rc<Watched>);

#[derive(Debug)]
struct Watched {
    name: String,
    child: RefCell<Child>,
    evidence: Vec<PathBuf>,
    faults: &'static [&'static str],
}

impl Process {
    /// Starts `program`; both of its outputs go to `log`. `evidence` is shown when something goes wrong, and a
    /// line of it that holds one of `faults` fails the test.
    pub fn start<A: AsRef<OsStr>>(
        name: &str,
        program: &Path,
        arguments: &[A],
        log: &Path,
        evidence: Vec<PathBuf>,
        faults: &'static [&'static str],
    ) -> Self {
        let output = File::options().create(true).append(true).open(log).expect("a log file");
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "TERM", "--"])
            .arg(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("a log file"))
            .stderr(output)
            .spawn()
            .unwrap_or_else(|error| panic!("{} does not start: {error}", program.display()));
        let watched =
            Rc::new(Watched { name: name.to_owned(), child: RefCell::new(child), evidence, faults });
        WATCHED.with(|all| all.borrow_mut().push(Rc::downgrade(&watched)));
        Self(watched)
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.0.child.borrow().id()
    }

    /// Whether it is gone, by itself or by somebody else's hand.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.0.ended().is_some()
    }

    /// Ends it at once, as a crash would.
    pub fn kill(self) {
        self.0.signal(Signal::SIGKILL);
        let _ = self.0.child.borrow_mut().wait();
    }

    /// Asks it to end, and waits until it has.
    #[must_use]
    pub fn stop(self) -> ExitStatus {
        self.0.stop()
    }
}

impl Watched {
    fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.borrow().id()).expect("a process id");
        let _ = kill(Pid::from_raw(id), signal);
    }

    fn ended(&self) -> Option<ExitStatus> {
        self.child.borrow_mut().try_wait().expect("a child of ours")
    }

    fn stop(&self) -> ExitStatus {
        if self.ended().is_none() {
            self.signal(Signal::SIGTERM);
            if !comes_within(STOP_IN, || self.ended().is_some()) {
                self.signal(Signal::SIGKILL);
            }
        }
        self.child.borrow_mut().wait().expect("a child of ours")
    }

    /// Why the test cannot go on, if so.
    fn trouble(&self) -> Option<String> {
        if let Some(status) = self.ended() {
            return Some(format!("{} ended by itself with {status}", self.name));
        }
        if self.faults.is_empty() {
            return None;
        }
        let text = self.evidence.iter().map(|file| read(file)).collect::<String>();
        let line = text.lines().find(|line| self.faults.iter().any(|fault| line.contains(fault)))?;
        Some(format!("{} says: {line}", self.name))
    }

    fn show_evidence(&self) {
        for file in &self.evidence {
            let text = read(file);
            let lines: Vec<&str> = text.lines().collect();
            let last = &lines[lines.len().saturating_sub(LINES_SHOWN)..];
            crate::skip::tell(&format!("--- {} {}:\n{}", self.name, file.display(), last.join("\n")));
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.show_evidence();
        }
        self.stop();
    }
}

/// Fails the test when a process it depends on is gone.
pub(crate) fn check_watched(what: &str) {
    let trouble = watched().iter().find_map(|watched| watched.trouble());
    if let Some(trouble) = trouble {
        fail(&format!("{trouble}, while the test waited for {what}"));
    }
}

/// Fails the test; the evidence is shown as its processes are ended.
pub(crate) fn fail(why: &str) -> ! {
    panic!("{why}")
}

/// The text of a file, empty when it is not there yet.
#[must_use]
pub fn read(file: &Path) -> String {
    std::fs::read(file).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

/// A number of KiB from what the kernel tells of a process while it runs: `VmRSS:`, or `VmHWM:` for the most it
/// ever was.
#[must_use]
pub fn kib_of(id: u32, field: &str) -> Option<u64> {
    let status = read(&PathBuf::from(format!("/proc/{id}/status")));
    let line = status.lines().find(|line| line.starts_with(field))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

fn watched() -> Vec<Rc<Watched>> {
    WATCHED.with(|all| {
        all.borrow_mut().retain(|watched| watched.strong_count() > 0);
        all.borrow().iter().filter_map(Weak::upgrade).collect()
    })
}

const STOP_IN: Duration = Duration::from_secs(20);
const LINES_SHOWN: usize = 60;

thread_local! {
    static WATCHED: RefCell<Vec<Weak<Watched>>> = const { RefCell::new(Vec::new()) };
}
