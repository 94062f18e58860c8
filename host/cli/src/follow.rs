//! Follows a request to its end: output as it comes, input as it is typed, Ctrl-C as a cancel.
//!
//! Stations: acknowledgement and receipt, as the operator sees them. Called by `run`, `attach`, `link` and
//! whatever else waits for a request.

use crate::context::{Context, unwritten};
use crate::exit::Exit;
use crate::failure::{Failure, describe};
use crate::feed::{Feed, left};
use crate::kept::{Kept, Shown, text_or_base64};
use crate::terminal;
use crate::waiting;
use bytes::Bytes;
use doorbell_client::api::request::Request;
use doorbell_client::{ClientError, Stream};
use futures_util::StreamExt as _;
use serde::Serialize;
use std::pin::pin;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::signal::unix::{Signal, SignalKind, signal};

pub(crate) use crate::outcome::outcome;

/// What is wanted of a request beside its end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    /// Output, from these places on.
    pub(crate) output: Option<Offsets>,
    /// What it gets from our standard input.
    pub(crate) feed: Feed,
}

/// The first byte wanted of each stream.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Offsets {
    pub(crate) stdout: u64,
    pub(crate) stderr: u64,
}

/// A request that has its final state, and the beginning of its output where `--json` wants it.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) request: Request,
    stdout: Kept,
    stderr: Kept,
}

/// The document that `--json` prints of a request that was followed to its end.
#[derive(Debug, Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    request: &'a Request,
    exit_status: u8,
    exit_code: Option<u8>,
    signal: Option<u8>,
    output: Outputs<'a>,
}

#[derive(Debug, Serialize)]
struct Outputs<'a> {
    stdout: Shown<'a>,
    stderr: Shown<'a>,
}

impl Ended {
    /// Prints the document where one is wanted: it decides, whatever the exit status says.
    pub(crate) fn show(&self, context: &Context) -> Result<(), Failure> {
        if !context.json {
            return Ok(());
        }
        let receipt = self.request.receipt.as_ref();
        let document = Document {
            request: &self.request,
            exit_status: Exit::of_request(&self.request).code(),
            exit_code: receipt.and_then(|receipt| receipt.exit_code),
            signal: receipt.and_then(|receipt| receipt.signal),
            output: Outputs { stdout: self.stdout.show(), stderr: self.stderr.show() },
        };
        context.show(&document, |_| String::new())
    }
}

/// Waits for a request's end, with its output if that is wanted. Ctrl-C asks for a cancel, twice leaves it.
pub(crate) async fn to_the_end(
    context: &Context,
    request: &Request,
    output: bool,
) -> Result<Request, Failure> {
    let wanted = Wanted { output: output.then(Offsets::default), feed: Feed::Nothing };
    Ok(attend(context, request, wanted).await?.request)
}

/// Stays with a request until its end, its user's wish to leave, or a failure.
pub(crate) async fn attend(context: &Context, request: &Request, wanted: Wanted) -> Result<Ended, Failure> {
    let id = &request.id;
    let has_terminal = matches!(wanted.feed, Feed::Terminal(_));
    let signals = Signals::listen(has_terminal)?;
    // Put back before anything is said of the end.
    let _raw = if has_terminal { terminal::make_raw()? } else { None };
    tokio::select! {
        ended = end(context, id, wanted.output) => ended.map_err(|failure| failure.of_request(id)),
        failure = wanted.feed.run(context, request) => Err(failure),
        failure = signals.left(context, request) => Err(failure),
        failure = waiting::tell(context, id) => Err(failure),
    }
}

/// Does some work about a request, while its user may cancel it or leave: as [`attend`], without a terminal.
pub(crate) async fn attend_to<T>(
    context: &Context,
    request: &Request,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let signals = Signals::listen(false)?;
    tokio::select! {
        done = work => done.map_err(|failure| failure.of_request(&request.id)),
        failure = signals.left(context, request) => Err(failure),
        failure = waiting::tell(context, &request.id) => Err(failure),
    }
}

async fn end(context: &Context, id: &str, from: Option<Offsets>) -> Result<Ended, Failure> {
    let (stdout, stderr) = match from {
        Some(from) => {
            let stdout = pass_on(context, id, Stream::Stdout, from.stdout);
            let stderr = pass_on(context, id, Stream::Stderr, from.stderr);
            match tokio::try_join!(stdout, stderr) {
                // Its end is known all the same.
                Err(failure) if failure.is_gone() => {
                    say("its output was removed by retention").await;
                    Default::default()
                }
                passed => passed?,
            }
        }
        None => Default::default(),
    };
    Ok(Ended { request: context.client.wait(id, None).await?, stdout, stderr })
}

/// Every Ctrl-C from now on.
pub(crate) fn interrupts() -> Result<Signal, Failure> {
    signal(SignalKind::interrupt())
        .map_err(|error| Failure::new(Exit::Daemon, format!("cannot listen for Ctrl-C: {error}")))
}

/// Prints output that the manager has to our own stream of the same name, each piece at once.
pub(crate) async fn copy(
    context: &Context,
    id: &str,
    stream: Stream,
    mut offset: u64,
    follow: bool,
) -> Result<(), Failure> {
    if !context.json {
        return write_all(context.client.output(id, stream, offset, follow), stream).await;
    }
    let mut pieces = pin!(context.client.output(id, stream, offset, follow));
    while let Some(piece) = pieces.next().await {
        let piece = piece?;
        context.show_line(&as_json(stream, offset, &piece), |_| String::new())?;
        offset = offset.saturating_add(piece.len() as u64);
    }
    Ok(())
}

