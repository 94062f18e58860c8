//! `doorbell run`: a program in a guest, as if it were here.
//!
//! Stations: command and request. The arguments go to the guest as they are; there is no shell on the way.

use crate::context::{Context, print};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::feed::{self, Feed};
use crate::follow::{Offsets, Wanted, attend};
use crate::outcome::{outcome, say_what_is_amiss};
use crate::sign::Bundle;
use crate::text::word;
use crate::{duration, keys, size, terminal, upload};
use clap::{Args, ValueEnum};
use doorbell_client::OUTPUT_LEN_MAX;
use doorbell_client::api::guest::Presence;
use doorbell_client::api::request::{
    self as api, Action, Input, Limits, NewRequest, OnDisconnect, Reboot, Request, Run, Variable,
};
use std::path::{Path, PathBuf};
use std::time::Duration;

#[derive(Args, Debug)]
#[command(after_help = notes())]
pub(crate) struct RunArgs {
    /// The guest's name
    guest: String,
    /// Upload this file and run it; what stands behind `--` are its arguments
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    #[command(flatten)]
    signed: Signed,
    #[command(flatten)]
    elsewhere: Elsewhere,
    #[command(flatten)]
    how: How,
    #[command(flatten)]
    most: Most,
    #[command(flatten)]
    input: Source,
    #[command(flatten)]
    order: Order,
    #[command(flatten)]
    reboots: Reboots,
    /// What to run in the guest
    #[arg(last = true, required_unless_present_any = ["program", "from", "signed"], value_names = ["COMMAND", "ARGS"], num_args = 1..)]
    command: Vec<String>,
}

/// What was signed before
#[derive(Args, Debug)]
struct Signed {
    /// Send what `doorbell sign` put into this file; with --program the program or file that it names goes along
    #[arg(long, value_name = "FILE", conflicts_with_all = SIGNED_ALREADY)]
    signed: Option<PathBuf>,
    /// Its signature, where `ssh-keygen -Y sign` made that of a manifest
    #[arg(long, value_name = "FILE", requires = "signed")]
    signature: Option<PathBuf>,
}

/// What a signature says already.
const SIGNED_ALREADY: [&str; 17] = [
    "command",
    "from",
    "user",
    "env",
    "cwd",
    "new_privileges",
    "timeout",
    "memory",
    "processes",
    "cpu",
    "output_max",
    "reboot",
    "reboot_on",
    "confirm_within",
    "stdin",
    "pty",
    "idempotent",
];

/// A program that lives elsewhere
#[derive(Args, Debug)]
struct Elsewhere {
    /// Have the manager fetch this program and run it: https://…; http:// and file:// only where its configuration
    /// allows them
    #[arg(long, value_name = "URL", requires = "sha256", conflicts_with = "program")]
    from: Option<String>,
    /// The SHA-256 that the fetched program must have
    #[arg(long, value_name = "DIGEST", requires = "from")]
    sha256: Option<String>,
    /// What to call it; the last part of the URL's path when not given
    #[arg(long, value_name = "NAME", requires = "from")]
    name: Option<String>,
}

/// As whom, where and with what
#[derive(Args, Debug)]
pub(crate) struct How {
    /// Run it as this user of the guest, by name or number; as root when not given
    #[arg(long, value_name = "USER")]
    pub(crate) user: Option<String>,
    /// Set a variable of its environment; can be given many times
    #[arg(long, value_name = "KEY=VALUE", value_parser = variable)]
    pub(crate) env: Vec<Variable>,
    /// The directory of the guest to start in, an absolute path
    #[arg(long, value_name = "DIR")]
    pub(crate) cwd: Option<String>,
    /// Let a user's program have more privileges than the user, as `sudo` and other set-user-ID files give; root's
    /// programs have them all
    #[arg(long)]
    pub(crate) new_privileges: bool,
}

/// How much it may take, with all it starts
#[derive(Args, Debug)]
pub(crate) struct Most {
    /// End it after this time, counted from its start: 30s, 10m, 1h30m
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    pub(crate) timeout: Option<Duration>,
    /// Memory it may have at once: 64M, 2G
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    pub(crate) memory: Option<u64>,
    /// Processes and threads it may have at once
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) processes: Option<u32>,
    /// Hundredths of one processor's time it may use: 50, 200
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) cpu: Option<u32>,
    /// Output bytes that are kept of each stream: 64M when not given, at most 16G
    #[arg(long, value_name = "SIZE", value_parser = output_max)]
    pub(crate) output_max: Option<u64>,
}

