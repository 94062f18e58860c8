//! The store's writing thread: group commit.
//!
//! Fed by the handle. All that waits becomes one transaction, with a savepoint for each job, so that one
//! job's error undoes that job only; nobody is answered before the commit has reached the disk. Holds where
//! the audit trail ends, because every job's decisions continue it.
//!
//! A transaction whose sync failed lies in the log as if it were whole, and a second sync would report success
//! for it. The connection still knows where the last good one ends: what failed is overwritten behind that,
//! before anything else is done, and as long as that does not go through every job is refused. To open the data
//! base anew would read the failed one back, out of the kernel's memory.

use super::StoreError;
use super::refusals::Refusals;
use super::stages::{Late, put};
use crate::access::Scope;
use crate::cause::Cause;
use crate::time::unix_ms;
use crate::trace::Stamp;
use crate::trouble::{STORE, Trouble};
use doorbell_api::trace::Station;
use doorbell_trail::chain::Head;
use doorbell_wire::ids::RequestId;
use rusqlite::{Connection, params};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot};

/// What a job may do: write to the data base, and tell the audit trail of it.
#[derive(Debug)]
pub(super) struct Work<'a> {
    /// The connection, inside a transaction and a savepoint of this job.
    pub(super) conn: &'a Connection,
    /// When the job began.
    pub(super) now: u64,
    /// Where programs and outputs are.
    pub(super) state_dir: &'a Path,
    /// Where the audit trail ends with what this job has said so far.
    pub(super) head: Head,
    /// Stations that are reached with the end of the transaction.
    pub(super) late: Vec<(RequestId, Station)>,
    /// Why, where somebody asked for it.
    pub(super) cause: Cause,
    /// What was refused of late.
    pub(super) refusals: Refusals,
    /// Whose things there are for whoever asked.
    pub(super) scope: Scope,
}

impl<'a> Work<'a> {
    /// For one job, that begins now.
    pub(super) fn new(conn: &'a Connection, state_dir: &'a Path, head: Head, refusals: Refusals) -> Self {
        let (now, late) = (unix_ms(), Vec::new());
        Self { conn, now, state_dir, head, late, cause: Cause::default(), refusals, scope: Scope::All }
    }

    /// Stamps a station with the time at which this transaction has reached the disk.
    pub(super) fn when_durable(&mut self, request: RequestId, station: Station) {
        self.late.push((request, station));
    }
}

