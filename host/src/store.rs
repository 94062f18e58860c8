//! The store: everything that must survive a crash, behind a handle that any task may hold.
//!
//! Called by API, sessions and daemon. One thread owns the writing connection and makes one transaction of
//! all that waits (`writer`); another one reads. An answer is given after the commit, never before. Trusts
//! the files in its state directory, which only the manager's user may enter; `open` sees to that.

mod approvals;
mod audit;
mod awaited;
mod backup;
mod deadlines;
mod enrol;
mod error;
mod guest_rows;
mod guests;
mod holdings;
mod keys;
mod look_up;
mod offers;
mod open;
mod places;
mod principals;
mod reader;
mod receipts;
mod refusals;
mod requests;
mod retention;
mod rewound;
mod rows;
mod sessions;
mod signed;
mod spool;
mod stages;
mod tenants;
#[cfg(test)]
mod tests;
mod tokens;
mod triggers;
mod writer;

pub use backup::Named;
pub(crate) use backup::{examine, in_hand, take_over};
pub use enrol::Enrolled;
pub use error::StoreError;
pub use guests::fingerprint;
pub use principals::{AddPrincipal, Known as KnownPrincipal, PrincipalRow};
pub use refusals::Refusal;
pub use retention::{Batch, Due, Kept, LOOK_MAX, Retired};
pub use rewound::ClockTold;
pub use rows::{
    AcceptRequest, Accepted, AddGuest, ChangeGuest, GuestRow, NewEnrolment, NextOffer, PendingRow, Place,
    Pull, Removed, RequestFilter, RequestRow, Verdict,
};
pub(crate) use signed::{each_record, inspect_trail};
pub use spool::{Known, Lying, Spooling, Undelivered};
pub use tokens::Door;

use crate::access::Scope;
use crate::cause::Cause;
use crate::config::Config;
use crate::trouble::Trouble;
use doorbell_api::access::ActionName;
use nix::fcntl::Flock;
use refusals::Refusals;
use rusqlite::Connection;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::sync::{mpsc, oneshot};
use writer::{Job, Work, WriteJob};

/// The handle. The last one that is dropped ends the store's threads, when all they were given is done.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<Inner>,
    cause: Cause,
    scope: Scope,
}

impl Store {
    /// Opens the store of a state directory, which is made when it is not there.
    ///
    /// # Errors
    /// When another daemon has it, when others than its owner can enter it, or when it cannot be used.
    pub fn open(config: &Config) -> Result<Self, StoreError> {
        let state_dir = config.state_dir.clone();
        let lock = open::claim(&state_dir)?;
        open::check_whole(&state_dir)?;
        let (writing, reading) = open::connections(&state_dir)?;
        let (writes, write_jobs) = mpsc::channel(JOBS_WAITING);
        let (reads, read_jobs) = mpsc::channel(JOBS_WAITING);
        let late = stages::Late::default();
        let (trouble, refusals) = (Trouble::default(), Refusals::default());
        let writer =
            writer::Writer::new(writing, state_dir.clone(), late.clone(), trouble.clone(), refusals.clone())?;
        let clock = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(|error| StoreError::io("start the clock of the store", error))?;
        let threads = vec![
            spawn("store-write", move || writer.run(&clock, write_jobs))?,
            spawn("store-read", move || reader::run(&reading, read_jobs))?,
        ];
        let inner = Arc::new(Inner {
            writes: Some(writes),
            reads: Some(reads),
            threads,
            late,
            trouble,
            refusals,
            second_person: config.second_person.clone().into(),
            state_dir,
            _lock: lock,
        });
        Ok(Self { inner, cause: Cause::default(), scope: Scope::All })
    }

    /// The same store for somebody who says why: all that is decided through this handle has it in the audit trail.
    #[must_use]
    pub fn because(&self, cause: &Cause) -> Self {
        Self { cause: cause.clone(), ..self.clone() }
    }

    /// The same store for somebody for whom there is not all: what is outside of the scope is not there.
    #[must_use]
    pub fn within(&self, scope: Scope) -> Self {
        Self { scope, ..self.clone() }
    }

    /// Does `work` in a transaction, and answers when it is on the disk.
    async fn write<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Work<'_>) -> Result<T, StoreError> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let (cause, scope) = (self.cause.clone(), self.scope.clone());
        let caused = move |transaction: &mut Work<'_>| {
            (transaction.cause, transaction.scope) = (cause, scope);
            work(transaction)
        };
        let job: Box<dyn Job> = Box::new(WriteJob::new(caused, reply));
        let writes = self.inner.writes.as_ref().ok_or_else(ended)?;
        writes.send(job).await.map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?
    }

    /// Does `work` on one state of the data base: the last that was committed.
    async fn read<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let reads = self.inner.reads.as_ref().ok_or_else(ended)?;
        reads.send(reader::job(work, reply)).await.map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?
    }

    /// What the disk refuses now.
    #[must_use]
    pub fn trouble(&self) -> &Trouble {
        &self.inner.trouble
    }

    fn refusals(&self) -> &Refusals {
        &self.inner.refusals
    }

    fn state_dir(&self) -> &Path {
        &self.inner.state_dir
    }
}

#[derive(Debug)]
struct Inner {
    writes: Option<mpsc::Sender<Box<dyn Job>>>,
    reads: Option<mpsc::Sender<reader::ReadJob>>,
    threads: Vec<JoinHandle<()>>,
    late: stages::Late,
    trouble: Trouble,
    refusals: Refusals,
    second_person: Arc<[ActionName]>,
    state_dir: PathBuf,
    _lock: Flock<File>,
}

impl Drop for Inner {
    /// The lock on the state directory is given up after the last write.
    fn drop(&mut self) {
        self.writes = None;
        self.reads = None;
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the store ended by a panic");
            }
        }
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StoreError> {
    std::thread::Builder::new()
        .name(name.into())
        .spawn(work)
        .map_err(|error| StoreError::io("start a thread of the store", error))
}

fn ended() -> StoreError {
    StoreError::Internal { doing: "ask the store, whose thread has ended".into(), source: None }
}

/// Jobs between the tasks and a thread of the store: who comes later waits.
const JOBS_WAITING: usize = 4096;
