//! Whether anybody still writes a file, by the kernel's own count of writers: a read lease is granted only while
//! nobody has the file open for writing, in any process and through any name.
//!
//! Called by the manager's spool before it takes a file. A crate of its own, because the manager has no unsafe code
//! and no safe wrapper of these calls exists. Trusts no file.

use nix::errno::Errno;
use nix::libc;
use std::fs::File;
use std::os::fd::AsRawFd as _;

/// A file that nobody can open for writing without the holder's notice. The lease ends when this is dropped.
#[derive(Debug)]
pub struct Leased(File);

/// Why there is no lease.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NoLease {
    /// Somebody has the file open for writing.
    Written,
    /// The file is somebody else's, and this process lacks `CAP_LEASE`.
    NotAllowed,
    /// The file system keeps no leases.
    NotKept(Errno),
}

impl Leased {
    /// Takes a read lease on a file that was opened for reading only.
    ///
    /// # Errors
    /// [`NoLease`].
    pub fn take(file: File) -> Result<Self, NoLease> {
        // Whoever wants to write breaks the lease, which the kernel tells by SIGIO: that would end this process.
        // SIGURG is passed over by every process that does not ask for it. Chosen before there is a lease to break.
        set(&file, F_SETSIG, libc::SIGURG).map_err(NoLease::NotKept)?;
        match set(&file, libc::F_SETLEASE, libc::F_RDLCK) {
            Ok(_) => Ok(Self(file)),
            Err(Errno::EAGAIN) => Err(NoLease::Written),
            Err(Errno::EACCES) => Err(NoLease::NotAllowed),
            Err(errno) => Err(NoLease::NotKept(errno)),
        }
    }

    /// Whether nobody has asked to write since the lease was taken.
    #[must_use]
    pub fn holds(&self) -> bool {
        set(&self.0, libc::F_GETLEASE, 0) == Ok(libc::F_RDLCK)
    }

    /// The file.
    #[must_use]
    pub const fn file(&self) -> &File {
        &self.0
    }
}

fn set(file: &File, what: libc::c_int, value: libc::c_int) -> Result<libc::c_int, Errno> {
    // SAFETY: the descriptor is open for as long as `file` is borrowed, and these commands take a plain number.
    Errno::result(unsafe { libc::fcntl(file.as_raw_fd(), what, value) })
}

/// The same on every processor that systems with KVM run on; the crate of system calls lacks it.
const F_SETSIG: libc::c_int = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::OpenOptions;
    use std::os::unix::fs::OpenOptionsExt as _;

    #[test]
    fn a_file_that_is_open_for_writing_gets_no_lease_and_one_that_is_closed_does() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        let writer = File::create(&path).unwrap();
        let lease = || Leased::take(File::open(&path).unwrap());
        assert_eq!(lease().unwrap_err(), NoLease::Written);
        drop(writer);
        assert!(lease().unwrap().holds());
    }

    /// It would end by SIGIO if that were what it is told with.
    #[test]
    fn a_writer_that_comes_later_is_noticed_and_ends_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        std::fs::write(&path, "x").unwrap();
        let leased = Leased::take(File::open(&path).unwrap()).unwrap();
        let mut writing = OpenOptions::new();
        writing.write(true).custom_flags(libc::O_NONBLOCK);
        let waits = writing.open(&path).unwrap_err();
        assert_eq!(waits.kind(), std::io::ErrorKind::WouldBlock);
        assert!(!leased.holds());
        drop(leased);
        writing.open(&path).unwrap();
    }
}
