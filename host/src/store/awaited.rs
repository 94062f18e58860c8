//! Requests whose program lives elsewhere, until it is here: what is awaited, what arrived, what will not.
//!
//! Called by the station `retrieve`. Until its program has arrived a request is queued, and no other of its kind
//! is offered to its guest before it.

use super::guest_rows::label;
use super::holdings::hold;
use super::receipts::{Closing, close};
use super::requests::many;
use super::writer::Work;
use super::{AcceptRequest, RequestRow, Store, StoreError};
use crate::access::Label;
use crate::request::{Happening, from_elsewhere, shown};
use crate::retrieve::{Errand, Location};
use doorbell_api::request::Source;
use doorbell_wire::message::action::{Action, Executable, Program, Run, RunParts, RunReboot};
use rusqlite::{Connection, params};

impl Store {
    /// What is awaited, in the order in which it was asked for; each once.
    ///
    /// # Errors
    /// When the data base cannot be read.
    pub async fn awaited(&self) -> Result<Vec<Errand>, StoreError> {
        self.read(|conn| {
            let sql = "SELECT source, tenant FROM requests WHERE awaits_program = 1 AND state = 'queued'
                 GROUP BY json_extract(source, '$.sha256'), json_extract(source, '$.url'), tenant
                 ORDER BY min(number)";
            let mut rows = conn.prepare_cached(sql)?;
            rows.query_and_then([], |row| errand(&row.get::<_, String>(0)?, row.get(1)?))?.collect()
        })
        .await
    }

    /// The program has arrived, and how: requests that awaited it go on. Some at a time, so that others get a
    /// word in between; none when there are no more.
    ///
    /// # Errors
    /// When the data base cannot be written.
    pub async fn arrived(&self, errand: &Errand, len: u64, how: &str) -> Result<Vec<RequestRow>, StoreError> {
        let (how, Errand { digest, tenant, .. }) = (how.to_owned(), errand.clone());
        self.write(move |work| {
            let of = "json_extract(r.source, '$.sha256') = ?1 AND r.tenant IS ?2";
            let owner = tenant.as_ref().map(Label::as_str);
            let waiting = awaiting(work.conn, of, params![digest.to_string(), owner])?;
            if let Some(tenant) = &tenant {
                hold(work, tenant, digest)?;
            }
            waiting.into_iter().map(|row| go_on(work, row, len, &how)).collect()
        })
        .await
    }

    /// The program cannot be had from there: requests that awaited it are over. Some at a time, too.
    ///
    /// # Errors
    /// When the data base cannot be written.
    pub async fn not_retrieved(&self, errand: &Errand, detail: &str) -> Result<Vec<RequestRow>, StoreError> {
        let (errand, detail) = (errand.clone(), detail.to_owned());
        self.write(move |work| {
            let of = "json_extract(r.source, '$.sha256') = ?1 AND json_extract(r.source, '$.url') = ?2
                 AND r.tenant IS ?3";
            let owner = errand.tenant.as_ref().map(Label::as_str);
            let waiting = awaiting(work.conn, of, params![errand.digest.to_string(), errand.url, owner])?;
            let why =
                Closing { happening: Happening::ProgramGone, event: "request-not-retrieved", by: "manager" };
            waiting.into_iter().map(|row| close(work, row, &why, &detail)).collect()
        })
        .await
    }
}

impl RequestRow {
    /// What is fetched for it, while it awaits that.
    #[must_use]
    pub fn errand(&self) -> Option<Errand> {
        let Source { url, sha256, .. } = self.source.as_ref().filter(|_| self.awaits_program)?;
        Some(Errand { digest: sha256.parse().ok()?, url: url.clone(), tenant: self.tenant.clone() })
    }
}

/// The length of a program that lives elsewhere is none of the caller's words.
pub(super) fn same_action(known: &RequestRow, new: &AcceptRequest) -> bool {
    match &new.source {
        None => known.source.is_none() && known.action == new.action,
        source @ Some(_) => {
            let asked = shown(&new.action).map(|shown| from_elsewhere(shown, source.as_ref()));
            known.source == *source && asked.as_ref() == Some(&known.shown)
        }
    }
}

/// Where a program lives, for the audit trail.
pub(super) fn told_source(source: &Source) -> String {
    Location::parse(&source.url).map(|location| format!(", from {location}")).unwrap_or_default()
}

/// Where a program lives, as the data base has it.
pub(super) fn written(source: &Source) -> Result<String, StoreError> {
    serde_json::to_string(source).map_err(|error| StoreError::internal("write where a program lives", error))
}

/// The same, read.
pub(super) fn read(source: &str) -> Result<Source, StoreError> {
    serde_json::from_str(source).map_err(|error| StoreError::damaged("source of a request", error))
}

fn errand(source: &str, tenant: Option<String>) -> Result<Errand, StoreError> {
    let Source { url, sha256, .. } = read(source)?;
    let digest = sha256.parse().map_err(|error| StoreError::damaged("source of a request", error))?;
    Ok(Errand { digest, url, tenant: tenant.map(|name| label(&name)).transpose()? })
}

fn awaiting(
    conn: &Connection,
    of: &str,
    values: impl rusqlite::Params,
) -> Result<Vec<RequestRow>, StoreError> {
    let condition =
        format!("r.awaits_program = 1 AND r.state = 'queued' AND {of} ORDER BY r.number LIMIT {AT_ONCE}");
    many(conn, &condition, values)
}

/// The action of a request gets its program's real length, which nobody knew before.
fn go_on(work: &mut Work<'_>, row: RequestRow, len: u64, how: &str) -> Result<RequestRow, StoreError> {
    let action = with_len(row.action, len)?;
    let text =
        serde_json::to_string(&action).map_err(|error| StoreError::internal("write the action", error))?;
    work.conn
        .prepare_cached("UPDATE requests SET action = ?2, awaits_program = 0 WHERE id = ?1")?
        .execute(params![row.id.as_bytes(), text])?;
    work.audit("manager", "program-retrieved", Some(row.guest.as_str()), Some(row.id), how)?;
    Ok(RequestRow { action, awaits_program: false, ..row })
}

fn with_len(action: Action, len: u64) -> Result<Action, StoreError> {
    let damaged = |error| StoreError::damaged("action of a request", error);
    let resized = |run: Run| {
        let mut parts = RunParts::from(run);
        if let Executable::Program(Program { digest, name, .. }) = parts.executable {
            parts.executable = Executable::Program(Program::new(digest, len, name).map_err(damaged)?);
        }
        Run::try_from(parts).map_err(damaged)
    };
    match action {
        Action::Run(run) => resized(run).map(Action::Run),
        Action::RunReboot(RunReboot { run, reboot, step }) => {
            Ok(Action::RunReboot(RunReboot { run: resized(run)?, reboot, step }))
        }
        other
        @ (Action::LinkList | Action::LinkSet(_) | Action::Put(_) | Action::Get(_) | Action::Can(_)) => {
            Ok(other)
        }
    }
}

/// Requests that one transaction moves.
const AT_ONCE: usize = 256;
