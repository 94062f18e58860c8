//! `doorbell request`: ls, show, output, attach, wait, cancel, approve, refuse.

use crate::attach::AttachArgs;
use crate::context::Context;
use crate::details::details;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::follow::{copy, outcome};
use crate::table::{Cell, Table};
use crate::text::{action, moment, plain, short, state};
use crate::{attach, cancel, duration, trace, waiting};
use clap::{Args, Subcommand};
use doorbell_client::api::request::{Request, RequestList};
use doorbell_client::{RequestFilter, Stream};
use std::time::Duration;

#[derive(Debug, Subcommand)]
pub(crate) enum RequestCommand {
    /// List requests, newest first
    Ls(ListArgs),
    /// Show a request and its receipt
    Show {
        /// The request's id, or its first digits, at least 6
        id: String,
        /// Show the stations it has passed, and how long each took
        #[arg(long)]
        trace: bool,
    },
    /// Go on with a request that was left: its output, its end, and its input where that is wanted
    Attach(AttachArgs),
    /// Print a program's output, as the manager has it
    Output(OutputArgs),
    /// Wait until a request has a final state; exits as `run` would
    Wait {
        /// The request's id, or its first digits, at least 6
        id: String,
        /// Give up after this time, with exit status 126
        #[arg(long, value_name = "TIME", value_parser = duration::parse)]
        timeout: Option<Duration>,
    },
    /// Ask for a request's end, and tell what came of it; asking twice is as good as once
    Cancel {
        /// The request's id, or its first digits, at least 6
        id: String,
    },
    /// Let a request go on that waits for a second person: not for who asked for it
    Approve {
        /// The request's id, or its first digits, at least 6
        id: String,
    },
    /// Refuse a request that waits for a second person; say why with --reason in front
    Refuse {
        /// The request's id, or its first digits, at least 6
        id: String,
    },
}

#[derive(Args, Debug)]
pub(crate) struct ListArgs {
    /// Only those of this guest
    #[arg(long, value_name = "NAME")]
    guest: Option<String>,
    /// Only those without a final state
    #[arg(long)]
    open: bool,
    /// At most so many, from 1 to 1000
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: Option<u32>,
}

#[derive(Args, Debug)]
pub(crate) struct OutputArgs {
    /// The request's id, or its first digits, at least 6
    id: String,
    /// Standard error, which goes to standard error here too
    #[arg(long)]
    stderr: bool,
    /// Leave out so many bytes at the beginning
    #[arg(long, value_name = "N", default_value_t = 0)]
    offset: u64,
    /// Go on until the request has a final state
    #[arg(long)]
    follow: bool,
}

pub(crate) async fn run(context: &Context, command: RequestCommand) -> Result<Exit, Failure> {
    let client = &context.client;
    match command {
        RequestCommand::Ls(args) => {
            let filter = RequestFilter { guest: args.guest, open: args.open, limit: args.limit };
            context.show(&client.requests(&filter).await?, list)?;
        }
        RequestCommand::Show { id, trace: true } => trace::show(context, &id).await?,
        RequestCommand::Show { id, trace: false } => context.show(&client.request(&id).await?, details)?,
        RequestCommand::Attach(args) => return attach::run(context, args).await,
        RequestCommand::Output(args) => {
            let stream = if args.stderr { Stream::Stderr } else { Stream::Stdout };
            let copied = copy(context, &args.id, stream, args.offset, args.follow).await;
            copied.map_err(|failure| failure.of_output())?;
        }
        RequestCommand::Wait { id, timeout } => {
            let request = tokio::select! {
                waited = client.wait(&id, timeout) => waited?,
                failure = waiting::tell(context, &id) => return Err(failure),
            };
            context.show(&request, details)?;
            return outcome(&request);
        }
        RequestCommand::Cancel { id } => cancel::run(context, &id).await?,
        RequestCommand::Approve { id } => context.show(&client.approve_request(&id).await?, decided)?,
        RequestCommand::Refuse { id } => context.show(&client.refuse_request(&id).await?, decided)?,
    }
    Ok(Exit::Done)
}

fn decided(request: &Request) -> String {
    let (id, guest, is) = (&request.id, &request.guest, state(request.state).paint());
    format!("request {id} for {guest}, asked for by {}, is {is}\n", plain(&request.asked_by))
}

fn list(list: &RequestList) -> String {
    let mut table = Table::new(&["REQUEST", "GUEST", "STATE", "ACCEPTED", "ACTION"]);
    for request in &list.requests {
        table.row(vec![
            short(&request.id).into(),
            Cell::from(&request.guest),
            state(request.state),
            moment(request.accepted_at_ms).into(),
            action(&request.action).into(),
        ]);
    }
    let mut text = table.render("no requests");
    if list.more {
        text.push_str("there are older ones: give a larger --limit\n");
    }
    text
}
