//! Uploads that go on after a break: `uploads/<id>`, until they are finished and become a payload by digest.
//!
//! Written by the API as bytes arrive; their owner finishes them into the store of programs. Trusts no offset
//! of a client. What nobody has gone on with for a day is removed.

use crate::access::Scope;
use crate::programs::Programs;
use crate::store::StoreError;
use crate::sum::Sum;
use doorbell_api::retention::Total;
use doorbell_wire::ids::Digest;
use doorbell_wire::limits::FILE_LEN_MAX;
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

/// The directory of all uploads.
#[derive(Clone, Debug)]
pub struct Uploads {
    dir: Arc<Path>,
    // One at a time may work on an upload; whoever comes second is told.
    sums: Arc<Mutex<HashMap<UploadId, Slot>>>,
}

/// The name that a client gave its upload, among those of its tenant: each has names of its own.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct UploadId {
    /// The beginning of a hash of the tenant's name.
    owner: Option<[u8; 8]>,
    bytes: [u8; 16],
}

impl UploadId {
    /// Reads 32 hexadecimal digits of somebody for whom there is this.
    ///
    /// # Errors
    /// [`StoreError::Invalid`].
    pub fn parse(scope: &Scope, text: &str) -> Result<Self, StoreError> {
        let hash = scope.name().map(|name| Sha256::digest(name.as_bytes()));
        let owner = hash.and_then(|hash| hash.first_chunk().copied());
        let bytes = hexadecimal(text).ok_or_else(|| {
            StoreError::invalid(format!("upload id {text:?} is not valid: expected 32 hexadecimal digits"))
        })?;
        Ok(Self { owner, bytes })
    }

    /// What its file is called: the digits, and whose it is behind them.
    fn file_name(self) -> String {
        let digits = hex::encode(self.bytes);
        self.owner.map_or_else(|| digits.clone(), |owner| format!("{digits}.{}", hex::encode(owner)))
    }

    fn of_file(name: &str) -> Option<Self> {
        let (digits, owner) =
            name.split_once('.').map_or((name, None), |(digits, owner)| (digits, Some(owner)));
        let owner = match owner {
            None => None,
            Some(owner) => Some(hexadecimal(owner)?),
        };
        Some(Self { owner, bytes: hexadecimal(digits)? })
    }
}

fn hexadecimal<const LEN: usize>(text: &str) -> Option<[u8; LEN]> {
    let mut bytes = [0; LEN];
    hex::decode_to_slice(text, &mut bytes).ok().map(|()| bytes)
}

impl std::fmt::Display for UploadId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(self.bytes))
    }
}

#[derive(Debug)]
enum Slot {
    Free(Sum),
    Busy,
}

