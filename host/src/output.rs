//! What programs printed, on the manager's disk: one file per request and stream.
//!
//! Written by a guest's session as the bytes come, read by the API and asked by the store for what is there.
//! Trusts no offset of a guest: bytes belong at the end of the file, once.

mod keep;

pub use keep::Held;

use crate::disk::absent_is_none;
use crate::store::StoreError;
use crate::sum::Sum;
use doorbell_wire::ids::{Digest, RequestId};
use doorbell_wire::limits::OUTPUT_BEHIND;
use doorbell_wire::message::outcome::{OutputTotals, StreamTotal};
use doorbell_wire::message::{Offsets, Stream};
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes of a stream that a crash of the host may take: less than what the guest keeps behind them.
pub const SYNC_EVERY: u64 = OUTPUT_BEHIND / 2;

/// What of a request's output is on the manager's disk.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct OutputKept {
    /// Standard output.
    pub stdout: StreamKept,
    /// Standard error.
    pub stderr: StreamKept,
}

/// What of one stream is on the manager's disk.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct StreamKept {
    /// How many bytes.
    pub len: u64,
    /// Their SHA-256, where it was asked for.
    pub digest: Option<Digest>,
}

/// The directory of all outputs.
#[derive(Clone, Debug)]
pub struct Outputs {
    dir: Arc<Path>,
    // What is known of streams that grow; what is missing here is read from the disk.
    growing: Arc<Mutex<HashMap<(RequestId, Stream), Growing>>>,
    held: keep::Holds,
}

#[derive(Debug, Default)]
struct Growing {
    sum: Sum,
    synced: u64,
    /// A sync has failed, and the stream is to end here, where it is safe: the guest sends what is behind again.
    cut: Option<u64>,
}

