//! How a door's socket file is made in a directory that belongs to somebody else.
//!
//! Called by the hybrid doors. The directory is the VMM's, and the VMM may be what an attacker of a guest has
//! got hold of: nothing in there is waited for, and nothing is touched there that the directory's owner could
//! not touch himself.

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen as await_peers, socket,
};
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::{Uid, setfsuid};
use std::fs;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;
use tokio::net::UnixListener;

/// Listens on `path`; a socket there that nobody listens on is a leftover of a manager that was killed.
pub(super) fn listen(path: &Path) -> io::Result<(UnixListener, (u64, u64))> {
    let parent = path.parent().ok_or_else(|| io::Error::other("the socket has no directory"))?;
    let _owner = Owner::become_that_of(parent)?;
    remove_leftover(path)?;
    let socket = stream_socket()?;
    // Before it has a name: a mode set by name could be set on whatever the name stands for by then.
    fchmod(&socket, Mode::S_IRUSR | Mode::S_IWUSR)?;
    bind(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    await_peers(&socket, Backlog::MAXCONN)?;
    let inode = inode(path).ok_or_else(|| io::Error::other("the socket vanished as it was made"))?;
    Ok((UnixListener::from_std(socket.into())?, inode))
}

/// Which file stands at `path`.
pub(super) fn inode(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

fn remove_leftover(path: &Path) -> io::Result<()> {
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    if !found.file_type().is_socket() {
        return Err(io::Error::other("there is a file at that path that is not a socket; remove it"));
    }
    match connect(stream_socket()?.as_raw_fd(), &UnixAddr::new(path)?) {
        // A listener whose queue is full listens all the same.
        Ok(()) | Err(Errno::EAGAIN) => {
            Err(io::Error::other("another process listens there; end it or use another path"))
        }
        Err(Errno::ECONNREFUSED) => fs::remove_file(path),
        Err(errno) => Err(errno.into()),
    }
}

fn stream_socket() -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    Ok(socket(AddressFamily::Unix, SockType::Stream, flags, None)?)
}

/// For as long as it lives, this thread acts on files with the rights of a directory's owner. What is made
/// then is the owner's, so that a VMM that is not root can connect to it.
#[derive(Debug)]
struct Owner(Option<Uid>);

impl Owner {
    fn become_that_of(dir: &Path) -> io::Result<Self> {
        let owner = Uid::from_raw(fs::metadata(dir)?.uid());
        // Without the right to it the kernel leaves all as it is, and the directory's mode decides.
        Ok(Self((owner != Uid::effective()).then(|| setfsuid(owner))))
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        if let Some(before) = self.0 {
            setfsuid(before);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[tokio::test]
    async fn a_door_is_for_the_directorys_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let is_root = Uid::effective().is_root();
        if is_root {
            std::os::unix::fs::chown(dir.path(), Some(STRANGER), None).unwrap();
        }
        let path = dir.path().join("web-3.vsock_707");
        let (_listener, inode_made) = listen(&path).unwrap();
        let made = path.symlink_metadata().unwrap();
        assert_eq!(made.permissions().mode() & 0o777, 0o600);
        assert_eq!(made.uid(), if is_root { STRANGER } else { Uid::effective().as_raw() });
        assert_eq!(inode(&path), Some(inode_made));
        // The thread has its own rights again.
        assert_eq!(setfsuid(Uid::effective()), Uid::effective());
    }

    #[tokio::test]
    async fn a_leftover_is_replaced_and_another_listener_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("door");
        drop(listen(&path).unwrap());
        let (listener, _) = listen(&path).unwrap();
        assert!(listen(&path).unwrap_err().to_string().contains("another process listens"));
        drop(listener);
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "").unwrap();
        assert!(listen(&path).unwrap_err().to_string().contains("not a socket"));
    }

    #[tokio::test]
    async fn a_listener_whose_queue_is_full_keeps_nobody_waiting() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("door");
        let stuck = stream_socket().unwrap();
        bind(stuck.as_raw_fd(), &UnixAddr::new(&path).unwrap()).unwrap();
        await_peers(&stuck, Backlog::new(0).unwrap()).unwrap();
        let mut queue = Vec::new();
        loop {
            let peer = stream_socket().unwrap();
            match connect(peer.as_raw_fd(), &UnixAddr::new(&path).unwrap()) {
                Ok(()) => queue.push(peer),
                Err(errno) => break assert_eq!(errno, Errno::EAGAIN),
            }
        }
        let looked = tokio::task::spawn_blocking(move || listen(&path).map(drop));
        let looked = tokio::time::timeout(std::time::Duration::from_secs(10), looked).await;
        let error = looked.expect("the look at a full queue ends").unwrap().unwrap_err();
        assert!(error.to_string().contains("another process listens"), "{error}");
    }

    const STRANGER: u32 = 65_534;
}
