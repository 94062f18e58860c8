//! `doorbell guest`: add, set, ls, show, rm, pending, approve, reject, enrol.

use crate::context::Context;
use crate::duration;
use crate::enrol::{self, ApproveArgs, EnrolArgs, RejectArgs, enrolment};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::launch::{KEY, NewKey, TOKEN};
use crate::table::{Cell, Table, facts};
use crate::text::{moment, presence, short, word};
use clap::{Args, Subcommand};
use doorbell_client::api::guest::{CopyMet, Guest, GuestChange, NewGuest, Power, Presence, Trigger};
use serde::Serialize;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

#[derive(Debug, Subcommand)]
pub(crate) enum GuestCommand {
    /// Add a guest, by the context id or the hybrid socket where its agent is met
    Add(AddArgs),
    /// Change where a guest is met, and how much it does at once
    Set(SetArgs),
    /// List all guests
    Ls,
    /// Show one guest
    Show {
        /// The guest's name
        name: String,
    },
    /// Remove a guest; its open requests become undeliverable
    Rm(RemoveArgs),
    /// List the keys that wait for approval
    Pending,
    /// Approve the key that waits for a guest, or one that was rejected
    Approve(ApproveArgs),
    /// Make a one-time token for a guest: whoever shows it has its own key let in, in the place of the one before
    Enrol(EnrolArgs),
    /// Reject the key that waits for a guest, until that very key is approved
    Reject(RejectArgs),
}

#[derive(Args, Debug)]
pub(crate) struct AddArgs {
    /// The guest's name: a-z, 0-9, '-' and '.', at most 63 bytes
    name: String,
    #[command(flatten)]
    place: Place,
    /// The path of its QMP socket
    #[arg(long, value_name = "PATH")]
    qmp: Option<PathBuf>,
    /// How many ordinary requests run in it at once, 1 to 8; one, in order, when not given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=8))]
    concurrency: Option<u8>,
    #[command(flatten)]
    manner: Manner,
    /// The tenant that owns it; nobody but those who see all when not given
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
    /// Its public key, 64 hexadecimal digits: a guest whose key is known needs no approval
    #[arg(long, value_name = "HEX")]
    key: Option<String>,
    /// Make its key, and put the secret half into this new file, for its QEMU: -fw_cfg name=opt/org.doorbell.key,file=FILE
    #[arg(long, value_name = "FILE", conflicts_with = "key")]
    make_key: Option<PathBuf>,
    /// Make a one-time token by which its agent's own key is let in, and put it into this new file: -fw_cfg
    /// name=opt/org.doorbell.enrol,file=FILE, or the agent's --enrol-token
    #[arg(long, value_name = "FILE", conflicts_with_all = ["key", "make_key"])]
    enrol_token: Option<PathBuf>,
    /// Take the first key that is met there without an approval; only on AF_VSOCK, where the kernel says which guest calls
    #[arg(long, conflicts_with_all = ["key", "make_key", "enrol_token", "hybrid_socket"])]
    trust_first_key: bool,
    /// How long the one-time token is good: 30m, 24h (when not given), at most 720h
    #[arg(long, value_name = "TIME", value_parser = duration::parse, requires = "enrol_token")]
    enrol_within: Option<Duration>,
}

/// How requests come to it
#[derive(Args, Debug)]
struct Manner {
    /// How its requests come to it: ring (when not given), poll, push, store or ring-store
    #[arg(long, value_name = "HOW", value_parser = trigger)]
    trigger: Option<Trigger>,
    /// Set its clock to this host's at each session: yes or no
    #[arg(long, value_name = "YES|NO", value_parser = yes_or_no, action = clap::ArgAction::Set)]
    set_clock: Option<bool>,
}

