//! Outputs that are removed, and those that are being read and therefore are not.
//!
//! Called by `retention` once the rows say that an output is gone, and by who reads. A reader holds the output
//! first and looks at the row then: it either finds that the row says so, or its files stay until it is done.

use super::Outputs;
use crate::disk::absent_is_none;
use crate::store::StoreError;
use doorbell_api::retention::Total;
use doorbell_wire::ids::RequestId;
use doorbell_wire::message::Stream;
use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many read each output.
#[derive(Clone, Debug, Default)]
pub(super) struct Holds(Arc<Mutex<HashMap<RequestId, u32>>>);

/// As long as this is there, the output stays.
#[derive(Debug)]
pub struct Held {
    request: RequestId,
    holds: Holds,
}

impl Holds {
    fn lock(&self) -> MutexGuard<'_, HashMap<RequestId, u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut holds = self.holds.lock();
        let left = holds.get(&self.request).map_or(0, |count| count.saturating_sub(1));
        if left == 0 {
            holds.remove(&self.request);
        } else {
            holds.insert(self.request, left);
        }
    }
}

impl Outputs {
    /// Keeps a request's output where it is while somebody reads it.
    #[must_use]
    pub fn hold(&self, request: RequestId) -> Held {
        let mut holds = self.held.lock();
        let count = holds.get(&request).map_or(1, |count| count.saturating_add(1));
        holds.insert(request, count);
        Held { request, holds: self.held.clone() }
    }

    /// Removes the output of these requests, or only says what it takes. One that is being read stays until a
    /// later sweep.
    ///
    /// # Errors
    /// When the disk does not let go of one.
    pub async fn clear(&self, requests: Vec<RequestId>, dry_run: bool) -> Result<Total, StoreError> {
        self.blocking("remove output", move |outputs| {
            let mut total = Total::default();
            for request in requests {
                // Nobody begins to read between the look and the removal.
                let holds = outputs.held.lock();
                if !holds.contains_key(&request) {
                    let kept = outputs.kept(request)?;
                    total.add(kept.stdout.saturating_add(kept.stderr));
                    if !dry_run {
                        outputs.remove_now(request)?;
                    }
                }
            }
            Ok(total)
        })
        .await
    }

    /// Every request of which there is output.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub async fn all(&self) -> Result<Vec<RequestId>, StoreError> {
        self.blocking("list outputs", |outputs| {
            let mut found = Vec::new();
            for entry in outputs.dir.read_dir()? {
                let name = entry?.file_name();
                let name = name.to_str().and_then(|name| name.split('.').next());
                found.extend(name.and_then(|name| name.parse::<RequestId>().ok()));
            }
            found.sort_unstable();
            found.dedup();
            Ok(found)
        })
        .await
    }

    pub(super) fn remove_now(&self, request: RequestId) -> io::Result<()> {
        [Stream::Stdout, Stream::Stderr].into_iter().try_for_each(|stream| {
            absent_is_none(std::fs::remove_file(self.path(request, stream))).map(|_| ())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_read_stays_until_its_reader_is_done() {
        let dir = tempfile::tempdir().unwrap();
        let outputs = Outputs::open(dir.path()).unwrap();
        let request = RequestId::new([5; 16]);
        outputs.append(request, Stream::Stdout, 0, b"abc".to_vec(), 9).await.unwrap();
        outputs.append(request, Stream::Stderr, 0, b"de".to_vec(), 9).await.unwrap();
        assert_eq!(outputs.all().await.unwrap(), [request]);
        let (one, other) = (outputs.hold(request), outputs.hold(request));
        assert_eq!(outputs.clear(vec![request], false).await.unwrap(), Total::default());
        drop(one);
        assert_eq!(outputs.clear(vec![request], false).await.unwrap(), Total::default());
        drop(other);
        let total = Total { count: 1, bytes: 5 };
        assert_eq!(outputs.clear(vec![request], true).await.unwrap(), total);
        assert_eq!(outputs.lens(request).await.unwrap().stdout, 3, "a dry run removes nothing");
        assert_eq!(outputs.clear(vec![request], false).await.unwrap(), total);
        assert!(outputs.all().await.unwrap().is_empty());
        assert!(outputs.held.lock().is_empty());
    }
}
