//! Programs and files by their content: `programs/<2 digits>/<digest>`, whole or not there at all.
//!
//! Written by the API from an upload (by `uploads` where it may go on after a break), read by the sessions for a fetch. Trusts no uploader's claim: the name
//! is made from the bytes. What rots on the disk afterwards is refused in the guest, which hashes again.

mod keep;

pub use keep::Stored;

use crate::store::StoreError;
use doorbell_wire::ids::Digest;
use doorbell_wire::limits::PROGRAM_LEN_MAX;
use futures_util::{Stream, StreamExt};
use sha2::{Digest as _, Sha256};
use std::fmt::Display;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::NamedTempFile;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// The directory of all programs.
#[derive(Clone, Debug)]
pub struct Programs {
    dir: Arc<Path>,
    // Between the look whether a program is of use and its removal nobody may find it.
    gate: Arc<Mutex<()>>,
}

impl Programs {
    /// The programs under a state directory. What an upload left behind that a crash cut is removed.
    ///
    /// # Errors
    /// When the directory cannot be made or read.
    pub fn open(state_dir: &Path) -> Result<Self, StoreError> {
        let programs = Self { dir: dir_in(state_dir).into(), gate: Arc::default() };
        programs.prepare().map_err(|error| StoreError::io("make the directory of programs", error))?;
        Ok(programs)
    }

    /// Keeps a program: its digest, its length, and whether it was not there before. When this returns, the
    /// program survives a crash; when it fails or is dropped, nothing of it stays.
    ///
    /// # Errors
    /// When the body breaks off or is longer than a program may be, or the disk does not take it.
    pub async fn put<S, B, E>(&self, body: S) -> Result<(Digest, u64, bool), StoreError>
    where
        S: Stream<Item = Result<B, E>> + Send,
        B: AsRef<[u8]> + Send + 'static,
        E: Display,
    {
        self.put_within(PIECE_MAX, body).await
    }

    async fn put_within<S, B, E>(
        &self,
        patience: Duration,
        body: S,
    ) -> Result<(Digest, u64, bool), StoreError>
    where
        S: Stream<Item = Result<B, E>> + Send,
        B: AsRef<[u8]> + Send + 'static,
        E: Display,
    {
        self.take(None, patience, body).await.map_err(|error| match error {
            NotTaken::Body(error) => {
                StoreError::invalid(format!("the program's bytes broke off: {error}; send it again"))
            }
            NotTaken::Silent => {
                let ms = patience.as_millis();
                StoreError::invalid(format!("no byte of the program came for {ms} ms; send it again"))
            }
            NotTaken::Unfinished => StoreError::invalid("the program's bytes broke off before their end"),
            NotTaken::Store(error) => error,
        })
    }

    /// Keeps a program only if it has the digest that is expected: the digest it has, and its length. The body
    /// itself ends when it has been silent for too long.
    pub(crate) async fn put_expected<S, B, E>(
        &self,
        expected: Digest,
        body: S,
    ) -> Result<(Digest, u64), NotTaken<E>>
    where
        S: Stream<Item = Result<B, E>> + Send,
        B: AsRef<[u8]> + Send + 'static,
    {
        self.take(Some(expected), Duration::MAX, body).await.map(|(digest, len, _)| (digest, len))
    }

    async fn take<S, B, E>(
        &self,
        expected: Option<Digest>,
        patience: Duration,
        body: S,
    ) -> Result<(Digest, u64, bool), NotTaken<E>>
    where
        S: Stream<Item = Result<B, E>> + Send,
        B: AsRef<[u8]> + Send + 'static,
    {
        let (pieces, arriving) = mpsc::channel(PIECES_WAITING);
        let programs = self.clone();
        let written = crate::disk::blocking(move || programs.write(expected, arriving));
        let (sent, written) = tokio::join!(send(body, pieces, patience), written);
        // The writer's own error comes first: it is why the sender could not go on.
        match (sent, written) {
            (_, Err(error)) => Err(NotTaken::Store(error)),
            (Err(error), Ok(None)) => Err(error),
            (_, Ok(Some(stored))) => Ok(stored),
            (Ok(()), Ok(None)) => Err(NotTaken::Unfinished),
        }
    }

