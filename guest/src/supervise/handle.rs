//! The agent's hold on a supervisor.
//!
//! Used by `pull`. All that the agent wants is told as a whole each time, and all it learns is read from the
//! request's directory, so neither side has to remember what the other one knew. Nothing here waits.

use super::directory::{Directory, Ends, Files};
use super::outcome::Over;
use super::status::Status;
use super::wanted::Wanted;
use crate::spool;
use doorbell_wire::ids::RequestId;
use doorbell_wire::message::action::Window;
use doorbell_wire::message::{Offsets, Output, Stream};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use tracing::warn;

/// A request with a supervisor, alive or not.
#[derive(Debug)]
pub struct Supervised {
    request: RequestId,
    directory: Directory,
    files: Files,
    ends: Option<Ends>,
    /// The supervisor, where it is a child of this agent and has not been waited for.
    child: Option<Pid>,
    wanted: Wanted,
    /// What the supervisor was told last of what is stored; it need not know each step.
    told: Offsets,
    /// The pipe was full: it has to be told again.
    unsaid: bool,
    taken: u64,
    over: Option<Box<Over>>,
}

/// How far it is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Sight {
    /// It is being started.
    Starting,
    /// It runs.
    Running {
        /// Since when, by the guest's clock.
        started_us: u64,
    },
    /// It has ended, or did not start.
    Over(Box<Over>),
    /// The supervisor is gone without a word: it was killed, or the guest went down.
    Lost,
}

/// Finds every request below `run`, and tells each supervisor that lives that an agent is there again.
#[must_use]
pub fn find_all(run: &Path) -> Vec<Supervised> {
    reap_all();
    Directory::all(run).into_iter().filter_map(|(request, directory)| find_in(directory, request)).collect()
}

/// Finds one request below `run`, and leaves all others alone: who watches them has told their supervisors more.
#[must_use]
pub fn find(run: &Path, request: RequestId) -> Option<Supervised> {
    let directory = Directory::of(run, request);
    if directory.path().is_dir() { find_in(directory, request) } else { None }
}

fn find_in(directory: Directory, request: RequestId) -> Option<Supervised> {
    match directory.files() {
        Ok(files) => Some(Supervised::found(directory, request, files)),
        Err(error) => {
            warn!(%request, %error, "a directory of a request cannot be used");
            // Its making was cut short, so nothing was started. Whatever else the kernel says, something may run.
            if error.kind() == io::ErrorKind::NotFound {
                let _ = directory.remove();
            }
            None
        }
    }
}

impl Supervised {
    pub(super) fn born(
        directory: Directory,
        request: RequestId,
        files: Files,
        ends: Ends,
        child: Pid,
    ) -> Self {
        Self::new(directory, request, files, Some(ends), Some(child))
    }

    fn found(directory: Directory, request: RequestId, files: Files) -> Self {
        let ends = directory.agent_ends().ok();
        let mut found = Self::new(directory, request, files, ends, None);
        found.wanted.input_len = found.input_len();
        found.say();
        found
    }

    fn new(
        directory: Directory,
        request: RequestId,
        files: Files,
        ends: Option<Ends>,
        child: Option<Pid>,
    ) -> Self {
        let (wanted, told) = (Wanted::default(), Offsets::default());
        Self { request, directory, files, ends, child, wanted, told, unsaid: false, taken: 0, over: None }
    }

    /// The request.
    #[must_use]
    pub const fn request(&self) -> RequestId {
        self.request
    }

