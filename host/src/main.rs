//! `doorbelld`: reads the configuration, sets up the log, runs the manager until a signal.
//!
//! Started by systemd or by hand. Exit status: 0 stopped as asked, 1 it could not start or failed, 2 a bad
//! command line or configuration.

use anyhow::Context as _;
use clap::Parser;
use doorbell_trail::compare::verdict;
use doorbelld::actor::Actor;
use doorbelld::cause::Cause;
use doorbelld::config::{Config, VsockMode};
use nix::sys::prctl;
use nix::sys::stat::{Mode, umask};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// The manager of doorbell: owns guests, requests, programs and receipts, and rings guests over AF_VSOCK.
#[derive(Debug, Parser)]
#[command(name = "doorbelld", version, after_help = AFTER_HELP)]
struct Arguments {
    /// The configuration; none is needed [default: /etc/doorbell/doorbelld.toml where that exists].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where guests, requests, programs and receipts are kept [default: /var/lib/doorbell].
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// The API's Unix socket [default: /run/doorbell/doorbelld.sock].
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Serve the API over TLS at this address too; needs a certificate and its key.
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// The certificate for that, PEM; taken anew when the file changes.
    #[arg(long, value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// Its key, PEM.
    #[arg(long, value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// The authority of clients that are known by their certificates, PEM.
    #[arg(long, value_name = "FILE")]
    client_ca: Option<PathBuf>,
    /// Whether to listen on AF_VSOCK [default: auto].
    #[arg(long, value_enum, value_name = "WHEN")]
    vsock: Option<VsockMode>,
    /// What to log, in the form of tracing's filters.
    #[arg(long, value_name = "FILTER", env = "DOORBELL_LOG", default_value = "info")]
    log: String,
    /// Log as JSON.
    #[arg(long)]
    log_json: bool,
    /// Check the configuration, print it whole, and end.
    #[arg(long)]
    check: bool,
    /// Make a state directory of a backup and end; - reads it from standard input. Usually called by `doorbell restore`.
    #[arg(long, value_name = "FILE", conflicts_with = "check")]
    restore: Option<PathBuf>,
    /// Check the audit trail of the state directory and end. Usually called by `doorbell audit verify`.
    #[arg(long, conflicts_with_all = ["check", "restore"])]
    verify_audit: bool,
    /// What was kept of that trail elsewhere; - reads it from standard input.
    #[arg(long, value_name = "FILE", requires = "verify_audit")]
    against: Option<PathBuf>,
    /// Tell in JSON what was restored or found.
    #[arg(long)]
    json: bool,
    /// Why it is restored, for the audit trail.
    #[arg(long, value_name = "TEXT", requires = "restore")]
    reason: Option<String>,
    /// The ticket it belongs to.
    #[arg(long, value_name = "TEXT", requires = "restore")]
    ticket: Option<String>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // Tokens and what programs print are in its memory: no core file has them, and no other process of its user looks in.
    if let Err(error) = prctl::set_dumpable(false) {
        return fail(1, &anyhow::Error::from(error).context("cannot keep this process's memory to itself"));
    }
    // What is for others to open, the API's socket and the hybrid ones, gets its mode by name.
    umask(Mode::from_bits_truncate(0o077));
    let config = match configure(&arguments) {
        Ok(config) => config,
        Err(error) => return fail(2, &error),
    };
    if arguments.check {
        return check(&config);
    }
    if let Some(backup) = &arguments.restore {
        return match restore(backup, &config, &arguments) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(1, &error),
        };
    }
    if arguments.verify_audit {
        return match verify(&config.state_dir, &arguments) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::from(1),
            Err(error) => fail(2, &error),
        };
    }
    if let Err(error) = log(&arguments) {
        return fail(2, &error);
    }
    match run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(1, &error),
    }
}

