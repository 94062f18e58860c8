//! Guests: add, change, show, remove, and which of their keys are let in.

use super::caller::Caller;
use super::cause::{CauseHeaders, Told};
use super::convert::{absolute, place};
use super::error::ApiError;
use crate::access::TenantName;
use crate::manager::Manager;
use crate::power;
use crate::spool::Spool;
use crate::store::{self, AddGuest, ChangeGuest, GuestRow, Place, fingerprint};
use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use doorbell_api::event::Change;
use doorbell_api::guest::{Approval, Guest, GuestChange, NewEnrolment, NewGuest, PendingKey, Rejection};
use doorbell_wire::error::Reason;
use doorbell_wire::ids::{GuestName, PublicKey};
use std::path::PathBuf;
use std::sync::Arc;

type Body<T> = Result<Json<T>, JsonRejection>;

/// Every guest.
#[utoipa::path(get, operation_id = "list-guests", tag = "guests", path = "/v1/guests", responses((status = 200, body = [Guest])))]
pub(super) async fn list(
    State(manager): State<Arc<Manager>>,
    caller: Caller,
) -> Result<Json<Vec<Guest>>, ApiError> {
    let rows = caller.store(&manager).guests().await?;
    Ok(Json(rows.iter().map(|row| show_row(&manager, row)).collect()))
}

/// Adds a guest.
#[utoipa::path(post, operation_id = "add-guest", tag = "guests", path = "/v1/guests", params(CauseHeaders), request_body = NewGuest,
    responses((status = 201, body = Guest), (status = 400), (status = 409)))]
pub(super) async fn add(
    State(manager): State<Arc<Manager>>,
    caller: Caller,
    Told(cause): Told,
    body: Body<NewGuest>,
) -> Result<(StatusCode, Json<Guest>), ApiError> {
    let Json(new) = body?;
    let name: GuestName = new.name.parse()?;
    let share = new.share.map(|path| absolute("share", path)).transpose()?;
    let met = place(new.cid, new.hybrid_socket)?.or_else(|| share.clone().map(Place::Share));
    let Some(place) = met else {
        return Err(ApiError::invalid("a guest needs a cid, a hybrid_socket or a share"));
    };
    let add = AddGuest {
        name,
        place,
        qmp: new.qmp.map(|path| absolute("qmp", path)).transpose()?,
        key: new.public_key.map(|key| key.parse::<PublicKey>()).transpose()?,
        concurrency: new.concurrency,
        share,
        trigger: new.trigger,
        set_clock: new.set_clock.unwrap_or_default(),
        tenant: new.tenant.map(|name| name.parse()).transpose()?,
        trust_first_key: new.trust_first_key.unwrap_or_default(),
        enrolment: new.enrolment.as_ref().map(enrolment).transpose()?,
    };
    let row = caller.store_because(&manager, &cause).add_guest(&caller.actor(), add).await?;
    manager.events.owned_by(&row.name, row.tenant.clone());
    if let Err(error) = Spool::make(&manager, &row).await {
        tracing::warn!(guest = %row.name, %error, "the spool directories of a guest cannot be made");
    }
    manager.events.tell(&row.name, Change::Added);
    manager.doors.refresh();
    power::follow(&manager, &row).await;
    Ok((StatusCode::CREATED, Json(show_row(&manager, &row))))
}

/// One guest.
#[utoipa::path(get, operation_id = "show-guest", tag = "guests", path = "/v1/guests/{name}", params(("name" = String, Path,)),
    responses((status = 200, body = Guest), (status = 404)))]
pub(super) async fn show(
    State(manager): State<Arc<Manager>>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Json<Guest>, ApiError> {
    let row = caller.store(&manager).guest(&name.parse()?).await?;
    Ok(Json(show_row(&manager, &row)))
}

/// Changes a guest. A change of its place ends its session, if it has one: the place is part of who it is.
#[utoipa::path(patch, operation_id = "change-guest", tag = "guests", path = "/v1/guests/{name}", params(("name" = String, Path,), CauseHeaders), request_body = GuestChange,
    responses((status = 200, body = Guest), (status = 400), (status = 404), (status = 409)))]
