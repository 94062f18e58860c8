//! What the files of the manager have in common: private directories, directory syncs, blocking calls.
//!
//! Called by `programs`, `uploads`, `output`, `input` and `store`. Trusts the state directory, which only the manager's user may enter.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::Path;

/// Makes a directory that only its owner may enter, with its parents; one that is there stays as it is.
/// Survives a crash.
pub(crate) fn private_dir(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    DirBuilder::new().mode(0o700).recursive(true).create(path)?;
    path.parent().map_or(Ok(()), sync_dir).inspect_err(|_| {
        // Its name may go in a crash: the next try makes it again.
        let _ = std::fs::remove_dir(path);
    })
}

/// Makes the names in a directory survive a crash.
pub(crate) fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// At most `max` bytes of a file from `offset` on; none at its end.
pub(crate) fn read_at(path: &Path, offset: u64, max: usize) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let left = usize::try_from(file.metadata()?.len().saturating_sub(offset)).unwrap_or(usize::MAX);
    let mut bytes = vec![0; left.min(max)];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}

/// A file that is not there is none, and no error.
pub(crate) fn absent_is_none<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// All of the bytes or none: what a full disk took of them is given back, so that a file has no torn piece.
pub(crate) fn write_whole(file: &File, end: u64, bytes: &[u8]) -> io::Result<()> {
    file.write_all_at(bytes, end).inspect_err(|_| {
        if let Err(error) = file.set_len(end) {
            tracing::warn!(%error, "a part of a piece that did not fit stays on the disk");
        }
    })
}

/// Runs what may block on a thread that may.
pub(crate) async fn blocking<T, E>(work: impl FnOnce() -> Result<T, E> + Send + 'static) -> Result<T, E>
where
    T: Send + 'static,
    E: From<Gone> + Send + 'static,
{
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(Gone(error).into()))
}

/// A thread for blocking work that ended without an answer: the daemon is stopping, or a fault of ours.
#[derive(Debug, thiserror::Error)]
#[error("the work was given up")]
pub(crate) struct Gone(#[source] tokio::task::JoinError);

impl From<Gone> for io::Error {
    fn from(gone: Gone) -> Self {
        Self::other(gone)
    }
}
