//! Programs that this one starts: they end with it, and what they said is in a file.
//!
//! Called by `lab` and the measuring modules.

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A program that runs. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    pub(crate) fn start<A: AsRef<OsStr>>(program: &Path, arguments: &[A], log: &Path) -> Result<Self> {
        let output = File::create(log).with_context(|| log.display().to_string())?;
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "TERM", "--"])
            .arg(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| program.display().to_string())?;
        Ok(Self { child, log: log.to_owned() })
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// KiB of memory it has now.
    pub(crate) fn resident_kib(&self) -> Result<f64> {
        let status = read(Path::new(&format!("/proc/{}/status", self.id())));
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let count = line.and_then(|line| line.split_whitespace().next()).context("a process with memory")?;
        Ok(count.parse()?)
    }

    /// All it has said.
    pub(crate) fn said(&self) -> String {
        read(&self.log)
    }

    /// Waits for something while this program runs.
    pub(crate) fn until<T>(&mut self, what: &str, mut look: impl FnMut() -> Option<T>) -> Result<T> {
        let start = Instant::now();
        loop {
            if let Some(seen) = look() {
                return Ok(seen);
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("ended with {status} before {what}: {}", self.said());
            }
            if start.elapsed() > PATIENCE {
                bail!("waited {PATIENCE:?} for {what}: {}", self.said());
            }
            pause(LOOK_EVERY);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Ok(id) = i32::try_from(self.child.id()) {
            let _ = kill(Pid::from_raw(id), Signal::SIGTERM);
        }
        let _ = self.child.wait();
    }
}

/// A file's text, empty when it is not there yet.
pub(crate) fn read(path: &Path) -> String {
    std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

/// Runs a program to its end; gives its standard output.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("{command:?}"))?;
    if !output.status.success() {
        bail!("{command:?} ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A time in which nothing is done, because a caller's own poll interval or an idle guest is what is measured.
pub(crate) fn pause(time: Duration) {
    // No sleep function: the one wait of this program, on nothing.
    let none: &mut [nix::poll::PollFd<'_>] = &mut [];
    let timeout = nix::poll::PollTimeout::try_from(time).unwrap_or(nix::poll::PollTimeout::MAX);
    let _ = nix::poll::poll(none, timeout);
}

const LOOK_EVERY: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(150);
