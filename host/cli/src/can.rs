//! `doorbell can`: whether a guest would begin something, and which rule of its policy decides. Nothing is done.

use crate::context::Context;
use crate::duration;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::run::{How, Most, Reboots};
use crate::sign::{Bundle, What};
use crate::table::{Cell, facts};
use crate::text::{plain, word};
use clap::Args;
use doorbell_client::api::query::Ruling;
use std::path::PathBuf;

#[derive(Args, Debug)]
#[command(after_help = NOTES)]
pub(crate) struct CanArgs {
    /// The guest's name
    guest: String,
    /// Ask about a signed request as it is: what `doorbell sign` wrote
    #[arg(long, value_name = "FILE", conflicts_with_all = ["action", "command", "user", "env", "cwd", "timeout", "memory", "processes", "cpu", "output_max", "reboot", "reboot_on", "confirm_within"])]
    signed: Option<PathBuf>,
    #[command(flatten)]
    what: What,
    #[command(flatten)]
    how: How,
    #[command(flatten)]
    most: Most,
    #[command(flatten)]
    reboots: Reboots,
    /// What would run in the guest; behind --program its arguments
    #[arg(last = true, value_names = ["COMMAND", "ARGS"], num_args = 1..)]
    command: Vec<String>,
}

pub(crate) async fn run(context: &Context, args: CanArgs) -> Result<Exit, Failure> {
    let new = match &args.signed {
        Some(path) => Bundle::open(path, None)?.request(context, &args.guest).await?,
        None => {
            let timeout_ms = args.most.timeout.map(duration::ms);
            let reboot = args.reboots.reboot();
            let mut new = args.what.request(args.command, args.how, &args.most)?;
            (new.timeout_ms, new.reboot) = (timeout_ms, reboot);
            new
        }
    };
    let ruling = context.client.guest(args.guest).can(&new).await?;
    context.show(&ruling, shown)?;
    Ok(if ruling.allowed { Exit::Done } else { Exit::Refused })
}

fn shown(ruling: &Ruling) -> String {
    let word_of = if ruling.allowed { "yes" } else { "no" };
    let mut list = vec![("allowed", Cell::from(word_of)), ("effect", Cell::from(&word(&ruling.effect)))];
    list.push(("rule", plain(&ruling.rule).into()));
    list.extend(ruling.run_as.iter().map(|user| ("run as", plain(user).into())));
    list.extend(ruling.detail.iter().map(|why| ("why not", plain(why).into())));
    facts(list)
}

/// What the options alone do not tell.
const NOTES: &str = "\
Exits with 0 where the guest would begin it, with 122 where it would not. It is the guest's word of this moment: a rule may be
another one by the time it is asked for it. A program is known by its digest and not sent.";
