//! The life of the manager: how it starts and in which order it stops.
//!
//! Called by `main`. What its tasks share is [`Manager`]; this is where they are started.

use crate::config::Config;
use crate::doors::Doors;
use crate::events::Events;
use crate::manager::Manager;
use crate::output::Outputs;
use crate::programs::Programs;
use crate::registry::Registry;
use crate::store::Store;
use crate::{api, listen, time};
use anyhow::ensure;
use doorbell_wire::error::Reason;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{info, warn};

/// Runs the manager until `stop` says so; `ready` is called once everything listens.
///
/// # Errors
/// When the state cannot be opened or a socket cannot be listened on, in one line that says what to do.
pub async fn run(config: Config, stop: impl Future<Output = ()>, ready: impl FnOnce()) -> anyhow::Result<()> {
    let store = Store::open(&config)?;
    let programs = Programs::open(&config.state_dir)?;
    let outputs = Outputs::open(&config.state_dir)?;
    let api_socket = api::socket::bind(&config)?;
    let vsock = listen::vsock::bind(&config)?;
    let manager = Arc::new(Manager {
        store,
        programs,
        outputs,
        registry: Registry::default(),
        events: Events::default(),
        doors: Doors::default(),
        vsock: vsock.describe(),
        started_at_ms: time::unix_ms(),
        config,
    });
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
    tasks.spawn(listen::vsock::serve(Arc::clone(&manager), vsock, stopped.clone()));
    tasks.spawn(listen::hybrid::serve(Arc::clone(&manager), stopped.clone()));
    tasks.spawn(api::serve(Arc::clone(&manager), api_socket, stopped));
    manager.doors.refresh();
    ready();

    let asked_to = tokio::select! {
        () = stop => true,
        _ = tasks.join_next() => false,
    };
    info!(asked_to, "doorbelld stops");
    let _ = stopping.send(true);
    manager.registry.close_all(Reason::GOODBYE);
    drain(&manager, tasks).await;
    // None of them ends before it is told to, so what it was for is not done any longer.
    ensure!(asked_to, "a task of the manager ended by itself; the log says which and why");
    Ok(())
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

/// Ends requests that were not begun before their expiry.
async fn expire(manager: Arc<Manager>, mut stopped: watch::Receiver<bool>) {
    let mut every = tokio::time::interval(EXPIRY_EVERY);
    loop {
        tokio::select! {
            _ = every.tick() => {}
            _ = stopped.changed() => return,
        }
        match manager.store.expire_due().await {
            Ok(expired) => expired.iter().for_each(|row| manager.events.request(row)),
            Err(error) => warn!(error = error.whole(), "expired requests could not be ended"),
        }
    }
}

const EXPIRY_EVERY: Duration = Duration::from_secs(1);
const DRAIN_MAX: Duration = Duration::from_secs(5);
