//! What the API refuses is in the audit trail: who asked, from which process, for what, and by which rule not.
//!
//! Around every call. A call that only looks is told of where its caller may not look; one that changes something,
//! wherever it is refused. Trusts nothing of the call; what is kept of it is bounded and escaped.

use super::caller::Caller;
use super::cause;
use super::error::Refused;
use crate::manager::Manager;
use crate::store::Refusal;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, Method};
use axum::middleware::Next;
use axum::response::Response;
use doorbell_api::error::ErrorCode;
use std::sync::Arc;

/// Answers a call, and tells the trail when it is refused.
pub(super) async fn witness(State(manager): State<Arc<Manager>>, request: Request, next: Next) -> Response {
    let caller = request.extensions().get::<ConnectInfo<Caller>>().map(|ConnectInfo(caller)| *caller);
    let call = Call::of(&request);
    let headers = request.headers().clone();
    let response = next.run(request).await;
    if let (true, Some(caller)) = (response.status().is_client_error(), caller) {
        let refused = response.extensions().get::<Refused>();
        let code = refused.map(|refused| refused.0.code);
        if call.changes || code == Some(ErrorCode::Forbidden) {
            let rule = refused.map_or_else(
                || response.status().to_string(),
                |refused| format!("{}: {}", refused.0.code.word(), refused.0.message),
            );
            tell(&manager, caller, &headers, call.refusal(code, &rule, caller)).await;
        }
    }
    response
}

async fn tell(manager: &Manager, caller: Caller, headers: &HeaderMap, refusal: Refusal) {
    // Texts that are refused themselves are not kept.
    let store = manager.store.because(&cause::of(headers).unwrap_or_default());
    if let Err(error) = store.refused(&caller.actor(), refusal).await {
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

    fn refusal(&self, code: Option<ErrorCode>, rule: &str, caller: Caller) -> Refusal {
        let stranger = code == Some(ErrorCode::Forbidden);
        let guest =
            self.path.strip_prefix("/v1/guests/").and_then(|rest| rest.split('/').next()?.parse().ok());
        let what = format!("{} {}: {rule}", self.method, self.path);
        Refusal {
            event: if stranger { "call-forbidden" } else { "call-refused" },
            guest,
            what: what.chars().take(WHAT_MAX).collect::<String>().escape_debug().to_string(),
            from: caller.process().map_or_else(String::new, |pid| format!(", from process {pid}")),
            by_guest: !stranger,
        }
    }
}

/// Characters that are kept of what was asked for and why it was refused.
const WHAT_MAX: usize = 300;
