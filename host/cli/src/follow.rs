//! Follows a request to its end: output as it comes, Ctrl-C as a cancel, the exit status from the outcome.
//!
//! Stations: acknowledgement and receipt, as the operator sees them. Called by `run`, `link` and `request`.

use crate::context::{Context, unwritten};
use crate::exit::Exit;
use crate::failure::{Failure, describe};
use crate::text::word;
use base64ct::{Base64, Encoding as _};
use bytes::Bytes;
use doorbell_client::Stream;
use doorbell_client::api::guest::Presence;
use doorbell_client::api::request::{Request, State};
use futures_util::StreamExt as _;
use serde::Serialize;
use std::io::IsTerminal as _;
use std::pin::pin;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Something that happened, as `--json` shows it.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub(crate) enum Happened<'a> {
    /// The manager has the request on disk.
    Accepted { request: &'a Request },
    /// The program printed. `text` where the bytes are UTF-8, else `base64`.
    Output {
        stream: &'static str,
        offset: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        text: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        base64: Option<String>,
    },
    /// The request has a final state.
    Ended { request: &'a Request },
}

/// Waits for a request's end, with its output if that is wanted. Ctrl-C asks for a cancel, twice leaves it.
pub(crate) async fn to_the_end(
    context: &Context,
    request: &Request,
    output: bool,
) -> Result<Request, Failure> {
    let interrupts = interrupts()?;
    let end = async {
        say_if_absent(context, &request.guest).await?;
        if output {
            let stdout = copy(context, &request.id, Stream::Stdout, 0, true);
            let stderr = copy(context, &request.id, Stream::Stderr, 0, true);
            tokio::try_join!(stdout, stderr)?;
        }
        Ok(context.client.wait(&request.id, None).await?)
    };
    tokio::select! {
        ended = end => ended.map_err(|failure: Failure| failure.of_request(&request.id)),
        left = interrupted(context, &request.id, interrupts) => Err(left),
    }
}

/// Every Ctrl-C from now on.
pub(crate) fn interrupts() -> Result<Signal, Failure> {
    signal(SignalKind::interrupt())
        .map_err(|error| Failure::new(Exit::Daemon, format!("cannot listen for Ctrl-C: {error}")))
}

/// Copies output to our own stream of the same name, byte for byte, each piece at once.
pub(crate) async fn copy(
    context: &Context,
    id: &str,
    stream: Stream,
    mut offset: u64,
    follow: bool,
) -> Result<(), Failure> {
    let mut out: Box<dyn AsyncWrite + Unpin> = match stream {
        Stream::Stdout => Box::new(tokio::io::stdout()),
        Stream::Stderr => Box::new(tokio::io::stderr()),
    };
    let mut pieces = pin!(context.client.output(id, stream, offset, follow));
    while let Some(piece) = pieces.next().await {
        let piece = piece?;
        if context.json {
            context.show_line(&as_json(stream, offset, &piece), |_| String::new())?;
        } else {
            let written = async { out.write_all(&piece).await.and(out.flush().await) };
            // The program runs on in the guest: that nobody reads says nothing of its outcome.
            written.await.map_err(|error| unwritten(&error, Exit::Unconfirmed))?;
        }
        offset = offset.saturating_add(piece.len() as u64);
    }
    Ok(())
}

/// The exit status of a request that was waited for; what its exit status alone does not tell is said.
pub(crate) fn outcome(request: &Request) -> Result<Exit, Failure> {
    let exit = Exit::of_request(request);
    if matches!(request.state, State::Succeeded | State::Failed) {
        return Ok(exit);
    }
    if request.state.is_final() {
        return Err(Failure::new(exit, sentence(request)));
    }
    let (id, state) = (&request.id, word(&request.state));
    Err(Failure::new(exit, format!("request {id} is still {state}: wait again, or cancel it")))
}

/// Tells somebody at a terminal why nothing happens yet.
async fn say_if_absent(context: &Context, guest: &str) -> Result<(), Failure> {
    if context.json || !std::io::stderr().is_terminal() {
        return Ok(());
    }
    let found = context.client.guest(guest).show().await?;
    if found.presence != Presence::Connected {
        let presence = word(&found.presence);
        say(&format!(
            "{guest} is not connected ({presence}): the request waits for it; Ctrl-C asks for a cancel"
        ))
        .await;
    }
    Ok(())
}

/// Output that was lost must not pass for output that never was.
pub(crate) async fn say_if_lost(request: &Request) {
    let Some(receipt) = &request.receipt else { return };
    for (name, total) in [("standard output", receipt.stdout), ("standard error", receipt.stderr)] {
        if total.lost > 0 {
            say(&format!("{} bytes of {name} were lost", total.lost)).await;
        }
    }
}

/// Ends only when the user has had enough: with the second Ctrl-C.
async fn interrupted(context: &Context, id: &str, mut interrupts: Signal) -> Failure {
    interrupts.recv().await;
    say(&format!("asked for a cancel of request {id}; Ctrl-C again leaves it to itself")).await;
    let refused = async {
        if let Err(error) = context.client.cancel(id).await {
            say(&format!("it could not be cancelled: {}", describe(&error))).await;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = refused => {}
        _ = interrupts.recv() => {}
    }
    Failure::new(Exit::Unconfirmed, format!("left request {id} to itself; see `doorbell request wait {id}`"))
}

async fn say(line: &str) {
    let line = format!("doorbell: {}\n", crate::text::plain(line));
    // Where nobody reads any more, there is nobody to tell.
    let _ = tokio::io::stderr().write_all(line.as_bytes()).await;
}

fn sentence(request: &Request) -> String {
    let receipt = request.receipt.as_ref();
    let signal = receipt.and_then(|receipt| receipt.signal).map(|signal| format!(" by signal {signal}"));
    let detail = receipt.and_then(|receipt| receipt.detail.as_ref()).map(|detail| format!(": {detail}"));
    let state = word(&request.state);
    format!("request {} is {state}{}{}", request.id, signal.unwrap_or_default(), detail.unwrap_or_default())
}

fn as_json(stream: Stream, offset: u64, piece: &Bytes) -> Happened<'_> {
    let text = std::str::from_utf8(piece).ok();
    let base64 = text.is_none().then(|| Base64::encode_string(piece));
    Happened::Output { stream: stream.as_str(), offset, text, base64 }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use doorbell_client::api::receipt::Receipt;

    pub(crate) fn request(state: State, exit_code: Option<u8>, signal: Option<u8>) -> Request {
        let mut request: Request = serde_json::from_value(serde_json::json!({
            "id": "0123456789abcdef0123456789abcdef", "guest": "web-3", "sequence": 1,
            "action": {"type": "run", "command": "true"}, "state": "queued", "asked_by": "uid 0 (root)",
            "accepted_at_ms": 1_700_000_000_000_u64, "cancel_asked": false, "offers": 1,
        }))
        .expect("a request");
        let receipt: Receipt = serde_json::from_value(serde_json::json!({
            "stored_at_ms": 1_700_000_000_001_u64, "exit_code": exit_code, "signal": signal, "audit_hash": "00",
            "stdout": {"bytes": 0, "lost": 0}, "stderr": {"bytes": 0, "lost": 0}, "detail": "why",
        }))
        .expect("a receipt");
        request.state = state;
        request.receipt = state.is_final().then_some(receipt);
        request
    }

    #[test]
    fn what_the_status_alone_does_not_tell_is_said_once() {
        assert_eq!(outcome(&request(State::Failed, Some(3), None)).map(Exit::code).expect("silent"), 3);
        let told = outcome(&request(State::Killed, None, Some(9))).expect_err("told");
        assert_eq!(told.line(), "request 0123456789abcdef0123456789abcdef is killed by signal 9: why");
        assert_eq!(told.exit().code(), 137);
        let open = outcome(&request(State::Started, None, None)).expect_err("told");
        assert!(open.line().ends_with("is still started: wait again, or cancel it"), "{}", open.line());
    }

    #[test]
    fn bytes_that_are_no_text_survive_json() {
        let text = serde_json::to_string(&as_json(Stream::Stdout, 0, &Bytes::from("grün\n"))).expect("json");
        assert_eq!(text, r#"{"type":"output","stream":"stdout","offset":0,"text":"grün\n"}"#);
        let bytes = Bytes::from_static(&[0xff, 0, 0xc3]);
        let text = serde_json::to_string(&as_json(Stream::Stderr, 7, &bytes)).expect("json");
        assert_eq!(text, r#"{"type":"output","stream":"stderr","offset":7,"base64":"/wDD"}"#);
    }
}
