//! A process as cheap as it can be: pipes, `clone3` straight into a cgroup, exec, wait.
//!
//! Called by `main`. Single-threaded, so a copy of this process may do anything between fork and exec.

use nix::errno::Errno;
use nix::libc;
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, dup2_stderr, dup2_stdin, dup2_stdout, execv, fork, pipe2, setsid};
use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::PathBuf;

/// Goes on in a process of its own, that holds nothing of whoever started this one.
pub(crate) fn leave() -> io::Result<()> {
    // SAFETY: this process has one thread.
    match unsafe { fork() }? {
        // SAFETY: the call ends this process, which has written nothing that waits to be flushed.
        ForkResult::Parent { .. } => unsafe { libc::_exit(0) },
        ForkResult::Child => {}
    }
    setsid()?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    dup2_stderr(&null)?;
    Ok(())
}

/// The cgroup of this process, below which each child gets one of its own.
pub(crate) struct Group(PathBuf);

impl Group {
    /// Where this process is.
    pub(crate) fn fresh() -> io::Result<Self> {
        let own = fs::read_to_string("/proc/self/cgroup")?;
        let own = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
        Ok(Self(PathBuf::from("/sys/fs/cgroup").join(own.trim())))
    }
}

/// Runs a program to its end, with three pipes, in a cgroup that is made for it and removed after it.
pub(crate) fn run(program: &str, group: &Group) -> io::Result<()> {
    let program = CString::new(program)?;
    let path = group.0.join("floor");
    fs::create_dir(&path)?;
    let directory = File::open(&path)?;
    let (stdin, input) = pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    let (output, stdout) = pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    let (errors, stderr) = pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    let child = clone_into(&directory)?;
    let Some(child) = child else {
        become_program(&program, [&stdin, &stdout, &stderr]);
    };
    drop((stdin, input, stdout, stderr));
    for end in [output, errors] {
        File::from(end).read_to_end(&mut Vec::new())?;
    }
    waitpid(child, None)?;
    fs::remove_dir(&path)
}

fn become_program(program: &CString, ends: [&OwnedFd; 3]) -> ! {
    let [stdin, stdout, stderr] = ends;
    let redirected = dup2_stdin(stdin).and_then(|()| dup2_stdout(stdout)).and_then(|()| dup2_stderr(stderr));
    let _ = redirected.and_then(|()| execv(program, &[program]));
    // SAFETY: ends this copy of the process without running what the original registered.
    unsafe { libc::_exit(127) }
}

/// A copy of this process in that cgroup; `None` in the copy.
fn clone_into(directory: &File) -> io::Result<Option<Pid>> {
    let cgroup = u64::try_from(directory.as_raw_fd()).unwrap_or_default();
    let signal = u64::try_from(libc::SIGCHLD).unwrap_or_default();
    // SAFETY: all of its fields are numbers, for which zero is a value.
    let mut how: libc::clone_args = unsafe { std::mem::zeroed() };
    how.flags = CLONE_INTO_CGROUP;
    how.exit_signal = signal;
    how.cgroup = cgroup;
    // SAFETY: the structure outlives the call and has the size that is told; without CLONE_VM the copy has a memory of
    // its own, as after fork, and this process has one thread.
    let result = unsafe { libc::syscall(libc::SYS_clone3, &raw mut how, size_of::<libc::clone_args>()) };
    match Errno::result(result)? {
        0 => Ok(None),
        pid => Ok(Some(Pid::from_raw(i32::try_from(pid).unwrap_or_default()))),
    }
}

const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