/// Where its agent is met
#[derive(Args, Debug)]
#[group(required = true, multiple = true)]
struct Place {
    /// The context id of its vhost-vsock device, from 3
    #[arg(long, conflicts_with = "hybrid_socket")]
    cid: Option<u32>,
    /// The base path of its hybrid vsock socket; the manager listens on PATH_707
    #[arg(long, value_name = "PATH")]
    hybrid_socket: Option<PathBuf>,
    /// A directory that the guest shares with this host: its requests are put there, too or alone
    #[arg(long, value_name = "DIR")]
    share: Option<PathBuf>,
}

#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("change").required(true).multiple(true).args(["cid", "hybrid_socket", "share", "qmp", "concurrency", "trigger", "set_clock", "tenant"]))]
pub(crate) struct SetArgs {
    /// The guest's name
    name: String,
    /// Another context id; replaces a hybrid socket
    #[arg(long, conflicts_with = "hybrid_socket")]
    cid: Option<u32>,
    /// Another hybrid socket; replaces a context id
    #[arg(long, value_name = "PATH")]
    hybrid_socket: Option<PathBuf>,
    /// Another shared directory; an empty text removes it
    #[arg(long, value_name = "DIR")]
    share: Option<String>,
    #[command(flatten)]
    manner: Manner,
    /// Another owner; an empty text leaves it without one
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
    /// Another QMP socket; an empty text removes it
    #[arg(long, value_name = "PATH")]
    qmp: Option<String>,
    /// How many ordinary requests run in it at once, 1 to 8
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=8))]
    concurrency: Option<u8>,
}

#[derive(Args, Debug)]
pub(crate) struct RemoveArgs {
    /// The guest's name
    name: String,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

pub(crate) async fn run(context: &Context, command: GuestCommand) -> Result<Exit, Failure> {
    match command {
        GuestCommand::Add(args) => add(context, args).await,
        GuestCommand::Set(args) => set(context, args).await,
        GuestCommand::Ls => context.show(&context.client.guests().await?, |guests| list(guests)),
        GuestCommand::Show { name } => context.show(&context.client.guest(name).show().await?, details),
        GuestCommand::Rm(args) => remove(context, args).await,
        GuestCommand::Pending => context.show(&context.client.pending().await?, |keys| enrol::pending(keys)),
        GuestCommand::Approve(args) => enrol::approve(context, args).await,
        GuestCommand::Enrol(args) => enrol::enrol(context, args).await,
        GuestCommand::Reject(args) => enrol::reject(context, args).await,
    }?;
    Ok(Exit::Done)
}

async fn add(context: &Context, args: AddArgs) -> Result<(), Failure> {
    let made = args.make_key.as_deref().map(NewKey::make).transpose()?;
    let public_key = made.as_ref().map(NewKey::public).or(args.key);
    let token = args.enrol_token.as_deref().map(NewKey::make).transpose()?;
    let new = NewGuest {
        name: args.name,
        cid: args.place.cid,
        hybrid_socket: args.place.hybrid_socket.as_deref().map(absolute).transpose()?,
        qmp: args.qmp.as_deref().map(absolute).transpose()?,
        public_key,
        concurrency: args.concurrency,
        share: args.place.share.as_deref().map(absolute).transpose()?,
        trigger: args.manner.trigger,
        set_clock: args.manner.set_clock,
        tenant: args.tenant,
        trust_first_key: args.trust_first_key.then_some(true),
        enrolment: token.as_ref().map(|token| enrolment(token, args.enrol_within)),
    };
    let added = context.client.add_guest(&new).await?;
    let launch = made.map(|key| key.keep(KEY)).or_else(|| token.map(|token| token.keep(TOKEN)));
    context.show(&added, |guest| {
        let next = match guest.fingerprint {
            _ if launch.is_some() => {
                format!("start its QEMU with {}", launch.as_deref().unwrap_or_default())
            }
            Some(_) => "its agent is let in by its key".to_owned(),
            None if guest.trust_first_key => {
                format!("the first key that is met at {} is its key", met_at(guest))
            }
            None => {
                format!("once its agent has called, approve its key: `doorbell guest approve {}`", guest.name)
            }
        };
        format!("added {}; {next}\n", guest.name)
    })
}

async fn set(context: &Context, args: SetArgs) -> Result<(), Failure> {
    let (qmp, share) = (absolute_or_none(args.qmp)?, absolute_or_none(args.share)?);
    let hybrid_socket = args.hybrid_socket.as_deref().map(absolute).transpose()?;
    let Manner { trigger, set_clock } = args.manner;
    let (cid, concurrency) = (args.cid, args.concurrency);
    let tenant = args.tenant;
    let change = GuestChange { cid, hybrid_socket, qmp, concurrency, share, trigger, set_clock, tenant };
    context.show(&context.client.guest(args.name).change(&change).await?, details)
}

async fn remove(context: &Context, args: RemoveArgs) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Removed {
        removed: String,
    }
    let guest = context.client.guest(args.name);
    if !args.yes && io::stdin().is_terminal() {
        confirm(&guest.show().await?)?;
    }
    guest.remove().await?;
    let removed = Removed { removed: guest.name().to_owned() };
    context.show(&removed, |removed| format!("removed {}\n", removed.removed))
}

