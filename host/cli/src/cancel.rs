//! `doorbell request cancel`: asks for a request's end and tells what really came of it.
//!
//! Station: receipt. A cancel races with the end of what it is to cancel; only the final state tells who won.

use crate::context::Context;
use crate::details::span;
use crate::failure::Failure;
use crate::text::{state, word};
use doorbell_client::api::guest::Presence;
use doorbell_client::api::request::{Request, State};
use std::time::Duration;

pub(crate) async fn run(context: &Context, id: &str) -> Result<(), Failure> {
    let asked = context.client.cancel(id).await?;
    if asked.state.is_final() {
        return context.show(&asked, told);
    }
    let guest = context.client.guest(&asked.guest).show().await?;
    // One that is away ends nothing before it is back.
    let patience = if guest.presence == Presence::Connected { PATIENCE } else { Duration::ZERO };
    let then = context.client.wait(&asked.id, Some(patience)).await?;
    context.show(&then, |request| {
        if request.state.is_final() || guest.presence == Presence::Connected {
            return told(request);
        }
        let presence = word(&guest.presence);
        format!("{}{} is not connected ({presence}): it ends when it is back\n", told(request), guest.name)
    })
}

fn told(request: &Request) -> String {
    let id = &request.id;
    let is = state(request.state).paint();
    let ran = request.receipt.as_ref().and_then(|receipt| receipt.ran);
    match (request.state, ran) {
        (State::Cancelled, Some(ran)) => {
            format!("request {id} was {is} after it ran for {}\n", span(ran.started_us, ran.ended_us))
        }
        (State::Cancelled, None) => format!("request {id} was {is} before it began\n"),
        (state, _) if state.is_final() && request.cancel_asked => {
            format!("request {id} ended by itself before the cancel did: it is {is}\n")
        }
        (state, _) if state.is_final() => {
            format!("request {id} had ended before: it is {is}, and nothing was cancelled\n")
        }
        _ => format!("asked for a cancel of request {id}, which is {is}\n"),
    }
}

/// How long the end of a program may take that does not want to end: its grace, its output's, and the way back.
const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::follow::tests::request;
    use doorbell_client::api::receipt::Ran;

    fn plain(request: &Request) -> String {
        console::strip_ansi_codes(&told(request)).into_owned()
    }

    #[test]
    fn a_cancel_is_told_by_what_came_of_it() {
        const ID: &str = "0123456789abcdef0123456789abcdef";
        let mut cancelled = request(State::Cancelled, None, None);
        assert_eq!(plain(&cancelled), format!("request {ID} was cancelled before it began\n"));
        let ran =
            Ran { started_us: 1_000_000, first_output_us: None, exited_us: 4_000_000, ended_us: 4_000_000 };
        cancelled.receipt.as_mut().expect("a receipt").ran = Some(ran);
        assert_eq!(plain(&cancelled), format!("request {ID} was cancelled after it ran for 3s\n"));
        let mut ended = request(State::Succeeded, Some(0), None);
        assert!(plain(&ended).ends_with("it is succeeded, and nothing was cancelled\n"), "{}", plain(&ended));
        ended.cancel_asked = true;
        assert!(plain(&ended).contains("ended by itself before the cancel did"), "{}", plain(&ended));
        let open = request(State::Started, None, None);
        assert_eq!(plain(&open), format!("asked for a cancel of request {ID}, which is started\n"));
    }
}