/// What of the guest goes down for it
#[derive(Args, Debug)]
pub(crate) struct Reboots {
    /// Reboot the guest once it has exited with 0; done is what has seen another run of the guest's kernel
    #[arg(long, conflicts_with = "reboot_on")]
    reboot: bool,
    /// Whenever it exits with this status, reboot the guest and start it again, with DOORBELL_STEP one higher: 194
    #[arg(long, value_name = "STATUS", value_parser = clap::value_parser!(u8).range(1..))]
    reboot_on: Option<u8>,
    /// Steps in all; the last one asks for a reboot in vain
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..), default_value_t = 5, requires = "reboot_on")]
    steps: u8,
    /// Close it as unconfirmed when the guest has been away for this time since it started: an hour when not given
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    pub(crate) confirm_within: Option<Duration>,
}

impl Reboots {
    pub(crate) fn reboot(&self) -> Option<Reboot> {
        let on_status = |status| Reboot::OnStatus { status, steps_max: self.steps };
        self.reboot.then_some(Reboot::AfterSuccess).or_else(|| self.reboot_on.map(on_status))
    }
}

/// What it reads
#[derive(Args, Debug)]
#[group(multiple = false)]
struct Source {
    /// Send our standard input to it, to its end
    #[arg(long, conflicts_with_all = ["reboot", "reboot_on"])]
    stdin: bool,
    /// Give it a terminal, and our own one to it: Ctrl-C goes to the program
    #[arg(long, conflicts_with_all = ["reboot", "reboot_on"])]
    pty: bool,
}