impl Outputs {
    /// The outputs under a state directory; the directory is made when there is none.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub fn open(state_dir: &Path) -> Result<Self, StoreError> {
        let dir = state_dir.join("output");
        crate::disk::private_dir(&dir)
            .map_err(|error| StoreError::io("make the directory of outputs", error))?;
        Ok(Self { dir: dir.into(), growing: Arc::default(), held: keep::Holds::default() })
    }

    /// How much of a request's output is there, whether or not it would survive a crash.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub async fn lens(&self, request: RequestId) -> Result<Offsets, StoreError> {
        self.blocking("look for output", move |outputs| outputs.kept(request)).await
    }

    /// Puts bytes at the end of a stream, which takes `max` at most. Bytes in front of its end are there
    /// already and are passed over. Each [`SYNC_EVERY`] bytes survive a crash before this returns; where the disk
    /// does not keep them, the stream is cut back to where it does, and its guest has to present it anew.
    ///
    /// # Errors
    /// When the bytes leave a gap or go beyond what the stream may have, or the disk does not take them. One that
    /// is of the disk leaves the stream as it was.
    pub async fn append(
        &self,
        request: RequestId,
        stream: Stream,
        offset: u64,
        bytes: Vec<u8>,
        max: u64,
    ) -> Result<(), StoreError> {
        let outputs = self.clone();
        crate::disk::blocking(move || outputs.append_now(request, stream, offset, &bytes, max)).await
    }

    /// Forgets what an interrupted start printed: a start begins its output anew.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub async fn forget(&self, request: RequestId) -> Result<(), StoreError> {
        self.let_go(request);
        self.blocking("forget the output of an earlier start", move |outputs| outputs.remove_now(request))
            .await
    }

    /// Makes all of a request's output survive a crash, and says how much it is, with the digest of each
    /// stream of which the guest has told one.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub async fn finish(&self, request: RequestId, told: OutputTotals) -> Result<OutputKept, StoreError> {
        let outputs = self.clone();
        let synced = move || {
            [Stream::Stdout, Stream::Stderr]
                .into_iter()
                .try_for_each(|stream| outputs.sync_one(request, stream))
        };
        crate::disk::blocking(synced).await?;
        self.blocking("keep output", move |outputs| {
            let kept = kept_as(outputs.kept(request)?);
            let digest = |stream, StreamKept { len, .. }: StreamKept, told: StreamTotal| {
                told.digest.map(|_| outputs.digest_now(request, stream, len)).transpose()
            };
            let stdout = digest(Stream::Stdout, kept.stdout, told.stdout)?;
            let stderr = digest(Stream::Stderr, kept.stderr, told.stderr)?;
            Ok(OutputKept {
                stdout: StreamKept { digest: stdout, ..kept.stdout },
                stderr: StreamKept { digest: stderr, ..kept.stderr },
            })
        })
        .await
    }

    /// Forgets what is known in memory of a request's output; what is on the disk stays.
    pub fn let_go(&self, request: RequestId) {
        let mut growing = self.lock();
        growing.remove(&(request, Stream::Stdout));
        growing.remove(&(request, Stream::Stderr));
    }

    /// At most `max` bytes of a stream from `offset` on; none at its end or when nothing was printed.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub async fn read(
        &self,
        request: RequestId,
        stream: Stream,
        offset: u64,
        max: usize,
    ) -> io::Result<Vec<u8>> {
        let path = self.path(request, stream);
        crate::disk::blocking(move || absent_is_none(crate::disk::read_at(&path, offset, max)))
            .await
            .map(Option::unwrap_or_default)
    }

    /// A stream as it is on the disk; none when nothing was printed.
    pub(crate) fn open_now(&self, request: RequestId, stream: Stream) -> io::Result<Option<File>> {
        absent_is_none(File::open(self.path(request, stream)))
    }

    /// Makes all of a request's output survive a crash; for a thread that may block.
    pub(crate) fn sync_now(&self, request: RequestId) -> io::Result<OutputKept> {
        let mut any = false;
        for stream in [Stream::Stdout, Stream::Stderr] {
            if let Some(file) = absent_is_none(File::open(self.path(request, stream)))? {
                file.sync_data()?;
                any = true;
            }
        }
        if any {
            crate::disk::sync_dir(&self.dir)?;
        }
        Ok(kept_as(self.kept(request)?))
    }

    async fn blocking<T: Send + 'static>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&Self) -> io::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let outputs = self.clone();
        crate::disk::blocking(move || work(&outputs)).await.map_err(|error| StoreError::io(doing, error))
    }

    fn digest_now(&self, request: RequestId, stream: Stream, len: u64) -> io::Result<Digest> {
        let Growing { sum, .. } = self.lock().remove(&(request, stream)).unwrap_or_default();
        let file = absent_is_none(File::open(self.path(request, stream)))?;
        sum.finish(file.as_ref(), len)
    }

    fn kept(&self, request: RequestId) -> io::Result<Offsets> {
        Ok(Offsets {
            stdout: len_of(&self.path(request, Stream::Stdout))?,
            stderr: len_of(&self.path(request, Stream::Stderr))?,
        })
    }

    fn append_now(
        &self,
        request: RequestId,
        stream: Stream,
        offset: u64,
        bytes: &[u8],
        max: u64,
    ) -> Result<(), StoreError> {
        let keep = |error| StoreError::io("keep output", error);
        self.cut_back(request, stream)?;
        let path = self.path(request, stream);
        let options = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = options.map_err(keep)?;
        let end = file.metadata().map_err(keep)?.len();
        let Some(known) = end.checked_sub(offset) else {
            return Err(StoreError::invalid(format!(
                "output of request {request} continues at byte {offset}, expected {end}: bytes in between are missing"
            )));
        };
        let known = usize::try_from(known).unwrap_or(usize::MAX);
        let Some(fresh) = bytes.get(known..).filter(|fresh| !fresh.is_empty()) else { return Ok(()) };
        let grown = end.saturating_add(fresh.len() as u64);
        if grown > max {
            return Err(StoreError::invalid(format!(
                "output of request {request} grows beyond {max} bytes, which the agent has to cut"
            )));
        }
        crate::disk::write_whole(&file, end, fresh).map_err(keep)?;
        let synced = {
            let mut all = self.lock();
            let growing = all.entry((request, stream)).or_default();
            growing.sum.add(end, fresh);
            growing.synced
        };
        if grown.saturating_sub(synced) >= SYNC_EVERY {
            self.sync_one(request, stream)?;
        }
        Ok(())
    }

    /// Makes a stream survive a crash. After a failed sync nothing of what it was to keep can be trusted, and the
    /// next one would report success for it: so the stream ends where it was safe.
    fn sync_one(&self, request: RequestId, stream: Stream) -> Result<(), StoreError> {
        self.cut_back(request, stream)?;
        let keep = |error| StoreError::io("keep output", error);
        let Some(file) = absent_is_none(File::open(self.path(request, stream))).map_err(keep)? else {
            return Ok(());
        };
        let len = file.metadata().map_err(keep)?.len();
        let synced = self.lock().get(&(request, stream)).map_or(0, |growing| growing.synced);
        let mut done = file.sync_data();
        if synced == 0 {
            done = done.and_then(|()| crate::disk::sync_dir(&self.dir));
        }
        let Err(error) = done else {
            if let Some(growing) = self.lock().get_mut(&(request, stream)) {
                growing.synced = len;
            }
            return Ok(());
        };
        tracing::warn!(%request, %error, "output that was written could not be kept; its guest is asked for it again");
        // The guest still has what lies less far behind.
        let safe = synced.max(len.saturating_sub(OUTPUT_BEHIND));
        self.lock()
            .insert((request, stream), Growing { synced: safe, cut: Some(safe), ..Growing::default() });
        self.cut_back(request, stream)
    }

    /// Ends a stream where it is safe, if that is due; an error in any case then, for its guest has to be asked.
    fn cut_back(&self, request: RequestId, stream: Stream) -> Result<(), StoreError> {
        let Some(safe) = self.lock().get(&(request, stream)).and_then(|growing| growing.cut) else {
            return Ok(());
        };
        let file = OpenOptions::new().write(true).open(self.path(request, stream));
        let cut = file.and_then(|file| file.set_len(safe));
        cut.map_err(|error| StoreError::io("cut output back to what is safe", error))?;
        if let Some(growing) = self.lock().get_mut(&(request, stream)) {
            growing.cut = None;
        }
        Err(StoreError::conflict(format!(
            "output of request {request} was not kept by the disk behind byte {safe}: its guest has to send it again"
        )))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(RequestId, Stream), Growing>> {
        self.growing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, request: RequestId, stream: Stream) -> PathBuf {
        let name = match stream {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        };
        self.dir.join(format!("{request}.{name}"))
    }
}

