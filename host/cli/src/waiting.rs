//! Why nothing happens yet, said once: a request that waits must not look like a command that hangs.
//!
//! Called by `follow`, on a terminal and off it. Says nothing of a request that is under way.

use crate::context::Context;
use crate::failure::Failure;
use crate::follow::say;
use doorbell_client::api::guest::{Guest, Presence};
use doorbell_client::api::request::{Request, State};
use std::time::Duration;

/// Says one line after a while, where the request waits. Never ends.
pub(crate) async fn tell(context: &Context, id: &str) -> Failure {
    tokio::time::sleep(PATIENCE).await;
    if let Some(line) = why(context, id).await {
        say(&line).await;
    }
    std::future::pending().await
}

async fn why(context: &Context, id: &str) -> Option<String> {
    // A manager that does not answer is the affair of the calls that need its answers.
    let request = context.client.request(id).await.ok()?;
    if !matches!(request.state, State::Queued | State::Held) {
        return None;
    }
    let guest = context.client.guest(&request.guest).show().await.ok()?;
    Some(line(&request, &guest))
}

fn line(request: &Request, guest: &Guest) -> String {
    let name = &guest.name;
    if let Some(what) = &request.waits_for {
        return format!("waiting for {what} (request {})", request.id);
    }
    let why = match guest.presence {
        Presence::Connected => match guest.open_requests.saturating_sub(1) {
            0 => format!("{name} is connected and has not taken it yet"),
            1 => format!("{name} is connected and has another request to finish"),
            others => format!("{name} is connected and has {others} other requests"),
        },
        Presence::Silent => format!("{name} is connected and says nothing"),
        Presence::Polling => format!("{name} has not asked yet; it asks on a timer"),
        Presence::Paused => format!("{name} is paused"),
        Presence::Off => format!("{name} is off"),
        Presence::Never => format!("{name} was never connected"),
        Presence::Gone => format!("{name} is not connected"),
        Presence::Pending => format!("the key of {name} is not approved; see `doorbell guest pending`"),
        Presence::Fenced => format!("{name} is fenced; see `doorbell guest show {name}`"),
    };
    format!("waiting: {why} (request {})", request.id)
}

/// How long silence looks like work.
const PATIENCE: Duration = Duration::from_secs(2);
