//! Where the trail ends, as the manager's key signed it, in the data base; and a trail that no manager has open.
//!
//! Called by the notary, the API and the check of a state directory. The signature beside the trail shows a tail that was
//! cut off by whoever has the data base and not the key.

use super::audit::{SELECT, check, read_record, stored_head};
use super::open::{check_form_of, reading};
use super::{Store, StoreError};
use crate::signer::Signer;
use doorbell_api::audit::{AuditCheck, AuditRecord, SignedHead};
use doorbell_trail::chain::Head;
use doorbell_trail::head;
use rusqlite::{Connection, OptionalExtension as _, params};
use std::path::Path;

impl Store {
    /// Where the trail ends now.
    ///
    /// # Errors
    /// When the data base cannot be read.
    pub async fn audit_head(&self) -> Result<Head, StoreError> {
        self.read(stored_head).await
    }

    /// Signs where the trail ends, and keeps that. `None` when it has not gone on since.
    ///
    /// # Errors
    /// When the data base cannot be written.
    pub async fn sign_head(&self, signer: &Signer) -> Result<Option<SignedHead>, StoreError> {
        let signer = signer.clone();
        let head = self.audit_head().await?;
        if self.read(signed).await?.is_some_and(|signed| signed.number >= head.number) {
            return Ok(None);
        }
        self.write(move |work| {
            let signed = signer.sign(work.head);
            let sql = "INSERT OR REPLACE INTO audit_signed (only, number, hash, at_ms, key, signature)
                 VALUES (1, ?1, unhex(?2), ?3, unhex(?4), unhex(?5))";
            let SignedHead { number, hash, at_ms, key, signature } = &signed;
            work.conn.prepare_cached(sql)?.execute(params![number, hash, at_ms, key, signature])?;
            Ok(Some(signed))
        })
        .await
    }
}

/// The newest head that was signed.
fn signed(conn: &Connection) -> Result<Option<SignedHead>, StoreError> {
    let sql =
        "SELECT number, lower(hex(hash)), at_ms, lower(hex(key)), lower(hex(signature)) FROM audit_signed";
    let read = conn.query_row(sql, [], |row| {
        Ok(SignedHead {
            number: row.get(0)?,
            hash: row.get(1)?,
            at_ms: row.get(2)?,
            key: row.get(3)?,
            signature: row.get(4)?,
        })
    });
    Ok(read.optional()?)
}

/// What is wrong with a trail of so many records, whose chain is whole, beside the head that was signed.
pub(super) fn signed_fault(conn: &Connection, records: u64) -> Result<Option<String>, StoreError> {
    let Some(signed) = signed(conn)? else { return Ok(None) };
    let number = signed.number;
    if let Err(line) = head::open(&signed) {
        return Ok(Some(line));
    }
    if number > records {
        let line = format!(
            "the trail ends at record {records}, its own head was signed at record {number}: its tail was cut off"
        );
        return Ok(Some(line));
    }
    let sql = "SELECT lower(hex(hash)) FROM audit WHERE number = ?1";
    let hash: Option<String> = conn.query_row(sql, [number], |row| row.get(0)).optional()?;
    let other = number > 0 && hash.as_deref() != Some(signed.hash.as_str());
    Ok(other
        .then(|| format!("record {number} is not the one whose hash was signed: the trail was written anew")))
}

/// Checks the trail of a state directory that no manager has open, or one has.
pub(crate) fn inspect_trail(state_dir: &Path) -> Result<AuditCheck, StoreError> {
    let conn = reading(state_dir)?;
    check_form_of(&conn)?;
    check(&conn)
}

/// Shows every record of a state directory, oldest first.
pub(crate) fn each_record(state_dir: &Path, mut look: impl FnMut(&AuditRecord)) -> Result<(), StoreError> {
    let conn = reading(state_dir)?;
    let mut rows = conn.prepare(&format!("{SELECT} ORDER BY number"))?;
    for record in rows.query_and_then([], read_record)? {
        look(&record?);
    }
    Ok(())
}
