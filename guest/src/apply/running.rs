//! A program from its start to the end of all it started.
//!
//! Called by the event loop through `pull` whenever something may have happened. Never waits: pipes are read
//! as far as they go, and every phase has an end. A time limit or a cancel ends the whole cgroup; a program
//! that ends by itself may leave processes behind that let go of its output.

use super::Done;
use super::cgroup::Cgroup;
use crate::spool::Spool;
use crate::verify::VerifiedProgram;
use doorbell_wire::ids::Tick;
use doorbell_wire::message::Stream;
use doorbell_wire::message::outcome::{Evidence, Outcome, Ran};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags};
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use rustix::process::{PidfdFlags, pidfd_open};
use std::fs::File;
use std::io::{self, Read};
use std::num::NonZeroU8;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};
use tracing::warn;

/// A started program.
#[derive(Debug)]
pub struct Running {
    child: Child,
    pid: Pid,
    pidfd: Option<OwnedFd>,
    pipes: Vec<(Stream, File)>,
    spool: Spool,
    cgroup: Option<Cgroup>,
    program: Option<VerifiedProgram>,
    started: Tick,
    limit: Option<Tick>,
    stopped: Option<Stop>,
    exited: bool,
    kill_at: Option<Tick>,
    give_up_at: Option<Tick>,
}

/// Why a program was ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stop {
    /// It ran longer than it may.
    TimedOut,
    /// The manager asked for it.
    Cancelled,
}

/// What is left of a program that has ended.
#[derive(Debug, Default)]
pub struct Remains {
    /// What it printed.
    pub spool: Option<Spool>,
    /// Its file, if it came over the channel; removed with this.
    pub program: Option<VerifiedProgram>,
}

impl Running {
    pub(super) fn new(
        mut child: Child,
        spool: Spool,
        cgroup: Option<Cgroup>,
        program: Option<VerifiedProgram>,
        started: Tick,
        timeout_ms: Option<u64>,
    ) -> Self {
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX));
        let pidfd = rustix::process::Pid::from_raw(pid.as_raw())
            .and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        let stdout = child.stdout.take().map(|pipe| (Stream::Stdout, pipe_file(pipe.into())));
        let stderr = child.stderr.take().map(|pipe| (Stream::Stderr, pipe_file(pipe.into())));
        let pipes = stdout.into_iter().chain(stderr).collect();
        let limit = timeout_ms.map(|ms| started.after(ms));
        Self {
            child,
            pid,
            pidfd,
            pipes,
            spool,
            cgroup,
            program,
            started,
            limit,
            stopped: None,
            exited: false,
            kill_at: None,
            give_up_at: None,
        }
    }

    /// What it has printed so far.
    #[must_use]
    pub const fn spool(&self) -> &Spool {
        &self.spool
    }

    /// What the event loop has to watch.
    #[must_use]
    pub fn watched(&self) -> Vec<PollFd<'_>> {
        let mut fds: Vec<_> =
            self.pipes.iter().map(|(_, pipe)| PollFd::new(pipe.as_fd(), PollFlags::POLLIN)).collect();
        if let Some(pidfd) = self.pidfd.as_ref().filter(|_| !self.exited) {
            fds.push(PollFd::new(pidfd.as_fd(), PollFlags::POLLIN));
        }
        // Only a program that was stopped has to be gone with all it started; an event that nobody reads
        // would wake the loop again and again.
        if let Some(cgroup) = self.cgroup.as_ref().filter(|_| self.exited && self.stopped.is_some()) {
            fds.push(PollFd::new(cgroup.events().as_fd(), PollFlags::POLLPRI));
        }
        fds
    }

    /// When [`Running::step`] has something to do even if nothing happens.
    #[must_use]
    pub fn due(&self, now: Tick) -> Option<Tick> {
        let limit = self.limit.filter(|_| !self.exited && self.stopped.is_none());
        let blind = (self.pidfd.is_none() && !self.exited).then(|| now.after(BLIND_MS));
        [limit, self.kill_at, self.give_up_at, blind].into_iter().flatten().min()
    }

    /// Ends the program, if it has not ended.
    pub fn stop(&mut self, now: Tick, why: Stop) {
        if self.stopped.is_some() || self.exited {
            return;
        }
        self.stopped = Some(why);
        self.signal(Signal::SIGTERM);
        self.kill_at = Some(now.after(GRACE_MS));
    }

    /// Looks at everything once; gives the end when all of it is over.
    pub fn step(&mut self, now: Tick) -> Option<Done> {
        self.read_pipes();
        if !self.exited && has_exited(self.pid) {
            self.exited = true;
            self.read_pipes();
            self.kill_at = Some(now.after(DRAIN_MS));
            if self.stopped.is_some() {
                self.kill(now);
            }
        }
        if self.limit.is_some_and(|limit| now >= limit) {
            self.stop(now, Stop::TimedOut);
        }
        if self.is_over(now) {
            return Some(self.end(now));
        }
        if self.kill_at.is_some_and(|at| now >= at) {
            self.kill(now);
            if self.is_over(now) {
                return Some(self.end(now));
            }
        }
        None
    }

    /// What is kept of it for as long as the outcome is not stored.
    #[must_use]
    pub fn into_remains(self) -> Remains {
        Remains { spool: Some(self.spool), program: self.program }
    }

    /// A limit on what is read per turn leaves the loop time for the channel while a program floods.
    fn read_pipes(&mut self) {
        let mut buffer = [0; READ_LEN];
        let spool = &mut self.spool;
        self.pipes.retain_mut(|(stream, pipe)| {
            for _ in 0..READS_PER_TURN {
                match pipe.read(&mut buffer) {
                    Ok(0) => return false,
                    Ok(count) => spool.write(*stream, buffer.get(..count).unwrap_or_default()),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => {
                        warn!(?stream, %error, "a program's output cannot be read");
                        return false;
                    }
                }
            }
            true
        });
    }

    fn is_over(&self, now: Tick) -> bool {
        if !self.exited {
            return false;
        }
        if self.give_up_at.is_some_and(|at| now >= at) {
            warn!(pid = self.pid.as_raw(), "processes of a program were killed and are still there");
            return true;
        }
        let gone = self.stopped.is_none() || self.cgroup.as_ref().is_none_or(Cgroup::is_empty);
        self.pipes.is_empty() && gone
    }

    /// Kills everything, again and again until it is gone: without a cgroup, one kill can miss a fork.
    fn kill(&mut self, now: Tick) {
        match self.cgroup.as_ref().map(Cgroup::kill) {
            Some(Ok(())) => {}
            Some(Err(error)) => {
                warn!(%error, "a cgroup cannot be killed; its process group is");
                self.signal(Signal::SIGKILL);
            }
            None => self.signal(Signal::SIGKILL),
        }
        self.kill_at = Some(now.after(REKILL_MS));
        self.give_up_at = self.give_up_at.or_else(|| Some(now.after(GIVE_UP_MS)));
        if self.exited && self.cgroup.is_none() {
            // A process that has left the group may hold a pipe for ever.
            self.pipes.clear();
        }
    }

    /// The child is not reaped before the end, so its process group cannot have become another's.
    fn signal(&self, signal: Signal) {
        let _ = killpg(self.pid, signal);
    }

    fn end(&mut self, now: Tick) -> Done {
        let outcome = match (self.stopped, self.child.wait()) {
            (Some(Stop::TimedOut), _) => Outcome::TimedOut,
            (Some(Stop::Cancelled), _) => Outcome::Cancelled,
            (None, Ok(status)) => outcome(status),
            (None, Err(error)) => {
                warn!(%error, "the exit status of a program cannot be read");
                Outcome::Interrupted
            }
        };
        let ran = Ran { started_ms: self.started.0, ended_ms: now.0 };
        Done { outcome, evidence: Evidence::None, ran: Some(ran) }
    }
}

