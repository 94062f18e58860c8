//! Which tenant has which program, so that nobody learns by an upload or a request what another one has.
//!
//! Written when a tenant's upload or fetch is stored, asked before a tenant's request may name a program. Those who see
//! all are not looked up: for them the store of programs itself says what there is.

use super::writer::Work;
use super::{Store, StoreError};
use crate::access::TenantName;
use doorbell_wire::ids::Digest;
use rusqlite::{OptionalExtension as _, params};

impl Store {
    /// Notes that a tenant has a program; whether it did not before.
    ///
    /// # Errors
    /// When the data base cannot be written.
    pub async fn hold(&self, tenant: &TenantName, digest: Digest) -> Result<bool, StoreError> {
        let tenant = tenant.clone();
        self.write(move |work| hold(work, &tenant, digest)).await
    }

    /// Whether a tenant has a program; it counts as used.
    ///
    /// # Errors
    /// When the data base cannot be read or written.
    pub async fn holds(&self, tenant: &TenantName, digest: Digest) -> Result<bool, StoreError> {
        let tenant = tenant.clone();
        self.write(move |work| {
            let sql = "UPDATE holdings SET used_at_ms = max(used_at_ms, ?3) WHERE tenant = ?1 AND digest = ?2
                 RETURNING 1";
            let mut look = work.conn.prepare_cached(sql)?;
            let found: Option<bool> = look
                .query_row(params![tenant.as_str(), digest.as_bytes(), work.now], |row| row.get(0))
                .optional()?;
            Ok(found.is_some())
        })
        .await
    }

    /// Forgets who had these programs, which are about to be removed, and what nobody has used since `before`.
    ///
    /// # Errors
    /// When the data base cannot be written.
    pub async fn let_go(&self, digests: Vec<Digest>, before: Option<u64>) -> Result<(), StoreError> {
        self.write(move |work| {
            for digest in &digests {
                work.conn
                    .prepare_cached("DELETE FROM holdings WHERE digest = ?1")?
                    .execute([digest.as_bytes()])?;
            }
            let old = "DELETE FROM holdings WHERE used_at_ms < ?1";
            work.conn.prepare_cached(old)?.execute([before.unwrap_or(0)])?;
            Ok(())
        })
        .await
    }
}

/// Notes it in a transaction.
pub(super) fn hold(work: &Work<'_>, tenant: &TenantName, digest: Digest) -> Result<bool, StoreError> {
    let known = "SELECT 1 FROM holdings WHERE tenant = ?1 AND digest = ?2";
    let is_new = !work.conn.prepare_cached(known)?.exists(params![tenant.as_str(), digest.as_bytes()])?;
    let sql = "INSERT INTO holdings (tenant, digest, used_at_ms) VALUES (?1, ?2, ?3)
         ON CONFLICT (tenant, digest) DO UPDATE SET used_at_ms = max(used_at_ms, excluded.used_at_ms)";
    work.conn.prepare_cached(sql)?.execute(params![tenant.as_str(), digest.as_bytes(), work.now])?;
    Ok(is_new)
}
