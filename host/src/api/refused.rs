//! What the API refuses is in the audit trail: who asked, from which process, for what, and by which rule not.
//!
//! Around every call. A call that only looks is told of where its caller may not look; one that changes something,
//! wherever it is refused. Trusts nothing of the call; what is kept of it is bounded and escaped.

use super::caller::Caller;
use super::cause;
use super::error::Refused;
use super::peer::Peer;
use crate::access::Scope;
use crate::cause::Cause;
use crate::manager::Manager;
use crate::store::Refusal;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::Response;
use doorbell_api::error::ErrorCode;
use std::sync::Arc;

/// Answers a call, and tells the trail when it is refused.
pub(super) async fn witness(State(manager): State<Arc<Manager>>, request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<ConnectInfo<Peer>>().map(|ConnectInfo(peer)| peer.clone());
    let call = Call::of(&request);
    // Texts that are refused themselves are not kept.
    let cause = cause::of(request.headers()).unwrap_or_default();
    let response = next.run(request).await;
    if let (true, Some(peer)) = (response.status().is_client_error(), peer) {
        let refused = response.extensions().get::<Refused>();
        let code = refused.map(|refused| refused.body.code);
        let is_repeated = refused.is_some_and(|refused| refused.is_repeated);
        if (call.changes || code.is_some_and(is_of_the_gate)) && !is_repeated {
            let rule = refused.map_or_else(
                || response.status().to_string(),
                |refused| format!("{}: {}", refused.body.code.word(), refused.body.message),
            );
            let caller = response.extensions().get::<Caller>();
            tell(&manager, caller, &peer, &cause, call.refusal(code, &rule, &peer)).await;
        }
    }
    response
}

/// Refusals that are told of whatever was asked for.
const fn is_of_the_gate(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::Forbidden | ErrorCode::Unauthenticated | ErrorCode::RateLimited)
}

async fn tell(manager: &Manager, caller: Option<&Caller>, peer: &Peer, cause: &Cause, refusal: Refusal) {
    if crate::planted::is("G12") {
        return;
    }
    // Whoever was not recognised has no tenant, and is told of to those who see all.
    let (actor, scope) =
        caller.map_or_else(|| (peer.actor(), Scope::All), |caller| (caller.actor(), caller.scope()));
    let store = manager.store.because(cause).within(scope);
    if let Err(error) = store.refused(&actor, refusal).await {
        tracing::warn!(error = error.whole(), "a refused call is not in the audit trail");
    }
}

/// A call, as far as the trail tells of it.
struct Call {
    method: Method,
    path: String,
    changes: bool,
}

impl Call {
    fn of(request: &Request) -> Self {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        // A backup is everything that the manager knows.
        let changes = !matches!(method, Method::GET | Method::HEAD) || path == "/v1/backup";
        Self { method, path, changes }
    }

    fn refusal(&self, code: Option<ErrorCode>, rule: &str, peer: &Peer) -> Refusal {
        let stranger = code.is_some_and(is_of_the_gate);
        let guest =
            self.path.strip_prefix("/v1/guests/").and_then(|rest| rest.split('/').next()?.parse().ok());
        let what = format!("{} {}: {rule}", self.method, self.path);
        Refusal {
            event: match code {
                Some(ErrorCode::Forbidden) => "call-forbidden",
                Some(ErrorCode::Unauthenticated) => "call-unauthenticated",
                Some(ErrorCode::RateLimited) => "call-too-many",
                Some(_) | None => "call-refused",
            },
            guest,
            what: what.chars().take(WHAT_MAX).collect::<String>().escape_debug().to_string(),
            from: peer.place(),
            by_guest: !stranger,
        }
    }
}

/// Characters that are kept of what was asked for and why it was refused.
const WHAT_MAX: usize = 300;