pub(super) async fn change(
    State(manager): State<Arc<Manager>>,
    caller: Caller,
    Told(cause): Told,
    Path(name): Path<String>,
    body: Body<GuestChange>,
) -> Result<Json<Guest>, ApiError> {
    let Json(change) = body?;
    let is_the_hosts = change.cid.is_some()
        || change.hybrid_socket.is_some()
        || change.qmp.is_some()
        || change.share.is_some()
        || change.tenant.is_some();
    if is_the_hosts {
        caller.check_sees_all("change where a guest is met or whose it is")?;
    }
    let place = place(change.cid, change.hybrid_socket)?;
    // A session begins with these, so that a change of them begins another one.
    let moved =
        place.is_some() || change.trigger.is_some() || change.share.is_some() || change.set_clock.is_some();
    let asked = ChangeGuest {
        place,
        qmp: changed("qmp", change.qmp)?,
        concurrency: change.concurrency,
        share: changed("share", change.share)?,
        trigger: change.trigger,
        set_clock: change.set_clock,
        tenant: change.tenant.as_deref().map(owner).transpose()?,
    };
    let row =
        caller.store_because(&manager, &cause).change_guest(&caller.actor(), &name.parse()?, asked).await?;
    manager.events.owned_by(&row.name, row.tenant.clone());
    if moved {
        end_session(&manager, &row);
        manager.doors.refresh();
    }
    power::follow(&manager, &row).await;
    // More at once may be offered now, and there may be a monitor to follow.
    manager.registry.ring(row.id);
    Ok(Json(show_row(&manager, &row)))
}

/// Removes a guest. Its open requests become undeliverable.
#[utoipa::path(delete, operation_id = "remove-guest", tag = "guests", path = "/v1/guests/{name}", params(("name" = String, Path,), CauseHeaders),
    responses((status = 204), (status = 404)))]
pub(super) async fn remove(
    State(manager): State<Arc<Manager>>,
    caller: Caller,
    Told(cause): Told,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    let name: GuestName = name.parse()?;
    let removed = caller.store_because(&manager, &cause).remove_guest(&caller.actor(), &name).await?;
    power::forget(&manager, removed.id);
    manager.registry.close(removed.id, Reason::UNKNOWN_GUEST);
    for row in &removed.closed {
        manager.moved(row).await;
    }
    manager.events.tell(&name, Change::Removed);
    manager.events.owned_by(&name, None);
    manager.doors.refresh();
    Ok(StatusCode::NO_CONTENT)
}

/// Keys that wait for an approval.
#[utoipa::path(get, operation_id = "list-pending-keys", tag = "guests", path = "/v1/pending", responses((status = 200, body = [PendingKey])))]
pub(super) async fn pending(
    State(manager): State<Arc<Manager>>,
    caller: Caller,
) -> Result<Json<Vec<PendingKey>>, ApiError> {
    let rows = caller.store(&manager).pending().await?;
    let show = |row: crate::store::PendingRow| PendingKey {
        guest: row.guest.to_string(),
        fingerprint: fingerprint(&row.key),
        met_at: row.met_at,
        seen_at_ms: row.seen_at_ms,
    };
    Ok(Json(rows.into_iter().map(show).collect()))
}

/// Approves the key that waits, or lifts a fence.
#[utoipa::path(post, operation_id = "approve-key", tag = "guests", path = "/v1/guests/{name}/approve", params(("name" = String, Path,), CauseHeaders), request_body = Approval,
    responses((status = 200, body = Guest), (status = 404), (status = 409)))]
pub(super) async fn approve(
    State(manager): State<Arc<Manager>>,
    caller: Caller,
    Told(cause): Told,
    Path(name): Path<String>,
    body: Body<Approval>,
) -> Result<Json<Guest>, ApiError> {
    let Json(approval) = body?;
    let store = caller.store_because(&manager, &cause);
    let row = store.approve(&caller.actor(), &name.parse()?, approval.fingerprint).await?;
    end_session(&manager, &row);
    Ok(Json(show_row(&manager, &row)))
}

