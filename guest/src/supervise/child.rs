//! The steps of a new process between its making and its program.
//!
//! Called by `clone` in a process that may share its parent's memory: only plain system calls, nothing is
//! reserved, and only the report is written. The C library's own calls for users and groups would look for
//! threads that are not there.

use super::fault::Step;
use nix::libc;
use std::ffi::{c_char, c_int, c_long, c_ulong, c_void};
use std::ptr::null;

/// All that the steps need, made ready before.
#[derive(Debug)]
pub(super) struct Plan {
    /// The program: a path, or with `opened` an open file.
    pub(super) file: *const c_char,
    pub(super) opened: c_int,
    pub(super) args: *const *const c_char,
    pub(super) env: *const *const c_char,
    pub(super) cwd: *const c_char,
    pub(super) setting: Setting,
    /// What kept it from its program.
    pub(super) failed: Option<(Step, c_int)>,
}

/// What programs and the agent's own jobs have in common.
#[derive(Debug)]
pub(super) struct Setting {
    /// The three descriptors it gets.
    pub(super) stdio: [c_int; 3],
    /// Whether the first of them is a terminal that is to be its own.
    pub(super) terminal: bool,
    /// The cgroup's file to enter by, where the kernel could not begin in it; else -1.
    pub(super) entrance: c_int,
    pub(super) user: Option<Ids>,
    /// Whether no file that it starts gives it more than that user has.
    pub(super) no_new_privs: bool,
}

/// Whom to become.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ids {
    pub(super) uid: libc::uid_t,
    pub(super) gid: libc::gid_t,
    pub(super) groups: *const libc::gid_t,
    pub(super) count: usize,
}

/// Becomes the program, or says why not and ends.
pub(super) extern "C" fn become_program(plan: *mut c_void) -> ! {
    // SAFETY: the maker of the process passes a plan that outlives this: it stands still until this has ended.
    let plan = unsafe { &mut *plan.cast::<Plan>() };
    plan.failed = Some(steps(plan));
    // SAFETY: ends this process and touches no memory.
    unsafe {
        libc::syscall(libc::SYS_exit_group, 127 as c_long);
        libc::_exit(127)
    }
}

/// Comes back only with a failure.
fn steps(plan: &Plan) -> (Step, c_int) {
    if let Err(failed) = settle(&plan.setting) {
        return failed;
    }
    // SAFETY: paths, arguments and environment end with a NUL each and outlive the call, as the plan says.
    unsafe {
        if libc::chdir(plan.cwd) != 0 {
            return (Step::Directory, errno());
        }
        default_signals();
        if plan.opened >= 0 {
            let (empty, flags) = (c"".as_ptr(), c_long::from(libc::AT_EMPTY_PATH));
            libc::syscall(libc::SYS_execveat, c_long::from(plan.opened), empty, plan.args, plan.env, flags);
        } else {
            libc::execve(plan.file, plan.args, plan.env);
        }
    }
    (Step::Program, errno())
}

/// Everything but the directory and the program: session, descriptors, user, mask.
pub(super) fn settle(setting: &Setting) -> Result<(), (Step, c_int)> {
    let kernel = |result: c_long| if result < 0 { Err((Step::Setting, errno())) } else { Ok(()) };
    let user = |result: c_long| if result < 0 { Err((Step::User, errno())) } else { Ok(()) };
    // SAFETY: system calls on numbers, and on lists that outlive them. Those for users go to the kernel directly.
    unsafe {
        if setting.entrance >= 0 {
            kernel(libc::syscall(
                libc::SYS_write,
                c_long::from(setting.entrance),
                c"0".as_ptr(),
                1 as c_long,
            ))?;
        }
        kernel(libc::setsid().into())?;
        ordinary_oom_score();
        for (place, from) in (0..).zip(setting.stdio) {
            kernel(libc::dup2(from, place).into())?;
        }
        if setting.terminal {
            kernel(libc::ioctl(0, libc::TIOCSCTTY, 0).into())?;
        }
        if let Some(Ids { uid, gid, groups, count }) = setting.user {
            user(libc::syscall(libc::SYS_setgroups, count, groups))?;
            user(libc::syscall(
                libc::SYS_setresgid,
                c_long::from(gid),
                c_long::from(gid),
                c_long::from(gid),
            ))?;
            user(libc::syscall(
                libc::SYS_setresuid,
                c_long::from(uid),
                c_long::from(uid),
                c_long::from(uid),
            ))?;
        }
        if setting.no_new_privs {
            let (yes, unused) = (1 as c_ulong, 0 as c_ulong);
            user(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, yes, unused, unused, unused).into())?;
        }
        libc::umask(0o022);
        // A supervisor that is killed takes its program along; nobody would see to its end.
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
    }
    Ok(())
}

/// The agent is spared by the kernel when memory is short; a program is not.
unsafe fn ordinary_oom_score() {
    // SAFETY: the path is a constant, the descriptor is this process' own. A kernel without the file is no harm.
    unsafe {
        let file = libc::open(c"/proc/self/oom_score_adj".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        if file >= 0 {
            libc::write(file, c"0".as_ptr().cast(), 1);
            libc::close(file);
        }
    }
}

/// The agent blocks the signals it reads from a descriptor, and whoever started it may have ignored others;
/// a program inherits neither.
pub(super) unsafe fn default_signals() {
    let default = [0_u64; 4];
    let none = 0_u64;
    for signal in 1..=64 as c_long {
        // SAFETY: all zeroes are the default disposition without flags. The two signals that have no other refuse.
        unsafe {
            libc::syscall(libc::SYS_rt_sigaction, signal, &raw const default, null::<c_void>(), SET_LEN)
        };
    }
    let how = c_long::from(libc::SIG_SETMASK);
    // SAFETY: an empty set of the kernel's length.
    unsafe { libc::syscall(libc::SYS_rt_sigprocmask, how, &raw const none, null::<c_void>(), SET_LEN) };
}

fn errno() -> c_int {
    // SAFETY: the place of the last error is always there.
    unsafe { *libc::__errno_location() }
}

/// Bytes of a set of signals.
const SET_LEN: c_long = 8;
