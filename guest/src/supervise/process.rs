//! The supervisor as a process: cut off from the agent it was forked from, and gone when its outcome is kept.
//!
//! Called by `start` in the new process, and never comes back. Nothing here logs: what there is to say is in the
//! outcome.

use super::directory::{Directory, Ends, Files};
use super::job::close_from;
use super::order::{Job, Margins, Order};
use super::outcome::{Over, evidence, outcome, reap, word};
use super::spawn::spawn;
use super::status;
use super::watch::{Bounds, Line, Watch};
use crate::apply::cgroup::Cgroups;
use crate::clock::{now, now_us};
use crate::spool::Keeper;
use crate::wait::until;
use doorbell_wire::message::outcome::{Evidence, Ran};
use nix::libc;
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::unistd::setsid;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// All that a supervisor takes over from the agent.
#[derive(Debug)]
pub(super) struct Inheritance<'a> {
    pub(super) directory: Directory,
    pub(super) files: Files,
    pub(super) ends: Ends,
    pub(super) order: Order,
    pub(super) cgroups: Option<&'a Cgroups>,
    pub(super) margins: Margins,
}

/// Is a supervisor to the end.
pub(super) fn supervise(inheritance: Inheritance<'_>) -> ! {
    // Where a panic unwinds, it must not come back into the agent's own code.
    let status = catch_unwind(AssertUnwindSafe(|| serve(inheritance).is_err().into())).unwrap_or(PANICKED);
    // SAFETY: ends this process; what the agent has registered for its own end is not run.
    unsafe { libc::_exit(status) }
}

fn serve(inheritance: Inheritance<'_>) -> io::Result<()> {
    let Inheritance { directory, files, ends, order, cgroups, margins } = inheritance;
    cut_off(&files, &ends)?;
    let mut line = Line::new(ends);
    let bounds = Bounds {
        output_len_max: order.limits.output_len_max,
        timeout_ms: order.timeout_ms,
        own: matches!(order.job, Job::Own(_)),
        margins,
    };
    let spawned = match spawn(order, &directory, cgroups) {
        Ok(spawned) => spawned,
        Err(why) => {
            let finished = status::finish(&files.status, &Over::not_started(why));
            line.tell(now());
            linger(&mut line, &files.status, &[], &margins);
            return finished;
        }
    };
    let started_us = spawned.started_us;
    status::started(&files.status, started_us);
    line.tell(now());
    let mut watch = Watch::new(spawned, files, line, &bounds)?;
    watch.run();
    let over = over(&watch, started_us, &directory, bounds.own);
    let (mut line, status, keepers, cgroup) = watch.leave();
    let finished = status::finish(&status, &over);
    line.tell(now());
    drop(cgroup);
    linger(&mut line, &status, &keepers, &margins);
    finished
}

/// Lets go of everything of the agent's: its session, its descriptors, its name.
fn cut_off(files: &Files, ends: &Ends) -> io::Result<()> {
    // Only a leader of a group is refused, and a process that was just forked is none.
    let _ = setsid();
    // SAFETY: no code of ours runs at the signal; a write to an agent that is gone is an error to read.
    unsafe { signal(Signal::SIGPIPE, SigHandler::SigIgn) }?;
    // SAFETY: as above. Where whoever started the agent ignores the ends of children, their statuses are lost.
    unsafe { signal(Signal::SIGCHLD, SigHandler::SigDfl) }?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    for place in 0..3 {
        // SAFETY: the three standard descriptors, which nothing in this process owns.
        if unsafe { libc::dup2(null.as_raw_fd(), place) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    drop(null);
    let Files { status, stdin, stdout, stderr } = files;
    let Ends { commands, events } = ends;
    let kept = [Some(status), stdin.as_ref(), Some(stdout), Some(stderr), Some(commands), Some(events)];
    let mut kept: Vec<u32> =
        kept.into_iter().flatten().filter_map(|file| u32::try_from(file.as_raw_fd()).ok()).collect();
    kept.sort_unstable();
    let mut first = 3;
    for descriptor in kept {
        close_from(first, descriptor.saturating_sub(1));
        first = descriptor.saturating_add(1);
    }
    close_from(first, u32::MAX);
    // SAFETY: the name is a constant that ends with a NUL.
    unsafe { libc::prctl(libc::PR_SET_NAME, NAME.as_ptr()) };
    std::env::set_current_dir("/")
}

fn over(watch: &Watch, started_us: u64, directory: &Directory, own: bool) -> Over {
    let ending = &watch.ending;
    let (status, usage) = reap(ending.pid()).unzip();
    let usage = usage.map(|usage| ending.cgroup().map_or(usage, |cgroup| cgroup.usage(usage)));
    let word = if own { word(directory.path()) } else { None };
    let ended_us = now_us();
    let ran = Ran {
        started_us,
        first_output_us: watch.first_output_us,
        exited_us: ending.exited_us().unwrap_or(ended_us),
        ended_us,
        usage,
    };
    Over {
        outcome: outcome(ending.stopped(), status, word),
        evidence: if own { evidence(directory.path()) } else { Evidence::None },
        output: watch.totals(),
        ran: Some(ran),
    }
}

/// Waits until the agent has the outcome in its journal. If it does not come to that soon, the outcome and what it
/// speaks of are made durable here.
fn linger(line: &mut Line, status: &File, keepers: &[Keeper], margins: &Margins) {
    let deadline = now().after(margins.taken_ms);
    while !line.wanted.taken && !line.alone && now() < deadline {
        if until(&mut [line.commands()], deadline).is_err() {
            break;
        }
        line.listen(now());
    }
    if !line.wanted.taken {
        let _ = keepers.iter().try_for_each(Keeper::sync);
        let _ = status.sync_all();
    }
}

const NAME: &std::ffi::CStr = c"doorbell-run";
const PANICKED: i32 = 101;
