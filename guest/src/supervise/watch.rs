//! A supervisor's loop: output to the disk, input to the program, the agent's wishes, and the clock.
//!
//! Called by `process` once something runs; goes on until all of it is over. Waits for everything at once and does
//! a bounded piece of each. When and how a program is ended is in `ending`.

use super::directory::{Ends, Files};
use super::ending::Ending;
use super::feed::Feed;
use super::order::Margins;
use super::outcome::Stop;
use super::source::Source;
use super::spawn::{Ours, Spawned};
use super::wanted::{RECORD_LEN, Wanted};
use super::{status, terminal};
use crate::apply::cgroup::Cgroup;
use crate::clock::{now, now_us};
use crate::spool::Keeper;
use crate::wait::until;
use doorbell_wire::ids::Tick;
use doorbell_wire::message::action::Window;
use doorbell_wire::message::outcome::OutputTotals;
use nix::libc;
use nix::poll::{PollFd, PollFlags};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;

/// Everything that a supervisor sees to.
#[derive(Debug)]
pub(super) struct Watch {
    status: File,
    line: Line,
    stdout: Source,
    stderr: Source,
    feed: Feed,
    terminal: Option<(File, Option<Window>)>,
    /// A job of the agent's own waits for a manager as long as it takes.
    own: bool,
    pub(super) ending: Ending,
    pub(super) first_output_us: Option<u64>,
    margins: Margins,
}

/// The line to the agent.
#[derive(Debug)]
pub(super) struct Line {
    ends: Ends,
    pub(super) wanted: Wanted,
    /// Nobody reads the events.
    pub(super) alone: bool,
    /// Since when no manager takes output.
    absent_since: Option<Tick>,
}

/// Which descriptors have something.
#[derive(Clone, Copy, Debug, Default)]
struct Ready {
    commands: bool,
    alone: bool,
    exit: bool,
    stdout: bool,
    stderr: bool,
    feed: bool,
    readerless: bool,
}

/// The bounds of one run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) output_len_max: u64,
    pub(super) timeout_ms: Option<u64>,
    pub(super) own: bool,
    pub(super) margins: Margins,
}

impl Watch {
    pub(super) fn new(spawned: Spawned, files: Files, line: Line, bounds: &Bounds) -> io::Result<Self> {
        let Spawned { process, cgroup, started_us, ours } = spawned;
        let Ours { stdout, stderr, stdin, terminal } = ours;
        let Bounds { output_len_max, timeout_ms, own, margins } = *bounds;
        let keeper = |file| Keeper::new(file, output_len_max, margins.space);
        let master = if terminal { Some((stdout.try_clone()?, None)) } else { None };
        let started = Tick(started_us.saturating_div(1_000));
        Ok(Self {
            status: files.status,
            line,
            stdout: Source::new(Some(stdout), keeper(files.stdout)),
            stderr: Source::new(stderr, keeper(files.stderr)),
            feed: Feed::new(files.stdin, stdin, terminal),
            terminal: master,
            own,
            ending: Ending::new(process, cgroup, timeout_ms.map(|ms| started.after(ms)), margins),
            first_output_us: None,
            margins,
        })
    }

    /// Sees it to its end.
    pub(super) fn run(&mut self) {
        let mut buffer = vec![0; READ_LEN];
        let mut ready = Ready { commands: true, ..Ready::default() };
        loop {
            let now = now();
            if ready.commands {
                self.heed(now);
            }
            if ready.alone {
                self.line.is_alone(now);
            }
            let hold = self.holds(now);
            if self.pass_on(&mut buffer, ready, hold) {
                self.line.tell(now);
            }
            let (stdout, stderr) = (&mut self.stdout, &mut self.stderr);
            self.ending.step(now, ready.exit, [stdout, stderr], hold);
            if self.ending.has_exited() {
                self.feed.close();
            }
            if self.ending.is_over([&self.stdout, &self.stderr]) {
                return;
            }
            ready = self.wait(now, hold);
        }
    }

    /// What was printed.
    pub(super) fn totals(&self) -> OutputTotals {
        OutputTotals { stdout: self.stdout.keeper.total(), stderr: self.stderr.keeper.total() }
    }

    /// What is left when all is over: the line, the status file, and the spool to be made durable.
    pub(super) fn leave(self) -> (Line, File, [Keeper; 2], Option<Cgroup>) {
        (self.line, self.status, [self.stdout.keeper, self.stderr.keeper], self.ending.into_cgroup())
    }

    /// Passes output and input on; whether there is something for the agent to look at.
    fn pass_on(&mut self, buffer: &mut [u8], ready: Ready, hold: bool) -> bool {
        let mut count = 0_usize;
        if ready.stdout || self.stdout.is_closing(hold) {
            count = self.stdout.read(buffer, hold);
        }
        if ready.stderr || self.stderr.is_closing(hold) {
            count = count.saturating_add(self.stderr.read(buffer, hold));
        }
        if count > 0 && self.first_output_us.is_none() {
            self.first_output_us = Some(now_us());
        }
        let before = self.feed.taken();
        if ready.feed || ready.commands {
            self.feed.step(ready.readerless);
        }
        let taken = self.feed.taken();
        if taken != before {
            status::taken(&self.status, taken);
        }
        count > 0 || taken != before
    }