/// Rejects the key that waits: its bearer is turned away until that very key is approved.
#[utoipa::path(post, operation_id = "reject-key", tag = "guests", path = "/v1/guests/{name}/reject", params(("name" = String, Path,), CauseHeaders), request_body = Rejection,
    responses((status = 200, body = Guest), (status = 404), (status = 409)))]
pub(super) async fn reject(
    State(manager): State<Arc<Manager>>,
    caller: Caller,
    Told(cause): Told,
    Path(name): Path<String>,
    body: Body<Rejection>,
) -> Result<Json<Guest>, ApiError> {
    let Json(rejection) = body?;
    let store = caller.store_because(&manager, &cause);
    let row = store.reject(&caller.actor(), &name.parse()?, rejection.fingerprint).await?;
    Ok(Json(show_row(&manager, &row)))
}

/// Notes a one-time token for a guest: whoever proves it has its own key taken for the guest's, once. One that was made before is
/// worth nothing any more.
#[utoipa::path(post, operation_id = "enrol-guest", tag = "guests", path = "/v1/guests/{name}/enrolment", params(("name" = String, Path,), CauseHeaders), request_body = NewEnrolment,
    responses((status = 200, body = Guest), (status = 400), (status = 404), (status = 409)))]
pub(super) async fn enrol(
    State(manager): State<Arc<Manager>>,
    caller: Caller,
    Told(cause): Told,
    Path(name): Path<String>,
    body: Body<NewEnrolment>,
) -> Result<Json<Guest>, ApiError> {
    let Json(new) = body?;
    let store = caller.store_because(&manager, &cause);
    let row = store.make_enrolment(&caller.actor(), &name.parse()?, enrolment(&new)?).await?;
    Ok(Json(show_row(&manager, &row)))
}

fn enrolment(new: &NewEnrolment) -> Result<store::NewEnrolment, ApiError> {
    let expires_in_ms = new.expires_in_ms.unwrap_or(ENROL_MS);
    Ok(store::NewEnrolment { token: new.token.parse::<PublicKey>()?, expires_in_ms })
}

/// How long a one-time token is good where nobody says: a day.
const ENROL_MS: u64 = 24 * 3_600_000;

/// An empty text is nobody.
fn owner(name: &str) -> Result<Option<TenantName>, ApiError> {
    if name.is_empty() { Ok(None) } else { Ok(Some(name.parse()?)) }
}

fn changed(what: &str, path: Option<String>) -> Result<Option<Option<PathBuf>>, ApiError> {
    match path {
        None => Ok(None),
        Some(path) if path.is_empty() => Ok(Some(None)),
        Some(path) => absolute(what, path).map(|path| Some(Some(path))),
    }
}

/// The agent comes back by itself, to the new place or with the new key.
fn end_session(manager: &Manager, row: &GuestRow) {
    manager.registry.close(row.id, Reason::GOODBYE);
}

fn show_row(manager: &Manager, row: &GuestRow) -> Guest {
    let (cid, hybrid_socket) = match &row.place {
        Place::Cid(cid) => (Some(u32::from(*cid)), None),
        Place::Hybrid(path) => (None, Some(path.display().to_string())),
        Place::Share(_) => (None, None),
    };
    Guest {
        name: row.name.to_string(),
        id: row.id.to_string(),
        cid,
        hybrid_socket,
        qmp: row.qmp.as_ref().map(|path| path.display().to_string()),
        tenant: row.tenant.as_ref().map(ToString::to_string),
        presence: manager.presence(row),
        power: manager.powers.of(row.id).map(|power| power.to_api()),
        fingerprint: row.key.as_ref().map(fingerprint),
        trust_first_key: row.trusts_first_key,
        enrolment_until_ms: row.enrolment_until_ms,
        rejected: row.rejected.iter().map(fingerprint).collect(),
        added_at_ms: row.added_at_ms,
        last_seen_ms: manager.last_seen_ms(row),
        agent: row.agent.clone(),
        concurrency: row.concurrency,
        open_requests: row.open_requests,
        share: row.share.as_ref().map(|path| path.display().to_string()),
        trigger: row.trigger,
        set_clock: row.set_clock,
        copy: row.copy.clone(),
        spool: manager.spool.as_ref().map(|spool| spool.home(&row.name).display().to_string()),
    }
}
