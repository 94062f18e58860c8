//! `doorbell run`: a program in a guest, as if it were here.
//!
//! Stations: command and request. The arguments go to the guest as they are; there is no shell on the way.

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::follow::{Happened, outcome, say_if_lost, to_the_end};
use crate::text::word;
use crate::{duration, upload};
use clap::Args;
use doorbell_client::api::guest::Presence;
use doorbell_client::api::request::{Action, NewRequest, Run, Variable};
use std::path::PathBuf;
use std::time::Duration;

#[derive(Args, Debug)]
pub(crate) struct RunArgs {
    /// The guest's name
    guest: String,
    /// Upload this file and run it; what stands behind `--` are its arguments
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// Set a variable of its environment; can be given many times
    #[arg(long, value_name = "KEY=VALUE", value_parser = variable)]
    env: Vec<Variable>,
    /// The directory of the guest to start in, an absolute path
    #[arg(long, value_name = "DIR")]
    cwd: Option<String>,
    /// End it after this time, counted from its start: 30s, 10m, 1h30m
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    timeout: Option<Duration>,
    /// Do not begin it when this time has passed before its guest took it
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    expires: Option<Duration>,
    /// Why, for the receipt and the audit trail
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// It may be started again when the guest went down in the middle of it
    #[arg(long)]
    idempotent: bool,
    /// A name of your own for the request, 32 hexadecimal digits: submitting it twice runs it once
    #[arg(long, value_name = "HEX")]
    id: Option<String>,
    /// Print the request's id once it is accepted, and do not wait
    #[arg(long)]
    detach: bool,
    /// Do nothing when the guest is not connected
    #[arg(long)]
    no_queue: bool,
    /// What to run in the guest
    #[arg(last = true, required_unless_present = "program", value_names = ["COMMAND", "ARGS"], num_args = 1..)]
    command: Vec<String>,
}

pub(crate) async fn run(context: &Context, args: RunArgs) -> Result<Exit, Failure> {
    let guest = args.guest.clone();
    if args.no_queue {
        must_be_connected(context, &guest).await?;
    }
    let detach = args.detach;
    let new = new_request(context, args).await?;
    let request = context.client.submit(&guest, new).await?;
    if detach {
        context.show(&request, |request| format!("{}\n", request.id))?;
        return Ok(Exit::Done);
    }
    context.show_line(&Happened::Accepted { request: &request }, |_| String::new())?;
    let ended = to_the_end(context, &request, true).await?;
    context.show_line(&Happened::Ended { request: &ended }, |_| String::new())?;
    say_if_lost(&ended).await;
    outcome(&ended)
}

/// For whoever wants it done now or not at all.
pub(crate) async fn must_be_connected(context: &Context, guest: &str) -> Result<(), Failure> {
    let presence = context.client.guest(guest).show().await?.presence;
    if presence == Presence::Connected {
        return Ok(());
    }
    let presence = word(&presence);
    Err(Failure::new(
        Exit::Unanswered,
        format!(
            "guest {guest} is not connected ({presence}): nothing was sent; without --no-queue it would wait"
        ),
    ))
}

async fn new_request(context: &Context, args: RunArgs) -> Result<NewRequest, Failure> {
    let mut words = args.command.into_iter();
    let (command, program) = match &args.program {
        Some(path) => (None, Some(upload::upload(context, path).await?)),
        None => (words.next(), None),
    };
    let run = Run { command, program, args: words.collect(), env: args.env, cwd: args.cwd };
    Ok(NewRequest {
        id: args.id,
        action: Action::Run(run),
        timeout_ms: args.timeout.map(duration::ms),
        expires_in_ms: args.expires.map(duration::ms),
        idempotent: args.idempotent,
        reason: args.reason,
    })
}

fn variable(text: &str) -> Result<Variable, String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => {
            Ok(Variable { name: name.to_owned(), value: value.to_owned() })
        }
        _ => Err("expected KEY=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_ends_at_its_first_equals_sign() {
        let read = variable("OPTS=a=b c").expect("a variable");
        assert_eq!((read.name.as_str(), read.value.as_str()), ("OPTS", "a=b c"));
        assert_eq!(variable("EMPTY=").expect("a variable").value, "");
        assert!(variable("=x").is_err() && variable("x").is_err());
    }
}