/// When, and what becomes of it
#[derive(Args, Debug)]
struct Order {
    /// Do not begin it when this time has passed before its guest took it
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    expires: Option<Duration>,
    /// Go before the guest's ordinary requests, and run beside what runs there
    #[arg(long)]
    urgent: bool,
    /// When nobody follows it any more: keep it, or kill it after a few seconds
    #[arg(long, value_name = "WHAT", value_enum, default_value_t = WhenAlone::Keep)]
    on_disconnect: WhenAlone,
    /// It may be started again when the guest went down in the middle of it
    #[arg(long)]
    idempotent: bool,
    /// A name of your own for the request, 32 hexadecimal digits: submitting it twice runs it once
    #[arg(long, value_name = "HEX")]
    id: Option<String>,
    /// Print the request's id once it is accepted, and do not wait; --stdin is still sent to its end
    #[arg(long)]
    detach: bool,
    /// Do nothing when the guest is not connected
    #[arg(long)]
    no_queue: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum WhenAlone {
    Keep,
    Kill,
}

impl WhenAlone {
    const fn wanted(self) -> OnDisconnect {
        match self {
            Self::Keep => OnDisconnect::Keep,
            Self::Kill => OnDisconnect::Kill,
        }
    }
}

pub(crate) async fn run(context: &Context, args: RunArgs) -> Result<Exit, Failure> {
    must_fit(context, &args)?;
    let guest = args.guest.clone();
    if args.order.no_queue {
        must_be_connected(context, &guest).await?;
    }
    let detach = args.order.detach;
    let new = new_request(context, args).await?;
    let request = context.client.submit(&guest, new).await?;
    if detach {
        return leave(context, &request).await;
    }
    let feed = match input_of(&request) {
        Input::None => Feed::Nothing,
        Input::Stream => Feed::Stream(0),
        Input::Terminal(_) => Feed::Terminal(0),
    };
    follow(context, &request, Wanted { output: Some(Offsets::default()), feed }).await
}

/// Follows a program to its end: its output, then whatever its status does not tell.
pub(crate) async fn follow(context: &Context, request: &Request, wanted: Wanted) -> Result<Exit, Failure> {
    let ended = attend(context, request, wanted).await?;
    ended.show(context)?;
    say_what_is_amiss(&ended.request).await;
    outcome(&ended.request)
}

/// What a request's program reads.
pub(crate) const fn input_of(request: &Request) -> Input {
    match &request.action {
        Action::Run(run) => run.input,
        Action::LinkUp(_) | Action::LinkDown(_) | Action::Put(_) | Action::Get(_) => Input::None,
    }
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

/// What the parser cannot know: options that contradict each other by their values.
fn must_fit(context: &Context, args: &RunArgs) -> Result<(), Failure> {
    let refuse = |why: &str| Err(Failure::new(Exit::Misused, format!("{why}; see `doorbell run --help`")));
    if args.input.pty && context.json {
        return refuse("--pty and --json cannot be used together: a terminal's output is no document");
    }
    if args.order.detach && args.order.on_disconnect == WhenAlone::Kill {
        return refuse(
            "--detach and --on-disconnect kill cannot be used together: it would be cancelled at once",
        );
    }
    Ok(())
}

/// Goes away from a request that was accepted; all of its input is with the manager before.
async fn leave(context: &Context, request: &Request) -> Result<Exit, Failure> {
    if context.json {
        context.show(request, |_| String::new())?;
    } else {
        print(&format!("{}\n", request.id))?;
    }
    if input_of(request) == Input::Stream {
        feed::stream(context, &request.id, 0).await.map_err(|failure| failure.of_request(&request.id))?;
    }
    Ok(Exit::Done)
}

/// A request as it was signed, and when and why it is sent.
async fn signed_request(context: &Context, path: &Path, args: RunArgs) -> Result<NewRequest, Failure> {
    let bundle = Bundle::open(path, args.signed.signature.as_deref())?;
    if let Some(program) = &args.program {
        upload::upload(context, program).await?;
    }
    let order = args.order;
    let new = bundle.request(context, &args.guest).await?;
    let (id, urgent) = (order.id, order.urgent);
    let (expires_in_ms, on_disconnect) = (order.expires.map(duration::ms), order.on_disconnect.wanted());
    Ok(NewRequest { id, urgent, expires_in_ms, on_disconnect, ..new })
}

async fn new_request(context: &Context, args: RunArgs) -> Result<NewRequest, Failure> {
    if let Some(path) = args.signed.signed.clone() {
        return signed_request(context, &path, args).await;
    }
    let mut words = args.command.into_iter();
    let from = args.elsewhere.wanted();
    let (command, program) = match &args.program {
        Some(path) => (None, Some(upload::upload(context, path).await?)),
        None if from.is_some() => (None, None),
        None => (words.next(), None),
    };
    let (how, most, order) = (args.how, args.most, args.order);
    let mut env = how.env;
    if args.input.pty && !env.iter().any(|variable| variable.name == "TERM") {
        let kind = std::env::var("TERM").unwrap_or_else(|_| "dumb".to_owned());
        env.push(Variable { name: "TERM".to_owned(), value: kind });
    }
    let run = Run {
        command,
        program,
        from,
        args: words.collect(),
        env,
        cwd: how.cwd,
        user: how.user,
        input: args.input.wanted(),
        limits: Limits {
            memory_max: most.memory,
            processes_max: most.processes,
            cpu_percent_max: most.cpu,
            output_max: most.output_max,
        },
        new_privileges: how.new_privileges,
    };
    Ok(NewRequest {
        id: order.id,
        reboot: args.reboots.reboot(),
        confirm_within_ms: args.reboots.confirm_within.map(duration::ms),
        action: Action::Run(run),
        timeout_ms: most.timeout.map(duration::ms),
        expires_in_ms: order.expires.map(duration::ms),
        idempotent: order.idempotent,
        urgent: order.urgent,
        on_disconnect: order.on_disconnect.wanted(),
        reason: None,
        ticket: None,
        signature: None,
    })
}

impl Elsewhere {
    fn wanted(self) -> Option<api::Source> {
        let (url, sha256) = self.from.zip(self.sha256)?;
        Some(api::Source { url, sha256, name: self.name })
    }
}

impl Source {
    fn wanted(&self) -> Input {
        match (self.stdin, self.pty) {
            (_, true) => Input::Terminal(terminal::window()),
            (true, false) => Input::Stream,
            (false, false) => Input::None,
        }
    }
}

fn variable(text: &str) -> Result<Variable, String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => {
            Ok(Variable { name: name.to_owned(), value: value.to_owned() })
        }
        _ => Err("expected KEY=VALUE".to_owned()),
    }
}

fn output_max(text: &str) -> Result<u64, String> {
    let bytes = size::parse(text)?;
    if bytes > OUTPUT_LEN_MAX {
        return Err(format!("at most {} are kept", size::show(OUTPUT_LEN_MAX)));
    }
    Ok(bytes)
}

/// What the options alone do not tell, one paragraph a line.
fn notes() -> String {
    format!(
        "Ctrl-C asks for a cancel and waits for the end; once more detaches, and the request goes on. \
         Under --pty Ctrl-C goes to the program: {} detaches. \
         `doorbell request attach` goes on with a request that was left.\n\n\
         --json prints one document at the end, which decides where exit statuses collide: the request with its \
         receipt; exit_status, which is ours; exit_code and signal, which are the program's; and of each stream the \
         first 1 MiB as output.stdout and output.stderr, in `text` or, where it is no UTF-8, in `base64`.\n\n{}",
        keys::HOW,
        crate::exit::help(),
    )
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

    #[test]
    fn no_more_output_is_asked_for_than_can_be_kept() {
        assert_eq!(output_max("16G"), Ok(OUTPUT_LEN_MAX));
        assert!(output_max("17G").is_err());
    }
}
