//! One program from where it lives into the store of programs, in as many attempts as it may take.
//!
//! Run by the station as a task of its own for each program and place, and ended by it when nobody waits for the
//! program any longer. What was written of it until then is gone with the task.

use super::dial::{Names, SystemNames};
use super::fault::Fault;
use super::location::Location;
use super::{Errand, LEN_MAX, get, local};
use crate::config::Fetch;
use crate::programs::{NotTaken, Programs};
use doorbell_wire::ids::Digest;
use futures_util::Stream;
use futures_util::stream::unfold;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// What a fetch needs.
#[derive(Clone, Debug)]
pub(super) struct Fetcher {
    fetch: Fetch,
    programs: Programs,
    names: Arc<dyn Names>,
}

/// A program that is in the store.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Arrived {
    /// Bytes it has.
    pub(super) len: u64,
    /// How it came there, for the audit trail.
    pub(super) how: String,
}

/// What came of an attempt, told before the next one.
#[derive(Debug)]
pub(super) struct Try<'a> {
    /// Which one is about to begin, from 1.
    pub(super) number: u32,
    /// How many there are.
    pub(super) of: u32,
    /// Why the one before came to nothing.
    pub(super) last: Option<&'a str>,
}

impl Fetcher {
    pub(super) fn new(fetch: Fetch, programs: Programs) -> Self {
        Self { fetch, programs, names: Arc::new(SystemNames) }
    }

    #[cfg(test)]
    pub(super) fn with_names(self, names: Arc<dyn Names>) -> Self {
        Self { names, ..self }
    }

    /// Fetches until it has the program or knows that it will not; each attempt waits for its turn first.
    pub(super) async fn run(
        &self,
        errand: &Errand,
        turns: &Semaphore,
        tell: impl Fn(Try<'_>) + Send,
    ) -> Result<Arrived, String> {
        let of = self.fetch.attempts.get();
        let (mut number, mut last, mut wait) = (1, None, Duration::ZERO);
        while number <= of {
            tell(Try { number, of, last: last.as_deref() });
            if !wait.is_zero() {
                tokio::time::sleep(wait).await;
            }
            // An error says that nobody gives turns any longer, which nobody does.
            let turn = turns.acquire().await;
            let attempt = timeout(self.fetch.whole(), self.attempt(errand)).await;
            drop(turn);
            match attempt {
                Ok(Ok(arrived)) => return Ok(arrived),
                Ok(Err(Fault::Final(text))) => return Err(text),
                Ok(Err(Fault::Disk(text))) => {
                    // Not counted: what was accepted waits until the disk takes it, as all else does.
                    (last, wait) = (Some(text), PAUSE_DISK);
                    continue;
                }
                Ok(Err(Fault::Passing(text))) => last = Some(text),
                Err(_) => last = Some(format!("it was not there whole within {} ms", self.fetch.whole_ms)),
            }
            number = number.saturating_add(1);
            wait = pause(number);
        }
        let text = last.unwrap_or_default();
        Err(if of > 1 { format!("{text}; that was attempt {of} of {of}") } else { text })
    }

    async fn attempt(&self, errand: &Errand) -> Result<Arrived, Fault> {
        // That it is there already is nothing that a tenant who does not have it may notice.
        if errand.tenant.is_none()
            && let Some(len) = self.programs.len(errand.digest).await
        {
            return Ok(Arrived { len, how: format!("{len} bytes, which were there") });
        }
        let location =
            Location::parse(&errand.url).map_err(|error| Fault::last(format!("refused: {error}")))?;
        if location.is_file() {
            return self.read(errand.digest, &location).await;
        }
        let given = get::get(&self.fetch, &*self.names, &location).await?;
        let (from, packed) = (given.from.clone(), given.packed.clone());
        let len = self.keep(errand.digest, given.pieces(self.fetch.stall()), packed).await?;
        Ok(Arrived { len, how: format!("{len} bytes from {from}") })
    }

    async fn read(&self, digest: Digest, location: &Location) -> Result<Arrived, Fault> {
        let refused = |rule| Fault::last(format!("refused: {rule}"));
        self.fetch.rules().check(location).map_err(refused)?;
        let (root, of) = (self.fetch.file_root.clone().unwrap_or_default(), location.clone());
        let (file, len) = crate::disk::blocking(move || local::open_below(&root, &of)).await?;
        if len > LEN_MAX {
            return Err(Fault::last(format!("it has {len} bytes where a program has {LEN_MAX} at most")));
        }
        let len = self.keep(digest, pieces(file), None).await?;
        Ok(Arrived { len, how: format!("{len} bytes from {location}") })
    }

    async fn keep<B: AsRef<[u8]> + Send + 'static>(
        &self,
        expected: Digest,
        pieces: impl Stream<Item = Result<B, Fault>> + Send,
        packed: Option<String>,
    ) -> Result<u64, Fault> {
        let (got, len) = self.programs.put_expected(expected, pieces).await.map_err(|error| match error {
            NotTaken::Body(fault) => fault,
            NotTaken::Store(error) => Fault::from(error),
            NotTaken::Silent | NotTaken::Unfinished => Fault::passing("the manager stops"),
        })?;
        if got == expected {
            return Ok(len);
        }
        let packed = packed.map(|name| format!(", packed with {name}, which is not undone"));
        let packed = packed.unwrap_or_default();
        Err(Fault::last(format!("expected sha256 {expected}, got {got} ({len} bytes{packed})")))
    }
}

/// The bytes of a file of this host, read where waiting for a disk keeps nobody.
fn pieces(file: std::fs::File) -> impl Stream<Item = Result<Vec<u8>, Fault>> + Send {
    unfold(Some(tokio::fs::File::from_std(file)), |file| async move {
        let mut file = file?;
        let mut piece = vec![0; PIECE_LEN];
        match file.read(&mut piece).await {
            Ok(0) => None,
            Ok(len) => {
                piece.truncate(len);
                Some((Ok(piece), Some(file)))
            }
            Err(error) => Some((Err(Fault::passing(format!("it cannot be read: {error}"))), None)),
        }
    })
}

/// How long to wait in front of an attempt that is not the first.
fn pause(number: u32) -> Duration {
    let factor = 4_u32.saturating_pow(number.saturating_sub(2));
    PAUSE_MIN.saturating_mul(factor).min(PAUSE_MAX)
}

const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// As long as anybody waits for the manager's own disk.
const PAUSE_DISK: Duration = Duration::from_secs(5);
const PIECE_LEN: usize = 64 * 1024;
