//! Guests that are met in a shared directory: one task for each, kept in step with the store.
//!
//! Started by the daemon. A session through a share is a session like any other; what differs is that the agent's
//! half is played here, from files that the guest wrote, and what it is told becomes files that the guest reads.
//!
//! - `attendant` greets, takes hellos, looks, and keeps one session
//! - `stand_in` plays the agent's half, `stations` are its steps
//! - `places` are the files, opened by `beneath` so that nothing leads elsewhere

mod attendant;
mod beneath;
mod places;
mod stand_in;
mod stations;
#[cfg(test)]
mod tests;

use crate::manager::Manager;
use attendant::{attend, wanted};
use doorbell_wire::ids::GuestName;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::warn;

/// Keeps a task for each guest with a share until the manager stops.
pub async fn serve(manager: Arc<Manager>, mut stopped: watch::Receiver<bool>) {
    let mut tasks: BTreeMap<(GuestName, PathBuf), JoinHandle<()>> = BTreeMap::new();
    let mut every = tokio::time::interval(LOOK_EVERY);
    loop {
        tokio::select! {
            _ = every.tick() => {}
            _ = stopped.changed() => break,
        }
        match manager.store.guests_with_share().await {
            Ok(rows) => {
                let shares: Vec<_> = rows.iter().filter_map(wanted).collect();
                tasks.retain(|share, task| {
                    let stays = shares.contains(share) && !task.is_finished();
                    if !stays {
                        task.abort();
                    }
                    stays
                });
                for share in shares {
                    let begin = || {
                        let (guest, dir) = share.clone();
                        tokio::spawn(attend(Arc::clone(&manager), guest, dir, stopped.clone()))
                    };
                    tasks.entry(share.clone()).or_insert_with(begin);
                }
            }
            Err(error) => warn!(error = error.whole(), "the guests with shares cannot be read"),
        }
    }
    for task in tasks.into_values() {
        // Each of them stops by itself; what it is in the middle of is on the disk or is not.
        let _ = tokio::time::timeout(LOOK_EVERY, task).await;
    }
}

const LOOK_EVERY: Duration = Duration::from_millis(500);
