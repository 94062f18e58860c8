//! Files and trees on their way between this host and a guest.
//!
//! Called by whoever pushes or pulls. What comes out of a guest is an enemy's: it is unpacked under a fresh hidden
//! name beside its destination, where nothing of it leads out, and takes the destination's place in one step at
//! the end, or not at all.

use doorbell_archive::{
    Fault, Kind, Options, Owner, PackError, Packed, UnpackError, Unpacked, Watch, kernel, pack, remove_tree,
    unpack,
};
use doorbell_wire::limits::OUTPUT_LEN_MAX;
use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWriteExt as _, ReadBuf};
use tokio::net::unix::pipe;
use tokio::task::JoinHandle;

/// Why a file or a tree did not come where it belongs.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The archive ended early, or is none.
    #[error(transparent)]
    Archive(#[from] UnpackError),
    /// The kernel refused.
    #[error("{}: {}", path.display(), kernel(source))]
    Kernel {
        /// On what.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A directory is there, and nobody said that it may be replaced.
    #[error("{}: a directory is there already", .0.display())]
    Occupied(PathBuf),
}

/// A tree of this host as an archive: read it to its end, which is an error where anything of the tree could
/// not be read.
#[derive(Debug)]
pub struct Packing {
    archive: pipe::Receiver,
    task: Option<JoinHandle<Result<Packed, PackError>>>,
}

impl Packing {
    /// Begins to pack what `path` names; `tell` hears what cannot be in the archive.
    ///
    /// # Errors
    /// The kernel's refusal of a pipe.
    pub fn of<F: FnMut(&Fault) + Send + 'static>(path: PathBuf, tell: F) -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        let archive = pipe::Receiver::from_owned_fd(OwnedFd::from(reader))?;
        let packing = move || {
            let mut out = io::BufWriter::with_capacity(BUFFER, File::from(OwnedFd::from(writer)));
            pack(&path, TOP, &mut out, &mut Teller { tell, content: None })
        };
        Ok(Self { archive, task: Some(tokio::task::spawn_blocking(packing)) })
    }
}

impl AsyncRead for Packing {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.archive).poll_read(context, buffer))?;
        let Some(task) = self.task.as_mut().filter(|_| buffer.filled().len() == before) else {
            return Poll::Ready(Ok(()));
        };
        let packed = ready!(Pin::new(task).poll(context));
        self.task = None;
        Poll::Ready(match packed {
            Ok(Ok(Packed { faults: 0, .. })) => Ok(()),
            Ok(Ok(Packed { faults, .. })) => {
                Err(io::Error::other(format!("{faults} of it could not be read")))
            }
            Ok(Err(error)) => Err(io::Error::other(error.to_string())),
            Err(error) => Err(io::Error::other(error)),
        })
    }
}

/// Where something is to be on this host: a directory and a name in it. What is under the hidden name beside it
/// is removed on drop.
#[derive(Debug)]
pub struct Destination {
    path: PathBuf,
    name: OsString,
    directory: OwnedFd,
    hidden: String,
}

impl Destination {
    /// Opens the directory that `path` is in. `request` makes the hidden name beside it.
    ///
    /// # Errors
    /// [`FileError::Kernel`] when there is no such directory.
    pub fn open(path: &Path, request: &str) -> Result<Self, FileError> {
        let refuse = |source| FileError::Kernel { path: path.to_owned(), source };
        let name = path.file_name().ok_or_else(|| refuse(Errno::ISDIR.into()))?.to_owned();
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = fs::open(directory.unwrap_or_else(|| Path::new(".")), flags, Mode::empty());
        let directory = directory.map_err(|errno| refuse(errno.into()))?;
        Ok(Self { path: path.to_owned(), name, directory, hidden: format!(".doorbell-{request}") })
    }

    fn found(&self) -> Result<Option<FileType>, FileError> {
        match fs::statat(&self.directory, self.name.as_os_str(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => Ok(Some(FileType::from_raw_mode(found.st_mode))),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.refuse(errno)),
        }
    }

    fn refuse(&self, errno: Errno) -> FileError {
        FileError::Kernel { path: self.path.clone(), source: errno.into() }
    }
}

impl Drop for Destination {
    fn drop(&mut self) {
        // Nobody is left who could do more about it than see the hidden name.
        let _ = remove_tree(&self.directory, self.hidden.as_bytes());
    }
}

/// An archive that comes from a guest, and is unpacked as it comes.
#[derive(Debug)]
pub struct Receiving {
    destination: Destination,
    archive: Option<pipe::Sender>,
    task: JoinHandle<Result<(Unpacked, String), UnpackError>>,
}

