//! Who decided something, as the audit trail and the receipts name it.
//!
//! Made by the API from peer credentials, tokens and certificates, and by the sessions from a proved key; trusts its maker.

use crate::access::{Label, TenantName};
use doorbell_wire::ids::GuestName;
use nix::unistd::{Uid, User};
use std::fmt;
use std::net::IpAddr;

/// Who decided something.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Actor {
    /// A user of this host, by the credentials of the API socket.
    Uid {
        /// The user's number.
        uid: u32,
        /// The user's name, where the host knows one.
        name: Option<String>,
    },
    /// A user of this host, by the ownership of a file in a spool directory.
    Spool {
        /// The user's number.
        uid: u32,
        /// The user's name, where the host knows one.
        name: Option<String>,
    },
    /// Somebody by a token or a certificate.
    Principal {
        /// `token` or `certificate`.
        by: &'static str,
        /// Its public id, its name, and its tenant's where it has one.
        id: String,
        /// See above.
        name: Label,
        /// See above.
        tenant: Option<TenantName>,
        /// The address it called from; none on this host's socket.
        from: Option<IpAddr>,
    },
    /// Somebody who called from this address and was not recognised.
    Stranger(IpAddr),
    /// A guest, by its key.
    Guest(GuestName),
    /// The manager itself.
    Manager,
}

impl Actor {
    /// A user of this host.
    #[must_use]
    pub fn of_uid(uid: u32) -> Self {
        let name = User::from_uid(Uid::from_raw(uid)).ok().flatten().map(|user| user.name);
        Self::Uid { uid, name }
    }

    /// Somebody who asks for things, as one person: a user of the host is its number, whichever way it comes, and all
    /// tokens and certificates of one name and tenant are one. None for who is no person.
    #[must_use]
    pub fn person(&self) -> Option<String> {
        match self {
            Self::Uid { uid, .. } | Self::Spool { uid, .. } => Some(format!("uid {uid}")),
            Self::Principal { name, tenant, .. } => {
                let tenant = tenant.as_ref().map(|tenant| format!(" of tenant {tenant}"));
                Some(format!("name {name}{}", tenant.unwrap_or_default()))
            }
            Self::Stranger(_) | Self::Guest(_) | Self::Manager => None,
        }
    }

    /// Whoever runs this process.
    #[must_use]
    pub fn own() -> Self {
        Self::of_uid(Uid::current().as_raw())
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uid { uid, name } => f.write_str(&user(*uid, name.as_deref())),
            Self::Spool { uid, name } => write!(f, "{} by spool", user(*uid, name.as_deref())),
            Self::Principal { by, id, name, tenant, from } => {
                write!(f, "{by} {name} ({id})")?;
                tenant.as_ref().map_or(Ok(()), |tenant| write!(f, " of tenant {tenant}"))?;
                from.map_or(Ok(()), |from| write!(f, " from {from}"))
            }
            Self::Stranger(from) => write!(f, "unknown from {from}"),
            Self::Guest(name) => write!(f, "guest {name}"),
            Self::Manager => f.write_str("manager"),
        }
    }
}

fn user(uid: u32, name: Option<&str>) -> String {
    let name = name.map(|name| format!(" ({})", name.escape_default()));
    format!("uid {uid}{}", name.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actors_read_as_the_audit_trail_shows_them() {
        let root = Actor::Uid { uid: 0, name: Some("root".into()) };
        assert_eq!(root.to_string(), "uid 0 (root)");
        assert_eq!(Actor::Uid { uid: 1000, name: None }.to_string(), "uid 1000");
        let ci = Actor::Spool { uid: 1000, name: Some("ci".into()) };
        assert_eq!(ci.to_string(), "uid 1000 (ci) by spool");
        let (ci, acme) = ("ci".parse().unwrap(), "acme".parse().unwrap());
        let from = Some("192.0.2.7".parse().unwrap());
        let token = Actor::Principal { by: "token", id: "01".repeat(8), name: ci, tenant: Some(acme), from };
        assert_eq!(token.to_string(), "token ci (0101010101010101) of tenant acme from 192.0.2.7");
        assert_eq!(Actor::Stranger("::1".parse().unwrap()).to_string(), "unknown from ::1");
        assert_eq!(Actor::Guest("web-3".parse().unwrap()).to_string(), "guest web-3");
        assert_eq!(Actor::Manager.to_string(), "manager");
    }

    #[test]
    fn a_person_is_the_same_whichever_way_it_comes() {
        let root = Actor::Uid { uid: 0, name: Some("root".into()) };
        let spool = Actor::Spool { uid: 0, name: None };
        assert_eq!(root.person(), spool.person());
        assert_ne!(root.person(), Actor::Uid { uid: 1, name: Some("root".into()) }.person());
        let principal = |by, id: &str, name: &str, tenant: Option<&str>| {
            let tenant = tenant.map(|tenant| tenant.parse().unwrap());
            Actor::Principal { by, id: id.repeat(8), name: name.parse().unwrap(), tenant, from: None }
                .person()
        };
        let ci = principal("token", "01", "ci", Some("acme"));
        assert_eq!(ci, principal("certificate", "02", "ci", Some("acme")));
        assert_ne!(ci, principal("token", "01", "ci", None));
        assert_ne!(ci, principal("token", "01", "ops", Some("acme")));
        assert_eq!(Actor::Manager.person(), None);
        assert_eq!(Actor::Guest("web-3".parse().unwrap()).person(), None);
    }
}
