//! Why nothing happens yet, said once: a request that waits must not look like a command that hangs.
//!
//! Called by `follow`, on a terminal and off it. Says nothing of a request that is under way.

use crate::context::Context;
use crate::failure::Failure;
use crate::follow::say;
use crate::text::{plain, word};
use doorbell_client::ClientError;
use doorbell_client::api::event::{Change, Event};
use doorbell_client::api::guest::{Guest, Presence};
use doorbell_client::api::request::{Request, State};
use futures_util::{Stream, StreamExt as _};
use std::pin::pin;
use std::time::Duration;

/// Says one line after a while, where the request waits; then one whenever it is held, and when it is not any
/// longer. Never ends.
pub(crate) async fn tell(context: &Context, id: &str) -> Failure {
    tokio::time::sleep(PATIENCE).await;
    // Before the look, so that no change falls between.
    let events = context.client.events().await;
    // A manager that does not answer is the affair of the calls that need its answers.
    if let Ok(request) = context.client.request(id).await {
        tell_why(context, &request).await;
        if let Ok(events) = events {
            tell_holds(context, &request, events).await;
        }
    }
    std::future::pending().await
}

async fn tell_why(context: &Context, request: &Request) {
    if !matches!(request.state, State::Unapproved | State::Queued | State::Held) {
        return;
    }
    if let Ok(guest) = context.client.guest(&request.guest).show().await {
        say(&line(request, &guest)).await;
    }
}

async fn tell_holds(
    context: &Context,
    request: &Request,
    events: impl Stream<Item = Result<Event, ClientError>>,
) {
    let mut events = pin!(events);
    let mut held = request.state == State::Held;
    while let Some(Ok(event)) = events.next().await {
        let Change::Request { id, state } = event.change else { continue };
        if id != request.id || held == (state == State::Held) {
            continue;
        }
        held = !held;
        if held {
            tell_why(context, &Request { state, ..request.clone() }).await;
        } else if !state.is_final() {
            say(&format!("{} goes on (request {id})", request.guest)).await;
        }
    }
}

fn line(request: &Request, guest: &Guest) -> String {
    let name = &guest.name;
    if request.state == State::Unapproved {
        let id = &request.id;
        return format!("waiting for a second person: `doorbell request approve {id}`, or `refuse`");
    }
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
        Presence::Paused | Presence::Off => stands(guest),
        Presence::Never => format!("{name} was never connected"),
        Presence::Gone => format!("{name} is not connected"),
        Presence::Pending => format!("the key of {name} is not approved; see `doorbell guest pending`"),
        Presence::Fenced => format!("{name} is fenced; see `doorbell guest show {name}`"),
    };
    format!("waiting: {why} (request {})", request.id)
}

fn stands(guest: &Guest) -> String {
    let (name, is) = (&guest.name, word(&guest.presence));
    match &guest.power {
        Some(power) if power.status != is => format!("{name} is {is} ({})", plain(&power.status)),
        Some(_) | None => format!("{name} is {is}"),
    }
}

/// How long silence looks like work.
const PATIENCE: Duration = Duration::from_secs(2);
