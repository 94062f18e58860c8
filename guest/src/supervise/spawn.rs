//! Starting what was ordered: pipes or a terminal, the cgroup, the process.
//!
//! Called by `process`. Either something runs and all its ends are here, or nothing does and it is known why.

use super::child::{Ids, Plan, Setting, become_program};
use super::clone::{Cloned, Memory, clone_into};
use super::directory::Directory;
use super::exec::Exec;
use super::fault::{fault, kernel};
use super::job::{JobPlan, become_job};
use super::order::{Job, Order, OwnJob, OwnPlace};
use super::terminal;
use super::users::User;
use crate::apply::cgroup::{Cgroup, Cgroups};
use crate::clock::now_us;
use crate::journal::file::errno_of;
use doorbell_wire::message::action::Input;
use doorbell_wire::message::outcome::NotStarted;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc::c_int;
use nix::poll::{PollTimeout, poll};
use nix::sys::wait::waitpid;
use nix::unistd::{geteuid, pipe2};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// Something that runs.
#[derive(Debug)]
pub(super) struct Spawned {
    pub(super) process: Cloned,
    pub(super) cgroup: Option<Cgroup>,
    pub(super) started_us: u64,
    pub(super) ours: Ours,
}

/// The supervisor's ends of what a program reads and writes.
#[derive(Debug)]
pub(super) struct Ours {
    /// Its standard output, or its terminal.
    pub(super) stdout: File,
    pub(super) stderr: Option<File>,
    /// Where its input goes.
    pub(super) stdin: Option<File>,
    /// Whether the three are one terminal.
    pub(super) terminal: bool,
}

/// Both ends of everything.
#[derive(Debug)]
struct Wiring {
    ours: Ours,
    stdio: [c_int; 3],
    /// The program's ends, closed here once it has them.
    _theirs: Vec<OwnedFd>,
}

/// Starts what `order` says.
pub(super) fn spawn(
    order: Order,
    directory: &Directory,
    cgroups: Option<&Cgroups>,
) -> Result<Spawned, NotStarted> {
    let Order { request, job, limits, input, timeout_ms: _ } = order;
    let job = match job {
        Job::Program(prepared) => {
            let is_terminal = matches!(input, Input::Terminal(_));
            let exec = Exec::new(&prepared, request, directory, is_terminal);
            // What it holds has moved into the directory and is removed with that.
            std::mem::forget(prepared);
            Ready::Program(Box::new(exec?))
        }
        Job::Own(job) => Ready::Own(job),
    };
    let cgroup = cgroups
        .map(|cgroups| cgroups.create(request, &limits))
        .transpose()
        .map_err(|error| number(&error))?;
    let (user, no_new_privs) = match &job {
        Ready::Program(exec) => (exec.user.as_ref(), stays_as_it_is(exec)),
        Ready::Own(_) => (None, false),
    };
    let wiring = Wiring::new(input, user).map_err(|error| number(&error))?;
    let setting = Setting {
        stdio: wiring.stdio,
        terminal: wiring.ours.terminal,
        entrance: NO_DESCRIPTOR,
        user: user.map(ids),
        no_new_privs,
    };
    let started_us = now_us();
    let process = match job {
        Ready::Program(ref exec) => program(exec, setting, cgroup.as_ref())?,
        Ready::Own(job) => own(job, setting, directory, cgroup.as_ref())?,
    };
    Ok(Spawned { process, cgroup, started_us, ours: wiring.ours })
}

/// Root has all privileges already, and what it starts may stay: a service that a package restarts where no service
/// manager does would never again let a user become another one.
fn stays_as_it_is(exec: &Exec) -> bool {
    let uid = exec.user.as_ref().map_or_else(|| geteuid().as_raw(), |user| user.uid);
    uid != 0 && !exec.new_privileges
}

enum Ready {
    Program(Box<Exec>),
    Own(OwnJob),
}

