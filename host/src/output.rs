//! What programs printed, on the manager's disk: one file per request and stream.
//!
//! Written by a guest's session as the bytes come, read by the API and asked by the store for what is there.
//! Trusts no offset of a guest: bytes belong at the end of the file, once.

use crate::store::StoreError;
use doorbell_wire::ids::RequestId;
use doorbell_wire::limits::OUTPUT_LEN_MAX;
use doorbell_wire::message::Stream;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes of a request's output that are on the manager's disk.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct OutputKept {
    /// Standard output.
    pub stdout: u64,
    /// Standard error.
    pub stderr: u64,
}

/// The directory of all outputs.
#[derive(Clone, Debug)]
pub struct Outputs {
    dir: Arc<Path>,
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
        Ok(Self { dir: dir.into() })
    }

    /// How much of a request's output is there, whether or not it would survive a crash.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub async fn lens(&self, request: RequestId) -> Result<OutputKept, StoreError> {
        self.blocking("look for output", move |outputs| outputs.kept(request)).await
    }

    /// Puts bytes at the end of a stream. Bytes in front of its end are there already and are passed over.
    ///
    /// # Errors
    /// When the bytes leave a gap or go beyond what a stream may have, or the disk does not take them.
    pub async fn append(
        &self,
        request: RequestId,
        stream: Stream,
        offset: u64,
        bytes: Vec<u8>,
    ) -> Result<(), StoreError> {
        let outputs = self.clone();
        crate::disk::blocking(move || outputs.append_now(request, stream, offset, &bytes)).await
    }

    /// Forgets what an interrupted start printed: a start begins its output anew.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub async fn forget(&self, request: RequestId) -> Result<(), StoreError> {
        let remove = move |outputs: &Self| {
            [Stream::Stdout, Stream::Stderr].into_iter().try_for_each(|stream| {
                absent_is_none(std::fs::remove_file(outputs.path(request, stream))).map(|_| ())
            })
        };
        self.blocking("forget the output of an earlier start", remove).await
    }

    /// Makes all of a request's output survive a crash, and says how much it is.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub async fn sync(&self, request: RequestId) -> Result<OutputKept, StoreError> {
        self.blocking("keep output", move |outputs| outputs.sync_now(request)).await
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

    /// As [`Outputs::sync`], for a thread that may block.
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
        self.kept(request)
    }

    async fn blocking<T: Send + 'static>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&Self) -> io::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let outputs = self.clone();
        crate::disk::blocking(move || work(&outputs)).await.map_err(|error| StoreError::io(doing, error))
    }

    fn kept(&self, request: RequestId) -> io::Result<OutputKept> {
        Ok(OutputKept {
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
    ) -> Result<(), StoreError> {
        let keep = |error| StoreError::io("keep output", error);
        let path = self.path(request, stream);
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(keep)?;
        let end = file.metadata().map_err(keep)?.len();
        let Some(known) = end.checked_sub(offset) else {
            return Err(StoreError::invalid(format!(
                "output of request {request} continues at byte {offset}, expected {end}: bytes in between are missing"
            )));
        };
        let known = usize::try_from(known).unwrap_or(usize::MAX);
        let Some(fresh) = bytes.get(known..).filter(|fresh| !fresh.is_empty()) else { return Ok(()) };
        if end.saturating_add(fresh.len() as u64) > OUTPUT_LEN_MAX {
            return Err(StoreError::invalid(format!(
                "output of request {request} grows beyond {OUTPUT_LEN_MAX} bytes, which the agent has to cut"
            )));
        }
        write_whole(&file, end, fresh).map_err(keep)
    }

    fn path(&self, request: RequestId, stream: Stream) -> PathBuf {
        let name = match stream {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        };
        self.dir.join(format!("{request}.{name}"))
    }
}

/// All of the bytes or none: what a full disk took of them is given back, so that it has no torn chunk.
fn write_whole(file: &File, end: u64, bytes: &[u8]) -> io::Result<()> {
    file.write_all_at(bytes, end).inspect_err(|_| {
        if let Err(error) = file.set_len(end) {
            tracing::warn!(%error, "a part of an output chunk stays on the disk");
        }
    })
}

fn len_of(path: &Path) -> io::Result<u64> {
    Ok(absent_is_none(path.metadata())?.map_or(0, |file| file.len()))
}

fn absent_is_none<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: RequestId = RequestId::new([5; 16]);

    fn outputs() -> (tempfile::TempDir, Outputs) {
        let dir = tempfile::tempdir().unwrap();
        let outputs = Outputs::open(dir.path()).unwrap();
        (dir, outputs)
    }

    async fn put(outputs: &Outputs, offset: u64, bytes: &[u8]) -> Result<(), StoreError> {
        outputs.append(REQUEST, Stream::Stdout, offset, bytes.to_vec()).await
    }

    #[tokio::test]
    async fn output_is_there_again_after_a_restart() {
        let (dir, outputs) = outputs();
        put(&outputs, 0, b"hello ").await.unwrap();
        put(&outputs, 6, b"world").await.unwrap();
        assert_eq!(outputs.sync(REQUEST).await.unwrap(), OutputKept { stdout: 11, stderr: 0 });
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