fn configure(arguments: &Arguments) -> anyhow::Result<Config> {
    let usual = Path::new(CONFIG_DEFAULT);
    let file = arguments.config.as_deref().or_else(|| usual.exists().then_some(usual));
    let mut config = Config::load(file)?;
    if let Some(state_dir) = &arguments.state_dir {
        config.state_dir.clone_from(state_dir);
    }
    if let Some(socket) = &arguments.socket {
        config.socket.clone_from(socket);
    }
    if let Some(vsock) = arguments.vsock {
        config.vsock = vsock;
    }
    config.listen = arguments.listen.or(config.listen);
    for (given, kept) in [
        (&arguments.tls_cert, &mut config.tls_cert),
        (&arguments.tls_key, &mut config.tls_key),
        (&arguments.client_ca, &mut config.client_ca),
    ] {
        if given.is_some() {
            kept.clone_from(given);
        }
    }
    // Before anything is opened: an address without TLS is a slip that must not come into effect.
    config.remote()?;
    Ok(config)
}

fn check(config: &Config) -> ExitCode {
    use std::io::Write as _;
    let printed = config
        .to_toml()
        .map_err(anyhow::Error::from)
        .and_then(|text| std::io::stdout().write_all(text.as_bytes()).map_err(anyhow::Error::from));
    match printed {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(2, &error),
    }
}

fn restore(backup: &Path, config: &Config, arguments: &Arguments) -> anyhow::Result<()> {
    use std::io::Write as _;
    let cause = Cause::told(arguments.reason.as_deref(), arguments.ticket.as_deref())?.demanded(config)?;
    let shown = backup.display();
    let archive: Box<dyn std::io::Read> = if backup == Path::new("-") {
        Box::new(std::io::stdin().lock())
    } else {
        Box::new(File::open(backup).with_context(|| format!("cannot read the backup {shown}"))?)
    };
    let restored = doorbelld::backup::restore::restore(archive, &config.state_dir, &Actor::own(), &cause)
        .map_err(|error| anyhow::anyhow!("{}", error.whole()))?;
    let text = if arguments.json { serde_json::to_string_pretty(&restored)? } else { restored.to_string() };
    Ok(writeln!(std::io::stdout(), "{text}")?)
}

/// Whether the trail is whole.
fn verify(state_dir: &Path, arguments: &Arguments) -> anyhow::Result<bool> {
    use std::io::Write as _;
    let kept: Option<Box<dyn BufRead>> = match arguments.against.as_deref() {
        None => None,
        Some(path) if path == Path::new("-") => Some(Box::new(std::io::stdin().lock())),
        Some(path) => {
            let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
            Some(Box::new(BufReader::new(file)))
        }
    };
    let check =
        doorbelld::inspect::trail(state_dir, kept).map_err(|error| anyhow::anyhow!("{}", error.whole()))?;
    let text = if arguments.json { serde_json::to_string_pretty(&check)? + "\n" } else { verdict(&check) };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(check.intact)
}

fn log(arguments: &Arguments) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&arguments.log)
        .map_err(|error| anyhow::anyhow!("--log {:?} is not a filter: {error}", arguments.log))?;
    doorbelld::log::start(filter, arguments.log_json);
    Ok(())
}

fn run(config: Config) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let stop = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        let ready = || {
            // Without systemd there is nobody to tell, and that is no fault.
            let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
        };
        doorbelld::daemon::run(config, stop, ready).await
    })
}

#[allow(clippy::print_stderr, reason = "the one line that says why the daemon did not start")]
fn fail(status: u8, error: &anyhow::Error) -> ExitCode {
    eprintln!("doorbelld: {error:#}");
    ExitCode::from(status)
}

const CONFIG_DEFAULT: &str = "/etc/doorbell/doorbelld.toml";

const AFTER_HELP: &str = "\
Exit status: 0 stopped as asked; 1 could not start, or failed; 2 bad command line or configuration.
It needs no configuration file. Talk to it with `doorbell`.";
