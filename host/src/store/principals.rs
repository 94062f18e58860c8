//! Principals in the store: whoever is known by a token or a certificate.
//!
//! Called by the API's gate at every call that shows one, and by its handlers. Of a token only a hash is kept; nothing that is
//! read here can be shown instead of it.

use super::guest_rows::{label, within};
use super::tenants::check_tenant;
use super::writer::Work;
use super::{Store, StoreError};
use crate::access::token::{PrincipalId, SecretHash, Shown};
use crate::access::{Label, TenantName};
use crate::actor::Actor;
use doorbell_api::access::{self as api, ActionName, Credential, Role};
use rusqlite::{Connection, OptionalExtension as _, Row, params};

/// A principal to be added.
#[derive(Clone, Debug)]
pub struct AddPrincipal {
    /// Its public id.
    pub id: PrincipalId,
    /// What it is called.
    pub name: Label,
    /// By what it is known.
    pub known: Known,
    /// The tenant it belongs to.
    pub tenant: Option<TenantName>,
    /// What it may do.
    pub role: Role,
    /// The actions it is limited to.
    pub actions: Option<Vec<ActionName>>,
    /// Milliseconds until it is known no longer.
    pub expires_in_ms: Option<u64>,
}

/// By what somebody is known.
#[derive(Clone, Debug)]
pub enum Known {
    /// A token with this hash.
    Token(SecretHash),
    /// A certificate with this fingerprint, in hexadecimal digits.
    CertSha256(String),
    /// A certificate for this name.
    CertDns(String),
}

/// A principal.
#[derive(Clone, Debug)]
pub struct PrincipalRow {
    /// Its public id.
    pub id: PrincipalId,
    /// What it is called.
    pub name: Label,
    /// By what it is known.
    pub known: Known,
    /// The tenant it belongs to.
    pub tenant: Option<TenantName>,
    /// What it may do.
    pub role: Role,
    /// The actions it is limited to.
    pub actions: Option<Vec<ActionName>>,
    /// Who added it.
    pub added_by: String,
    /// When.
    pub added_at_ms: u64,
    /// From when on it is known no longer.
    pub expires_at_ms: Option<u64>,
    /// When it was revoked.
    pub revoked_at_ms: Option<u64>,
    /// When it was last used.
    pub last_used_ms: Option<u64>,
}

impl Store {
    /// Adds a principal.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for its tenant, [`StoreError::Conflict`] for a certificate that is another one's.
    pub async fn add_principal(&self, by: &Actor, new: AddPrincipal) -> Result<PrincipalRow, StoreError> {
        let by = by.to_string();
        self.write(move |work| add(work, &by, &new)).await
    }

    /// Revokes a principal; to do it twice changes nothing.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn revoke(&self, by: &Actor, id: &str) -> Result<PrincipalRow, StoreError> {
        let (by, id) = (by.to_string(), id.to_owned());
        self.write(move |work| revoke(work, &by, &id)).await
    }

    /// All principals that whoever asks may see, by the time they were added.
    ///
    /// # Errors
    /// When the data base cannot be read.
    pub async fn principals(&self) -> Result<Vec<PrincipalRow>, StoreError> {
        let scope = self.scope.clone();
        self.read(move |conn| {
            let sql = format!("{SELECT} WHERE {} ORDER BY added_at_ms, id", within("tenant", 1));
            conn.prepare_cached(&sql)?.query_and_then([scope.name()], read)?.collect()
        })
        .await
    }

    /// Whose token is shown. One of nobody's takes the same way as one with a wrong secret.
    ///
    /// # Errors
    /// When the data base cannot be read.
    pub async fn bearer(&self, shown: Shown) -> Result<Option<PrincipalRow>, StoreError> {
        self.read(move |conn| {
            let found = by_id(conn, shown.id)?;
            let kept = match found.as_ref().map(|row| &row.known) {
                Some(Known::Token(hash)) => *hash,
                Some(Known::CertSha256(_) | Known::CertDns(_)) | None => SecretHash::new([0; 32]),
            };
            Ok(found.filter(|_| shown.hash.is(&kept)))
        })
        .await
    }

    /// Whose certificate is shown: that of its fingerprint, or else of the first of its names that is somebody's.
    ///
    /// # Errors
    /// When the data base cannot be read.
    pub async fn holder(
        &self,
        fingerprint: String,
        names: Vec<String>,
    ) -> Result<Option<PrincipalRow>, StoreError> {
        self.read(move |conn| {
            let by_name = names.iter().map(|name| ("cert-dns", name));
            for (kind, value) in [("cert-sha256", &fingerprint)].into_iter().chain(by_name) {
                let sql = format!("{SELECT} WHERE kind = ?1 AND certificate = ?2 AND revoked_at_ms IS NULL");
                let mut rows = conn.prepare_cached(&sql)?;
                if let Some(row) = rows.query_and_then([kind, value], read)?.next() {
                    return row.map(Some);
                }
            }
            Ok(None)
        })
        .await
    }

    /// Notes that a principal is in use, to the minute.
    ///
    /// # Errors
    /// When the data base cannot be written.
    pub async fn principal_used(&self, id: PrincipalId) -> Result<(), StoreError> {
        self.write(move |work| {
            work.conn
                .prepare_cached("UPDATE principals SET last_used_ms = ?2 WHERE id = ?1")?
                .execute(params![id.as_bytes(), work.now])?;
            Ok(())
        })
        .await
    }
}

