//! The one place where it is decided who a caller is and whether the call is let through.
//!
//! Around every call. A token decides where one is shown, also for root: whoever shows it wants to be no more than it
//! allows. Without one it is the kernel's word on this host's socket, and the certificate over TLS. What comes of it
//! goes to the handler as a [`Caller`] and with the answer to whoever keeps the trail.

use super::caller::Caller;
use super::error::ApiError;
use super::needs::{self, Need, Reach};
use super::peer::{self, Peer, Standing};
use crate::access::rates::TooMany;
use crate::access::token::Shown;
use crate::access::{Counted, Principal};
use crate::actor::Actor;
use crate::manager::Manager;
use crate::store::{KnownPrincipal, PrincipalRow};
use crate::time::unix_ms;
use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use doorbell_api::error::ErrorCode;
use std::sync::Arc;

/// Lets a call through, or not.
pub(super) async fn judge(
    State(manager): State<Arc<Manager>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    mut request: Request,
    next: Next,
) -> Response {
    let caller = match recognise(&manager, &peer, request.headers()).await {
        Ok(principal) => Caller::new(principal),
        Err(error) => return error.into_response(),
    };
    let mut response = match permit(&manager, &caller, &request) {
        Ok(()) => {
            request.extensions_mut().insert(caller.clone());
            next.run(request).await
        }
        Err(error) => error.into_response(),
    };
    response.extensions_mut().insert(caller);
    response
}

/// Who calls.
async fn recognise(manager: &Arc<Manager>, peer: &Peer, headers: &HeaderMap) -> Result<Principal, ApiError> {
    let stranger = match peer {
        Peer::Here { .. } => None,
        Peer::There { address, .. } => Some(Counted::Stranger(address.ip())),
    };
    let known = match (bearer(headers), peer) {
        (Some(token), _) => by_token(manager, peer, token).await,
        (None, Peer::Here { credentials, .. }) => by_kernel(manager, peer, *credentials),
        (None, Peer::There { certificate, .. }) => {
            by_certificate(manager, peer, certificate.as_deref()).await
        }
    };
    // Behind the look: whoever has a token is served, however many try in vain from the same address.
    if let (Err(_), Some(stranger)) = (&known, &stranger) {
        manager.rates.take(stranger).map_err(too_many)?;
    }
    known
}

/// Whether this caller may make this call now.
fn permit(manager: &Manager, caller: &Caller, request: &Request) -> Result<(), ApiError> {
    manager.rates.take(&caller.principal().counted).map_err(too_many)?;
    let Some(path) = request.extensions().get::<MatchedPath>() else {
        // There is nothing at that place, and it says so to whoever is known.
        return Ok(());
    };
    let Some(need) = needs::of(request.method(), path.as_str()) else {
        let text =
            format!("there is no {} {} in this API; see /openapi.json", request.method(), path.as_str());
        return Err(ApiError::new(ErrorCode::NotFound, text));
    };
    check(caller, need)
}

fn check(caller: &Caller, need: Need) -> Result<(), ApiError> {
    if need.reach == Reach::All {
        caller.check_sees_all("do what concerns the whole manager")?;
    }
    caller.check_role(need.role, || {
        format!("do this as {:?}: it needs {:?}", caller.principal().role, need.role).to_lowercase()
    })
}

fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    headers.get(AUTHORIZATION).map(|value| value.as_bytes())
}

async fn by_token(manager: &Arc<Manager>, peer: &Peer, header: &[u8]) -> Result<Principal, ApiError> {
    let token = std::str::from_utf8(header).ok().and_then(|text| text.strip_prefix("Bearer "));
    let shown =
        token.and_then(Shown::read).ok_or_else(|| unknown("what is shown is no token of this manager"))?;
    let row = manager.store.bearer(shown).await?.ok_or_else(|| unknown("nobody has this token"))?;
    admitted(manager, peer, row, "token")
}

async fn by_certificate(
    manager: &Arc<Manager>,
    peer: &Peer,
    certificate: Option<&peer::Certificate>,
) -> Result<Principal, ApiError> {
    let Some(certificate) = certificate else {
        return Err(unknown("no token is shown, and no certificate"));
    };
    let found = manager.store.holder(certificate.fingerprint.clone(), certificate.names.clone()).await?;
    let row = found.ok_or_else(|| unknown("nobody is known by this certificate"))?;
    admitted(manager, peer, row, "certificate")
}

fn by_kernel(manager: &Manager, peer: &Peer, credentials: Option<(u32, u32)>) -> Result<Principal, ApiError> {
    let standing = credentials.and_then(|credentials| peer::allowed(credentials, manager.config.api_gid));
    let uid = credentials.map_or(u32::MAX, |(uid, _)| uid);
    match standing {
        Some(Standing::Owner) => Ok(Principal::of_uid(uid, Counted::Not)),
        Some(Standing::Member) => Ok(Principal::of_uid(uid, Counted::Uid(uid))),
        None => {
            let text = format!(
                "{} may not use this manager; ask root, be in its api group, or show a token",
                peer.actor()
            );
            Err(ApiError::new(ErrorCode::Forbidden, text))
        }
    }
}

/// Whoever has proved to be this principal, as long as it is one. Only such a one is told why it is none any longer.
fn admitted(
    manager: &Arc<Manager>,
    peer: &Peer,
    row: PrincipalRow,
    by: &'static str,
) -> Result<Principal, ApiError> {
    let now = unix_ms();
    if let Some(at) = row.revoked_at_ms {
        return Err(unknown(&format!("{by} {} was revoked at {}", row.id, crate::time::shown(at))));
    }
    if let Some(at) = row.expires_at_ms.filter(|at| *at <= now) {
        return Err(unknown(&format!("{by} {} has expired at {}", row.id, crate::time::shown(at))));
    }
    if row.last_used_ms.is_none_or(|at| at.saturating_add(USED_EVERY_MS) <= now) {
        let (manager, id) = (Arc::clone(manager), row.id);
        tokio::spawn(async move {
            if let Err(error) = manager.store.principal_used(id).await {
                tracing::warn!(%id, error = error.whole(), "that a principal is in use is not kept");
            }
        });
    }
    let from = match peer {
        Peer::Here { .. } => None,
        Peer::There { address, .. } => Some(address.ip()),
    };
    let (id, name, tenant) = (row.id.to_string(), row.name, row.tenant.clone());
    let counted = Counted::Principal(id.clone());
    let actor = Actor::Principal { by, id, name, tenant, from };
    debug_assert_eq!(by == "token", matches!(row.known, KnownPrincipal::Token(_)));
    Ok(Principal { actor, tenant: row.tenant, role: row.role, actions: row.actions, counted })
}

fn unknown(why: &str) -> ApiError {
    ApiError::new(ErrorCode::Unauthenticated, format!("{why}; show one with --token-file"))
}

fn too_many(refused: TooMany) -> ApiError {
    ApiError::too_many(refused.again_in, refused.is_first)
}

/// How exactly it is known when a principal was last used: each time costs a write.
const USED_EVERY_MS: u64 = 60_000;
