//! Signs where the audit trail ends, once a minute where it has gone on and at the end, and says so in the log: a log host
//! then has heads that nobody with the state directory in hand can take back.
//!
//! Run by the daemon beside the other tasks.

use crate::manager::Manager;
use crate::store::StoreError;
use doorbell_trail::head::word;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tracing::{info, warn};

/// Signs until the manager stops.
pub async fn serve(manager: Arc<Manager>, mut stopped: watch::Receiver<bool>) {
    let mut every = tokio::time::interval(EVERY);
    loop {
        tokio::select! {
            _ = every.tick() => {}
            _ = stopped.changed() => return,
        }
        match sign(&manager).await {
            Ok(()) => {}
            // The store has told of a disk that would not, and this is tried again.
            Err(error) if error.is_of_disk() => {}
            Err(error) => warn!(error = error.whole(), "the head of the audit trail could not be signed"),
        }
    }
}

/// Signs the head, where that is another one than was signed last.
///
/// # Errors
/// When the data base cannot be written.
pub async fn sign(manager: &Manager) -> Result<(), StoreError> {
    if let Some(head) = manager.store.sign_head(&manager.signer).await? {
        info!("audit head {}", word(&head));
    }
    Ok(())
}

/// Bounds what the log holds of heads, and how much of a trail can be cut off without one that shows it.
const EVERY: Duration = Duration::from_secs(60);