/// Says one line on standard error, without the power to move a cursor.
pub(crate) async fn say(line: &str) {
    let line = format!("doorbell: {}{}", crate::text::plain(line), terminal::line_end());
    let mut stderr = tokio::io::stderr();
    // A thread writes it: until the flush it may be lost with the end of this command. Where nobody reads any
    // more, there is nobody to tell.
    let _ = async { stderr.write_all(line.as_bytes()).await.and(stderr.flush().await) }.await;
}

/// Output of a request to which we are attached: printed, or kept for the document.
async fn pass_on(context: &Context, id: &str, stream: Stream, offset: u64) -> Result<Kept, Failure> {
    let pieces = context.client.attached_output(id, stream, offset);
    let mut kept = Kept::default();
    if context.json {
        let mut pieces = pin!(pieces);
        while let Some(piece) = pieces.next().await {
            kept.add(&piece?);
        }
    } else {
        write_all(pieces, stream).await?;
    }
    Ok(kept)
}

async fn write_all(
    pieces: impl futures_util::Stream<Item = Result<Bytes, ClientError>>,
    stream: Stream,
) -> Result<(), Failure> {
    let mut out: Box<dyn AsyncWrite + Unpin> = match stream {
        Stream::Stdout => Box::new(tokio::io::stdout()),
        Stream::Stderr => Box::new(tokio::io::stderr()),
    };
    let mut pieces = pin!(pieces);
    while let Some(piece) = pieces.next().await {
        let piece = piece?;
        let written = async { out.write_all(&piece).await.and(out.flush().await) };
        // The program runs on in the guest: that nobody reads says nothing of its outcome.
        written.await.map_err(|error| unwritten(&error, Exit::Unconfirmed))?;
    }
    Ok(())
}

/// The signals that end our part in a request before its own end.
enum Signals {
    /// Ctrl-C comes as a signal: once for a cancel, twice to leave.
    Line(Signal),
    /// Ctrl-C goes to the program; each of these asks us to end, with the terminal put back.
    Terminal([Signal; 4]),
}

impl Signals {
    fn listen(has_terminal: bool) -> Result<Self, Failure> {
        let interrupts = interrupts()?;
        if !has_terminal {
            return Ok(Self::Line(interrupts));
        }
        let failed = |error| Failure::new(Exit::Daemon, format!("cannot listen for signals: {error}"));
        let ends = |kind| signal(kind).map_err(failed);
        let (terminate, hang_up) = (ends(SignalKind::terminate())?, ends(SignalKind::hangup())?);
        Ok(Self::Terminal([interrupts, terminate, hang_up, ends(SignalKind::quit())?]))
    }

    /// Ends only when we are to leave.
    async fn left(self, context: &Context, request: &Request) -> Failure {
        match self {
            Self::Line(interrupts) => interrupted(context, request, interrupts).await,
            Self::Terminal([mut a, mut b, mut c, mut d]) => {
                tokio::select! {
                    _ = a.recv() => {}
                    _ = b.recv() => {}
                    _ = c.recv() => {}
                    _ = d.recv() => {}
                }
                left(request)
            }
        }
    }
}

/// Ends only when the user has had enough: with the second Ctrl-C.
async fn interrupted(context: &Context, request: &Request, mut interrupts: Signal) -> Failure {
    let id = &request.id;
    interrupts.recv().await;
    say(&format!("cancelling request {id}; Ctrl-C once more to detach")).await;
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
    left(request)
}

/// A piece of output as `--json` shows it. `text` where the bytes are UTF-8, else `base64`.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename = "output")]
struct Piece<'a> {
    stream: &'static str,
    offset: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
}

fn as_json(stream: Stream, offset: u64, piece: &Bytes) -> Piece<'_> {
    let (text, base64) = text_or_base64(piece);
    Piece { stream: stream.as_str(), offset, text, base64 }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use doorbell_client::api::receipt::Receipt;
    use doorbell_client::api::request::State;

    pub(crate) fn request(state: State, exit_code: Option<u8>, signal: Option<u8>) -> Request {
        let mut request: Request = serde_json::from_value(serde_json::json!({
            "id": "0123456789abcdef0123456789abcdef", "guest": "web-3", "sequence": 1,
            "action": {"type": "run", "command": "true"}, "state": "queued", "asked_by": "uid 0 (root)",
            "accepted_at_ms": 1_700_000_000_000_u64, "urgent": false, "on_disconnect": "keep",
            "cancel_asked": false, "offers": 1,
        }))
        .expect("a request");
        let receipt: Receipt = serde_json::from_value(serde_json::json!({
            "stored_at_ms": 1_700_000_000_001_u64, "exit_code": exit_code, "signal": signal, "audit_hash": "00",
            "stdout": {"bytes": 0, "lost": 0, "truncated": false},
            "stderr": {"bytes": 0, "lost": 0, "truncated": false}, "detail": "why",
        }))
        .expect("a receipt");
        request.state = state;
        request.receipt = state.is_final().then_some(receipt);
        request
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