impl Receiving {
    /// Begins; `tell` hears what is refused.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn begin<F>(destination: Destination, tell: F) -> Result<Self, FileError>
    where
        F: FnMut(&Fault) + Send + 'static,
    {
        let refuse = |source| FileError::Kernel { path: destination.path.clone(), source };
        let (reader, writer) = io::pipe().map_err(refuse)?;
        let archive = pipe::Sender::from_owned_fd(OwnedFd::from(writer)).map_err(refuse)?;
        let directory = destination.directory.try_clone().map_err(refuse)?;
        let hidden = destination.hidden.clone();
        let options = Options {
            owner: Owner::Own,
            umask: umask(),
            bytes_max: OUTPUT_LEN_MAX,
            entries_max: ENTRIES_MAX,
        };
        let unpacking = move || {
            let mut teller = Teller { tell, content: Some(Sha256::new()) };
            let input = File::from(OwnedFd::from(reader));
            let unpacked = unpack(input, directory.as_fd(), hidden.as_bytes(), &options, &mut teller)?;
            fs::syncfs(&directory)
                .map_err(|errno| UnpackError::Write { path: hidden.into(), source: errno.into() })?;
            Ok((unpacked, teller.content.map(|hash| hex::encode(hash.finalize())).unwrap_or_default()))
        };
        Ok(Self { destination, archive: Some(archive), task: tokio::task::spawn_blocking(unpacking) })
    }

    /// Gives the next bytes of the archive. What comes behind its end is passed over.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        let Some(archive) = &mut self.archive else { return Ok(()) };
        match archive.write_all(bytes).await {
            // The archive has ended, well or not; `finish` tells.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.archive = None;
                Ok(())
            }
            Err(source) => Err(FileError::Kernel { path: self.destination.path.clone(), source }),
            Ok(()) => Ok(()),
        }
    }

    /// No more bytes will come, and nothing is to be left of those that did.
    pub async fn abandon(self) {
        let Self { destination, archive, task } = self;
        drop(archive);
        // What was unpacked goes with `destination`, and not before nobody writes to it any more.
        let _ = task.await;
        drop(destination);
    }

    /// All bytes were given.
    ///
    /// # Errors
    /// [`FileError::Archive`] when they are no whole archive; nothing is left of it then.
    pub async fn finish(self) -> Result<Received, FileError> {
        let Self { destination, archive, task } = self;
        drop(archive);
        let ended = task.await.map_err(|error| FileError::Kernel {
            path: destination.path.clone(),
            source: io::Error::other(error),
        })?;
        let (unpacked, digest) = ended?;
        let digest = (unpacked.kind == Kind::File).then_some(digest);
        Ok(Received { destination, unpacked, digest })
    }
}

/// What was unpacked and waits under its hidden name. Dropping it removes it.
#[derive(Debug)]
pub struct Received {
    destination: Destination,
    unpacked: Unpacked,
    digest: Option<String>,
}

impl Received {
    /// What there is.
    #[must_use]
    pub const fn unpacked(&self) -> &Unpacked {
        &self.unpacked
    }

    /// SHA-256 of a file's content, as it was received.
    #[must_use]
    pub fn digest(&self) -> Option<&str> {
        self.digest.as_deref()
    }

    /// Gives it its name, in one step. A file takes the place of a file; a tree takes the place of a directory
    /// only with `replace`.
    ///
    /// # Errors
    /// [`FileError`] when it cannot have the name; what was there is as it was.
    pub fn place(self, replace: bool) -> Result<(), FileError> {
        let destination = &self.destination;
        let flags = match (self.unpacked.kind, destination.found()?) {
            (Kind::File, Some(FileType::Directory)) => return Err(destination.refuse(Errno::ISDIR)),
            (Kind::File, _) => RenameFlags::empty(),
            (_, None) => RenameFlags::NOREPLACE,
            (_, Some(FileType::Directory)) if replace => RenameFlags::EXCHANGE,
            (_, Some(FileType::Directory)) => return Err(FileError::Occupied(destination.path.clone())),
            (_, Some(_)) => return Err(destination.refuse(Errno::NOTDIR)),
        };
        let (directory, hidden) = (&destination.directory, destination.hidden.as_str());
        fs::renameat_with(directory, hidden, directory, destination.name.as_os_str(), flags)
            .and_then(|()| fs::fsync(directory))
            .map_err(|errno| destination.refuse(errno))
    }
}

/// Passes faults on, and hashes the content of a lone file.
struct Teller<F> {
    tell: F,
    content: Option<Sha256>,
}

impl<F: FnMut(&Fault)> Watch for Teller<F> {
    fn fault(&mut self, fault: &Fault) {
        (self.tell)(fault);
    }

    fn content(&mut self, bytes: &[u8]) {
        if let Some(content) = &mut self.content {
            content.update(bytes);
        }
    }
}

/// The permission bits that this process gives to nobody. To ask the kernel by its call is to change it.
fn umask() -> u32 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    line.and_then(|octal| u32::from_str_radix(octal.trim(), 8).ok()).unwrap_or(0o022)
}

/// The name of a tree's top in its archive; whoever unpacks it chooses another one.
const TOP: &[u8] = b"tree";
/// Bytes that are written at once, where headers and small files come one after the other.
const BUFFER: usize = 64 * 1024;
/// Files, directories and links of one tree, at most.
const ENTRIES_MAX: u64 = 4 * 1024 * 1024;

#[cfg(test)]
mod tests;
