//! Who calls, by the kernel's word.
//!
//! Every handler gets a [`Caller`]; [`allow`] lets only the manager's own user, root and the configured
//! group through, whatever the socket's mode has become.

use super::error::ApiError;
use crate::actor::Actor;
use crate::manager::Manager;
use axum::extract::connect_info::{ConnectInfo, Connected};
use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::Response;
use axum::serve::IncomingStream;
use doorbell_api::error::ErrorCode;
use nix::unistd::{Uid, User};
use std::sync::Arc;
use tokio::net::UnixListener;

/// A process at the other end of the API's socket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caller {
    credentials: Option<(u32, u32)>,
    process: Option<i32>,
}

impl Connected<IncomingStream<'_, UnixListener>> for Caller {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        let peer = stream.io().peer_cred().ok();
        Self {
            credentials: peer.map(|peer| (peer.uid(), peer.gid())),
            process: peer.and_then(|peer| peer.pid()),
        }
    }
}

impl Caller {
    /// Who it is in receipts and audit trail.
    pub(super) fn actor(self) -> Actor {
        Actor::of_uid(self.credentials.map_or(u32::MAX, |(uid, _)| uid))
    }

    /// The process that connected.
    pub(super) const fn process(self) -> Option<i32> {
        self.process
    }

    fn is_allowed(self, api_gid: Option<u32>) -> bool {
        self.credentials.is_some_and(|(uid, gid)| {
            uid == 0
                || uid == Uid::effective().as_raw()
                || api_gid.is_some_and(|allowed| is_in_group(uid, gid, allowed))
        })
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        ConnectInfo::<Self>::from_request_parts(parts, state)
            .await
            .map(|ConnectInfo(caller)| caller)
            .map_err(|_| ApiError::new(ErrorCode::Forbidden, "the kernel does not say who calls".into()))
    }
}

/// Lets a call through, or not.
pub(super) async fn allow(
    State(manager): State<Arc<Manager>>,
    caller: Caller,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    if caller.is_allowed(manager.config.api_gid) {
        return Ok(next.run(request).await);
    }
    let text = format!("{} may not use this manager; ask root, or be in its api group", caller.actor());
    Err(ApiError::new(ErrorCode::Forbidden, text))
}

/// The peer's main group comes with its credentials; the others are in the group data base.
fn is_in_group(uid: u32, gid: u32, allowed: u32) -> bool {
    let members = || nix::unistd::Group::from_gid(nix::unistd::Gid::from_raw(allowed)).ok().flatten();
    let name = || User::from_uid(Uid::from_raw(uid)).ok().flatten().map(|user| user.name);
    gid == allowed || members().zip(name()).is_some_and(|(group, name)| group.mem.contains(&name))
}