    /// Does what the agent asks for.
    fn heed(&mut self, now: Tick) {
        self.line.listen(now);
        let wanted = self.line.wanted;
        if wanted.stop {
            self.ending.stop(now, Stop::Cancelled);
        }
        self.stdout.keeper.stored(wanted.stored.stdout);
        self.stderr.keeper.stored(wanted.stored.stderr);
        self.feed.has(wanted.input_len, wanted.input_end);
        if let (Some((ours, size)), Some(window)) = (&mut self.terminal, wanted.window)
            && *size != Some(window)
        {
            *size = Some(window);
            // A terminal that is gone has no size.
            let _ = terminal::resize(ours, window);
        }
    }

    /// Whether output waits in the pipe while its space is full: for a manager that takes it, and for a while for
    /// one that is away. A job never hangs on a manager that does not come back.
    fn holds(&self, now: Tick) -> bool {
        let patience = self.absent_until().is_none_or(|until| now < until);
        !self.ending.is_stopped() && (self.own || patience)
    }

    fn absent_until(&self) -> Option<Tick> {
        self.line.absent_since.map(|since| since.after(self.margins.absent_ms))
    }

    fn wait(&self, now: Tick, hold: bool) -> Ready {
        let Ends { commands, events } = &self.line.ends;
        let watched = [
            Some((Name::Commands, PollFd::new(commands.as_fd(), PollFlags::POLLIN))),
            (!self.line.alone).then(|| (Name::Events, PollFd::new(events.as_fd(), PollFlags::empty()))),
            self.ending.pidfd().map(|fd| (Name::Exit, PollFd::new(fd, PollFlags::POLLIN))),
            self.stdout.watched(hold).map(|fd| (Name::Stdout, fd)),
            self.stderr.watched(hold).map(|fd| (Name::Stderr, fd)),
            self.feed.watched().map(|fd| (Name::Feed, fd)),
            self.ending
                .cgroup_events()
                .map(|file| (Name::Cgroup, PollFd::new(file.as_fd(), PollFlags::POLLPRI))),
        ];
        let (names, mut fds): (Vec<_>, Vec<_>) = watched.into_iter().flatten().unzip();
        let held = self.stdout.is_held(hold) || self.stderr.is_held(hold);
        let patience = self.absent_until().filter(|_| held && !self.own);
        let closing = self.stdout.is_closing(hold) || self.stderr.is_closing(hold);
        let due = self.ending.due(now).into_iter().chain(patience).chain(closing.then_some(now)).min();
        // The kernel refuses only what cannot be so here; a turn without news is harmless.
        let _ = until(&mut fds, due.unwrap_or_else(|| now.after(IDLE_MS)));
        let mut ready = Ready::default();
        for (name, fd) in names.into_iter().zip(&fds).filter(|(_, fd)| fd.any().unwrap_or(false)) {
            match name {
                Name::Commands => ready.commands = true,
                Name::Events => ready.alone = true,
                Name::Exit => ready.exit = true,
                Name::Stdout => ready.stdout = true,
                Name::Stderr => ready.stderr = true,
                Name::Feed => {
                    ready.feed = true;
                    // A terminal that nobody has open says so by the second one.
                    let gone = PollFlags::POLLERR | PollFlags::POLLHUP;
                    ready.readerless = fd.revents().is_some_and(|flags| flags.intersects(gone));
                }
                Name::Cgroup => {}
            }
        }
        ready
    }
}

#[derive(Clone, Copy, Debug)]
enum Name {
    Commands,
    Events,
    Exit,
    Stdout,
    Stderr,
    Feed,
    Cgroup,
}

impl Line {
    pub(super) fn new(ends: Ends) -> Self {
        Self { ends, wanted: Wanted::default(), alone: false, absent_since: Some(now()) }
    }

    /// Has the agent look again.
    pub(super) fn tell(&mut self, now: Tick) {
        let told = (&self.ends.events).write(&[1]);
        if told.is_err_and(|error| error.raw_os_error() == Some(libc::EPIPE)) {
            self.is_alone(now);
        }
    }

    /// Reads what the agent wants. Whoever writes is there, and reads the events.
    pub(super) fn listen(&mut self, now: Tick) {
        let mut bytes = [0; RECORD_LEN * RECORDS_PER_TURN];
        let count = (&self.ends.commands).read(&mut bytes).unwrap_or(0);
        let (records, _) = bytes.get(..count).unwrap_or_default().as_chunks::<RECORD_LEN>();
        for record in records {
            self.alone = false;
            self.wanted.add(record);
        }
        self.absent_since = if self.wanted.connected { None } else { self.absent_since.or(Some(now)) };
    }

    pub(super) fn commands(&self) -> PollFd<'_> {
        PollFd::new(self.ends.commands.as_fd(), PollFlags::POLLIN)
    }

    fn is_alone(&mut self, now: Tick) {
        self.alone = true;
        self.wanted.connected = false;
        self.absent_since = self.absent_since.or(Some(now));
    }
}

/// Bytes of one read.
const READ_LEN: usize = 256 * 1024;
const RECORDS_PER_TURN: usize = 64;
/// Milliseconds between turns in which nothing is due.
const IDLE_MS: u64 = 3_600_000;
