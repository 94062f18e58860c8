//! The program `doorbell-agent`: configuration, log, signals, and the event loop between them.
//!
//! Called by systemd or by an initramfs' init. Trusts its command line and its state directory, which only
//! root can write.

use clap::Parser;
use doorbell_agent::apply::cgroup::Cgroups;
use doorbell_agent::config::{Command, Config, PolicyCommand};
use doorbell_agent::identity::once::Once;
use doorbell_agent::identity::pin::Pin;
use doorbell_agent::identity::{Identity, IdentityError, launch};
use doorbell_agent::journal::{Journal, JournalError};
use doorbell_agent::modules::Modules;
use doorbell_agent::policy::Policy;
use doorbell_agent::policy::own_files::OwnFiles;
use doorbell_agent::policy::report::{Which, report};
use doorbell_agent::pull::{Agent, Way};
use doorbell_agent::serve::{Crew, Dialer, run, with_source};
use doorbell_agent::share::Share;
use doorbell_agent::state::{StateDir, StateError};
use doorbell_agent::{EXIT_KERNEL, EXIT_STATE, log};
use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::process::ExitCode;
use tracing::{error, info, warn};

fn main() -> ExitCode {
    let config = Config::parse();
    if let Some(Command::Policy(PolicyCommand::Check { file })) = &config.command {
        let which = file.as_deref().map_or(Which::Own(config.policy.as_deref()), Which::Any);
        return ExitCode::from(report(which, &mut std::io::stdout()).unwrap_or(EXIT_KERNEL));
    }
    log::start(&config);
    match serve(&config) {
        Ok(()) => {
            info!("stopped");
            ExitCode::SUCCESS
        }
        Err(fault) => {
            error!("{}", with_source(&fault));
            fault.exit_code()
        }
    }
}

fn serve(config: &Config) -> Result<(), Fault> {
    // The guest's key is in its memory: no core file has it. A program has its own memory, and its own say.
    prctl::set_dumpable(false).map_err(Fault::Memory)?;
    let stop = signals().map_err(Fault::Signals)?;
    let state = StateDir::open(&config.state_dir)?;
    launch::adopt(&state, !config.no_modules)?;
    let mut identity = Identity::open(&state)?;
    identity.show_once(Once::find(config.enrol_token.as_deref(), &state)?);
    let pin = Pin::find(config.manager_key.as_deref(), &state)?;
    let journal = Journal::open(&state)?;
    let cgroups = Cgroups::find();
    if doorbell_agent::planted::is("G11") {
        std::mem::forget(std::net::TcpListener::bind("127.0.0.1:0"));
    }
    info!(
        version = env!("CARGO_PKG_VERSION"),
        key = identity.fingerprint(),
        state_dir = %config.state_dir.display(),
        port = config.port,
        modules = if config.no_modules { "waited for" } else { "loaded" },
        kill = if cgroups.is_some() { "cgroup" } else { "pgrp" },
        sequence_max = journal.history().sequence_max(),
        "doorbell-agent starts"
    );
    let mut agent = Agent::resume(state, identity, journal, cgroups);
    agent.pin(pin);
    agent.take_signatures(&config.allowed_signers);
    agent.obey(policy(config));
    let share = config.share.as_ref().zip(config.receipts.as_ref());
    let share = share.map(|(share, receipts)| Share::new(share, receipts, config.look_every));
    if share.is_some() {
        // Where there is a share, the manager offers there what is durable.
        agent.present_by(Way::Share);
    }
    agent.poll_every(config.poll);
    let dialer = || Dialer::new(config.port, Modules::new(!config.no_modules));
    tell_systemd(sd_notify::NotifyState::Ready);
    let served = run(&mut Crew { agent, share }, (!config.no_channel).then(dialer), &stop);
    tell_systemd(sd_notify::NotifyState::Stopping);
    served.map_err(Fault::Wait)
}

/// The policy of the guest's owner. What is broken about it is told at the start, and in each refusal.
fn policy(config: &Config) -> Policy {
    let own = OwnFiles::new(&config.state_dir, &config.files());
    let policy = Policy::new(config.policy.as_deref(), config.require_signature, own);
    match policy.rules() {
        Ok(Some(rules)) => {
            info!(file = %policy.path().display(), rules = rules.rules.len(), default = rules.default.as_str(), "policy");
        }
        Ok(None) => info!("there is no policy: all that the manager asks for is allowed"),
        Err(why) => {
            error!(why, "the policy is broken, so nothing is allowed; doorbell-agent policy check tells more")
        }
    }
    policy
}

/// The signals that end the agent, as a descriptor to wait for.
fn signals() -> Result<SignalFd, Errno> {
    let mut set = SigSet::empty();
    set.add(Signal::SIGTERM);
    set.add(Signal::SIGINT);
    set.thread_block()?;
    SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
}

/// Under anything but systemd there is nobody to tell.
fn tell_systemd(state: sd_notify::NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        warn!(%error, "systemd could not be told");
    }
}

#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error("cannot take signals")]
    Signals(#[source] Errno),
    #[error("cannot keep its memory to itself")]
    Memory(#[source] Errno),
    #[error("cannot wait for events")]
    Wait(#[source] Errno),
}

impl Fault {
    fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            // A service manager tries again what only the disk refused.
            Self::Identity(IdentityError::State(state))
            | Self::Journal(JournalError::State(state))
            | Self::State(state)
                if state.is_of_disk() =>
            {
                EXIT_KERNEL
            }
            Self::Identity(_) | Self::Journal(_) | Self::State(_) => EXIT_STATE,
            Self::Memory(_) | Self::Signals(_) | Self::Wait(_) => EXIT_KERNEL,
        })
    }
}
