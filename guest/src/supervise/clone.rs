//! A new process, made by the kernel's own calls: into its cgroup, with a descriptor, without a copy of memory.
//!
//! Called by `spawn` in a supervisor, which has one thread. `fork` of the C library cannot begin in a cgroup, and
//! moving a process later costs many times as much; a copy of the page tables that is thrown away by the next
//! call costs more than that call.

use nix::errno::Errno;
use nix::libc;
use nix::unistd::Pid;
use std::arch::asm;
use std::ffi::c_void;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Where a new process begins. It never returns.
pub(super) type Entry = extern "C" fn(*mut c_void) -> !;

/// A process that was made.
#[derive(Debug)]
pub(super) struct Cloned {
    pub(super) pid: Pid,
    /// None on kernels before 5.2.
    pub(super) pidfd: Option<OwnedFd>,
}

/// Whose memory the new process has.
#[derive(Debug)]
pub(super) enum Memory<'a> {
    /// A copy.
    Own,
    /// Its parent's, which stands still until the new process has become a program or ended; the stack is apart.
    Parents(&'a mut [u8]),
}

/// Makes a process in `cgroup` that runs `entry`.
///
/// # Errors
/// The kernel's refusal; `ENOSYS`, `E2BIG` or `EINVAL` where it is too old to begin in a cgroup.
///
/// # Safety
/// `entry` must never return and must be sound with `argument` in a process of its own; with its parent's memory,
/// it may write only what `argument` leads to, and its own stack.
pub(super) unsafe fn clone_into(
    cgroup: Option<BorrowedFd<'_>>,
    mut memory: Memory<'_>,
    entry: Entry,
    argument: *mut c_void,
) -> Result<Cloned, Errno> {
    let mut pidfd: libc::c_int = -1;
    let (stack, size, sharing) = match &mut memory {
        Memory::Own => (0, 0, 0),
        Memory::Parents(stack) => {
            let start = stack.as_mut_ptr().expose_provenance();
            // The kernel starts at the end as it is given; a call needs it at a multiple of 16.
            let end = start.saturating_add(stack.len()) & !15;
            (start, end.saturating_sub(start), libc::CLONE_VM | libc::CLONE_VFORK)
        }
    };
    let flags = as_long(sharing | libc::CLONE_PIDFD);
    let result = if let Some(cgroup) = cgroup {
        let args = CloneArgs {
            flags: flags | CLONE_INTO_CGROUP,
            pidfd: (&raw mut pidfd).expose_provenance() as u64,
            exit_signal: as_long(libc::SIGCHLD),
            stack: stack as u64,
            stack_size: size as u64,
            cgroup: as_long(cgroup.as_raw_fd()),
            ..CloneArgs::default()
        };
        let numbers = [(&raw const args).expose_provenance(), size_of::<CloneArgs>(), 0];
        // SAFETY: the structure outlives the call, and what it points to does too; the rest is the caller's.
        unsafe { call(libc::SYS_clone3, numbers, entry, argument) }
    } else {
        let top = stack.saturating_add(size);
        let flags = usize::try_from(flags | as_long(libc::SIGCHLD)).unwrap_or(0);
        let numbers = [flags, top, (&raw mut pidfd).expose_provenance()];
        // SAFETY: as above; the descriptor's place outlives the call.
        unsafe { call(libc::SYS_clone, numbers, entry, argument) }
    };
    match i32::try_from(result) {
        Ok(pid) if pid > 0 => {
            // SAFETY: the kernel has just made this descriptor for this process and nobody else has it.
            let pidfd = (pidfd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(pidfd) });
            Ok(Cloned { pid: Pid::from_raw(pid), pidfd })
        }
        Ok(errno) => Err(Errno::from_raw(errno.saturating_neg())),
        Err(_) => Err(Errno::EIO),
    }
}

/// The system call, with the new process going to `entry` instead of coming back here: on the way back it would
/// walk over frames of a stack that is not there.
///
/// # Safety
/// As of [`clone_into`].
#[cfg(target_arch = "x86_64")]
unsafe fn call(number: libc::c_long, args: [usize; 3], entry: Entry, argument: *mut c_void) -> isize {
    let [first, second, third] = args;
    let result: isize;
    // SAFETY: in the parent this is one system call with its clobbers named. The child has the parent's registers
    // and a stack of its own (or a copy), aligns it and calls a function that does not return.
    unsafe {
        asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "and rsp, -16",
            "mov rdi, r12",
            "call r13",
            "ud2",
            "2:",
            inlateout("rax") number => result,
            in("rdi") first,
            in("rsi") second,
            in("rdx") third,
            in("r10") 0_usize,
            in("r8") 0_usize,
            in("r12") argument,
            in("r13") entry,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    result
}

fn as_long(number: libc::c_int) -> u64 {
    u64::from(number.unsigned_abs())
}

/// The kernel's structure, up to the cgroup (Linux 5.7).
#[repr(C)]
#[derive(Debug, Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
