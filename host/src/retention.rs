//! Housekeeping: what has been over for long, or takes too much, goes; oldest first.
//!
//! Called by the daemon's timer and by the API for `doorbell gc`. The rows say that something is removed before
//! its files are, so a crash in between leaves a file that nothing names, which the next sweep finds. The id of a
//! request is kept for much longer than the request: what was accepted once is never run again.
//!
//! - [`plan`] what is over, by age and size
//! - `timer` once an hour, unless the host's clock has jumped

pub mod plan;
mod timer;

pub use timer::serve;

use crate::actor::Actor;
use crate::cause::Cause;
use crate::config::Config;
use crate::manager::Manager;
use crate::programs::Stored;
use crate::store::{Batch, Due, Kept, LOOK_MAX, StoreError};
use doorbell_api::retention::{Kind, Sweep, Thing, Why};
use doorbell_wire::ids::RequestId;
use plan::{Bounds, over};

impl Config {
    /// How long and how much is kept of what the store knows.
    #[must_use]
    pub const fn kept(&self) -> Kept {
        let outputs = Bounds { age_ms: self.keep_outputs_for.ms(), bytes: self.keep_outputs_bytes.bytes() };
        Kept { requests_ms: self.keep_requests_for.ms(), outputs, ids_ms: self.keep_ids_for.ms() }
    }

    /// How long and how much is kept of programs.
    const fn programs_kept(&self) -> Bounds {
        Bounds { age_ms: self.keep_programs_for.ms(), bytes: self.keep_programs_bytes.bytes() }
    }
}

impl Manager {
    /// Removes what is over at `now`, by the host's clock, or only says what that is.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] while another sweep or a backup is under way; when the store or the disk cannot be
    /// used.
    pub async fn sweep(
        &self,
        by: &Actor,
        cause: &Cause,
        dry_run: bool,
        now: u64,
    ) -> Result<Sweep, StoreError> {
        let _alone = self.housekeeping.try_lock().map_err(|_| {
            StoreError::conflict("a backup or another sweep is under way: ask again when it is over")
        })?;
        let mut sweep = Sweep { dry_run, ..Sweep::default() };
        loop {
            let due = self.store.due(self.config.kept(), now).await?;
            let programs = self.programs_over(now).await?;
            tell(&mut sweep, &due, &programs);
            if dry_run {
                sweep.more |= due.more;
                break;
            }
            let more = due.more;
            self.remove((by, cause), due, programs, now).await?;
            if !more {
                break;
            }
        }
        self.clear_leftovers(&mut sweep, now).await?;
        Ok(sweep)
    }

    /// Programs that no open request names, the longest unused first.
    async fn programs_over(&self, now: u64) -> Result<Vec<(Stored, Why)>, StoreError> {
        let stored = self.programs.all().await?;
        let needs = self.store.payload_needs(stored.iter().map(|stored| stored.digest).collect()).await?;
        let total = stored.iter().fold(0_u64, |sum, stored| sum.saturating_add(stored.len));
        let mut things: Vec<_> = stored
            .into_iter()
            .zip(needs)
            .map(|(key, needed)| plan::Thing {
                key,
                bytes: key.len,
                since_ms: needed.unwrap_or(0).max(key.used_ms),
                in_use: needed == Some(u64::MAX),
            })
            .collect();
        things.sort_by_key(|thing| thing.since_ms);
        let found = over(things, total, self.config.programs_kept(), now, LOOK_MAX);
        Ok(found.into_iter().map(|(thing, why)| (thing.key, why)).collect())
    }

    async fn remove(
        &self,
        (by, cause): (&Actor, &Cause),
        due: Due,
        programs: Vec<(Stored, Why)>,
        now: u64,
    ) -> Result<(), StoreError> {
        for batch in batches(due, &programs, self.config.kept(), now) {
            let retired = self.store.because(cause).retire(by, batch).await?;
            self.outputs.clear(retired.outputs, false).await?;
        }
        // First: who uploads it in between has it, and it stays.
        let old = self.config.programs_kept().age_ms.and_then(|age| now.checked_sub(age));
        self.store.let_go(programs.iter().map(|(stored, _)| stored.digest).collect(), old).await?;
        for (stored, _) in programs {
            self.programs.discard(stored).await?;
        }
        Ok(())
    }

    /// What crashes and readers have left, and uploads that nobody goes on with.
    async fn clear_leftovers(&self, sweep: &mut Sweep, now: u64) -> Result<(), StoreError> {
        sweep.uploads = self.uploads.sweep(sweep.dry_run).await?;
        let unnamed = self.store.without_output(self.outputs.all().await?).await?;
        let outputs = self.outputs.clear(unnamed, sweep.dry_run).await?;
        let old = self.config.programs_kept().age_ms.and_then(|age| now.checked_sub(age)).unwrap_or(0);
        let aside = self.programs.clear_aside(old, sweep.dry_run).await?;
        sweep.leftovers.count = outputs.count.saturating_add(aside.count);
        sweep.leftovers.bytes = outputs.bytes.saturating_add(aside.bytes);
        if !sweep.dry_run {
            self.remove_old_inputs().await?;
        }
        Ok(())
    }
}

/// As many transactions as keep nobody waiting for long. Programs and ids go along with the first.
fn batches(due: Due, programs: &[(Stored, Why)], kept: Kept, now: u64) -> Vec<Batch> {
    let requests: Vec<RequestId> = due.requests.into_iter().map(|(id, _)| id).collect();
    let outputs: Vec<RequestId> = due.outputs.into_iter().map(|(id, ..)| id).collect();
    let (mut requests, mut outputs) = (requests.chunks(BATCH_MAX), outputs.chunks(BATCH_MAX));
    let mut first = Batch { now, ..Batch::default() };
    programs.iter().for_each(|(stored, _)| first.programs.add(stored.len));
    if due.ids > 0 {
        first.ids_before = kept.ids_ms.and_then(|ms| now.checked_sub(ms));
    }
    let mut batches = Vec::new();
    let mut next = Some(first);
    loop {
        let (some, others) = (requests.next(), outputs.next());
        let batch = match (next.take(), some.is_some() || others.is_some()) {
            (Some(first), _) => first,
            (None, true) => Batch { now, ..Batch::default() },
            (None, false) => return batches,
        };
        let ids = |chunk: Option<&[RequestId]>| chunk.unwrap_or_default().to_vec();
        batches.push(Batch { requests: ids(some), outputs: ids(others), ..batch });
    }
}

fn tell(sweep: &mut Sweep, due: &Due, programs: &[(Stored, Why)]) {
    sweep.ids = sweep.ids.saturating_add(due.ids);
    for (id, bytes) in &due.requests {
        sweep.requests.add(*bytes);
        list(sweep, Kind::Request, id.to_string(), *bytes, Why::Age);
    }
    for (id, bytes, why) in &due.outputs {
        sweep.outputs.add(*bytes);
        list(sweep, Kind::Output, id.to_string(), *bytes, *why);
    }
    for (stored, why) in programs {
        sweep.programs.add(stored.len);
        list(sweep, Kind::Program, stored.digest.to_string(), stored.len, *why);
    }
}

fn list(sweep: &mut Sweep, kind: Kind, name: String, bytes: u64, why: Why) {
    if sweep.things.len() < LISTED_MAX {
        sweep.things.push(Thing { kind, name, bytes, why });
    } else {
        sweep.more = true;
    }
}

/// Requests in one transaction: each takes about twenty rows with it, and others wait for the writer.
const BATCH_MAX: usize = 250;
const LISTED_MAX: usize = 1000;

#[cfg(test)]
pub(crate) mod tests;
