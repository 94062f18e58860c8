//! Who may use the manager and how far: tenants, and the principals that tokens and certificates stand for.

use crate::request::Action;
use crate::secret::Secret;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A tenant to be added.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewTenant {
    /// Its name: a-z, 0-9, '-' and '.', at most 63 bytes. A name is never given a second time.
    pub name: String,
}

/// A tenant: it owns guests, and whoever belongs to it sees nothing else.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct Tenant {
    /// Its name.
    pub name: String,
    /// When it was added, milliseconds since the Unix epoch.
    pub added_at_ms: u64,
    /// How many guests it owns.
    pub guests: u64,
}

/// What a principal may do within its reach. Each role may do all that the one before it may.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Look at everything, ask guests what only reads, change nothing.
    Viewer,
    /// Run programs, switch links, move files, cancel.
    Operator,
    /// Approve, change and remove guests, give and revoke tokens.
    Admin,
}

/// An action that a principal may be limited to.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ActionName {
    /// Run a program.
    Run,
    /// Bring a link up.
    LinkUp,
    /// Bring a link down.
    LinkDown,
    /// Put a file or a tree into a guest.
    Put,
    /// Read a file or a tree of a guest.
    Get,
}

impl Action {
    /// What it is called where somebody may be limited to it.
    #[must_use]
    pub const fn name(&self) -> ActionName {
        match self {
            Self::Run(_) => ActionName::Run,
            Self::LinkUp(_) => ActionName::LinkUp,
            Self::LinkDown(_) => ActionName::LinkDown,
            Self::Put(_) => ActionName::Put,
            Self::Get(_) => ActionName::Get,
        }
    }
}

impl ActionName {
    /// The word that stands for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::LinkUp => "link-up",
            Self::LinkDown => "link-down",
            Self::Put => "put",
            Self::Get => "get",
        }
    }
}

/// By what a principal is known.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Credential {
    /// A token, which the manager makes and keeps only a hash of.
    Token,
    /// A client certificate with this fingerprint.
    CertSha256 {
        /// SHA-256 of the certificate, 64 hexadecimal digits.
        fingerprint: String,
    },
    /// Any client certificate that the manager's client authority has issued for this name.
    CertDns {
        /// A DNS name among the certificate's subject alternative names.
        name: String,
    },
}

/// A principal to be added.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewPrincipal {
    /// What it is called: in the audit trail, in receipts and in lists. At most 63 bytes: a-z, 0-9, '-' and '.'.
    pub name: String,
    /// By what it is known.
    pub credential: Credential,
    /// The tenant it belongs to; that of whoever adds it when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// What it may do.
    pub role: Role,
    /// The actions it is limited to; all that its role may do when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actions: Option<Vec<ActionName>>,
    /// Milliseconds until it is known no longer; never when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_ms: Option<u64>,
}

/// Whoever shows a token or a certificate.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct Principal {
    /// Its public id, 16 hexadecimal digits; the first part of a token.
    pub id: String,
    /// What it is called.
    pub name: String,
    /// By what it is known.
    pub credential: Credential,
    /// The tenant it belongs to; none where it sees all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// What it may do.
    pub role: Role,
    /// The actions it is limited to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actions: Option<Vec<ActionName>>,
    /// Who added it.
    pub added_by: String,
    /// When, milliseconds since the Unix epoch.
    pub added_at_ms: u64,
    /// From when on it is known no longer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at_ms: Option<u64>,
    /// When it was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at_ms: Option<u64>,
    /// When it was last used, to the minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used_ms: Option<u64>,
}

/// A principal that was added, and its token, which is shown this once.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
pub struct Granted {
    /// The principal.
    pub principal: Principal,
    /// Its token, where it is known by one. The manager has no copy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Secret>,
}
