//! The audit trail of a state directory, checked without a manager: one that is stopped, or a copy.
//!
//! Called by `doorbelld --verify-audit`. Only reads; trusts nothing of the directory but its key, which says whose trail it is.

use crate::signer::Signer;
use crate::store::{StoreError, each_record, inspect_trail};
use doorbell_api::audit::AuditCheck;
use doorbell_trail::chain::hash_of;
use doorbell_trail::compare::Comparison;
use doorbell_trail::export::read;
use std::io::BufRead;
use std::path::Path;

/// Checks the trail of a state directory, by itself and beside what was kept of it.
///
/// # Errors
/// When the directory or what was kept cannot be read. A broken trail is no error.
pub fn trail(state_dir: &Path, kept: Option<impl BufRead>) -> Result<AuditCheck, StoreError> {
    let check = inspect_trail(state_dir)?;
    let Some(kept) = kept.filter(|_| check.intact) else { return Ok(check) };
    let broken = |line: String| AuditCheck { intact: false, broken: Some(line), ..check.clone() };
    let kept = match read(kept) {
        Ok(kept) => kept,
        Err(line) => return Ok(broken(format!("what was kept shows nothing: {line}"))),
    };
    let signer = Signer::read(state_dir)?.ok_or_else(|| {
        StoreError::invalid(format!(
            "state directory {} has no key, so nothing shows whose trail it is: check against an export of it",
            state_dir.display()
        ))
    })?;
    let mut comparison = match Comparison::with(&kept, &signer.public()) {
        Ok(comparison) => comparison,
        Err(line) => return Ok(broken(line)),
    };
    each_record(state_dir, |record| comparison.look(record.number, hash_of(record)))?;
    Ok(comparison.finish().map_or_else(|| check.clone(), broken))
}

#[cfg(test)]
mod tests;
