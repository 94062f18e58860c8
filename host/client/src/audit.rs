//! The audit trail: its records, and the manager's check of the whole.

use crate::client::Client;
use crate::error::ClientError;
use doorbell_api::audit::{AuditCheck, AuditRecord, SignedHead};
use reqwest::Method;
use std::time::Duration;

impl Client {
    /// Up to `limit` records after number `after`, oldest first.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn audit(&self, after: u64, limit: u32) -> Result<Vec<AuditRecord>, ClientError> {
        let query = [("after", after.to_string()), ("limit", limit.to_string())];
        self.json(self.call(Method::GET, &["audit"])?.query(&query)).await
    }

    /// Where the trail ends now, signed with the manager's key.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn audit_head(&self) -> Result<SignedHead, ClientError> {
        self.get(&["audit", "head"]).await
    }

    /// Has the manager check its whole trail.
    ///
    /// # Errors
    /// Any [`ClientError`]; a broken trail is an answer, not an error.
    pub async fn audit_check(&self) -> Result<AuditCheck, ClientError> {
        self.json(self.call(Method::GET, &["audit", "check"])?.timeout(CHECK_IN)).await
    }
}

/// A check reads every record there is.
const CHECK_IN: Duration = Duration::from_secs(600);