impl Known {
    const fn kind(&self) -> &'static str {
        match self {
            Self::Token(_) => "token",
            Self::CertSha256(_) => "cert-sha256",
            Self::CertDns(_) => "cert-dns",
        }
    }

    fn columns(&self) -> (Option<&[u8; 32]>, Option<&str>) {
        match self {
            Self::Token(hash) => (Some(hash.as_bytes()), None),
            Self::CertSha256(text) | Self::CertDns(text) => (None, Some(text)),
        }
    }
}

impl PrincipalRow {
    /// The principal as the API shows it.
    #[must_use]
    pub fn to_api(&self) -> api::Principal {
        api::Principal {
            id: self.id.to_string(),
            name: self.name.to_string(),
            credential: match &self.known {
                Known::Token(_) => Credential::Token,
                Known::CertSha256(text) => Credential::CertSha256 { fingerprint: text.clone() },
                Known::CertDns(text) => Credential::CertDns { name: text.clone() },
            },
            tenant: self.tenant.as_ref().map(ToString::to_string),
            role: self.role,
            actions: self.actions.clone(),
            added_by: self.added_by.clone(),
            added_at_ms: self.added_at_ms,
            expires_at_ms: self.expires_at_ms,
            revoked_at_ms: self.revoked_at_ms,
            last_used_ms: self.last_used_ms,
        }
    }
}

fn add(work: &mut Work<'_>, by: &str, new: &AddPrincipal) -> Result<PrincipalRow, StoreError> {
    if let Some(tenant) = &new.tenant {
        check_tenant(work.conn, tenant)?;
    }
    let kind = new.known.kind();
    let (token, certificate) = new.known.columns();
    let taken = "SELECT name FROM principals WHERE kind = ?1 AND certificate = ?2 AND revoked_at_ms IS NULL";
    let taken: Option<String> = work
        .conn
        .prepare_cached(taken)?
        .query_row(params![kind, certificate], |row| row.get(0))
        .optional()?;
    if let Some(name) = taken {
        return Err(StoreError::conflict(format!(
            "that certificate is {name}'s already: revoke that one first"
        )));
    }
    check_room(work.conn, new.tenant.as_ref())?;
    let expires_at_ms = new.expires_in_ms.map(|ms| work.now.saturating_add(ms).min(i64::MAX as u64));
    let actions = new.actions.as_ref().map(serde_json::to_string).transpose();
    let actions = actions.map_err(|error| StoreError::internal("write actions", error))?;
    work.conn
        .prepare_cached(
            "INSERT INTO principals (id, name, kind, token, certificate, tenant, role, actions, added_by,
             added_at_ms, expires_at_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        )?
        .execute(params![
            new.id.as_bytes(),
            new.name.as_str(),
            kind,
            token,
            certificate,
            new.tenant.as_ref().map(Label::as_str),
            word(new.role),
            actions,
            by,
            work.now,
            expires_at_ms
        ])?;
    let row = of_id(work.conn, new.id)?;
    work.audit(by, "principal-added", None, None, told(&row))?;
    Ok(row)
}

fn revoke(work: &mut Work<'_>, by: &str, asked: &str) -> Result<PrincipalRow, StoreError> {
    let found = PrincipalId::parse(asked).map(|id| by_id(work.conn, id)).transpose()?.flatten();
    let row = found.filter(|row| work.scope.covers(row.tenant.as_ref())).ok_or_else(|| not_found(asked))?;
    if row.revoked_at_ms.is_some() {
        return Ok(row);
    }
    work.conn
        .prepare_cached("UPDATE principals SET revoked_at_ms = ?2 WHERE id = ?1")?
        .execute(params![row.id.as_bytes(), work.now])?;
    work.audit(by, "principal-revoked", None, None, told(&row))?;
    of_id(work.conn, row.id)
}

