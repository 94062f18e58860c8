//! `doorbell request attach`: goes on with a request that was left, or is followed from elsewhere.
//!
//! Stations: acknowledgement and receipt. Output comes from the manager's disk, so none is lost or doubled.

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::feed::{Feed, resize};
use crate::follow::{Offsets, Wanted};
use crate::run::{follow, input_of};
use crate::{exit, keys};
use clap::Args;
use doorbell_client::api::error::ErrorCode;
use doorbell_client::api::request::{Input, Request};
use doorbell_client::{ClientError, Stream};
use futures_util::StreamExt as _;
use std::pin::pin;

#[derive(Args, Debug)]
#[command(after_help = notes())]
pub(crate) struct AttachArgs {
    /// The request's id, or its first digits, at least 6
    id: String,
    /// Leave out the output that is there already
    #[arg(long)]
    from_now: bool,
    /// Send our standard input to it, to its end: behind what it was sent before
    #[arg(long, conflicts_with = "pty")]
    stdin: bool,
    /// Give our terminal to it; it must have been run with --pty
    #[arg(long)]
    pty: bool,
    /// With --stdin: our first byte is this one of its input; what it has of it is passed over
    #[arg(long, value_name = "N", requires = "stdin")]
    input_offset: Option<u64>,
}

pub(crate) async fn run(context: &Context, args: AttachArgs) -> Result<Exit, Failure> {
    let request = context.client.request(&args.id).await?;
    must_fit(context, &args, &request)?;
    let id = request.id.as_str();
    let output = if args.from_now {
        let (stdout, stderr) = (len(context, id, Stream::Stdout), len(context, id, Stream::Stderr));
        let (stdout, stderr) = tokio::try_join!(stdout, stderr)?;
        Offsets { stdout, stderr }
    } else {
        Offsets::default()
    };
    let feed = if request.state.is_final() { Feed::Nothing } else { feed(context, &args, id).await? };
    follow(context, &request, Wanted { output: Some(output), feed }).await
}

async fn feed(context: &Context, args: &AttachArgs, id: &str) -> Result<Feed, Failure> {
    if !(args.pty || args.stdin) {
        return Ok(Feed::Nothing);
    }
    let had = match context.client.input_state(id).await {
        Ok(state) => state.len,
        // It has ended since we looked.
        Err(ClientError::Refused { code: ErrorCode::Conflict, .. }) => return Ok(Feed::Nothing),
        Err(error) => return Err(error.into()),
    };
    if args.pty {
        // Our window need not be the one that was left.
        resize(context, id).await;
        return Ok(Feed::Terminal(had));
    }
    Ok(Feed::Stream(args.input_offset.unwrap_or(had)))
}

fn must_fit(context: &Context, args: &AttachArgs, request: &Request) -> Result<(), Failure> {
    let refuse = |why: String| Err(Failure::new(Exit::Misused, why));
    if args.pty && context.json {
        return refuse("--pty and --json cannot be used together".to_owned());
    }
    let has = match input_of(request) {
        Input::None => "no input",
        Input::Stream => "--stdin",
        Input::Terminal(_) => "--pty",
    };
    if args.pty && has != "--pty" || args.stdin && has == "no input" {
        return refuse(format!("request {} was run with {has}", request.id));
    }
    Ok(())
}

/// How much the manager has of an output.
async fn len(context: &Context, id: &str, stream: Stream) -> Result<u64, Failure> {
    let mut pieces = pin!(context.client.output(id, stream, 0, false));
    let mut len = 0_u64;
    while let Some(piece) = pieces.next().await {
        len = len.saturating_add(piece?.len() as u64);
    }
    Ok(len)
}

fn notes() -> String {
    format!(
        "Exits as `run` does, and prints the same document with --json. Ctrl-C is as there; under --pty {} detaches.\n\n{}",
        keys::HOW,
        exit::help()
    )
}