/// An exit status of 0 is a success and nothing else is.
fn outcome(status: ExitStatus) -> Outcome {
    let byte = |number: i32| u8::try_from(number).ok();
    let failed = status
        .code()
        .and_then(byte)
        .map(|code| NonZeroU8::new(code).map_or(Outcome::Succeeded, Outcome::Failed));
    let killed =
        || status.signal().and_then(byte).and_then(|signal| signal.try_into().ok()).map(Outcome::Killed);
    failed.or_else(killed).unwrap_or(Outcome::Interrupted)
}

/// Whether a child has ended; it is left to be waited for.
fn has_exited(pid: Pid) -> bool {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    !matches!(waitid(Id::Pid(pid), flags), Ok(WaitStatus::StillAlive))
}

fn pipe_file(pipe: OwnedFd) -> File {
    if let Err(errno) = fcntl(&pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)) {
        warn!(%errno, "a pipe cannot be made non-blocking");
    }
    File::from(pipe)
}

/// Milliseconds between the polite signal and the other one.
const GRACE_MS: u64 = 2_000;
/// Milliseconds that processes a program left behind may hold its output.
const DRAIN_MS: u64 = 2_000;
/// Milliseconds between kills of what will not go.
const REKILL_MS: u64 = 100;
/// Milliseconds after which processes that cannot be killed, stuck in the kernel, are left to it.
const GIVE_UP_MS: u64 = 10_000;
/// Milliseconds between looks at a child where the kernel has no pidfd (before 5.3).
const BLIND_MS: u64 = 20;
/// Bytes of one read from a pipe; the pipe's own size.
const READ_LEN: usize = 64 * 1024;
const READS_PER_TURN: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use doorbell_wire::ids::RequestId;
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};

    #[test]
    fn what_a_program_left_behind_is_waited_for_by_its_output_alone() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("cgroup.events"), "populated 1\n").unwrap();
        let cgroup = Cgroup::open(dir.path().to_owned()).unwrap();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "sleep 1000 &"]).process_group(0).stdin(Stdio::null());
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let spool = Spool::create(dir.path(), RequestId::new([1; 16])).unwrap();
        let now = crate::clock::now();
        let mut running = Running::new(child, spool, Some(cgroup), None, now, None);
        while !running.exited {
            crate::wait::until(&mut running.watched(), now.after(10_000)).unwrap();
            assert!(running.step(now).is_none());
        }
        assert_eq!(running.watched().len(), 2, "the two pipes");
        running.stopped = Some(Stop::Cancelled);
        assert_eq!(running.watched().len(), 3, "the two pipes and the cgroup");
        running.signal(Signal::SIGKILL);
    }
}