fn kept_as(Offsets { stdout, stderr }: Offsets) -> OutputKept {
    let kept = |len| StreamKept { len, digest: None };
    OutputKept { stdout: kept(stdout), stderr: kept(stderr) }
}

fn len_of(path: &Path) -> io::Result<u64> {
    Ok(absent_is_none(path.metadata())?.map_or(0, |file| file.len()))
}

#[cfg(test)]
mod faults;

#[cfg(test)]
mod tests {
    use super::*;
    use doorbell_wire::limits::OUTPUT_LEN_MAX;
    use sha2::{Digest as _, Sha256};

    const REQUEST: RequestId = RequestId::new([5; 16]);

    fn outputs() -> (tempfile::TempDir, Outputs) {
        let dir = tempfile::tempdir().unwrap();
        let outputs = Outputs::open(dir.path()).unwrap();
        (dir, outputs)
    }

    async fn put(outputs: &Outputs, offset: u64, bytes: &[u8]) -> Result<(), StoreError> {
        outputs.append(REQUEST, Stream::Stdout, offset, bytes.to_vec(), OUTPUT_LEN_MAX).await
    }

    #[tokio::test]
    async fn output_is_there_again_after_a_restart() {
        let (dir, outputs) = outputs();
        put(&outputs, 0, b"hello ").await.unwrap();
        put(&outputs, 6, b"world").await.unwrap();
        let kept = outputs.finish(REQUEST, OutputTotals::default()).await.unwrap();
        assert_eq!((kept.stdout, kept.stderr.len), (StreamKept { len: 11, digest: None }, 0));
        drop(outputs);
        let outputs = Outputs::open(dir.path()).unwrap();
        assert_eq!(outputs.read(REQUEST, Stream::Stdout, 6, 100).await.unwrap(), b"world");
        assert_eq!(outputs.read(REQUEST, Stream::Stdout, 11, 100).await.unwrap(), b"");
        assert_eq!(outputs.read(REQUEST, Stream::Stdout, 99, 100).await.unwrap(), b"");
        assert_eq!(outputs.read(REQUEST, Stream::Stderr, 0, 100).await.unwrap(), b"");
    }

    #[tokio::test]
    async fn bytes_that_are_resent_after_a_reconnect_are_kept_once() {
        let (_dir, outputs) = outputs();
        put(&outputs, 0, b"abc").await.unwrap();
        put(&outputs, 0, b"ab").await.unwrap();
        put(&outputs, 1, b"bcde").await.unwrap();
        put(&outputs, 5, b"").await.unwrap();
        assert_eq!(outputs.read(REQUEST, Stream::Stdout, 0, 100).await.unwrap(), b"abcde");
    }

