//! `doorbell watch`: every state change as it happens, one line each.

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::follow;
use crate::table::{Cell, Tone};
use crate::text::{clock, plain, presence, short, state};
use doorbell_client::api::event::{Change, Event};
use futures_util::StreamExt as _;
use std::pin::pin;

pub(crate) async fn run(context: &Context) -> Result<Exit, Failure> {
    // From here on Ctrl-C is a wish to end, however early it comes.
    let mut interrupts = follow::interrupts()?;
    tokio::select! {
        ended = show_all(context) => ended.map(|()| Exit::Done),
        _ = interrupts.recv() => Ok(Exit::Done),
    }
}

/// Ends only with a failure: there are always more events, as long as there is a daemon.
async fn show_all(context: &Context) -> Result<(), Failure> {
    let mut events = pin!(context.client.events().await?);
    while let Some(event) = events.next().await {
        context.show_line(&event?, line)?;
    }
    Err(Failure::new(Exit::Daemon, "doorbelld ended the events; see `doorbell doctor`"))
}

fn line(event: &Event) -> String {
    let what = match &event.change {
        Change::Added => "added".to_owned(),
        Change::Removed => "removed".to_owned(),
        Change::Presence { presence: is, detail } => {
            let detail = detail.as_ref().map(|detail| format!(": {}", plain(detail)));
            format!("{}{}", presence(*is).paint(), detail.unwrap_or_default())
        }
        Change::Rung => "rung".to_owned(),
        Change::Pulled => "pulled".to_owned(),
        Change::Request { id, state: is } => format!("request {}  {}", plain(&short(id)), state(*is).paint()),
        Change::Missed { count } => {
            Cell::toned(format!("{count} events are missing here: this reader was too slow"), Tone::Bad)
                .paint()
        }
    };
    format!("{}  {}  {what}\n", clock(event.at_ms), plain(&event.guest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use doorbell_client::api::request::State;

    #[test]
    fn an_event_is_one_line_that_a_guest_cannot_break() {
        let id = "0123456789abcdef0123456789abcdef".to_owned();
        let change = Change::Request { id, state: State::TimedOut };
        let event = Event { at_ms: 1_700_000_000_123, guest: "web\n-3".to_owned(), change };
        let text = console::strip_ansi_codes(&line(&event)).into_owned();
        assert!(text.ends_with("  web\\n-3  request 0123456789ab  timed-out\n"), "{text:?}");
        assert!(text.contains(".123  "), "{text:?}");
    }
}