/// Asks on the terminal whether the guest is really to be removed.
fn confirm(guest: &Guest) -> Result<(), Failure> {
    let kept = || Failure::new(Exit::Misused, format!("{} was kept: only `y` removes it", guest.name));
    let lost = match guest.open_requests {
        0 => String::new(),
        n => format!(" {n} open requests become undeliverable."),
    };
    let mut stderr = io::stderr();
    let mut answer = String::new();
    write!(stderr, "remove {}?{lost} [y/N] ", guest.name)
        .and_then(|()| stderr.flush())
        .and_then(|()| io::stdin().read_line(&mut answer))
        .map_err(|_| kept())?;
    if matches!(answer.trim(), "y" | "Y" | "yes") { Ok(()) } else { Err(kept()) }
}

fn list(guests: &[Guest]) -> String {
    let mut table =
        Table::new(&["NAME", "MET AT", "PRESENCE", "LAST SEEN", "OPEN", "AGENT", "PROTOCOL", "BOOT"]);
    for guest in guests {
        table.row(vec![
            Cell::from(&guest.name),
            met_at(guest).into(),
            presence(guest.presence),
            guest.last_seen_ms.map_or_else(|| "-".to_owned(), moment).into(),
            guest.open_requests.to_string().into(),
            guest.agent.as_ref().map_or("-", |agent| agent.version.as_str()).into(),
            guest.agent.as_ref().map_or_else(|| "-".to_owned(), |agent| agent.protocol.to_string()).into(),
            guest.agent.as_ref().map_or_else(|| "-".to_owned(), |agent| short(&agent.boot_id)).into(),
        ]);
    }
    table.render("no guests: add one with `doorbell guest add NAME --cid N`")
}