    /// The length of a program; `None` when it is not there.
    pub async fn len(&self, digest: Digest) -> Option<u64> {
        let path = self.path(&digest);
        crate::disk::blocking(move || path.metadata()).await.ok().map(|file| file.len())
    }

    /// At most `max` bytes of a program from `offset` on; none at its end.
    ///
    /// # Errors
    /// When the program is not there or cannot be read.
    pub async fn read(&self, digest: Digest, offset: u64, max: usize) -> io::Result<Vec<u8>> {
        let path = self.path(&digest);
        crate::disk::blocking(move || crate::disk::read_at(&path, offset, max)).await
    }

    /// Takes a program that cannot be read out of the way, beside where it was, so that it counts as missing.
    pub async fn set_aside(&self, digest: Digest) {
        let path = self.path(&digest);
        let aside = path.with_extension("unreadable");
        // On a disk that refuses this too, the guest's next fetch comes here again.
        if let Err(error) = crate::disk::blocking(move || std::fs::rename(path, aside)).await {
            tracing::warn!(%digest, %error, "a program that cannot be read could not be set aside");
        }
    }

    /// Whether the program is there with this length; for a thread that may block.
    pub(crate) fn has(state_dir: &Path, digest: &Digest, len: u64) -> bool {
        path_in(&dir_in(state_dir), digest).metadata().is_ok_and(|file| file.len() == len)
    }

    /// Gives a whole file of the same file system the name of its content; for a thread that may block.
    /// Says whether there was none of this content before.
    pub(crate) fn adopt(&self, file: &Path, digest: &Digest) -> io::Result<bool> {
        let path = self.path(digest);
        let shelf = path.parent().ok_or_else(|| io::Error::other("a program without a directory"))?;
        crate::disk::private_dir(shelf)?;
        std::fs::File::open(file)?.sync_all()?;
        let new = !path.try_exists()?;
        std::fs::rename(file, &path)?;
        if let Err(error) = crate::disk::sync_dir(shelf) {
            // A request must not be accepted on a name that a crash may take.
            if new {
                let _ = std::fs::remove_file(&path);
            }
            return Err(error);
        }
        Ok(new)
    }

    /// Keeps what a reader gives to its end; for a thread that may block. When this returns, the program survives a
    /// crash; when it fails, nothing of it stays.
    pub(crate) fn keep(&self, mut from: impl io::Read) -> Result<Digest, StoreError> {
        let keep = |error| StoreError::io("keep the program", error);
        let mut file = tempfile::Builder::new().tempfile_in(self.arriving()).map_err(keep)?;
        let (mut sum, mut piece) = (Sha256::new(), vec![0; PIECE_LEN]);
        loop {
            let read = from.read(&mut piece).map_err(keep)?;
            let Some(bytes) = piece.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
            sum.update(bytes);
            file.write_all(bytes).map_err(keep)?;
        }
        let digest = Digest::new(sum.finalize().into());
        self.settle(&file, &digest).map_err(keep)?;
        Ok(digest)
    }

    fn prepare(&self) -> io::Result<()> {
        crate::disk::private_dir(&self.dir)?;
        let arriving = self.arriving();
        crate::disk::private_dir(&arriving)?;
        arriving.read_dir()?.try_for_each(|entry| std::fs::remove_file(entry?.path()))
    }

    /// Writes what arrives; `None` when it breaks off. What is not as expected is not kept.
    fn write<B: AsRef<[u8]>>(
        &self,
        expected: Option<Digest>,
        mut arriving: mpsc::Receiver<Piece<B>>,
    ) -> Result<Option<(Digest, u64, bool)>, StoreError> {
        let keep = |error| StoreError::io("keep the program", error);
        let mut file = tempfile::Builder::new().tempfile_in(self.arriving()).map_err(keep)?;
        let (mut sum, mut len) = (Sha256::new(), 0_u64);
        while let Some(piece) = arriving.blocking_recv() {
            let Piece::Bytes(bytes) = piece else {
                let digest = Digest::new(sum.finalize().into());
                if expected.is_some_and(|expected| expected != digest) {
                    return Ok(Some((digest, len, false)));
                }
                return self.settle(&file, &digest).map(|new| Some((digest, len, new))).map_err(keep);
            };
            let bytes = bytes.as_ref();
            len = len.saturating_add(bytes.len() as u64);
            if len > PROGRAM_LEN_MAX {
                return Err(StoreError::TooLarge {
                    message: format!("the program has more than {PROGRAM_LEN_MAX} bytes: make it smaller"),
                });
            }
            sum.update(bytes);
            file.write_all(bytes).map_err(keep)?;
        }
        Ok(None)
    }

