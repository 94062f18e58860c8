//! What programs read, on the manager's disk until their request is final: `input/<request>` and, once it has
//! its end, `input/<request>.end`.
//!
//! Written by the API as bytes arrive, read by the sessions, which send them to the guest as its program takes
//! them. Bytes are synced with the end mark and not before: after a crash of the host a client goes on from the
//! length it is told. Trusts no offset of a client: bytes belong at the end, once.

use crate::disk::absent_is_none;
use crate::store::StoreError;
use doorbell_api::request::InputState;
use doorbell_wire::ids::RequestId;
use doorbell_wire::limits::INPUT_LEN_MAX;
use doorbell_wire::message::action::Window;
use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The directory of all inputs, and the sizes that terminals have been given.
#[derive(Clone, Debug)]
pub struct Inputs {
    dir: Arc<Path>,
    locks: Arc<[Mutex<()>; LOCKS]>,
    windows: Arc<Mutex<HashMap<RequestId, Window>>>,
}

impl Inputs {
    /// The inputs under a state directory; the directory is made when there is none.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub fn open(state_dir: &Path) -> Result<Self, StoreError> {
        let dir = state_dir.join("input");
        crate::disk::private_dir(&dir)
            .map_err(|error| StoreError::io("make the directory of inputs", error))?;
        let locks = Arc::new(std::array::from_fn(|_| Mutex::default()));
        Ok(Self { dir: dir.into(), locks, windows: Arc::default() })
    }

    /// How much of a request's input is there, and whether that is all.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub async fn state(&self, request: RequestId) -> Result<InputState, StoreError> {
        self.blocking(move |inputs| {
            inputs.state_now(request).map_err(|error| cannot("look for input", error))
        })
        .await
    }

    /// Makes the file of an input that has none yet.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub async fn begin(&self, request: RequestId) -> Result<InputState, StoreError> {
        self.blocking(move |inputs| {
            let path = inputs.path(request);
            let made = OpenOptions::new().append(true).create(true).mode(0o600).open(path);
            made.and_then(|_| inputs.state_now(request)).map_err(keep)
        })
        .await
    }

    /// Puts bytes at the end of an input, and says where that is. Bytes in front of its end are there already
    /// and are passed over. When it fails, nothing of these bytes stays.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] for a gap, for bytes behind the end mark and when the request is over,
    /// [`StoreError::TooLarge`], [`StoreError::NoSpace`].
    pub async fn append<B>(&self, request: RequestId, offset: u64, bytes: B) -> Result<u64, StoreError>
    where
        B: AsRef<[u8]> + Send + 'static,
    {
        self.blocking(move |inputs| inputs.append_now(request, offset, bytes.as_ref())).await
    }

    /// Marks that the input has its end; everything in front of it survives a crash when this returns. Twice is once.
    /// Where the disk does not keep it, the input begins anew.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when the request is over, or when the disk does not take it.
    pub async fn end(&self, request: RequestId) -> Result<InputState, StoreError> {
        self.blocking(move |inputs| inputs.end_now(request)).await
    }

    /// At most `max` bytes of an input from `offset` on; none at its end.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub async fn read(&self, request: RequestId, offset: u64, max: usize) -> Result<Vec<u8>, StoreError> {
        self.blocking(move |inputs| {
            let read = crate::disk::read_at(&inputs.path(request), offset, max);
            absent_is_none(read).map(Option::unwrap_or_default).map_err(|error| cannot("read input", error))
        })
        .await
    }

    /// Removes what a request that is over had to read.
    pub async fn remove(&self, request: RequestId) {
        lock(&self.windows).remove(&request);
        let removed = self.blocking(move |inputs| inputs.remove_now(request).map_err(keep)).await;
        if let Err(error) = removed {
            tracing::warn!(%request, error = error.whole(), "the input of a request that is over stays on the disk");
        }
    }

    /// The requests of which there is input.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub async fn all(&self) -> Result<Vec<RequestId>, StoreError> {
        self.blocking(|inputs| {
            let names = inputs.dir.read_dir().map_err(|error| cannot("list inputs", error))?;
            let id = |entry: io::Result<std::fs::DirEntry>| {
                let name = entry.ok()?.file_name().into_string().ok()?;
                name.split('.').next()?.parse().ok()
            };
            let mut found: Vec<RequestId> = names.filter_map(id).collect();
            found.sort_unstable();
            found.dedup();
            Ok(found)
        })
        .await
    }

    /// Keeps the size of a request's terminal: the last one counts.
    pub fn set_window(&self, request: RequestId, window: Window) {
        lock(&self.windows).insert(request, window);
    }

    /// The size that a request's terminal was given last, if it was given one since its acceptance.
    #[must_use]
    pub fn window(&self, request: RequestId) -> Option<Window> {
        lock(&self.windows).get(&request).copied()
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let inputs = self.clone();
        crate::disk::blocking(move || work(&inputs)).await
    }

    fn state_now(&self, request: RequestId) -> io::Result<InputState> {
        let len = absent_is_none(self.path(request).metadata())?.map_or(0, |file| file.len());
        let end = absent_is_none(std::fs::read_to_string(self.end_path(request)))?;
        // A mark that speaks of more than there is was left by a crash that took the bytes.
        let ended = end.and_then(|text| text.trim().parse::<u64>().ok()).is_some_and(|end| end == len);
        Ok(InputState { len, ended })
    }

    fn append_now(&self, request: RequestId, offset: u64, bytes: &[u8]) -> Result<u64, StoreError> {
        let _guard = self.lock_of(request);
        let file = OpenOptions::new().write(true).open(self.path(request));
        let file = absent_is_none(file).map_err(keep)?.ok_or_else(|| over(request))?;
        let InputState { len, ended } = self.state_now(request).map_err(keep)?;
        let Some(known) = len.checked_sub(offset) else {
            return Err(StoreError::conflict(format!(
                "input of request {request} continues at byte {offset}, expected {len}: bytes in between are missing"
            )));
        };
        let known = usize::try_from(known).unwrap_or(usize::MAX);
        let Some(fresh) = bytes.get(known..).filter(|fresh| !fresh.is_empty()) else { return Ok(len) };
        if ended {
            return Err(StoreError::conflict(format!(
                "input of request {request} has its end at byte {len}: nothing can follow"
            )));
        }
        let end = len.saturating_add(fresh.len() as u64);
        if end > INPUT_LEN_MAX {
            return Err(StoreError::TooLarge {
                message: format!("input of request {request} would have more than {INPUT_LEN_MAX} bytes"),
            });
        }
        crate::disk::write_whole(&file, len, fresh).map_err(keep)?;
        Ok(end)
    }

    fn end_now(&self, request: RequestId) -> Result<InputState, StoreError> {
        let _guard = self.lock_of(request);
        let file = OpenOptions::new().write(true).open(self.path(request));
        let file = absent_is_none(file).map_err(keep)?.ok_or_else(|| over(request))?;
        let state = self.state_now(request).map_err(keep)?;
        if !state.ended {
            // The next sync would report success for what this one lost: what was sent is sent again.
            file.sync_data().inspect_err(|_| drop(file.set_len(0))).map_err(keep)?;
            self.mark_end(request, state.len).map_err(keep)?;
        }
        Ok(InputState { ended: true, ..state })
    }

    fn mark_end(&self, request: RequestId, len: u64) -> io::Result<()> {
        use std::io::Write as _;
        let mut mark = tempfile::Builder::new().prefix("mark.").tempfile_in(&self.dir)?;
        writeln!(mark, "{len}")?;
        mark.as_file().sync_all()?;
        mark.persist(self.end_path(request)).map_err(|error| error.error)?;
        crate::disk::sync_dir(&self.dir)
    }

    fn remove_now(&self, request: RequestId) -> io::Result<()> {
        let _guard = self.lock_of(request);
        absent_is_none(std::fs::remove_file(self.end_path(request)))?;
        absent_is_none(std::fs::remove_file(self.path(request))).map(drop)
    }

    /// Writers of one request take turns; those of others rarely meet.
    fn lock_of(&self, request: RequestId) -> Option<MutexGuard<'_, ()>> {
        let first = request.as_bytes().first().copied().map_or(0, usize::from);
        let lock = self.locks.get(first.checked_rem(LOCKS)?)?;
        Some(lock.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn path(&self, request: RequestId) -> PathBuf {
        self.dir.join(request.to_string())
    }

    fn end_path(&self, request: RequestId) -> PathBuf {
        self.dir.join(format!("{request}.end"))
    }
}

