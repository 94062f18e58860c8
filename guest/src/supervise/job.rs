//! A job of the agent in a process of its own.
//!
//! Called by `spawn`. The process is a copy of the supervisor with a program's three descriptors and no others;
//! its exit status is the job's value.

use super::child::{Setting, default_signals, settle};
use super::order::{OwnJob, OwnPlace};
use nix::libc;
use std::ffi::c_void;

/// What the new process takes over.
#[derive(Debug)]
pub(super) struct JobPlan {
    pub(super) setting: Setting,
    pub(super) job: Option<OwnJob>,
    pub(super) place: OwnPlace,
}

/// Runs the job to its end.
pub(super) extern "C" fn become_job(plan: *mut c_void) -> ! {
    // SAFETY: the maker of the process passes a plan; this process has its own copy of it.
    let plan = unsafe { &mut *plan.cast::<JobPlan>() };
    let status = match (settle(&plan.setting), plan.job.take()) {
        (Ok(()), Some(job)) => {
            // SAFETY: only dispositions of this process; and descriptors that nothing here uses any more.
            unsafe { default_signals() };
            close_the_rest();
            job.run(&mut plan.place)
        }
        (Err(_), _) | (Ok(()), None) => COULD_NOT_BEGIN,
    };
    // SAFETY: ends this process; what the supervisor has registered for its own end is not run.
    unsafe { libc::_exit(status.into()) }
}

/// Closes all but the three of a program.
pub(super) fn close_the_rest() {
    close_from(3, libc::c_uint::MAX);
}

/// Closes the descriptors from `first` to `last`. Kernels before 5.9 do not know the call.
pub(super) fn close_from(first: libc::c_uint, last: libc::c_uint) {
    // SAFETY: descriptors are numbers here; whoever calls this owns the process and uses none of them.
    if first > last || unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) } == 0 {
        return;
    }
    let open = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let open: Vec<u32> = open.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    for descriptor in open.into_iter().filter(|descriptor| (first..=last).contains(descriptor)) {
        // SAFETY: as above.
        unsafe { libc::close(i32::try_from(descriptor).unwrap_or(-1)) };
    }
}

const COULD_NOT_BEGIN: u8 = 126;