fn program(exec: &Exec, setting: Setting, cgroup: Option<&Cgroup>) -> Result<Cloned, NotStarted> {
    let mut plan = Plan {
        file: exec.file.as_ptr(),
        opened: exec.opened.as_ref().map_or(NO_DESCRIPTOR, AsRawFd::as_raw_fd),
        args: exec.args.as_ptr(),
        env: exec.env.as_ptr(),
        cwd: exec.cwd.as_ptr(),
        setting,
        failed: None,
    };
    let mut stack = vec![0; STACK_LEN];
    for _ in 0..BUSY_TRIES {
        let place = &raw mut plan;
        let cloned = enter(cgroup, |cgroup, entrance| {
            // SAFETY: the plan and all it points to outlive the call, and nobody else looks at it meanwhile.
            unsafe { (*place).setting.entrance = entrance };
            let memory = Memory::Parents(&mut stack);
            // SAFETY: the entry ends in a program or in an end, and writes the plan's report alone.
            unsafe { clone_into(cgroup, memory, become_program, place.cast()) }
        })?;
        // SAFETY: the process has become a program or has ended, so nobody writes any more.
        let failed = unsafe { (&raw mut (*place).failed).read_volatile() };
        let Some((step, errno)) = failed else { return Ok(cloned) };
        let _ = waitpid(cloned.pid, None);
        let errno = Errno::from_raw(errno);
        if errno != Errno::ETXTBSY {
            return Err(fault(step, errno, &exec.path));
        }
        // A supervisor that was forked while the file was being written has not closed its copy yet.
        plan.failed = None;
        let _ = poll(&mut [], PollTimeout::from(BUSY_MS));
    }
    Err(kernel(Errno::ETXTBSY))
}

fn own(
    job: OwnJob,
    setting: Setting,
    directory: &Directory,
    cgroup: Option<&Cgroup>,
) -> Result<Cloned, NotStarted> {
    let mut plan = JobPlan { setting, job: Some(job), place: OwnPlace::new(directory.path().to_owned()) };
    enter(cgroup, |cgroup, entrance| {
        plan.setting.entrance = entrance;
        // SAFETY: the entry never returns, and has a copy of the plan as of everything else.
        unsafe { clone_into(cgroup, Memory::Own, become_job, (&raw mut plan).cast()) }
    })
}

/// Has a process made in the cgroup, or, where the kernel is too old for that, enter it by itself.
fn enter(
    cgroup: Option<&Cgroup>,
    mut attempt: impl FnMut(Option<BorrowedFd<'_>>, c_int) -> Result<Cloned, Errno>,
) -> Result<Cloned, NotStarted> {
    let Some(cgroup) = cgroup else { return attempt(None, NO_DESCRIPTOR).map_err(kernel) };
    let directory = cgroup.directory().map_err(|error| number(&error))?;
    match attempt(Some(directory.as_fd()), NO_DESCRIPTOR) {
        Err(Errno::ENOSYS | Errno::E2BIG | Errno::EINVAL) => {
            let entrance = cgroup.entrance().map_err(|error| number(&error))?;
            attempt(None, entrance.as_raw_fd()).map_err(kernel)
        }
        made => made.map_err(kernel),
    }
}

impl Wiring {
    fn new(input: Input, user: Option<&User>) -> io::Result<Self> {
        if let Input::Terminal(window) = input {
            let (ours, theirs) = terminal::open(window, user.map(|user| user.uid))?;
            let stdio = [theirs.as_raw_fd(); 3];
            let ours = Ours { stdin: Some(ours.try_clone()?), stdout: ours, stderr: None, terminal: true };
            return Ok(Self { ours, stdio, _theirs: vec![theirs] });
        }
        let (stdout, out) = pipe()?;
        let (stderr, err) = pipe()?;
        let (stdin, feed) = match input {
            Input::Stream => pipe().map(|(read, write)| (Some(read), Some(write)))?,
            Input::None | Input::Terminal(_) => (None, None),
        };
        // A supervisor's own standard input is /dev/null.
        let stdio = [stdin.as_ref().map_or(0, AsRawFd::as_raw_fd), out.as_raw_fd(), err.as_raw_fd()];
        for ours in [Some(&stdout), Some(&stderr), feed.as_ref()].into_iter().flatten() {
            fcntl(ours, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        }
        let theirs = [Some(out), Some(err), stdin].into_iter().flatten().collect();
        let ours = Ours {
            stdout: stdout.into(),
            stderr: Some(stderr.into()),
            stdin: feed.map(File::from),
            terminal: false,
        };
        Ok(Self { ours, stdio, _theirs: theirs })
    }
}

/// A pipe's end to read from and its end to write to.
fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(pipe2(OFlag::O_CLOEXEC)?)
}

const fn ids(user: &User) -> Ids {
    Ids { uid: user.uid, gid: user.gid, groups: user.groups.as_ptr(), count: user.groups.len() }
}

fn number(error: &io::Error) -> NotStarted {
    kernel(errno_of(error))
}

const NO_DESCRIPTOR: c_int = -1;
/// The steps between two system calls need a few hundred bytes.
const STACK_LEN: usize = 64 * 1024;
const BUSY_TRIES: usize = 100;
const BUSY_MS: u8 = 2;
