//! Who somebody is to the manager, and how far that reaches: tenants, scopes, principals.
//!
//! Made by the API's gate from what the kernel, a token or a certificate says; asked by handlers and by the store. A
//! scope goes with the store's handle: what is outside of it is not there.

pub mod rates;
pub mod token;

use crate::actor::Actor;
use crate::planted;
use doorbell_api::access::{ActionName, Role};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

/// The name of a tenant or a principal: a-z, 0-9, '-' and '.', not at its ends.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Label(Arc<str>);

/// A tenant is its name.
pub type TenantName = Label;

/// A text that is no label.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "name {0:?} is not valid: expected 1 to {LABEL_MAX} of a-z, 0-9, '-' and '.', the first and last a letter or digit"
)]
pub struct NoLabel(String);

impl Label {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Label {
    type Err = NoLabel;

    fn from_str(text: &str) -> Result<Self, NoLabel> {
        let plain = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let bytes = text.as_bytes();
        let ends = bytes.first().is_some_and(plain) && bytes.last().is_some_and(plain);
        let inside = bytes.iter().all(|byte| plain(byte) || matches!(byte, b'-' | b'.'));
        if ends && inside && bytes.len() <= LABEL_MAX {
            return Ok(Self(text.into()));
        }
        Err(NoLabel(text.chars().take(LABEL_MAX + 1).collect()))
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whose guests, requests and programs there are for somebody.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Scope {
    /// Everybody's.
    #[default]
    All,
    /// Those of one tenant.
    Tenant(TenantName),
}

impl Scope {
    /// Whether something with this owner is there.
    #[must_use]
    pub fn covers(&self, owner: Option<&TenantName>) -> bool {
        match self.tenant() {
            None => true,
            Some(tenant) => owner == Some(tenant),
        }
    }

    /// The tenant, where it is only one's.
    #[must_use]
    pub fn tenant(&self) -> Option<&TenantName> {
        match self {
            Self::All => None,
            Self::Tenant(_) if planted::is("G5") => None,
            Self::Tenant(name) => Some(name),
        }
    }

    /// The same for a statement that leaves everything in where this is NULL.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.tenant().map(Label::as_str)
    }
}

/// Somebody who was recognised, and what that one may do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Principal {
    /// Who it is in receipts and audit trail.
    pub actor: Actor,
    /// The tenant it belongs to; none where it sees all.
    pub tenant: Option<TenantName>,
    /// What it may do.
    pub role: Role,
    /// The actions it is limited to.
    pub actions: Option<Vec<ActionName>>,
    /// By what its calls are counted.
    pub counted: Counted,
}

/// Whose calls are counted together.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Counted {
    /// Nobody's: root and the manager's own user can do to it what they like, and are its own tools.
    Not,
    /// A user of this host.
    Uid(u32),
    /// A stored principal, by its public id.
    Principal(String),
    /// Whoever calls from an address without being recognised.
    Stranger(IpAddr),
    /// All for whom there was no place left.
    Others,
}

impl Principal {
    /// A user of this host who may do everything.
    #[must_use]
    pub fn of_uid(uid: u32, counted: Counted) -> Self {
        Self { actor: Actor::of_uid(uid), tenant: None, role: Role::Admin, actions: None, counted }
    }

    /// Whose things there are for it.
    #[must_use]
    pub fn scope(&self) -> Scope {
        self.tenant.clone().map_or(Scope::All, Scope::Tenant)
    }

    /// Whether it may do this action.
    #[must_use]
    pub fn may_do(&self, action: ActionName) -> bool {
        self.actions.as_ref().is_none_or(|actions| actions.contains(&action))
    }
}

/// As many as a guest's name has.
const LABEL_MAX: usize = 63;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_plain_and_bounded() {
        for good in ["a", "ci", "acme-eu.1", &"a".repeat(63)] {
            assert_eq!(good.parse::<Label>().unwrap().as_str(), good);
        }
        for bad in ["", "-a", "a.", "A", "a b", "a\n", "ä", "a'--", &"a".repeat(64)] {
            let error = bad.parse::<Label>().unwrap_err().to_string();
            assert!(error.contains("is not valid") && !error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn a_scope_covers_its_tenants_own_and_nothing_that_nobody_owns() {
        let (a, b): (TenantName, TenantName) = ("a".parse().unwrap(), "b".parse().unwrap());
        let scope = Scope::Tenant(a.clone());
        assert!(scope.covers(Some(&a)) && !scope.covers(Some(&b)) && !scope.covers(None));
        assert!(Scope::All.covers(Some(&a)) && Scope::All.covers(None));
        assert_eq!((scope.name(), Scope::All.name()), (Some("a"), None));
    }
}
