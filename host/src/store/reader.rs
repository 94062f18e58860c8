//! The store's reading thread: looks that never wait for a commit.
//!
//! Fed by the handle. Each job sees one committed state of the data base; the connection cannot write.

use super::StoreError;
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

/// A look at the data base that answers by itself.
pub(super) type ReadJob = Box<dyn FnOnce(&Connection) + Send>;

/// Packs a look and where its answer goes.
pub(super) fn job<T, F>(work: F, reply: oneshot::Sender<Result<T, StoreError>>) -> ReadJob
where
    T: Send + 'static,
    F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
{
    Box::new(move |conn| {
        // An asker that has gone wants no answer.
        drop(reply.send(on_one_state(conn, work)));
    })
}

/// Does all jobs until the last handle is dropped.
pub(super) fn run(conn: &Connection, mut jobs: mpsc::Receiver<ReadJob>) {
    while let Some(job) = jobs.blocking_recv() {
        job(conn);
    }
}

/// Several statements see the same state only inside one transaction.
pub(super) fn on_one_state<T>(
    conn: &Connection,
    work: impl FnOnce(&Connection) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let transaction = conn.unchecked_transaction()?;
    let result = work(&transaction);
    transaction.finish()?;
    result
}