    #[tokio::test]
    async fn a_gap_is_refused_and_nothing_of_it_kept() {
        let (_dir, outputs) = outputs();
        put(&outputs, 0, b"abc").await.unwrap();
        let error = put(&outputs, 4, b"e").await.unwrap_err();
        assert!(error.to_string().contains("continues at byte 4, expected 3"), "{error}");
        assert_eq!(outputs.lens(REQUEST).await.unwrap().stdout, 3);
    }

    #[tokio::test]
    async fn a_stream_takes_its_limit_and_not_one_byte_more() {
        let (dir, outputs) = outputs();
        put(&outputs, 0, b"x").await.unwrap();
        let file =
            OpenOptions::new().write(true).open(dir.path().join(format!("output/{REQUEST}.stdout"))).unwrap();
        file.set_len(OUTPUT_LEN_MAX - 1).unwrap();
        put(&outputs, OUTPUT_LEN_MAX - 1, b"y").await.unwrap();
        let error = put(&outputs, OUTPUT_LEN_MAX, b"z").await.unwrap_err();
        assert!(matches!(error, StoreError::Invalid { .. }), "{error}");
        assert_eq!(outputs.lens(REQUEST).await.unwrap().stdout, OUTPUT_LEN_MAX);
    }

    fn told() -> OutputTotals {
        let digest = Some(Digest::new([0; 32]));
        let total = StreamTotal { digest, ..StreamTotal::default() };
        OutputTotals { stdout: total, stderr: total }
    }

    #[tokio::test]
    async fn a_digest_is_of_what_is_on_the_disk_before_and_after_a_restart() {
        let (dir, outputs) = outputs();
        let sum = |bytes: &[u8]| Some(Digest::new(Sha256::digest(bytes).into()));
        put(&outputs, 0, b"hello ").await.unwrap();
        put(&outputs, 3, b"lo world").await.unwrap();
        let kept = outputs.finish(REQUEST, told()).await.unwrap();
        assert_eq!((kept.stdout.digest, kept.stderr.digest), (sum(b"hello world"), sum(b"")));
        let outputs = Outputs::open(dir.path()).unwrap();
        put(&outputs, 11, b"!").await.unwrap();
        let kept = outputs.finish(REQUEST, told()).await.unwrap();
        assert_eq!(kept.stdout, StreamKept { len: 12, digest: sum(b"hello world!") });
    }

    #[tokio::test]
    async fn output_of_an_earlier_start_is_in_no_digest() {
        let (_dir, outputs) = outputs();
        put(&outputs, 0, b"earlier").await.unwrap();
        outputs.forget(REQUEST).await.unwrap();
        put(&outputs, 0, b"now").await.unwrap();
        let kept = outputs.finish(REQUEST, told()).await.unwrap();
        assert_eq!(kept.stdout.digest, Some(Digest::new(Sha256::digest(b"now").into())));
    }

    #[tokio::test]
    async fn a_long_stream_is_synced_on_its_way() {
        let (_dir, outputs) = outputs();
        let chunk = vec![1; 1024 * 1024];
        for at in 0..17_u64 {
            put(&outputs, at * 1024 * 1024, &chunk).await.unwrap();
        }
        assert_eq!(outputs.lock()[&(REQUEST, Stream::Stdout)].synced, SYNC_EVERY);
        outputs.let_go(REQUEST);
        assert!(outputs.lock().is_empty());
    }

    #[tokio::test]
    async fn a_request_takes_no_more_than_it_asked_for() {
        let (_dir, outputs) = outputs();
        outputs.append(REQUEST, Stream::Stderr, 0, b"abc".to_vec(), 3).await.unwrap();
        let error = outputs.append(REQUEST, Stream::Stderr, 3, b"d".to_vec(), 3).await.unwrap_err();
        assert!(error.to_string().contains("grows beyond 3 bytes"), "{error}");
        assert_eq!(outputs.lens(REQUEST).await.unwrap().stderr, 3);
    }

    #[tokio::test]
    async fn output_is_for_the_managers_user_alone() {
        use std::os::unix::fs::PermissionsExt;
        let (dir, outputs) = outputs();
        put(&outputs, 0, b"x").await.unwrap();
        let mode = |path: PathBuf| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(dir.path().join("output")), 0o700);
        assert_eq!(mode(dir.path().join(format!("output/{REQUEST}.stdout"))), 0o600);
    }
}
