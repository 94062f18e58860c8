//! Programs that are removed, and since when each has been of no use.
//!
//! Called by `retention`, and by the API when a request names a program: that counts as use, so that a program
//! does not go between the look for it and the request that is accepted for it.

use super::{Programs, path_in};
use crate::store::StoreError;
use doorbell_api::retention::Total;
use doorbell_wire::ids::Digest;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A program on the disk.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Stored {
    /// What it is.
    pub digest: Digest,
    /// Bytes.
    pub len: u64,
    /// When it was uploaded or named last, milliseconds since the Unix epoch.
    pub used_ms: u64,
}

impl Programs {
    /// The length of a program that a request is about to name; `None` when it is not there.
    pub async fn used(&self, digest: Digest) -> Option<u64> {
        let programs = self.clone();
        let used = crate::disk::blocking(move || {
            let _gate = programs.gate.lock().unwrap_or_else(PoisonError::into_inner);
            let file = File::open(programs.path(&digest))?;
            file.set_modified(SystemTime::now())?;
            Ok::<_, io::Error>(file.metadata()?.len())
        });
        used.await.ok()
    }

    /// Every program.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub async fn all(&self) -> Result<Vec<Stored>, StoreError> {
        let programs = self.clone();
        let listed = crate::disk::blocking(move || programs.list());
        listed.await.map_err(|error| StoreError::io("list programs", error))
    }

    /// Removes a program that is as it was found; one that was named or uploaded again since stays.
    ///
    /// # Errors
    /// When the disk does not let go of it.
    pub async fn discard(&self, found: Stored) -> Result<bool, StoreError> {
        let programs = self.clone();
        let removed = crate::disk::blocking(move || {
            let _gate = programs.gate.lock().unwrap_or_else(PoisonError::into_inner);
            let path = programs.path(&found.digest);
            let unchanged = path.metadata().is_ok_and(|file| used_ms(&file) == found.used_ms);
            if unchanged { std::fs::remove_file(path).map(|()| true) } else { Ok(false) }
        });
        removed.await.map_err(|error: io::Error| StoreError::io("remove a program", error))
    }

    /// Removes, or only counts, what was set aside before this moment.
    ///
    /// # Errors
    /// When the disk does not let go of one.
    pub async fn clear_aside(&self, before_ms: u64, dry_run: bool) -> Result<Total, StoreError> {
        let programs = self.clone();
        let cleared = crate::disk::blocking(move || {
            let mut total = Total::default();
            for path in programs.files()? {
                let file = path.metadata()?;
                if path.extension().is_some() && used_ms(&file) < before_ms {
                    total.add(file.len());
                    if !dry_run {
                        std::fs::remove_file(path)?;
                    }
                }
            }
            Ok(total)
        });
        cleared.await.map_err(|error: io::Error| StoreError::io("remove what was set aside", error))
    }

    /// Where a program is, relative to the state directory.
    pub(crate) fn place_of(digest: &Digest) -> PathBuf {
        path_in(Path::new("programs"), digest)
    }

    fn list(&self) -> io::Result<Vec<Stored>> {
        let mut found = Vec::new();
        for path in self.files()? {
            let name = path.file_name().and_then(|name| name.to_str());
            let Some(digest) = name.and_then(|name| name.parse().ok()) else { continue };
            // One that is just being replaced may be gone for a moment.
            let Some(file) = crate::disk::absent_is_none(path.metadata())? else { continue };
            found.push(Stored { digest, len: file.len(), used_ms: used_ms(&file) });
        }
        Ok(found)
    }

    /// All files but those that are on their way in.
    fn files(&self) -> io::Result<Vec<PathBuf>> {
        let (arriving, mut found) = (self.arriving(), Vec::new());
        for shelf in self.dir.read_dir()? {
            let shelf = shelf?.path();
            if shelf != arriving && shelf.is_dir() {
                for entry in shelf.read_dir()? {
                    found.push(entry?.path());
                }
            }
        }
        Ok(found)
    }
}

fn used_ms(file: &std::fs::Metadata) -> u64 {
    let since = file.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    u64::try_from(since.unwrap_or(Duration::ZERO).as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;

    #[tokio::test]
    async fn a_program_that_is_named_again_is_not_removed() {
        let dir = tempfile::tempdir().unwrap();
        let programs = Programs::open(dir.path()).unwrap();
        let body = || stream::iter([Ok::<_, io::Error>(b"good".to_vec())]);
        let (digest, ..) = programs.put(body()).await.unwrap();
        let old = SystemTime::now() - Duration::from_secs(1000);
        File::open(programs.path(&digest)).unwrap().set_modified(old).unwrap();
        let found = programs.all().await.unwrap().pop().unwrap();
        assert_eq!((found.digest, found.len), (digest, 4));
        assert_eq!(programs.used(digest).await, Some(4));
        assert!(!programs.discard(found).await.unwrap(), "it has been of use since it was looked at");
        let found = programs.all().await.unwrap().pop().unwrap();
        assert!(programs.discard(found).await.unwrap());
        assert!(programs.all().await.unwrap().is_empty());
        assert_eq!(programs.used(digest).await, None);
    }

    #[tokio::test]
    async fn what_was_set_aside_goes_when_it_is_old() {
        let dir = tempfile::tempdir().unwrap();
        let programs = Programs::open(dir.path()).unwrap();
        let (digest, ..) = programs.put(stream::iter([Ok::<_, io::Error>(b"bad".to_vec())])).await.unwrap();
        programs.set_aside(digest).await;
        assert!(programs.all().await.unwrap().is_empty());
        assert_eq!(programs.clear_aside(1, false).await.unwrap(), Total::default());
        let total = Total { count: 1, bytes: 3 };
        assert_eq!(programs.clear_aside(u64::MAX, true).await.unwrap(), total);
        assert_eq!(programs.clear_aside(u64::MAX, false).await.unwrap(), total);
        assert_eq!(programs.clear_aside(u64::MAX, false).await.unwrap(), Total::default());
    }
}
