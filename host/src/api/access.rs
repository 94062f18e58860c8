//! Tenants and principals: add, list, remove, revoke.

use super::caller::Caller;
use super::cause::{CauseHeaders, Told};
use super::error::ApiError;
use crate::access::token::{self, PrincipalId};
use crate::access::{Label, NoLabel, TenantName};
use crate::manager::Manager;
use crate::store::{AddPrincipal, KnownPrincipal};
use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use doorbell_api::access::{Credential, Granted, NewPrincipal, NewTenant, Principal, Tenant};
use std::sync::Arc;

type Body<T> = Result<Json<T>, JsonRejection>;

impl From<NoLabel> for ApiError {
    fn from(error: NoLabel) -> Self {
        Self::invalid(error.to_string())
    }
}

/// The tenants that the caller may see.
#[utoipa::path(get, operation_id = "list-tenants", tag = "access", path = "/v1/tenants", responses((status = 200, body = [Tenant])))]
pub(super) async fn list_tenants(
    State(manager): State<Arc<Manager>>,
    caller: Caller,
) -> Result<Json<Vec<Tenant>>, ApiError> {
    Ok(Json(caller.store(&manager).tenants().await?))
}

/// Adds a tenant.
#[utoipa::path(post, operation_id = "add-tenant", tag = "access", path = "/v1/tenants", params(CauseHeaders), request_body = NewTenant,
    responses((status = 201, body = Tenant), (status = 400), (status = 409)))]
pub(super) async fn add_tenant(
    State(manager): State<Arc<Manager>>,
    caller: Caller,
    Told(cause): Told,
    body: Body<NewTenant>,
) -> Result<(StatusCode, Json<Tenant>), ApiError> {
    let Json(new) = body?;
    let store = caller.store_because(&manager, &cause);
    let tenant = store.add_tenant(&caller.actor(), new.name.parse()?).await?;
    Ok((StatusCode::CREATED, Json(tenant)))
}

/// Removes a tenant that owns nothing any longer.
#[utoipa::path(delete, operation_id = "remove-tenant", tag = "access", path = "/v1/tenants/{name}", params(("name" = String, Path,), CauseHeaders),
    responses((status = 204), (status = 404), (status = 409)))]
pub(super) async fn remove_tenant(
    State(manager): State<Arc<Manager>>,
    caller: Caller,
    Told(cause): Told,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    let store = caller.store_because(&manager, &cause);
    store.remove_tenant(&caller.actor(), name.parse()?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Everybody who is known by a token or a certificate, revoked ones too.
#[utoipa::path(get, operation_id = "list-principals", tag = "access", path = "/v1/principals", responses((status = 200, body = [Principal])))]
pub(super) async fn list_principals(
    State(manager): State<Arc<Manager>>,
    caller: Caller,
) -> Result<Json<Vec<Principal>>, ApiError> {
    let rows = caller.store(&manager).principals().await?;
    Ok(Json(rows.iter().map(crate::store::PrincipalRow::to_api).collect()))
}

/// Adds a principal. A token is in the answer this once, and nowhere else.
#[utoipa::path(post, operation_id = "add-principal", tag = "access", path = "/v1/principals", params(CauseHeaders), request_body = NewPrincipal,
    responses((status = 201, body = Granted), (status = 400), (status = 403), (status = 404), (status = 409)))]
pub(super) async fn add_principal(
    State(manager): State<Arc<Manager>>,
    caller: Caller,
    Told(cause): Told,
    body: Body<NewPrincipal>,
) -> Result<(StatusCode, Json<Granted>), ApiError> {
    let Json(new) = body?;
    let name: Label = new.name.parse()?;
    let tenant = tenant_of(&caller, new.tenant.as_deref())?;
    check_actions(&caller, &new)?;
    let id = PrincipalId::draw()?;
    let (known, token) = match new.credential {
        Credential::Token => {
            let (token, hash) = token::make(id)?;
            (KnownPrincipal::Token(hash), Some(token))
        }
        credential @ (Credential::CertSha256 { .. } | Credential::CertDns { .. }) => {
            // The authority for clients is the host's, and so is what its certificates say.
            caller.check_sees_all("say whose a certificate is")?;
            (certificate(credential)?, None)
        }
    };
    let (role, actions, expires_in_ms) = (new.role, new.actions, new.expires_in_ms);
    let add = AddPrincipal { id, name, known, tenant, role, actions, expires_in_ms };
    let row = caller.store_because(&manager, &cause).add_principal(&caller.actor(), add).await?;
    Ok((StatusCode::CREATED, Json(Granted { principal: row.to_api(), token })))
}

/// Revokes a principal: from the next call on it is unknown.
#[utoipa::path(delete, operation_id = "revoke-principal", tag = "access", path = "/v1/principals/{id}", params(("id" = String, Path, description = "16 hexadecimal digits"), CauseHeaders),
    responses((status = 200, body = Principal), (status = 404)))]
pub(super) async fn revoke_principal(
    State(manager): State<Arc<Manager>>,
    caller: Caller,
    Told(cause): Told,
    Path(id): Path<String>,
) -> Result<Json<Principal>, ApiError> {
    let row = caller.store_because(&manager, &cause).revoke(&caller.actor(), &id).await?;
    Ok(Json(row.to_api()))
}

/// Whoever belongs to a tenant gives rights in that one only.
fn tenant_of(caller: &Caller, asked: Option<&str>) -> Result<Option<TenantName>, ApiError> {
    let asked = asked.map(str::parse).transpose()?;
    let own = caller.principal().tenant.clone();
    if own.is_some() && asked.is_some() && own != asked {
        return Err(caller.forbidden("may not give rights in another tenant"));
    }
    Ok(own.or(asked))
}

/// Nobody gives what he has not: a limit to certain actions is handed on. A role is, as only an admin comes here.
fn check_actions(caller: &Caller, new: &NewPrincipal) -> Result<(), ApiError> {
    let Some(own) = &caller.principal().actions else { return Ok(()) };
    let Some(asked) = &new.actions else {
        return Err(caller.forbidden("is limited to certain actions and may not give all"));
    };
    match asked.iter().find(|action| !own.contains(action)) {
        None => Ok(()),
        Some(action) => caller.check_action(*action),
    }
}

fn certificate(credential: Credential) -> Result<KnownPrincipal, ApiError> {
    match credential {
        Credential::CertSha256 { fingerprint } => {
            // As openssl prints it, with colons, it is the same one.
            let digits = fingerprint.replace(':', "").to_ascii_lowercase();
            let is_whole = digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
            if is_whole {
                return Ok(KnownPrincipal::CertSha256(digits));
            }
            Err(ApiError::invalid("the fingerprint of a certificate has 64 hexadecimal digits"))
        }
        Credential::CertDns { name } => {
            let name = name.to_ascii_lowercase();
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
            if !name.is_empty() && name.len() <= DNS_LEN_MAX && name.bytes().all(plain) {
                return Ok(KnownPrincipal::CertDns(name));
            }
            Err(ApiError::invalid("a certificate's name is a DNS name without a wildcard"))
        }
        Credential::Token => Err(ApiError::invalid("a token is no certificate")),
    }
}

const DNS_LEN_MAX: usize = 253;
