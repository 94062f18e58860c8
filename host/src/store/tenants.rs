//! Tenants in the store, and which of them owns a guest.
//!
//! Called by the API for those who see all; a tenant itself sees its own row. A name that was removed is not given
//! again: requests, receipts and records of the trail stay under it.

use super::guest_rows::within;
use super::writer::Work;
use super::{GuestRow, Store, StoreError};
use crate::access::TenantName;
use crate::actor::Actor;
use doorbell_api::access::Tenant;
use rusqlite::{Connection, params};

impl Store {
    /// Adds a tenant.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when there is or was one of that name.
    pub async fn add_tenant(&self, by: &Actor, name: TenantName) -> Result<Tenant, StoreError> {
        let by = by.to_string();
        self.write(move |work| add(work, &by, &name)).await
    }

    /// Removes a tenant that owns nothing and that nobody belongs to any longer.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Conflict`].
    pub async fn remove_tenant(&self, by: &Actor, name: TenantName) -> Result<(), StoreError> {
        let by = by.to_string();
        self.write(move |work| remove(work, &by, &name)).await
    }

    /// The tenants that whoever asks may see, by name.
    ///
    /// # Errors
    /// When the data base cannot be read.
    pub async fn tenants(&self) -> Result<Vec<Tenant>, StoreError> {
        let scope = self.scope.clone();
        self.read(move |conn| {
            let sql = format!(
                "SELECT t.name, t.added_at_ms,
                 (SELECT count(*) FROM guests g WHERE g.tenant = t.name AND g.removed_at_ms IS NULL)
                 FROM tenants t WHERE t.removed_at_ms IS NULL AND {} ORDER BY t.name",
                within("t.name", 1)
            );
            let mut rows = conn.prepare_cached(&sql)?;
            let read = |row: &rusqlite::Row<'_>| {
                Ok(Tenant { name: row.get(0)?, added_at_ms: row.get(1)?, guests: row.get(2)? })
            };
            Ok(rows.query_map([scope.name()], read)?.collect::<Result<_, _>>()?)
        })
        .await
    }
}

/// A guest is given to a tenant that there is.
pub(super) fn check_tenant(conn: &Connection, name: &TenantName) -> Result<(), StoreError> {
    let sql = "SELECT 1 FROM tenants WHERE name = ?1 AND removed_at_ms IS NULL";
    if conn.prepare_cached(sql)?.exists([name.as_str()])? {
        return Ok(());
    }
    Err(StoreError::NotFound {
        what: "tenant",
        name: name.to_string(),
        hint: "`doorbell tenant ls` shows all, `doorbell tenant add` makes one",
    })
}

/// Another owner. What was asked for under the one before stays that one's, so nothing may be open.
pub(super) fn change_tenant(
    work: &Work<'_>,
    guest: &GuestRow,
    to: Option<&TenantName>,
    told: &mut Vec<String>,
) -> Result<(), StoreError> {
    if let Some(to) = to {
        check_tenant(work.conn, to)?;
    }
    if guest.open_requests > 0 {
        return Err(StoreError::conflict(format!(
            "guest {} has {} open requests: wait for them or cancel them before it gets another owner",
            guest.name, guest.open_requests
        )));
    }
    work.conn
        .prepare_cached("UPDATE guests SET tenant = ?2 WHERE id = ?1")?
        .execute(params![guest.id.as_bytes(), to.map(TenantName::as_str)])?;
    let shown = |tenant: Option<&TenantName>| tenant.map_or_else(|| "nobody".to_owned(), ToString::to_string);
    told.push(format!("owner {} became {}", shown(guest.tenant.as_ref()), shown(to)));
    Ok(())
}

fn add(work: &mut Work<'_>, by: &str, name: &TenantName) -> Result<Tenant, StoreError> {
    if work.conn.prepare_cached("SELECT 1 FROM tenants WHERE name = ?1")?.exists([name.as_str()])? {
        return Err(StoreError::conflict(format!(
            "there is or was a tenant {name}: choose another name, for what was one's is not given to another"
        )));
    }
    work.conn
        .prepare_cached("INSERT INTO tenants (name, added_at_ms) VALUES (?1, ?2)")?
        .execute(params![name.as_str(), work.now])?;
    work.audit(by, "tenant-added", None, None, format!("tenant {name}"))?;
    Ok(Tenant { name: name.to_string(), added_at_ms: work.now, guests: 0 })
}

fn remove(work: &mut Work<'_>, by: &str, name: &TenantName) -> Result<(), StoreError> {
    check_tenant(work.conn, name)?;
    let count = |sql: &str| -> Result<u64, StoreError> {
        Ok(work.conn.prepare_cached(sql)?.query_row([name.as_str()], |row| row.get(0))?)
    };
    let guests = count("SELECT count(*) FROM guests WHERE tenant = ?1 AND removed_at_ms IS NULL")?;
    let principals = count("SELECT count(*) FROM principals WHERE tenant = ?1 AND revoked_at_ms IS NULL")?;
    if guests > 0 || principals > 0 {
        return Err(StoreError::conflict(format!(
            "tenant {name} owns {guests} guests, and {principals} tokens and certificates belong to it: \
             remove or move the guests and revoke the others first"
        )));
    }
    work.conn
        .prepare_cached("UPDATE tenants SET removed_at_ms = ?2 WHERE name = ?1")?
        .execute(params![name.as_str(), work.now])?;
    work.conn.prepare_cached("DELETE FROM holdings WHERE tenant = ?1")?.execute([name.as_str()])?;
    work.audit(by, "tenant-removed", None, None, format!("tenant {name}"))?;
    Ok(())
}
