//! The second person: requests of certain actions wait until somebody else than who asked has approved them.
//!
//! Called by the API for whoever approves or refuses, and by every way in which a request is accepted. Trusts actors, and
//! what they say of who is one person; the data base refuses a row whose asker is its approver as well.

use super::receipts::{Closing, close};
use super::requests::{by_id, not_found};
use super::writer::Work;
use super::{RequestRow, Store, StoreError};
use crate::actor::Actor;
use crate::request::{Happening, next, word};
use doorbell_api::access::ActionName;
use doorbell_api::request::State;
use doorbell_wire::ids::RequestId;
use rusqlite::params;
use std::sync::Arc;

/// Who asks for a request.
#[derive(Clone, Debug)]
pub(super) struct Asker {
    /// As the trail names it.
    pub(super) name: String,
    /// As one person.
    pub(super) person: Option<String>,
    second_person: Arc<[ActionName]>,
}

impl Asker {
    /// Where a request for this begins.
    pub(super) fn state(&self, action: ActionName) -> State {
        if self.second_person.contains(&action) { State::Unapproved } else { State::Queued }
    }
}

impl Store {
    pub(super) fn asker(&self, by: &Actor) -> Asker {
        let second_person = Arc::clone(&self.inner.second_person);
        Asker { name: by.to_string(), person: by.person(), second_person }
    }

    /// Approves a request, which is then queued. To do it twice changes nothing.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::Conflict`] for who asked for it, and where nothing is to be approved.
    pub async fn approve_request(&self, by: &Actor, id: RequestId) -> Result<RequestRow, StoreError> {
        let by = self.asker(by);
        self.write(move |work| approve(work, &by, id)).await
    }

    /// Refuses a request that waits for approval: it is over.
    ///
    /// # Errors
    /// As for [`Store::approve_request`].
    pub async fn refuse_request(&self, by: &Actor, id: RequestId) -> Result<RequestRow, StoreError> {
        let by = self.asker(by);
        self.write(move |work| refuse(work, &by, id)).await
    }
}

fn approve(work: &mut Work<'_>, by: &Asker, id: RequestId) -> Result<RequestRow, StoreError> {
    let (row, person) = judged_by(work, by, id, "approve")?;
    let Some(state) = next(row.state, Happening::Approved) else {
        let known = person_of(work, "approver", id)?;
        return if known.as_ref() == Some(&person) { Ok(row) } else { Err(nothing(&row)) };
    };
    let sql = "UPDATE requests SET state = ?2, approved_by = ?3, approver = ?4 WHERE id = ?1";
    work.conn.prepare_cached(sql)?.execute(params![id.as_bytes(), word(state), by.name, person])?;
    let detail = format!("asked by {}", row.asked_by);
    work.audit(&by.name, "request-approved", Some(row.guest.as_str()), Some(id), detail)?;
    Ok(RequestRow { state, approved_by: Some(by.name.clone()), ..row })
}

fn refuse(work: &mut Work<'_>, by: &Asker, id: RequestId) -> Result<RequestRow, StoreError> {
    let (row, _) = judged_by(work, by, id, "refuse")?;
    if row.state != State::Unapproved {
        return Err(nothing(&row));
    }
    let why = work.cause.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    let detail = format!("{} did not approve it{why}", by.name);
    let why = Closing { happening: Happening::Cancelled, event: "request-disapproved", by: &by.name };
    close(work, row, &why, &detail)
}

/// The request, for somebody who may be its second person, and that one as one person.
fn judged_by(
    work: &Work<'_>,
    by: &Asker,
    id: RequestId,
    what: &str,
) -> Result<(RequestRow, String), StoreError> {
    let row = by_id(work.conn, id)?;
    if !work.scope.covers(row.tenant.as_ref()) {
        return Err(not_found(id.to_string()));
    }
    let asker = person_of(work, "asker", id)?;
    let Some(person) = by.person.clone() else {
        return Err(StoreError::conflict(format!("{} is nobody who can {what} a request", by.name)));
    };
    if row.state == State::Unapproved && asker.as_ref() == Some(&person) {
        return Err(StoreError::conflict(format!(
            "request {id} was asked for by {}, which is the same person as {}: somebody else has to {what} it; \
             `doorbell request cancel {id}` takes it back",
            row.asked_by, by.name
        )));
    }
    Ok((row, person))
}

fn person_of(work: &Work<'_>, column: &'static str, id: RequestId) -> Result<Option<String>, StoreError> {
    let sql = format!("SELECT {column} FROM requests WHERE id = ?1");
    Ok(work.conn.prepare_cached(&sql)?.query_row([id.as_bytes()], |row| row.get(0))?)
}

fn nothing(row: &RequestRow) -> StoreError {
    let approved = row.approved_by.as_ref().map(|by| format!(", approved by {by}")).unwrap_or_default();
    StoreError::conflict(format!(
        "request {} does not wait for a second person: it is {}{approved}",
        row.id,
        word(row.state)
    ))
}