    /// Gives a whole program its name. One that is there is replaced, which repairs it if it had rotted.
    fn settle(&self, file: &NamedTempFile, digest: &Digest) -> io::Result<bool> {
        // Removed where it is if that fails; gone from there if not.
        self.adopt(file.path(), digest)
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        path_in(&self.dir, digest)
    }

    fn arriving(&self) -> PathBuf {
        self.dir.join("arriving")
    }
}

/// Why a body did not become a program.
#[derive(Debug)]
pub(crate) enum NotTaken<E> {
    /// It broke off, with the reason of whoever gave it.
    Body(E),
    /// It was silent for too long.
    Silent,
    /// Its writer went away in front of its end: the daemon is stopping.
    Unfinished,
    /// It is too long, or the disk does not take it.
    Store(StoreError),
}

/// A part of an upload. The end is said, so that a sender that vanishes is not taken for one that is done.
enum Piece<B> {
    Bytes(B),
    End,
}

/// Sends a body to its writer. That the writer has gone is no error here: it says itself why.
async fn send<B, E>(
    body: impl Stream<Item = Result<B, E>> + Send,
    pieces: mpsc::Sender<Piece<B>>,
    patience: Duration,
) -> Result<(), NotTaken<E>> {
    let mut body = std::pin::pin!(body);
    while let Some(bytes) = timeout(patience, body.next()).await.map_err(|_| NotTaken::Silent)? {
        let bytes = bytes.map_err(NotTaken::Body)?;
        if pieces.send(Piece::Bytes(bytes)).await.is_err() {
            return Ok(());
        }
    }
    drop(pieces.send(Piece::End).await);
    Ok(())
}

fn dir_in(state_dir: &Path) -> PathBuf {
    state_dir.join("programs")
}

fn path_in(dir: &Path, digest: &Digest) -> PathBuf {
    let name = digest.to_string();
    let shelf: String = name.chars().take(2).collect();
    dir.join(shelf).join(name)
}

