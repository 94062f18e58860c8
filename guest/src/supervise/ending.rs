//! The end of a program: by itself, in time, or by force.
//!
//! Called by `watch` at each turn. A time limit or a cancel ends the whole cgroup; a program that ends by itself
//! may leave processes behind that let go of its output. Every phase has an end.

use super::clone::Cloned;
use super::order::Margins;
use super::outcome::Stop;
use super::source::Source;
use crate::apply::cgroup::Cgroup;
use crate::clock::now_us;
use doorbell_wire::ids::Tick;
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};

/// How far the end has come.
#[derive(Debug)]
pub(super) struct Ending {
    process: Cloned,
    cgroup: Option<Cgroup>,
    limit: Option<Tick>,
    stopped: Option<Stop>,
    /// When the program itself was seen to have ended.
    exited_us: Option<u64>,
    kill_at: Option<Tick>,
    give_up_at: Option<Tick>,
    gave_up: bool,
    margins: Margins,
}

impl Ending {
    pub(super) const fn new(
        process: Cloned,
        cgroup: Option<Cgroup>,
        limit: Option<Tick>,
        margins: Margins,
    ) -> Self {
        let (stopped, exited_us, kill_at, give_up_at, gave_up) = (None, None, None, None, false);
        Self { process, cgroup, limit, stopped, exited_us, kill_at, give_up_at, gave_up, margins }
    }

    pub(super) const fn pid(&self) -> Pid {
        self.process.pid
    }

    pub(super) const fn exited_us(&self) -> Option<u64> {
        self.exited_us
    }

    pub(super) const fn has_exited(&self) -> bool {
        self.exited_us.is_some()
    }

    pub(super) const fn stopped(&self) -> Option<Stop> {
        self.stopped
    }

    /// Whether it is being ended, so that nobody's output has to wait.
    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.is_some() || self.gave_up
    }

    pub(super) const fn cgroup(&self) -> Option<&Cgroup> {
        self.cgroup.as_ref()
    }

    pub(super) fn into_cgroup(self) -> Option<Cgroup> {
        self.cgroup
    }

    /// Readable when the program itself has ended.
    pub(super) fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        self.process.pidfd.as_ref().filter(|_| !self.has_exited()).map(AsFd::as_fd)
    }

    /// Only what was stopped has to be gone with all it started; an event that nobody reads would wake the loop
    /// again and again.
    pub(super) fn cgroup_events(&self) -> Option<&File> {
        let waits = self.has_exited() && self.stopped.is_some();
        self.cgroup.as_ref().filter(|_| waits).map(Cgroup::events)
    }

    /// When there is something to do even if nothing happens.
    pub(super) fn due(&self, now: Tick) -> Option<Tick> {
        let limit = self.limit.filter(|_| !self.has_exited() && self.stopped.is_none());
        let blind = (self.process.pidfd.is_none() && !self.has_exited()).then(|| now.after(BLIND_MS));
        [limit, self.kill_at, self.give_up_at, blind].into_iter().flatten().min()
    }

    /// Ends the program. One that has ended by itself keeps its status, and what it left behind goes now.
    pub(super) fn stop(&mut self, now: Tick, why: Stop) {
        // It may have ended since anybody looked.
        self.look(now);
        if self.has_exited() {
            self.kill_at = self.kill_at.map(|at| at.min(now));
        } else if self.stopped.is_none() {
            self.stopped = Some(why);
            for signal in [Signal::SIGTERM, Signal::SIGCONT] {
                self.signal(signal);
            }
            self.kill_at = Some(now.after(self.margins.grace_ms));
        }
    }

    /// Goes on with whatever is due.
    pub(super) fn step(&mut self, now: Tick, news: bool, sources: [&mut Source; 2], hold: bool) {
        if news || self.process.pidfd.is_none() {
            self.look(now);
        }
        if self.limit.is_some_and(|limit| now >= limit) && !self.has_exited() {
            self.stop(now, Stop::TimedOut);
        }
        if self.give_up_at.is_some_and(|at| now >= at) {
            self.give_up_at = None;
            self.kill_at = None;
            self.gave_up = true;
            sources.into_iter().for_each(Source::close);
        } else if self.kill_at.is_some_and(|at| now >= at) {
            self.end_by_force(now, sources, hold);
        }
    }

    /// Sees whether the program itself has ended.
    fn look(&mut self, now: Tick) {
        if !self.has_exited() && has_exited(self.process.pid) {
            self.exited_us = Some(now_us());
            self.kill_at = Some(if self.stopped.is_some() { now } else { now.after(self.margins.drain_ms) });
        }
    }

    /// Whether nothing of it is left that has to be waited for.
    pub(super) fn is_over(&self, sources: [&Source; 2]) -> bool {
        let gone = self.stopped.is_none() || self.cgroup.as_ref().is_none_or(Cgroup::is_empty);
        let drained = sources.into_iter().all(|source| !source.is_open());
        drained && (self.gave_up || self.has_exited() && gone)
    }

    /// Kills again and again until all is gone: without a cgroup, one kill can miss a fork.
    fn end_by_force(&mut self, now: Tick, sources: [&mut Source; 2], hold: bool) {
        let drains = self.has_exited() && self.stopped.is_none();
        if drains && !sources.iter().any(|source| source.has_writer()) {
            // Nobody holds the output: what is left of it waits for space, or is read at the next turn.
            let held = sources.iter().any(|source| source.is_held(hold));
            self.kill_at = held.then(|| now.after(self.margins.drain_ms));
            return;
        }
        self.kill();
        self.kill_at = Some(now.after(REKILL_MS));
        self.give_up_at = self.give_up_at.or_else(|| Some(now.after(GIVE_UP_MS)));
        if self.has_exited() && self.cgroup.is_none() {
            // A process that has left the group may hold a pipe for ever.
            sources.into_iter().for_each(Source::close);
        }
    }

    fn kill(&self) {
        let killed = self.cgroup.as_ref().is_some_and(|cgroup| cgroup.kill().is_ok());
        if !killed {
            self.signal(Signal::SIGKILL);
        }
    }

    /// The program is not reaped before its end is told, so neither its number nor its group's can have become
    /// another's. A group that is not there yet is the program alone.
    fn signal(&self, signal: Signal) {
        if killpg(self.process.pid, signal).is_err() {
            let _ = kill(self.process.pid, signal);
        }
    }
}

/// Whether a child has ended; it is left to be waited for.
fn has_exited(pid: Pid) -> bool {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    !matches!(waitid(Id::Pid(pid), flags), Ok(WaitStatus::StillAlive))
}

/// Milliseconds between kills of what will not go.
const REKILL_MS: u64 = 100;
/// Milliseconds after which processes that cannot be killed, stuck in the kernel, are left to it.
const GIVE_UP_MS: u64 = 10_000;
/// Milliseconds between looks at a child where the kernel has no pidfd (before 5.2).
const BLIND_MS: u64 = 20;
