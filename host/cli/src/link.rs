//! `doorbell link`: a guest's network links, listed by a query, switched by a request with evidence.

use crate::context::Context;
use crate::duration;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::follow::{outcome, to_the_end};
use crate::run::must_be_connected;
use crate::table::{Cell, Table, Tone, facts};
use crate::text::{moment, state};
use clap::{Args, Subcommand};
use doorbell_client::api::receipt::LinkState;
use doorbell_client::api::request::{Action, Answer, Link, NewRequest, Query, Request};
use std::time::Duration;

#[derive(Args, Debug)]
pub(crate) struct LinkArgs {
    /// The guest's name
    guest: String,
    #[command(subcommand)]
    command: LinkCommand,
}

#[derive(Debug, Subcommand)]
enum LinkCommand {
    /// List the guest's links, as its kernel shows them
    Ls {
        /// Give up when the guest has not answered in this time
        #[arg(long, value_name = "TIME", value_parser = duration::parse)]
        timeout: Option<Duration>,
    },
    /// Bring a link down, and show it before and after
    Down(SwitchArgs),
    /// Bring a link up, and show it before and after
    Up(SwitchArgs),
}

#[derive(Args, Debug)]
struct SwitchArgs {
    /// The link's name or its MAC address: eth0, 52:54:00:12:34:56
    link: String,
    /// Do not begin it when this time has passed before its guest took it
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    expires: Option<Duration>,
    /// Go before the guest's ordinary requests, and beside what runs there
    #[arg(long)]
    urgent: bool,
    /// Do nothing when the guest is not connected
    #[arg(long)]
    no_queue: bool,
    /// A name of your own for the request, 32 hexadecimal digits
    #[arg(long, value_name = "HEX")]
    id: Option<String>,
}

pub(crate) async fn run(context: &Context, args: LinkArgs) -> Result<Exit, Failure> {
    let guest = args.guest;
    match args.command {
        LinkCommand::Ls { timeout } => {
            let answer = context.client.guest(guest).query(Query::LinkList, timeout).await?;
            context.show(&answer, list)?;
            Ok(Exit::Done)
        }
        LinkCommand::Down(args) => {
            let action = Action::LinkDown(Link { link: args.link.clone() });
            switch(context, &guest, action, args).await
        }
        LinkCommand::Up(args) => {
            let action = Action::LinkUp(Link { link: args.link.clone() });
            switch(context, &guest, action, args).await
        }
    }
}

async fn switch(context: &Context, guest: &str, action: Action, args: SwitchArgs) -> Result<Exit, Failure> {
    if args.no_queue {
        must_be_connected(context, guest).await?;
    }
    let new = NewRequest {
        id: args.id,
        expires_in_ms: args.expires.map(duration::ms),
        // The wanted state is named, so a second start does no more than the first.
        idempotent: true,
        urgent: args.urgent,
        ..NewRequest::of(action)
    };
    let request = context.client.submit(guest, new).await?;
    let ended = to_the_end(context, &request, false).await?;
    context.show(&ended, evidence)?;
    outcome(&ended)
}

/// What the guest's kernel said before and after, and where the receipt is.
pub(crate) fn evidence(request: &Request) -> String {
    let mut list = vec![("request", Cell::from(&request.id)), ("state", state(request.state))];
    if let Some(receipt) = &request.receipt {
        let links = [("before", &receipt.link_before), ("after", &receipt.link_after)];
        list.extend(
            links.into_iter().filter_map(|(name, link)| Some((name, one_line(link.as_ref()?).into()))),
        );
        list.push(("receipt", format!("{} {}", moment(receipt.stored_at_ms), receipt.audit_hash).into()));
    }
    facts(list)
}

/// A link on one line.
pub(crate) fn one_line(link: &LinkState) -> String {
    let mac = link.mac.as_deref().unwrap_or("no mac");
    let up = if link.up { "up" } else { "down" };
    format!("{} {mac} {up}, {}, flags {:#x}", link.name, carrier(link), link.flags)
}

fn list(answer: &Answer) -> String {
    let mut table = Table::new(&["NAME", "MAC", "STATE", "CARRIER", "MTU", "FLAGS"]);
    for link in &answer.links {
        let (word, tone) = if link.up { ("up", Tone::Good) } else { ("down", Tone::Waiting) };
        table.row(vec![
            Cell::from(&link.name),
            link.mac.as_deref().unwrap_or("-").into(),
            Cell::toned(word, tone),
            carrier(link).into(),
            link.mtu.to_string().into(),
            format!("{:#x}", link.flags).into(),
        ]);
    }
    let mut text = table.render("the guest has no links");
    if answer.links_left_out > 0 {
        text.push_str(&format!("and {} more\n", answer.links_left_out));
    }
    text
}

const fn carrier(link: &LinkState) -> &'static str {
    match link.carrier {
        Some(true) => "carrier",
        Some(false) => "no carrier",
        None => "carrier unknown",
    }
}