/// A tenant's admin may give tokens, and is not to fill the data base with them.
fn check_room(conn: &Connection, tenant: Option<&TenantName>) -> Result<(), StoreError> {
    let sql = "SELECT count(*) FROM principals WHERE tenant = ?1";
    let Some(tenant) = tenant else { return Ok(()) };
    let count: u64 = conn.prepare_cached(sql)?.query_row([tenant.as_str()], |row| row.get(0))?;
    if count < PRINCIPALS_MAX {
        return Ok(());
    }
    Err(StoreError::conflict(format!(
        "tenant {tenant} has had {count} tokens and certificates, and more are not kept: use one longer, or another tenant"
    )))
}

/// The particulars for the trail.
fn told(row: &PrincipalRow) -> String {
    let tenant = row.tenant.as_ref().map(|tenant| format!(" of tenant {tenant}")).unwrap_or_default();
    let only = row.actions.as_ref().map(|actions| {
        let names = actions.iter().map(|action| action.word()).collect::<Vec<_>>();
        format!(", only {}", names.join(" "))
    });
    let until = row.expires_at_ms.map(|at| format!(", until {}", crate::time::shown(at))).unwrap_or_default();
    format!(
        "{} {} ({}){tenant}, {}{}{until}",
        row.known.kind(),
        row.name,
        row.id,
        word(row.role),
        only.unwrap_or_default()
    )
}

fn of_id(conn: &Connection, id: PrincipalId) -> Result<PrincipalRow, StoreError> {
    by_id(conn, id)?.ok_or_else(|| not_found(&id.to_string()))
}

fn by_id(conn: &Connection, id: PrincipalId) -> Result<Option<PrincipalRow>, StoreError> {
    let mut rows = conn.prepare_cached(&format!("{SELECT} WHERE id = ?1"))?;
    rows.query_and_then([id.as_bytes()], read)?.next().transpose()
}

fn not_found(id: &str) -> StoreError {
    let name = id.chars().take(64).collect();
    StoreError::NotFound {
        what: "principal",
        name,
        hint: "`doorbell token ls` shows tokens and certificates",
    }
}

fn read(row: &Row<'_>) -> Result<PrincipalRow, StoreError> {
    let damaged = |what: &str| StoreError::damaged("principal", what.to_owned());
    let (kind, token): (String, Option<[u8; 32]>) = (row.get(2)?, row.get(3)?);
    let certificate: String = row.get::<_, Option<String>>(4)?.unwrap_or_default();
    let known = match (kind.as_str(), token) {
        ("token", Some(hash)) => Known::Token(SecretHash::new(hash)),
        ("cert-sha256", _) => Known::CertSha256(certificate),
        ("cert-dns", _) => Known::CertDns(certificate),
        _ => return Err(damaged(&kind)),
    };
    let role: String = row.get(6)?;
    let actions: Option<String> = row.get(7)?;
    Ok(PrincipalRow {
        id: PrincipalId::new(row.get(0)?),
        name: label(&row.get::<_, String>(1)?)?,
        known,
        tenant: row.get::<_, Option<String>>(5)?.map(|name| label(&name)).transpose()?,
        role: ROLES.into_iter().find(|one| word(*one) == role).ok_or_else(|| damaged(&role))?,
        actions: actions
            .map(|text| serde_json::from_str(&text))
            .transpose()
            .map_err(|error| StoreError::damaged("principal", error))?,
        added_by: row.get(8)?,
        added_at_ms: row.get(9)?,
        expires_at_ms: row.get(10)?,
        revoked_at_ms: row.get(11)?,
        last_used_ms: row.get(12)?,
    })
}

const fn word(role: Role) -> &'static str {
    match role {
        Role::Viewer => "viewer",
        Role::Operator => "operator",
        Role::Admin => "admin",
    }
}

/// Principals of a tenant, revoked ones too: they stay, for the trail names them.
const PRINCIPALS_MAX: u64 = 10_000;
const ROLES: [Role; 3] = [Role::Viewer, Role::Operator, Role::Admin];
const SELECT: &str =
    "SELECT id, name, kind, token, certificate, tenant, role, actions, added_by, added_at_ms,
    expires_at_ms, revoked_at_ms, last_used_ms FROM principals";