fn lock(windows: &Mutex<HashMap<RequestId, Window>>) -> MutexGuard<'_, HashMap<RequestId, Window>> {
    windows.lock().unwrap_or_else(PoisonError::into_inner)
}

fn over(request: RequestId) -> StoreError {
    StoreError::conflict(format!("request {request} is over and reads no more"))
}

fn keep(error: io::Error) -> StoreError {
    cannot("keep input", error)
}

fn cannot(doing: &str, error: io::Error) -> StoreError {
    StoreError::io(doing, error)
}

const LOCKS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: RequestId = RequestId::new([5; 16]);

    async fn inputs() -> (tempfile::TempDir, Inputs) {
        let dir = tempfile::tempdir().unwrap();
        let inputs = Inputs::open(dir.path()).unwrap();
        inputs.begin(REQUEST).await.unwrap();
        (dir, inputs)
    }

    #[tokio::test]
    async fn input_is_kept_in_order_and_once() {
        let (_dir, inputs) = inputs().await;
        assert_eq!(inputs.append(REQUEST, 0, b"abc").await.unwrap(), 3);
        assert_eq!(inputs.append(REQUEST, 1, b"bcde").await.unwrap(), 5);
        assert_eq!(inputs.append(REQUEST, 0, b"ab").await.unwrap(), 5);
        assert_eq!(inputs.read(REQUEST, 2, 2).await.unwrap(), b"cd");
        assert_eq!(inputs.read(REQUEST, 5, 9).await.unwrap(), b"");
        let gap = inputs.append(REQUEST, 6, b"x").await.unwrap_err();
        assert!(matches!(gap, StoreError::Conflict { .. }), "{gap}");
        assert!(gap.to_string().contains("continues at byte 6, expected 5"), "{gap}");
    }

    #[tokio::test]
    async fn an_end_is_the_end_and_survives_a_restart() {
        let (dir, inputs) = inputs().await;
        inputs.append(REQUEST, 0, b"abc").await.unwrap();
        for _ in 0..2 {
            assert_eq!(inputs.end(REQUEST).await.unwrap(), InputState { len: 3, ended: true });
        }
        let inputs = Inputs::open(dir.path()).unwrap();
        assert_eq!(inputs.state(REQUEST).await.unwrap(), InputState { len: 3, ended: true });
        assert_eq!(inputs.append(REQUEST, 0, b"abc").await.unwrap(), 3, "known bytes are no new ones");
        let late = inputs.append(REQUEST, 3, b"d").await.unwrap_err();
        assert!(matches!(late, StoreError::Conflict { .. }), "{late}");
        assert_eq!(inputs.all().await.unwrap(), [REQUEST]);
    }

    #[tokio::test]
    async fn an_end_whose_bytes_a_crash_took_is_none() {
        let (dir, inputs) = inputs().await;
        inputs.append(REQUEST, 0, b"abc").await.unwrap();
        inputs.end(REQUEST).await.unwrap();
        OpenOptions::new().write(true).open(inputs.path(REQUEST)).unwrap().set_len(1).unwrap();
        let inputs = Inputs::open(dir.path()).unwrap();
        assert_eq!(inputs.state(REQUEST).await.unwrap(), InputState { len: 1, ended: false });
        inputs.append(REQUEST, 1, b"bc").await.unwrap();
        assert!(inputs.state(REQUEST).await.unwrap().ended);
    }

    #[tokio::test]
    async fn what_is_over_reads_no_more_and_leaves_nothing() {
        let (dir, inputs) = inputs().await;
        inputs.set_window(REQUEST, Window { rows: 2, columns: 3 });
        inputs.append(REQUEST, 0, b"abc").await.unwrap();
        inputs.end(REQUEST).await.unwrap();
        inputs.remove(REQUEST).await;
        inputs.remove(REQUEST).await;
        assert_eq!(dir.path().join("input").read_dir().unwrap().count(), 0);
        assert!(inputs.window(REQUEST).is_none());
        for late in [inputs.append(REQUEST, 0, b"x").await.map(drop), inputs.end(REQUEST).await.map(drop)] {
            assert!(late.unwrap_err().to_string().contains("is over and reads no more"));
        }
    }

    #[tokio::test]
    async fn input_has_a_limit() {
        let (_dir, inputs) = inputs().await;
        let file = OpenOptions::new().write(true).open(inputs.path(REQUEST)).unwrap();
        file.set_len(INPUT_LEN_MAX - 1).unwrap();
        assert_eq!(inputs.append(REQUEST, INPUT_LEN_MAX - 1, b"y").await.unwrap(), INPUT_LEN_MAX);
        let error = inputs.append(REQUEST, INPUT_LEN_MAX, b"z").await.unwrap_err();
        assert!(matches!(error, StoreError::TooLarge { .. }), "{error}");
    }
}
