//! The birth of a supervisor: its directory, and a fork of the agent.
//!
//! Called by `pull` when the start is in the journal. Comes back at once; whether a program came of it shows when
//! the supervisor is looked at.

use super::directory::Directory;
use super::handle::{Supervised, reap_all};
use super::order::{Job, Margins, Order};
use super::process::{Inheritance, supervise};
use super::status;
use crate::apply::cgroup::Cgroups;
use crate::apply::program::Found;
use nix::unistd::{ForkResult, fork};
use std::io;
use std::path::Path;

/// Starts a supervisor for `order` in a directory of its own below `run`.
///
/// # Errors
/// The kernel's refusal to make the directory or the process; nothing runs then.
pub fn start(run: &Path, order: Order, cgroups: Option<&Cgroups>) -> io::Result<Supervised> {
    start_with(run, order, cgroups, Margins::USUAL)
}

pub(super) fn start_with(
    run: &Path,
    order: Order,
    cgroups: Option<&Cgroups>,
    margins: Margins,
) -> io::Result<Supervised> {
    reap_all();
    let directory = Directory::of(run, order.request);
    let started = begin(&directory, order, cgroups, margins);
    if started.is_err() {
        let _ = directory.remove();
    }
    started
}

fn begin(
    directory: &Directory,
    order: Order,
    cgroups: Option<&Cgroups>,
    margins: Margins,
) -> io::Result<Supervised> {
    let files = directory.create(order.input)?;
    status::prepare(&files.status)?;
    if let Job::Program(prepared) = &order.job
        && let Found::Verified(program) = &prepared.file
    {
        std::fs::rename(program.path(), directory.program())?;
    }
    let (agent, supervisor) = directory.ends()?;
    let request = order.request;
    // SAFETY: the agent has one thread, so the new process lacks none, and no lock is held by one that is missing.
    // A test has more; there the C library makes its own locks usable, and a supervisor takes no others.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => Ok(Supervised::born(directory.clone(), request, files, agent, child)),
        ForkResult::Child => {
            drop(agent);
            let directory = directory.clone();
            supervise(Inheritance { directory, files, ends: supervisor, order, cgroups, margins })
        }
    }
}