/// One decision, its effects, and whoever waits for it.
pub(super) trait Job: Send {
    /// Does it, and says whether its effects are to stay.
    fn run(&mut self, work: &mut Work<'_>) -> bool;
    /// What it found, where the disk would not.
    fn found(&self) -> Option<Fate>;
    /// Answers whoever waits. A job that was done is answered with what became of its transaction.
    fn answer(self: Box<Self>, fate: &Fate);
}

/// What became of a transaction.
#[derive(Debug)]
pub(super) enum Fate {
    /// It is on the disk.
    Committed,
    /// It is undone, because the disk is full.
    NoSpace(String),
    /// It is undone, because the disk fails.
    Disk(String),
    /// It is undone.
    Failed(String),
}

/// A closure as a job.
pub(super) struct WriteJob<T, F> {
    work: Option<F>,
    done: Option<Result<T, StoreError>>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> WriteJob<T, F> {
    /// A job that answers to `reply`.
    pub(super) const fn new(work: F, reply: oneshot::Sender<Result<T, StoreError>>) -> Self {
        Self { work: Some(work), done: None, reply }
    }
}

impl<T, F> Job for WriteJob<T, F>
where
    T: Send,
    F: FnOnce(&mut Work<'_>) -> Result<T, StoreError> + Send,
{
    fn run(&mut self, work: &mut Work<'_>) -> bool {
        self.done = self.work.take().map(|job| job(work));
        matches!(self.done, Some(Ok(_)))
    }

    fn found(&self) -> Option<Fate> {
        match &self.done {
            Some(Err(StoreError::NoSpace { doing })) => Some(Fate::NoSpace(doing.clone())),
            Some(Err(StoreError::Disk { why, .. })) => Some(Fate::Disk(why.clone())),
            Some(_) | None => None,
        }
    }

    fn answer(self: Box<Self>, fate: &Fate) {
        let answer = match self.done {
            Some(Err(error)) => Err(error),
            Some(Ok(value)) => fate.result().map(|()| value),
            None => fate.result().and_then(|()| Err(super::ended())),
        };
        // An asker that has gone wants no answer; the effect stays.
        drop(self.reply.send(answer));
    }
}

impl Fate {
    fn of(error: rusqlite::Error) -> Self {
        let source = error.to_string();
        let error = StoreError::from(error);
        if let StoreError::NoSpace { doing } = error {
            return Self::NoSpace(doing);
        }
        if let StoreError::Disk { why, .. } = error {
            return Self::Disk(why);
        }
        tracing::error!(error = source, "a transaction of the store is undone");
        Self::Failed(source)
    }

    fn result(&self) -> Result<(), StoreError> {
        let doing = || "write the data base".to_owned();
        match self {
            Self::Committed => Ok(()),
            Self::NoSpace(doing) => Err(StoreError::NoSpace { doing: doing.clone() }),
            Self::Disk(why) => Err(StoreError::Disk { doing: doing(), why: why.clone() }),
            Self::Failed(source) => {
                Err(StoreError::internal("complete a transaction of the data base", source.clone()))
            }
        }
    }
}

/// The thread's own state.
#[derive(Debug)]
pub(super) struct Writer {
    conn: Connection,
    state_dir: PathBuf,
    head: Head,
    late: Late,
    trouble: Trouble,
    refusals: Refusals,
    /// The last transaction failed, and what is left of it is not overwritten yet.
    failed: bool,
}

/// What the jobs of a transaction leave for its end.
#[derive(Debug)]
struct Gathered {
    head: Head,
    late: Vec<(RequestId, Station)>,
}

impl Writer {
    /// A writer that continues the audit trail it finds.
    pub(super) fn new(
        conn: Connection,
        state_dir: PathBuf,
        late: Late,
        trouble: Trouble,
        refusals: Refusals,
    ) -> Result<Self, StoreError> {
        let head = super::audit::stored_head(&conn)?;
        conn.set_prepared_statement_cache_capacity(STATEMENTS_CACHED);
        Ok(Self { conn, state_dir, head, late, trouble, refusals, failed: false })
    }

    /// Does all jobs until the last handle is dropped.
    pub(super) fn run(mut self, clock: &Runtime, mut jobs: mpsc::Receiver<Box<dyn Job>>) {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        let mut last = Last::default();
        while clock.block_on(gather(&mut jobs, &mut batch, last)) {
            let (count, begun) = (batch.len(), Instant::now());
            let mut waiting = batch.drain(..);
            while waiting.len() > 0 {
                self.transact(&mut waiting);
            }
            last = Last { jobs: count, took: begun.elapsed() };
        }
        // What no later transaction took along.
        if !self.late.waiting().is_empty() {
            self.transact(&mut std::iter::empty());
        }
    }

    /// One transaction of as many jobs as it holds: all, unless SQLite gives it up in the middle. The late
    /// stamps of the one before go along.
    fn transact(&mut self, waiting: &mut dyn Iterator<Item = Box<dyn Job>>) {
        let taken = self.late.waiting();
        let begun = self.overwrite().and_then(|()| self.begin(&taken));
        let (mut done, mut gathered) = (Vec::new(), Gathered { head: self.head, late: Vec::new() });
        let fate = match begun {
            Err(error) => {
                done.extend(waiting);
                Fate::of(error)
            }
            Ok(()) => self.fill(waiting, &mut done, &mut gathered),
        };
        if matches!(fate, Fate::Committed) {
            self.head = gathered.head;
            self.late.turn_over(taken.len(), &gathered.late);
        }
        self.learn(&fate);
        for job in done {
            job.answer(&fate);
        }
    }

    /// Puts a transaction that changes nothing in the place of one that failed, on the disk.
    fn overwrite(&mut self) -> rusqlite::Result<()> {
        if !self.failed {
            return Ok(());
        }
        if !self.conn.is_autocommit() {
            self.statement("ROLLBACK")?;
        }
        super::open::touch(&self.conn)?;
        self.failed = false;
        self.head = super::audit::stored_head(&self.conn).map_err(|_| rusqlite::Error::InvalidQuery)?;
        Ok(())
    }

    /// What failed is overwritten at once, so that nobody finds it who starts the manager anew.
    fn learn(&mut self, fate: &Fate) {
        match fate.result() {
            Ok(()) => self.trouble.over(STORE),
            Err(error) => {
                self.failed = true;
                self.refusals.forget();
                if error.is_of_disk() {
                    self.trouble.met(STORE, &error.to_string());
                }
                if let Err(error) = self.overwrite() {
                    tracing::debug!(%error, "a failed transaction is not overwritten yet");
                }
            }
        }
    }

    /// A trace that the disk does not take costs nobody a request.
    fn begin(&self, taken: &[(RequestId, Stamp)]) -> rusqlite::Result<()> {
        self.statement("BEGIN IMMEDIATE")?;
        let Err(error) = taken.iter().try_for_each(|(request, stamp)| put(&self.conn, *request, stamp))
        else {
            return Ok(());
        };
        tracing::warn!(%error, "stations of requests are not kept");
        if !self.conn.is_autocommit() {
            self.statement("ROLLBACK")?;
        }
        self.statement("BEGIN IMMEDIATE")
    }

    fn fill(
        &self,
        waiting: &mut dyn Iterator<Item = Box<dyn Job>>,
        done: &mut Vec<Box<dyn Job>>,
        gathered: &mut Gathered,
    ) -> Fate {
        for mut job in waiting {
            let result = self.one(&mut *job, gathered);
            let found = job.found();
            done.push(job);
            if let Err(error) = result {
                return self.undo(error);
            }
            // A full disk or a failed read makes SQLite undo the whole transaction, this job's neighbours with it.
            if self.conn.is_autocommit() {
                return found.unwrap_or_else(|| Fate::Failed("SQLite gave the transaction up".into()));
            }
        }
        match self.save_head(gathered.head).and_then(|()| self.statement("COMMIT")) {
            Ok(()) => Fate::Committed,
            Err(error) => self.undo(error),
        }
    }

    /// One job in its savepoint.
    fn one(&self, job: &mut dyn Job, gathered: &mut Gathered) -> rusqlite::Result<()> {
        self.statement("SAVEPOINT job")?;
        let mut work = Work::new(&self.conn, &self.state_dir, gathered.head, self.refusals.clone());
        if job.run(&mut work) {
            gathered.head = work.head;
            gathered.late.append(&mut work.late);
        } else if !self.conn.is_autocommit() {
            self.statement("ROLLBACK TO job")?;
        }
        if self.conn.is_autocommit() { Ok(()) } else { self.statement("RELEASE job") }
    }

    fn undo(&self, error: rusqlite::Error) -> Fate {
        if !self.conn.is_autocommit()
            && let Err(error) = self.statement("ROLLBACK")
        {
            tracing::error!(%error, "a failed transaction of the store could not be undone");
        }
        Fate::of(error)
    }

    fn save_head(&self, head: Head) -> rusqlite::Result<()> {
        if head == self.head {
            return Ok(());
        }
        self.conn.prepare_cached(UPDATE_HEAD)?.execute(params![head.number, head.hash]).map(drop)
    }

    fn statement(&self, sql: &'static str) -> rusqlite::Result<()> {
        self.conn.prepare_cached(sql)?.execute([]).map(drop)
    }
}

/// The transaction before.
#[derive(Clone, Copy, Debug, Default)]
struct Last {
    jobs: usize,
    took: Duration,
}

/// Waits for a job and takes all that wait with it; false when none will come again.
///
/// Callers that were just answered come back one by one. To commit the first alone would make all others
/// wait for two commits, so as many as last time are waited for, for a fraction of what a commit takes.
async fn gather(jobs: &mut mpsc::Receiver<Box<dyn Job>>, batch: &mut Vec<Box<dyn Job>>, last: Last) -> bool {
    if jobs.recv_many(batch, BATCH_MAX).await == 0 {
        return false;
    }
    let patience = last.took / PATIENCE_SHARE;
    if patience < PATIENCE_MIN {
        return true;
    }
    let until = tokio::time::Instant::now() + patience;
    while batch.len() < last.jobs {
        let room = BATCH_MAX.saturating_sub(batch.len());
        match tokio::time::timeout_at(until, jobs.recv_many(batch, room)).await {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
    }
    true
}

/// The part of a commit's time that may be spent on waiting for company.
const PATIENCE_SHARE: u32 = 4;
/// What the clock of the runtime can tell apart: a disk that is faster than that needs no company.
const PATIENCE_MIN: Duration = Duration::from_millis(1);
/// Jobs in one transaction: bounds how long the first waits for the last.
const BATCH_MAX: usize = 512;
const STATEMENTS_CACHED: usize = 64;
pub(super) const UPDATE_HEAD: &str = "UPDATE audit_head SET number = ?1, hash = ?2 WHERE only = 1";
