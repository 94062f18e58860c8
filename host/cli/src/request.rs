//! `doorbell request`: ls, show, output, wait, cancel.

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::follow::{copy, outcome};
use crate::table::{Cell, Table, facts};
use crate::text::{action, moment, short, state};
use crate::{duration, link};
use clap::{Args, Subcommand};
use doorbell_client::api::receipt::{OutputTotal, Receipt};
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
    },
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
    /// Ask for a request's end
    Cancel {
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
        RequestCommand::Show { id } => context.show(&client.request(&id).await?, details)?,
        RequestCommand::Output(args) => {
            let stream = if args.stderr { Stream::Stderr } else { Stream::Stdout };
            copy(context, &args.id, stream, args.offset, args.follow).await?;
        }
        RequestCommand::Wait { id, timeout } => {
            let request = client.wait(&id, timeout).await?;
            context.show(&request, details)?;
            return outcome(&request);
        }
        RequestCommand::Cancel { id } => context.show(&client.cancel(&id).await?, cancelled)?,
    }
    Ok(Exit::Done)
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

fn details(request: &Request) -> String {
    let mut list = vec![
        ("request", Cell::from(&request.id)),
        ("guest", Cell::from(&request.guest)),
        ("action", action(&request.action).into()),
        ("state", state(request.state)),
        ("asked by", Cell::from(&request.asked_by)),
        ("reason", request.reason.as_deref().unwrap_or("-").into()),
        ("accepted", moment(request.accepted_at_ms).into()),
        ("sequence", format!("{}, offered {} times", request.sequence, request.offers).into()),
    ];
    list.extend(request.expires_at_ms.map(|at| ("expires", moment(at).into())));
    list.extend(request.timeout_ms.map(|ms| ("timeout", duration::show(ms).into())));
    if request.cancel_asked {
        list.push(("cancel", "was asked for".into()));
    }
    if let Some(receipt) = &request.receipt {
        receipt_facts(&mut list, receipt);
    }
    facts(list)
}

fn receipt_facts(list: &mut Vec<(&str, Cell)>, receipt: &Receipt) {
    list.push(("receipt", format!("{} {}", moment(receipt.stored_at_ms), receipt.audit_hash).into()));
    list.extend(receipt.exit_code.map(|code| ("exit status", code.to_string().into())));
    list.extend(receipt.signal.map(|signal| ("signal", signal.to_string().into())));
    list.extend(receipt.detail.as_ref().map(|detail| ("detail", detail.into())));
    list.extend(receipt.errno.map(|errno| ("errno", errno.to_string().into())));
    list.extend(receipt.link_before.as_ref().map(|state| ("link before", link::one_line(state).into())));
    list.extend(receipt.link_after.as_ref().map(|state| ("link after", link::one_line(state).into())));
    list.extend(receipt.ran_for_ms.map(|ms| ("ran for", duration::show(ms).into())));
    list.push(("stdout", total(receipt.stdout).into()));
    list.push(("stderr", total(receipt.stderr).into()));
    list.extend(receipt.boot_id.as_ref().map(|id| ("boot id", id.into())));
}

fn total(total: OutputTotal) -> String {
    match total.lost {
        0 => format!("{} bytes", total.bytes),
        lost => format!("{} bytes, {lost} lost", total.bytes),
    }
}

fn cancelled(request: &Request) -> String {
    let id = &request.id;
    match request.state.is_final() {
        true => format!("request {id} is {}\n", state(request.state).paint()),
        false => format!("asked for a cancel of request {id}, which is {}\n", state(request.state).paint()),
    }
}
