//! The life of the manager: how it starts and in which order it stops.
//!
//! Called by `main`. What its tasks share is [`Manager`]; this is where they are started.

use crate::config::Config;
use crate::manager::Manager;
use crate::store::StoreError;
use crate::{api, listen, notary, power, retention, retrieve, share, spool};
use anyhow::ensure;
use doorbell_wire::error::Reason;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{info, warn};

/// Runs the manager until `stop` says so; `ready` is called once everything listens.
///
/// # Errors
/// When the state cannot be opened or a socket cannot be listened on, in one line that says what to do.
pub async fn run(config: Config, stop: impl Future<Output = ()>, ready: impl FnOnce()) -> anyhow::Result<()> {
    // The state directory first: another daemon that has it is told before any socket is touched.
    let manager = Manager::open(config, String::new())?;
    let api_socket = api::socket::bind(&manager.config)?;
    let tls = api::tls::bind(manager.config.remote()?.as_ref()).await?;
    let vsock = listen::vsock::bind(&manager.config)?;
    let manager = Arc::new(Manager { vsock: vsock.describe(), ..manager });
    manager.take_up().await?;
    power::take_up(&manager).await?;
    info!(
        version = env!("CARGO_PKG_VERSION"),
        state_dir = %manager.config.state_dir.display(),
        socket = %manager.config.socket.display(),
        vsock = %manager.vsock,
        "doorbelld starts"
    );

    let (stopping, stopped) = watch::channel(false);
    let mut tasks = JoinSet::new();
    tasks.spawn(expire(Arc::clone(&manager), stopped.clone()));
    tasks.spawn(notary::serve(Arc::clone(&manager), stopped.clone()));
    tasks.spawn(retention::serve(Arc::clone(&manager), stopped.clone()));
    tasks.spawn(spool::serve(Arc::clone(&manager), stopped.clone()));
    tasks.spawn(retrieve::run(Arc::clone(&manager), stopped.clone()));
    tasks.spawn(listen::vsock::serve(Arc::clone(&manager), vsock, stopped.clone()));
    tasks.spawn(listen::hybrid::serve(Arc::clone(&manager), stopped.clone()));
    tasks.spawn(share::serve(Arc::clone(&manager), stopped.clone()));
    tasks.spawn(api::tls::serve(Arc::clone(&manager), tls, stopped.clone()));
    tasks.spawn(api::serve(Arc::clone(&manager), api_socket, stopped));
    manager.doors.refresh();
    ready();

    let asked_to = tokio::select! {
        () = stop => true,
        _ = tasks.join_next() => false,
    };
    info!(asked_to, "doorbelld stops");
    let _ = stopping.send(true);
    manager.powers.end();
    manager.registry.close_all(Reason::GOODBYE);
    drain(&manager, tasks).await;
    if let Err(error) = last_words(&manager).await {
        warn!(error = error.whole(), "the end of the audit trail could not be written and signed");
    }
    // None of them ends before it is told to, so what it was for is not done any longer.
    ensure!(asked_to, "a task of the manager ended by itself; the log says which and why");
    Ok(())
}

/// What was counted, and the signature over all that was decided.
async fn last_words(manager: &Manager) -> Result<(), StoreError> {
    manager.store.tell_refusals(true).await?;
    notary::sign(manager).await
}

/// Gives goodbyes and answers in flight a moment; what is on disk needs none.
async fn drain(manager: &Manager, mut tasks: JoinSet<()>) {
    let drained = async {
        while tasks.join_next().await.is_some() {}
        while manager.registry.count() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    if tokio::time::timeout(DRAIN_MAX, drained).await.is_err() {
        warn!(sessions = manager.registry.count(), "doorbelld stops although not everybody has left");
    }
}

/// Ends requests that were not begun before their expiry, and those that are not to outlive their client.
async fn expire(manager: Arc<Manager>, mut stopped: watch::Receiver<bool>) {
    let mut every = tokio::time::interval(EXPIRY_EVERY);
    loop {
        tokio::select! {
            _ = every.tick() => {}
            _ = stopped.changed() => return,
        }
        match manager.store.expire_due().await {
            Ok(expired) => {
                for row in &expired {
                    manager.moved(row).await;
                }
            }
            // The store has told of a disk that would not, and this is tried again.
            Err(error) if error.is_of_disk() => {}
            Err(error) => warn!(error = error.whole(), "expired requests could not be ended"),
        }
        if let Err(error) = manager.store.tell_refusals(false).await {
            warn!(error = error.whole(), "refusals that were counted are not in the audit trail");
        }
        if let Err(error) = manager.close_vanished().await {
            warn!(error = error.whole(), "requests of guests that are gone could not be closed");
        }
        manager.cancel_deserted(Instant::now()).await;
    }
}

const EXPIRY_EVERY: Duration = Duration::from_secs(1);
const DRAIN_MAX: Duration = Duration::from_secs(5);
