//! The station before the ring for programs that live elsewhere: the manager fetches them, never a guest.
//!
//! One task, started by the daemon. What it has to do stands in the store: the queued requests that await their
//! program. It is woken when one is accepted and when one is over, and reads the store anew; so what a manager
//! before it began is begun again. A program is fetched once for all of a tenant who await it from the same place. A fetch
//! that nobody awaits any longer is ended.

mod address;
mod dial;
mod fault;
mod fetcher;
mod get;
mod local;
mod location;
mod rules;
#[cfg(test)]
mod tests;
mod trust;

pub use location::{Location, Unusable};
pub use rules::{NoPrefix, Prefix, Rules};

use crate::access::TenantName;
use crate::manager::Manager;
use crate::store::{RequestRow, StoreError};
use doorbell_wire::ids::Digest;
use doorbell_wire::limits::PROGRAM_LEN_MAX;
use fetcher::{Arrived, Fetcher, Try};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::{AbortHandle, JoinSet};
use tracing::{debug, info, warn};

/// A program and the place it is fetched from.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Errand {
    /// SHA-256 of its bytes.
    pub digest: Digest,
    /// Where it lives.
    pub url: String,
    /// For whom: one tenant's fetch tells another one nothing.
    pub tenant: Option<TenantName>,
}

/// The bell of the station, and what it tells of fetches under way.
#[derive(Debug, Default)]
pub struct Retriever {
    wake: Notify,
    told: Mutex<HashMap<Errand, String>>,
}

impl Retriever {
    /// Has the station look at the store.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// What a request waits for that awaits its program.
    #[must_use]
    pub fn waits_for(&self, errand: &Errand) -> String {
        let place = Location::parse(&errand.url).map(|location| location.to_string()).unwrap_or_default();
        let told = self.lock().get(errand).cloned().unwrap_or_default();
        format!("its program, which is fetched from {place}{told}")
    }

    fn tell(&self, errand: &Errand, attempt: &Try<'_>) {
        let Try { number, of, last } = attempt;
        if let Some(last) = last {
            warn!(sha256 = %errand.digest, attempt = number, of, last, "a program could not be fetched and is tried again");
            self.lock().insert(errand.clone(), format!(" (attempt {number} of {of}; the last one: {last})"));
        }
    }

    fn forget(&self, errand: &Errand) {
        self.lock().remove(errand);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Errand, String>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Fetches what is awaited until the manager stops.
pub async fn run(manager: Arc<Manager>, mut stopped: watch::Receiver<bool>) {
    let mut station = Station::new(&manager);
    loop {
        if let Err(error) = station.adjust(&manager).await {
            warn!(error = error.whole(), "the requests that await a program could not be looked at");
        }
        tokio::select! {
            () = manager.retriever.wake.notified() => {}
            Some(ended) = station.errands.join_next() => {
                let Ok((errand, result)) = ended else {
                    // It was ended because nobody awaits it, or by a fault of ours: the next look begins it anew.
                    station.under_way.retain(|_, task| !task.is_finished());
                    continue;
                };
                station.under_way.remove(&errand);
                if let Err(error) = settle(&manager, &errand, result).await {
                    warn!(error = error.whole(), "what came of a fetch could not be stored; it is done again");
                    tokio::time::sleep(AGAIN_IN).await;
                }
                manager.retriever.forget(&errand);
            }
            _ = stopped.changed() => return,
        }
    }
}

/// Fetches under way. Dropping it ends them all.
struct Station {
    fetcher: Fetcher,
    turns: Arc<Semaphore>,
    errands: JoinSet<(Errand, Result<Arrived, String>)>,
    under_way: HashMap<Errand, AbortHandle>,
}

impl Station {
    fn new(manager: &Manager) -> Self {
        Self {
            fetcher: Fetcher::new(manager.config.fetch.clone(), manager.programs.clone()),
            turns: Arc::new(Semaphore::new(AT_ONCE)),
            errands: JoinSet::new(),
            under_way: HashMap::new(),
        }
    }

    /// Begins what the store awaits and is not under way, and ends what it does not await.
    async fn adjust(&mut self, manager: &Arc<Manager>) -> Result<(), StoreError> {
        let awaited: HashSet<Errand> = manager.store.awaited().await?.into_iter().collect();
        self.under_way.retain(|errand, task| {
            let stays = awaited.contains(errand);
            if !stays {
                debug!(sha256 = %errand.digest, "nobody awaits this program any longer");
                task.abort();
                manager.retriever.forget(errand);
            }
            stays
        });
        for errand in awaited {
            if !self.under_way.contains_key(&errand) {
                let task = self.errands.spawn(go(
                    Arc::clone(manager),
                    self.fetcher.clone(),
                    Arc::clone(&self.turns),
                    errand.clone(),
                ));
                self.under_way.insert(errand, task);
            }
        }
        Ok(())
    }
}

async fn go(
    manager: Arc<Manager>,
    fetcher: Fetcher,
    turns: Arc<Semaphore>,
    errand: Errand,
) -> (Errand, Result<Arrived, String>) {
    let result = fetcher.run(&errand, &turns, |attempt| manager.retriever.tell(&errand, &attempt)).await;
    (errand, result)
}

/// Stores what came of a fetch with every request that awaits it, some at a time, and moves them on.
async fn settle(
    manager: &Manager,
    errand: &Errand,
    result: Result<Arrived, String>,
) -> Result<(), StoreError> {
    match result {
        Ok(Arrived { len, how }) if len <= LEN_MAX => {
            info!(sha256 = %errand.digest, how, "a program was fetched");
            loop {
                let moved = manager.store.arrived(errand, len, &how).await?;
                if moved.is_empty() {
                    return Ok(());
                }
                for row in &moved {
                    manager.registry.ring(row.guest_id);
                    manager.events.output(row.id);
                }
            }
        }
        Ok(Arrived { len, .. }) => {
            refuse(manager, errand, &format!("it has {len} bytes where a program has {LEN_MAX} at most"))
                .await
        }
        Err(why) => refuse(manager, errand, &why).await,
    }
}

async fn refuse(manager: &Manager, errand: &Errand, why: &str) -> Result<(), StoreError> {
    let place = Location::parse(&errand.url).map(|location| location.to_string()).unwrap_or_default();
    let detail = format!("the program could not be fetched from {place}: {why}");
    warn!(sha256 = %errand.digest, detail, "a program is not retrieved");
    loop {
        let moved: Vec<RequestRow> = manager.store.not_retrieved(errand, &detail).await?;
        if moved.is_empty() {
            return Ok(());
        }
        for row in &moved {
            manager.moved(row).await;
        }
    }
}

/// Bytes of the largest program.
const LEN_MAX: u64 = PROGRAM_LEN_MAX;
/// Fetches that have a connection at once; those that wait for another try have none.
const AT_ONCE: usize = 32;
const AGAIN_IN: Duration = Duration::from_secs(1);