    /// What to watch: readable when [`Supervised::look`] may have another answer. `None` when the supervisor is
    /// gone.
    #[must_use]
    pub fn watched(&self) -> Option<PollFd<'_>> {
        self.ends.as_ref().map(|ends| PollFd::new(ends.events.as_fd(), PollFlags::POLLIN))
    }

    /// How far it is. Repeats what was last.
    pub fn look(&mut self) -> Sight {
        // The events first: what the supervisor wrote before its last one is there.
        let alive = self.take_events();
        if self.unsaid {
            self.say();
        }
        if let Some(over) = &self.over {
            return Sight::Over(over.clone());
        }
        let Status { started_us, taken, over } = Status::read(&self.files.status);
        self.taken = taken;
        if let Some(over) = over {
            self.over = Some(over.clone());
            return Sight::Over(over);
        }
        match (alive, started_us) {
            (false, _) => Sight::Lost,
            (true, 0) => Sight::Starting,
            (true, started_us) => Sight::Running { started_us },
        }
    }

    /// How much of each stream is kept.
    #[must_use]
    pub fn kept(&self) -> Offsets {
        Offsets { stdout: len(&self.files.stdout), stderr: len(&self.files.stderr) }
    }

    /// The next bytes to send, at most `room`, when `sent` has been sent; `None` when that is all there is now.
    #[must_use]
    pub fn read_output(&self, sent: &Offsets, room: usize) -> Option<Output> {
        let next = |stream, file, offset| {
            let left = len(file).checked_sub(offset).filter(|&left| left > 0)?;
            let bytes = spool::read(file, offset, usize::try_from(left).unwrap_or(room).min(room))?;
            Some(Output { request: self.request, stream, offset, bytes })
        };
        next(Stream::Stderr, &self.files.stderr, sent.stderr)
            .or_else(|| next(Stream::Stdout, &self.files.stdout, sent.stdout))
    }

    /// Ends what runs. Any number of times.
    pub fn stop(&mut self) {
        self.wanted.stop = true;
        self.say();
    }

    /// Input bytes that are here.
    #[must_use]
    pub fn input_len(&self) -> u64 {
        self.files.stdin.as_ref().map_or(0, len)
    }

    /// Adds input. What is here already is passed over.
    ///
    /// # Errors
    /// The kernel's refusal to keep it, or bytes that do not join what is here.
    pub fn add_input(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let len = self.input_len();
        let Some(file) = &self.files.stdin else { return Err(io::ErrorKind::InvalidInput.into()) };
        let known = len.checked_sub(offset).ok_or(io::ErrorKind::InvalidInput)?;
        let fresh = usize::try_from(known).ok().and_then(|known| bytes.get(known..)).unwrap_or_default();
        if !fresh.is_empty() {
            file.write_all_at(fresh, len)?;
            self.wanted.input_len = len.saturating_add(fresh.len() as u64);
            self.say();
        }
        Ok(())
    }

    /// Says that the input has `len` bytes in all. Any number of times.
    pub fn end_input(&mut self, len: u64) {
        self.wanted.input_end = Some(len);
        self.say();
    }

    /// Input bytes that the program has taken, as of the last look.
    #[must_use]
    pub const fn input_taken(&self) -> u64 {
        self.taken
    }

    /// Gives its terminal another size.
    pub fn resize(&mut self, window: Window) {
        self.wanted.window = Some(window);
        self.say();
    }

    /// Says how much of a stream the manager has, so that the disk gets space back.
    pub fn stored(&mut self, stream: Stream, end: u64) {
        let end = end.max(self.wanted.stored.of(stream));
        self.wanted.stored = self.wanted.stored.moved(stream, end);
        if end.saturating_sub(self.told.of(stream)) >= STORED_STEP {
            self.say();
        }
    }

    /// Says whether a manager takes output.
    pub fn connected(&mut self, connected: bool) {
        if self.wanted.connected != connected {
            self.wanted.connected = connected;
            self.say();
        }
    }

    /// The outcome is in the journal; the supervisor may go.
    pub fn taken(&mut self) {
        self.wanted.taken = true;
        self.say();
    }

    /// Nothing of it is needed any more.
    pub fn remove(self) {
        if let Err(error) = self.directory.remove() {
            warn!(request = %self.request, %error, "the directory of a request cannot be removed");
        }
    }

    fn say(&mut self) {
        let Some(ends) = &self.ends else { return };
        let said = (&ends.commands).write(&self.wanted.to_bytes());
        self.unsaid = said.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
        if !self.unsaid {
            self.told = self.wanted.stored;
        }
    }

    /// Takes the events away; whether the supervisor lives.
    fn take_events(&mut self) -> bool {
        let mut bytes = [0; EVENTS_PER_LOOK];
        let gone = self.ends.as_ref().is_none_or(|ends| matches!((&ends.events).read(&mut bytes), Ok(0)));
        if gone {
            self.ends = None;
            self.child = self.child.take().filter(|pid| !has_been_reaped(*pid));
        }
        !gone
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        if let Some(pid) = self.child.take() {
            // One that is about to go is waited for later; it has no number to give away before.
            UNREAPED.lock().unwrap_or_else(PoisonError::into_inner).push(pid);
            reap_all();
        }
    }
}

/// Waits for supervisors that were about to go when their requests were done with.
pub(super) fn reap_all() {
    // Who else has them waits for them too.
    if let Ok(mut unreaped) = UNREAPED.try_lock() {
        unreaped.retain(|pid| !has_been_reaped(*pid));
    }
}

fn has_been_reaped(pid: Pid) -> bool {
    !matches!(waitpid(pid, Some(WaitPidFlag::WNOHANG)), Ok(WaitStatus::StillAlive) | Err(Errno::EINTR))
}

fn len(file: &File) -> u64 {
    file.metadata().map_or(0, |found| found.len())
}

static UNREAPED: Mutex<Vec<Pid>> = Mutex::new(Vec::new());
const EVENTS_PER_LOOK: usize = 4096;
/// Bytes that the manager has more before a supervisor is told: a wake-up for each piece would cost more than the
/// space is worth.
const STORED_STEP: u64 = 1024 * 1024;