/// How long an uploader may be silent: each one holds a thread that others wait for.
const PIECE_MAX: Duration = Duration::from_secs(30);
const PIECE_LEN: usize = 128 * 1024;
/// Pieces of an upload between socket and disk: bounds the memory an uploader can hold.
const PIECES_WAITING: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;

    fn programs() -> (tempfile::TempDir, Programs) {
        let dir = tempfile::tempdir().unwrap();
        let programs = Programs::open(dir.path()).unwrap();
        (dir, programs)
    }

    async fn put(programs: &Programs, pieces: Vec<Vec<u8>>) -> Result<(Digest, u64, bool), StoreError> {
        programs.put(stream::iter(pieces.into_iter().map(Ok::<_, io::Error>))).await
    }

    fn left_behind(programs: &Programs) -> usize {
        programs.arriving().read_dir().unwrap().count()
    }

    #[tokio::test]
    async fn a_program_is_named_by_its_content_and_there_once() {
        let (dir, programs) = programs();
        let (digest, len, new) =
            put(&programs, vec![b"#!/bin/sh\n".to_vec(), b"true\n".to_vec()]).await.unwrap();
        assert_eq!(digest, Digest::new(Sha256::digest(b"#!/bin/sh\ntrue\n").into()));
        assert_eq!((len, new), (15, true));
        let (again, _, new) = put(&programs, vec![b"#!/bin/sh\ntrue\n".to_vec()]).await.unwrap();
        assert_eq!((again, new), (digest, false));
        drop(programs);
        let programs = Programs::open(dir.path()).unwrap();
        assert_eq!(programs.len(digest).await, Some(15));
        assert_eq!(programs.read(digest, 10, 3).await.unwrap(), b"tru");
        assert_eq!(programs.read(digest, 15, 3).await.unwrap(), b"");
        assert!(Programs::has(dir.path(), &digest, 15));
        assert!(!Programs::has(dir.path(), &digest, 14));
        assert_eq!(left_behind(&programs), 0);
    }

    #[tokio::test]
    async fn a_program_of_no_bytes_is_a_program() {
        let (_dir, programs) = programs();
        let (digest, len, _) = put(&programs, vec![]).await.unwrap();
        assert_eq!((digest, len), (Digest::new(Sha256::digest(b"").into()), 0));
        assert_eq!(programs.len(digest).await, Some(0));
    }

    #[tokio::test]
    async fn a_program_of_the_limit_is_kept_and_of_one_byte_more_refused() {
        let (_dir, programs) = programs();
        let piece = vec![7; 1024 * 1024];
        let mut pieces = vec![piece; 64];
        let (_, len, _) = put(&programs, pieces.clone()).await.unwrap();
        assert_eq!(len, PROGRAM_LEN_MAX);
        pieces.push(vec![7]);
        let error = put(&programs, pieces).await.unwrap_err();
        assert!(matches!(error, StoreError::TooLarge { .. }), "{error}");
        assert_eq!(error.to_string(), "the program has more than 67108864 bytes: make it smaller");
        assert_eq!(left_behind(&programs), 0);
    }

    #[tokio::test]
    async fn an_upload_that_breaks_off_leaves_nothing() {
        let (_dir, programs) = programs();
        let pieces = vec![Ok(b"half".to_vec()), Err(io::Error::other("peer went away"))];
        let error = programs.put(stream::iter(pieces)).await.unwrap_err();
        assert_eq!(error.to_string(), "the program's bytes broke off: peer went away; send it again");
        assert_eq!(left_behind(&programs), 0);
    }

    #[tokio::test]
    async fn what_is_not_what_was_expected_is_not_kept() {
        let (_dir, programs) = programs();
        let good = Digest::new(Sha256::digest(b"good").into());
        let body = |bytes: &'static [u8]| stream::iter([Ok::<_, io::Error>(bytes)]);
        let (got, len) = programs.put_expected(good, body(b"evil!")).await.unwrap();
        assert_eq!((got, len), (Digest::new(Sha256::digest(b"evil!").into()), 5));
        assert_eq!((programs.len(got).await, programs.len(good).await), (None, None));
        assert_eq!(programs.put_expected(good, body(b"good")).await.unwrap(), (good, 4));
        assert_eq!(programs.len(good).await, Some(4));
        assert_eq!(left_behind(&programs), 0);
    }

    #[tokio::test]
    async fn an_upload_that_falls_silent_ends_and_leaves_nothing() {
        let (_dir, programs) = programs();
        let silent = stream::iter([Ok::<_, io::Error>(b"half".to_vec())]).chain(stream::pending());
        let error = programs.put_within(Duration::from_millis(50), silent).await.unwrap_err();
        assert_eq!(error.to_string(), "no byte of the program came for 50 ms; send it again");
        assert_eq!(left_behind(&programs), 0);
    }

    #[tokio::test]
    async fn what_a_crash_left_of_an_upload_is_removed_at_the_next_start() {
        let (dir, programs) = programs();
        std::fs::write(programs.arriving().join(".tmpabc"), b"half").unwrap();
        let programs = {
            drop(programs);
            Programs::open(dir.path()).unwrap()
        };
        assert_eq!(left_behind(&programs), 0);
    }

    #[tokio::test]
    async fn a_rotten_program_is_repaired_by_sending_it_again() {
        let (_dir, programs) = programs();
        let (digest, ..) = put(&programs, vec![b"good".to_vec()]).await.unwrap();
        std::fs::write(programs.path(&digest), b"g00d").unwrap();
        put(&programs, vec![b"good".to_vec()]).await.unwrap();
        assert_eq!(programs.read(digest, 0, 9).await.unwrap(), b"good");
    }

    #[tokio::test]
    async fn programs_are_for_the_managers_user_alone() {
        use std::os::unix::fs::PermissionsExt;
        let (dir, programs) = programs();
        let (digest, ..) = put(&programs, vec![b"x".to_vec()]).await.unwrap();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&dir.path().join("programs")), 0o700);
        assert_eq!(mode(&programs.path(&digest)), 0o600);
    }
}
