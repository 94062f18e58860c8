//! What can be typed: the commands, the options that all of them have, and who does what.

use crate::context::Context;
use crate::exit::{self, Exit};
use crate::failure::Failure;
use crate::remote::RemoteArgs;
use crate::{
    access, audit, backup, can, doctor, gc, guest, link, manager, manual, pull, push, request, run, sign,
    trace, watch,
};
use clap::{Parser, Subcommand};
use doorbell_client::api::{SOCKET_DEFAULT, SOCKET_ENV};
use std::path::PathBuf;

/// Run programs in virtual machines and switch their links, over vsock and without any network
#[derive(Debug, Parser)]
#[command(name = "doorbell", version, propagate_version = true, after_help = exit::help())]
pub(crate) struct Cli {
    /// The manager's socket
    #[arg(long, global = true, help_heading = EVERY, value_name = "PATH", env = SOCKET_ENV, hide_env_values = true, default_value = SOCKET_DEFAULT)]
    socket: PathBuf,
    #[command(flatten)]
    remote: RemoteArgs,
    /// Answer in JSON: one document, or one line for each thing that happens
    #[arg(long, global = true, help_heading = EVERY)]
    json: bool,
    /// Why, for the audit trail and the receipt; at most 256 bytes
    #[arg(long, global = true, help_heading = CHANGES, value_name = "TEXT", env = "DOORBELL_REASON", hide_env_values = true)]
    reason: Option<String>,
    /// The ticket it belongs to, for the same; at most 256 bytes
    #[arg(long, global = true, help_heading = CHANGES, value_name = "TEXT", env = "DOORBELL_TICKET", hide_env_values = true)]
    ticket: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Add, change, list, approve, reject and remove guests
    #[command(subcommand)]
    Guest(guest::GuestCommand),
    /// Run a program in a guest, with its output live and its exit status as our own
    Run(run::RunArgs),
    /// Sign a request, so that its guest knows whose it is, whoever carries it there
    Sign(sign::SignArgs),
    /// Ask whether a guest would begin something, and which rule of its policy decides
    Can(can::CanArgs),
    /// Put a file or a directory into a guest
    Push(push::PushArgs),
    /// Read a file or a directory of a guest
    Pull(pull::PullArgs),
    /// List a guest's network links, and switch them off and on
    Link(link::LinkArgs),
    /// List, show, attach to, await and cancel requests, and read their output
    #[command(subcommand)]
    Request(request::RequestCommand),
    /// Give, list and revoke the tokens that others show
    #[command(subcommand)]
    Token(access::TokenCommand),
    /// Say whose a client's certificate is, list and revoke
    #[command(subcommand)]
    Cert(access::CertCommand),
    /// Add, list and remove tenants, which own guests and see nothing else
    #[command(subcommand)]
    Tenant(access::TenantCommand),
    /// Show every state change as it happens, until Ctrl-C
    Watch,
    /// Show how long requests took from station to station, since the manager started
    Stations,
    /// List, show, export and verify the audit trail
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// Show the manager's own key
    #[command(subcommand)]
    Manager(manager::ManagerCommand),
    /// Remove what is kept no longer, or show what that is
    Gc(gc::GcArgs),
    /// Make one file of the whole state of the running manager
    Backup(backup::BackupArgs),
    /// Make a state directory of a backup, while no manager runs on it
    Restore(backup::RestoreArgs),
    /// Look at this host: modules, devices, sockets, permissions, and what to do about them
    Doctor(doctor::DoctorArgs),
    /// Print the completion script of a shell
    Completions(manual::CompletionsArgs),
    /// Write the man pages into a directory
    Man(manual::ManArgs),
}

impl Cli {
    pub(crate) async fn run(self) -> Result<Exit, Failure> {
        if self.remote.is_given() && matches!(self.command, Command::Doctor(_)) {
            return Err(Failure::new(
                Exit::Misused,
                "doctor looks at this host; run it on the manager's, without --url",
            ));
        }
        let client =
            self.remote.client(self.socket)?.because(self.reason.as_deref(), self.ticket.as_deref())?;
        let context = Context { client, json: self.json, reason: self.reason, ticket: self.ticket };
        match self.command {
            Command::Guest(command) => guest::run(&context, command).await,
            Command::Manager(command) => manager::run(&context, command).await,
            Command::Run(args) => run::run(&context, args).await,
            Command::Sign(args) => sign::run(&context, args).await,
            Command::Can(args) => can::run(&context, args).await,
            Command::Push(args) => push::run(&context, args).await,
            Command::Pull(args) => pull::run(&context, args).await,
            Command::Link(args) => link::run(&context, args).await,
            Command::Request(command) => request::run(&context, command).await,
            Command::Token(command) => access::token(&context, command).await,
            Command::Cert(command) => access::cert(&context, command).await,
            Command::Tenant(command) => access::tenant(&context, command).await,
            Command::Watch => watch::run(&context).await,
            Command::Stations => trace::stations(&context).await,
            Command::Audit(command) => audit::run(&context, command).await,
            Command::Gc(args) => gc::run(&context, &args).await,
            Command::Backup(args) => backup::take(&context, &args).await,
            Command::Restore(args) => backup::restore(&context, &args),
            Command::Doctor(args) => doctor::run(&context, args).await,
            Command::Completions(args) => manual::completions(&context, &args),
            Command::Man(args) => manual::pages(&context, &args),
        }
    }
}

/// Where the help shows the options that all commands have.
pub(crate) const EVERY: &str = "Options of every command";
/// And those that matter to commands that change something.
const CHANGES: &str = "Options of every command that changes something";
