//! Requests looked up by people: by the beginning of an id, and as a list.
//!
//! Called by the API. Trusts nothing of what is asked for.

use super::guest_rows::within;
use super::requests::{many, not_found};
use super::retention::ended_between;
use super::{RequestFilter, RequestRow, Store, StoreError};
use crate::access::Scope;
use doorbell_wire::ids::{GuestName, RequestId};
use rusqlite::{Connection, params};

impl Store {
    /// The request whose id begins with `prefix`.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Conflict`] when there are several, [`StoreError::Invalid`] when
    /// the prefix is too short or not hexadecimal.
    pub async fn find_request(&self, prefix: &str) -> Result<RequestRow, StoreError> {
        let prefix = prefix.to_ascii_lowercase();
        let scope = self.scope.clone();
        self.read(move |conn| find(conn, &prefix, &scope)).await
    }

    /// Requests, newest first, and whether there are more.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when no guest ever had the name that is asked for.
    pub async fn requests(&self, filter: RequestFilter) -> Result<(Vec<RequestRow>, bool), StoreError> {
        let scope = self.scope.clone();
        self.read(move |conn| list(conn, &filter, &scope)).await
    }
}

fn find(conn: &Connection, prefix: &str, scope: &Scope) -> Result<RequestRow, StoreError> {
    let (digits, width) = (prefix.len(), RequestId::LEN.saturating_mul(2));
    let valid = (PREFIX_MIN..=width).contains(&digits) && prefix.bytes().all(|byte| byte.is_ascii_hexdigit());
    let edge =
        |fill: &str| format!("{prefix}{}", fill.repeat(width.saturating_sub(digits))).parse::<RequestId>();
    let (Ok(low), Ok(high), true) = (edge("0"), edge("f"), valid) else {
        return Err(StoreError::invalid(format!(
            "request id {prefix:?} is not valid: expected {PREFIX_MIN} to {width} hexadecimal digits"
        )));
    };
    let condition = format!("r.id BETWEEN ?1 AND ?2 AND {} LIMIT 2", within("r.tenant", 3));
    let mut found = many(conn, &condition, params![low.as_bytes(), high.as_bytes(), scope.name()])?;
    match (found.pop(), found.pop()) {
        (None, _) => match ended_between(conn, low, high, scope)? {
            Some(ended) => Err(ended.gone()),
            None => Err(not_found(prefix.to_owned())),
        },
        (Some(row), None) => Ok(row),
        (Some(one), Some(other)) => Err(StoreError::conflict(format!(
            "several requests begin with {prefix}, as {other} and {one} do: give more digits",
            one = one.id,
            other = other.id
        ))),
    }
}

fn list(
    conn: &Connection,
    filter: &RequestFilter,
    scope: &Scope,
) -> Result<(Vec<RequestRow>, bool), StoreError> {
    let name = filter.guest.as_ref().map(GuestName::as_str);
    if let Some(name) = name {
        let known: bool = conn
            .prepare_cached(&format!(
                "SELECT EXISTS (SELECT 1 FROM guests WHERE name = ?1 AND {})",
                within("tenant", 2)
            ))?
            .query_row(params![name, scope.name()], |row| row.get(0))?;
        if !known {
            return Err(StoreError::NotFound {
                what: "guest",
                name: name.to_owned(),
                hint: "`doorbell guest ls` shows all",
            });
        }
    }
    const OPEN: &str = "r.state IN ('unapproved', 'queued', 'offered', 'fetched', 'started')";
    let state = if filter.open { OPEN } else { "TRUE" };
    let guest =
        if name.is_some() { "r.guest IN (SELECT id FROM guests WHERE name = ?1)" } else { "?1 IS NULL" };
    let within = within("r.tenant", 3);
    let condition = format!("{state} AND {guest} AND {within} ORDER BY r.number DESC LIMIT ?2");
    let mut rows = many(conn, &condition, params![name, filter.limit.saturating_add(1), scope.name()])?;
    let limit = usize::try_from(filter.limit).unwrap_or(usize::MAX);
    let more = rows.len() > limit;
    rows.truncate(limit);
    Ok((rows, more))
}

/// Digits of the shortest prefix that may stand for a request.
const PREFIX_MIN: usize = 6;