fn details(guest: &Guest) -> String {
    let mut list = vec![
        ("name", Cell::from(&guest.name)),
        ("id", Cell::from(&guest.id)),
        ("met at", met_at(guest).into()),
        ("presence", presence(guest.presence)),
        (
            "key",
            guest
                .fingerprint
                .as_deref()
                .unwrap_or(match guest.presence {
                    Presence::Pending => "none approved: one waits, see `doorbell guest pending`",
                    Presence::Never
                    | Presence::Connected
                    | Presence::Silent
                    | Presence::Polling
                    | Presence::Paused
                    | Presence::Off
                    | Presence::Gone
                    | Presence::Fenced => "none approved",
                })
                .into(),
        ),
        ("added", moment(guest.added_at_ms).into()),
        ("last seen", guest.last_seen_ms.map_or_else(|| "never".to_owned(), moment).into()),
        ("open requests", guest.open_requests.to_string().into()),
        ("concurrency", format!("{} at once", guest.concurrency).into()),
        ("trigger", word(&guest.trigger).into()),
    ];
    if guest.trust_first_key {
        list.push(("trusts", "the first key that is met".into()));
    }
    if let Some(until) = guest.enrolment_until_ms {
        list.push(("one-time token", format!("not used, good until {}", moment(until)).into()));
    }
    if !guest.rejected.is_empty() {
        list.push(("rejected", guest.rejected.join(" ").into()));
    }
    if let Some(tenant) = &guest.tenant {
        list.push(("tenant", tenant.into()));
    }
    if let Some(share) = &guest.share {
        list.push(("share", share.into()));
    }
    if guest.set_clock {
        list.push(("clock", "set at each session".into()));
    }
    if let Some(copy) = &guest.copy {
        list.push(("copy", copy_met(copy).into()));
    }
    if let Some(qmp) = &guest.qmp {
        list.push(("qmp socket", qmp.into()));
    }
    if let Some(spool) = &guest.spool {
        list.push(("spool", spool.into()));
    }
    if let Some(power) = &guest.power {
        list.push(("power", power_of(power).into()));
    }
    if let Some(agent) = &guest.agent {
        list.push(("agent", format!("{}, protocol {}", agent.version, agent.protocol).into()));
        if let Some(every) = agent.polls_every_ms {
            list.push(("polls", format!("every {} s", every.checked_div(1000).unwrap_or_default()).into()));
        }
        list.push(("boot id", Cell::from(&agent.boot_id)));
        list.push(("capabilities", agent.capabilities.join(" ").into()));
    }
    facts(list)
}

fn power_of(power: &Power) -> String {
    let (state, since) = (word(&power.state), moment(power.since_ms));
    if power.status == state {
        return format!("{state} since {since}");
    }
    format!("{state} since {since}: {}", power.status)
}

fn met_at(guest: &Guest) -> String {
    match (guest.cid, &guest.hybrid_socket) {
        (Some(cid), _) => format!("cid {cid}"),
        (None, Some(path)) => path.clone(),
        (None, None) => guest.share.clone().unwrap_or_else(|| "-".to_owned()),
    }
}

fn copy_met(copy: &CopyMet) -> String {
    format!(
        "turned away at {}, boot {}, met at {}: {}",
        moment(copy.seen_at_ms),
        copy.boot_id,
        copy.met_at,
        copy.reason
    )
}

fn trigger(text: &str) -> Result<Trigger, String> {
    let all = [Trigger::Ring, Trigger::Poll, Trigger::Push, Trigger::Store, Trigger::RingStore];
    let found = all.into_iter().find(|trigger| word(trigger) == text);
    found.ok_or_else(|| "expected ring, poll, push, store or ring-store".to_owned())
}

fn yes_or_no(text: &str) -> Result<bool, String> {
    match text {
        "yes" => Ok(true),
        "no" => Ok(false),
        _ => Err("expected yes or no".to_owned()),
    }
}

/// An empty text takes away what is there.
fn absolute_or_none(path: Option<String>) -> Result<Option<String>, Failure> {
    match path.as_deref() {
        Some("") => Ok(path),
        other => other.map(|path| absolute(Path::new(path))).transpose(),
    }
}

/// The daemon has another working directory than we have.
fn absolute(path: &Path) -> Result<String, Failure> {
    let bad =
        |why: &str| Failure::new(Exit::Misused, format!("path {} cannot be used: {why}", path.display()));
    let full = std::path::absolute(path).map_err(|error| bad(&error.to_string()))?;
    full.to_str().map(str::to_owned).ok_or_else(|| bad("it is not UTF-8; rename it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_sent_as_the_daemon_can_find_it() {
        let full = absolute(Path::new("run/web-3.vsock")).expect("absolute");
        assert!(full.starts_with('/') && full.ends_with("/run/web-3.vsock"), "{full}");
        assert!(absolute(Path::new("")).is_err());
    }
}