impl Uploads {
    /// The uploads under a state directory; the directory is made when there is none.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub fn open(state_dir: &Path) -> Result<Self, StoreError> {
        let dir = state_dir.join("uploads");
        crate::disk::private_dir(&dir)
            .map_err(|error| StoreError::io("make the directory of uploads", error))?;
        Ok(Self { dir: dir.into(), sums: Arc::default() })
    }

    /// How much of an upload is there.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn len(&self, id: UploadId) -> Result<u64, StoreError> {
        self.blocking(move |uploads| uploads.len_now(id)?.ok_or_else(|| unknown(id))).await
    }

    /// Puts bytes at the end of an upload, which begins with its first call, and says where the end is then.
    /// Bytes in front of the end are there already and are passed over. An upload that meets a full disk or
    /// grows too long is given up.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] for a gap and while another one works on it, [`StoreError::TooLarge`],
    /// [`StoreError::NoSpace`].
    pub async fn append<B>(&self, id: UploadId, offset: u64, bytes: B) -> Result<u64, StoreError>
    where
        B: AsRef<[u8]> + Send + 'static,
    {
        self.blocking(move |uploads| uploads.append_now(id, offset, bytes.as_ref())).await
    }

    /// Makes a payload of an upload: its digest, its length, and whether it was not there before.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Conflict`] while another one works on it.
    pub async fn finish(&self, programs: &Programs, id: UploadId) -> Result<(Digest, u64, bool), StoreError> {
        let programs = programs.clone();
        self.blocking(move |uploads| uploads.finish_now(&programs, id)).await
    }

    /// Removes what nobody has gone on with for a day, or only says what that takes.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub async fn sweep(&self, dry_run: bool) -> Result<Total, StoreError> {
        let before = SystemTime::now().checked_sub(ABANDONED);
        self.blocking(move |uploads| uploads.sweep_now(before, dry_run).map_err(keep)).await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let uploads = self.clone();
        crate::disk::blocking(move || work(&uploads)).await
    }

    fn len_now(&self, id: UploadId) -> Result<Option<u64>, StoreError> {
        match self.path(id).metadata() {
            Ok(file) => Ok(Some(file.len())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(keep(error)),
        }
    }

    fn append_now(&self, id: UploadId, offset: u64, bytes: &[u8]) -> Result<u64, StoreError> {
        let mut sum = self.take(id)?;
        let result = self.extend(id, offset, bytes, &mut sum);
        let known = result.is_ok();
        if let Err(StoreError::NoSpace { .. } | StoreError::TooLarge { .. }) = &result {
            // It can never be finished as it is, and until somebody removed it nothing else would fit either.
            let _ = std::fs::remove_file(self.path(id));
        }
        self.give_back(id, known.then_some(sum));
        result
    }

    fn extend(&self, id: UploadId, offset: u64, bytes: &[u8], sum: &mut Sum) -> Result<u64, StoreError> {
        let len = self.len_now(id)?.unwrap_or(0);
        let Some(known) = len.checked_sub(offset) else {
            return Err(StoreError::conflict(format!(
                "upload {id} continues at byte {offset}, expected {len}: bytes in between are missing"
            )));
        };
        let path = self.path(id);
        let options = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path);
        let file = options.map_err(keep)?;
        let known = usize::try_from(known).unwrap_or(usize::MAX);
        let Some(fresh) = bytes.get(known..).filter(|fresh| !fresh.is_empty()) else { return Ok(len) };
        let end = len.saturating_add(fresh.len() as u64);
        if end > FILE_LEN_MAX {
            return Err(StoreError::TooLarge {
                message: format!("the upload has more than {FILE_LEN_MAX} bytes: send it in parts"),
            });
        }
        crate::disk::write_whole(&file, len, fresh).map_err(keep)?;
        sum.add(len, fresh);
        Ok(end)
    }

    fn finish_now(&self, programs: &Programs, id: UploadId) -> Result<(Digest, u64, bool), StoreError> {
        let sum = self.take(id)?;
        let result = self.settle(programs, id, sum);
        // What was not kept is read again at the next try.
        self.give_back(id, None);
        result
    }

    fn settle(&self, programs: &Programs, id: UploadId, sum: Sum) -> Result<(Digest, u64, bool), StoreError> {
        let path = self.path(id);
        let len = self.len_now(id)?.ok_or_else(|| unknown(id))?;
        let file = std::fs::File::open(&path).map_err(keep)?;
        let digest = sum.finish(Some(&file), len).map_err(keep)?;
        let adopted = programs.adopt(&path, &digest);
        if adopted.is_err() {
            // What a sync has failed for once is never known to be there: it has to be sent again.
            let _ = std::fs::remove_file(&path);
        }
        Ok((digest, len, adopted.map_err(keep)?))
    }

    fn sweep_now(&self, before: Option<SystemTime>, dry_run: bool) -> io::Result<Total> {
        let mut total = Total::default();
        for entry in self.dir.read_dir()? {
            let entry = entry?;
            let name = entry.file_name().into_string().unwrap_or_default();
            let Some(id) = UploadId::of_file(&name) else { continue };
            let file = entry.metadata()?;
            let touched = file.modified()?;
            if before.is_some_and(|before| touched < before)
                && let Ok(_sum) = self.take(id)
            {
                let removed = if dry_run { Ok(()) } else { std::fs::remove_file(entry.path()) };
                self.give_back(id, None);
                removed?;
                total.add(file.len());
            }
        }
        Ok(total)
    }

    fn take(&self, id: UploadId) -> Result<Sum, StoreError> {
        match self.lock().insert(id, Slot::Busy) {
            None => Ok(Sum::default()),
            Some(Slot::Free(sum)) => Ok(sum),
            Some(Slot::Busy) => {
                Err(StoreError::conflict(format!("upload {id} is being worked on; ask again in a moment")))
            }
        }
    }

    fn give_back(&self, id: UploadId, sum: Option<Sum>) {
        let mut sums = self.lock();
        match sum {
            // Bounds the memory: beyond this, a file is read again when it is finished.
            Some(sum) if sums.len() <= SUMS_MAX => drop(sums.insert(id, Slot::Free(sum))),
            Some(_) | None => drop(sums.remove(&id)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<UploadId, Slot>> {
        self.sums.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, id: UploadId) -> PathBuf {
        self.dir.join(id.file_name())
    }
}

fn unknown(id: UploadId) -> StoreError {
    let hint = "it was finished, or nobody has gone on with it for a day: begin it at offset 0";
    StoreError::NotFound { what: "upload", name: id.to_string(), hint }
}

fn keep(error: io::Error) -> StoreError {
    StoreError::io("keep the upload", error)
}

const ABANDONED: Duration = Duration::from_secs(24 * 3600);
const SUMS_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn open() -> (tempfile::TempDir, Uploads, Programs, UploadId) {
        let dir = tempfile::tempdir().unwrap();
        let uploads = Uploads::open(dir.path()).unwrap();
        let programs = Programs::open(dir.path()).unwrap();
        (dir, uploads, programs, UploadId::parse(&Scope::All, &"0a".repeat(16)).unwrap())
    }

    #[tokio::test]
    async fn an_upload_goes_on_where_it_broke_off_also_after_a_restart() {
        let (dir, uploads, programs, id) = open();
        assert!(matches!(uploads.len(id).await, Err(StoreError::NotFound { .. })));
        assert_eq!(uploads.append(id, 0, b"hello ").await.unwrap(), 6);
        let gap = uploads.append(id, 7, b"x").await.unwrap_err();
        assert!(matches!(gap, StoreError::Conflict { .. }), "{gap}");
        let uploads = Uploads::open(dir.path()).unwrap();
        assert_eq!(uploads.len(id).await.unwrap(), 6);
        assert_eq!(uploads.append(id, 3, b"lo world").await.unwrap(), 11);
        let (digest, len, new) = uploads.finish(&programs, id).await.unwrap();
        assert_eq!((digest, len, new), (Digest::new(Sha256::digest(b"hello world").into()), 11, true));
        assert_eq!(programs.read(digest, 6, 99).await.unwrap(), b"world");
        assert!(matches!(uploads.len(id).await, Err(StoreError::NotFound { .. })));
        assert!(matches!(uploads.finish(&programs, id).await, Err(StoreError::NotFound { .. })));
        uploads.append(id, 0, b"hello world").await.unwrap();
        assert_eq!(uploads.finish(&programs, id).await.unwrap(), (digest, 11, false));
    }

    #[tokio::test]
    async fn an_upload_of_nothing_is_an_empty_payload() {
        let (_dir, uploads, programs, id) = open();
        assert_eq!(uploads.append(id, 0, b"").await.unwrap(), 0);
        let (digest, len, _) = uploads.finish(&programs, id).await.unwrap();
        assert_eq!((digest, len), (Digest::new(Sha256::digest(b"").into()), 0));
    }

    #[tokio::test]
    async fn a_payload_of_the_limit_is_taken_and_one_byte_more_refused() {
        let (_dir, uploads, _programs, id) = open();
        uploads.append(id, 0, b"x").await.unwrap();
        OpenOptions::new().write(true).open(uploads.path(id)).unwrap().set_len(FILE_LEN_MAX - 1).unwrap();
        assert_eq!(uploads.append(id, FILE_LEN_MAX - 1, b"y").await.unwrap(), FILE_LEN_MAX);
        let error = uploads.append(id, FILE_LEN_MAX, b"z").await.unwrap_err();
        assert!(matches!(error, StoreError::TooLarge { .. }), "{error}");
    }

    #[tokio::test]
    async fn what_nobody_went_on_with_is_removed_and_what_is_fresh_stays() {
        let (_dir, uploads, _programs, id) = open();
        uploads.append(id, 0, b"half").await.unwrap();
        uploads.sweep(false).await.unwrap();
        assert_eq!(uploads.len(id).await.unwrap(), 4);
        uploads.sweep_now(SystemTime::now().checked_add(Duration::from_secs(1)), false).unwrap();
        assert!(matches!(uploads.len(id).await, Err(StoreError::NotFound { .. })));
    }

    #[test]
    fn one_at_a_time_works_on_an_upload() {
        let (_dir, uploads, _programs, id) = open();
        let sum = uploads.take(id).unwrap();
        let busy = uploads.append_now(id, 0, b"x").unwrap_err();
        assert!(matches!(busy, StoreError::Conflict { .. }), "{busy}");
        uploads.give_back(id, Some(sum));
        uploads.append_now(id, 0, b"x").unwrap();
        for text in ["", "0a", "zz", &"0".repeat(33)] {
            assert!(matches!(UploadId::parse(&Scope::All, text), Err(StoreError::Invalid { .. })), "{text}");
        }
    }
}
