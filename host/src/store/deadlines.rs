//! Requests that the passing of time closes: not begun before their expiry, or begun by a guest that has vanished.
//!
//! Called by the daemon's timer, and by a pull for what expires with it. Times are those of the host.

use super::receipts::{Closing, close};
use super::requests::{by_id, many};
use super::writer::Work;
use super::{RequestRow, Store, StoreError};
use crate::request::Happening;
use doorbell_wire::ids::RequestId;

impl Store {
    /// Closes the unapproved and queued requests whose expiry has passed.
    ///
    /// # Errors
    /// When the data base cannot be written.
    pub async fn expire_due(&self) -> Result<Vec<RequestRow>, StoreError> {
        self.write(|work| {
            let due = many(
                work.conn,
                "r.state IN ('unapproved', 'queued') AND r.step = 1 AND r.expires_at_ms IS NOT NULL
                 AND r.expires_at_ms <= ?1",
                [work.now],
            )?;
            due.into_iter().map(|row| expire(work, row)).collect()
        })
        .await
    }

    /// The started requests whose guests have been away for too long, as far as the store knows when they were
    /// there last.
    ///
    /// # Errors
    /// When the data base cannot be read.
    pub async fn vanished(&self) -> Result<Vec<RequestRow>, StoreError> {
        let now = crate::time::unix_ms();
        self.read(move |conn| {
            let condition = "r.state = 'started' AND ifnull(g.last_seen_ms, 0) + r.confirm_within_ms <= ?1";
            many(conn, condition, [now])
        })
        .await
    }

    /// Closes a started request as unconfirmed; one that is no longer started stays as it is.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn unconfirmed(&self, id: RequestId) -> Result<RequestRow, StoreError> {
        self.write(move |work| {
            let row = by_id(work.conn, id)?;
            let why = Closing { happening: Happening::Vanished, event: "request-unconfirmed", by: "manager" };
            let detail = format!(
                "it had started, and its guest was away for more than {} s; what it says later amends this",
                row.confirm_within_ms.checked_div(1000).unwrap_or_default()
            );
            close(work, row, &why, &detail)
        })
        .await
    }
}

/// Closes a request whose expiry has passed. One that had started before it was queued again did not fail
/// to begin: nobody knows how far it came.
pub(super) fn expire(work: &mut Work<'_>, row: RequestRow) -> Result<RequestRow, StoreError> {
    let why = Closing { happening: Happening::Expired, event: "request-expired", by: "manager" };
    close(work, row, &why, "it was not begun before its expiry")
}
