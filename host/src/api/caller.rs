//! Who calls, as the gate has recognised it.
//!
//! Every handler that has to know takes a [`Caller`], and reaches the store through it: what the caller's tenant does not
//! own is not there. Only the gate makes one.

use super::error::ApiError;
use crate::access::{Principal, Scope};
use crate::actor::Actor;
use crate::cause::Cause;
use crate::manager::Manager;
use crate::store::RequestRow;
use crate::store::Store;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use doorbell_api::access::{ActionName, Role};
use doorbell_api::error::ErrorCode;
use doorbell_api::request::Request;
use std::sync::Arc;

/// A principal, in a call that the gate has let through.
#[derive(Clone, Debug)]
pub(super) struct Caller(Arc<Principal>);

impl Caller {
    pub(super) fn new(principal: Principal) -> Self {
        Self(Arc::new(principal))
    }

    /// What is known of it.
    pub(super) fn principal(&self) -> &Principal {
        &self.0
    }

    /// Who it is in receipts and audit trail.
    pub(super) fn actor(&self) -> Actor {
        self.0.actor.clone()
    }

    /// Whose things there are for it.
    pub(super) fn scope(&self) -> Scope {
        self.0.scope()
    }

    /// The store as far as it is there for this caller.
    pub(super) fn store(&self, manager: &Manager) -> Store {
        manager.store.within(self.scope())
    }

    /// The same, where it says why.
    pub(super) fn store_because(&self, manager: &Manager, cause: &Cause) -> Store {
        manager.store.because(cause).within(self.scope())
    }

    /// A request as this caller is shown it. The seal in the trail says whether a guess at the records around it is right.
    pub(super) fn shown(&self, manager: &Manager, row: &RequestRow) -> Request {
        let mut shown = manager.shown(row);
        if self.scope() != Scope::All
            && let Some(receipt) = &mut shown.receipt
        {
            receipt.audit_hash.clear();
        }
        shown
    }

    /// Refuses what a limit to certain actions keeps it from.
    pub(super) fn check_action(&self, action: ActionName) -> Result<(), ApiError> {
        if self.0.may_do(action) {
            return Ok(());
        }
        Err(self.forbidden(&format!("is limited to other actions than {}", action.word())))
    }

    /// Refuses what is only for a role from this one on, where that hangs on what the call says.
    pub(super) fn check_role(&self, role: Role, what: impl FnOnce() -> String) -> Result<(), ApiError> {
        if self.0.role >= role { Ok(()) } else { Err(self.forbidden(&format!("may not {}", what()))) }
    }

    /// Refuses what is only for those who belong to no tenant, where that hangs on what the call says.
    pub(super) fn check_sees_all(&self, what: &str) -> Result<(), ApiError> {
        match &self.0.tenant {
            None => Ok(()),
            Some(tenant) => Err(self.forbidden(&format!("belongs to tenant {tenant} and may not {what}"))),
        }
    }

    pub(super) fn forbidden(&self, why: &str) -> ApiError {
        ApiError::new(ErrorCode::Forbidden, format!("{} {why}", self.0.actor))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let caller = parts.extensions.get::<Self>().cloned();
        std::future::ready(caller)
            .await
            .ok_or_else(|| ApiError::new(ErrorCode::Internal, "nobody has looked who calls".into()))
    }
}
