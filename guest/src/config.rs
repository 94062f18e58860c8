//! The agent's configuration: the command line and nothing else.
//!
//! Called by `main`. Unknown options and values out of bounds are refused at start.

use crate::identity::pin::FINGERPRINT;
use clap::{Parser, Subcommand};
use doorbell_wire::limits::{LOOK_MS_MAX, MANAGER_PORT, POLL_S_MAX, POLL_S_MIN};
use doorbell_wire::message::Polls;
use std::path::{Path, PathBuf};
use tracing::level_filters::LevelFilter;

/// The command line.
#[derive(Clone, Debug, Eq, Parser, PartialEq)]
#[command(name = "doorbell-agent", version, about = ABOUT, long_about = LONG_ABOUT, after_long_help = AFTER_HELP)]
pub struct Config {
    /// Where key, token, journal, programs and output are kept
    ///
    /// It has to outlive a reboot of the guest: a journal on tmpfs forgets what has been started. It is made
    /// with mode 700, and refused when others can read it.
    #[arg(
        long,
        value_name = "DIR",
        default_value = "/var/lib/doorbell-agent",
        env = "DOORBELL_AGENT_STATE_DIR"
    )]
    pub state_dir: PathBuf,

    /// The vsock port the manager listens on, at CID 2
    #[arg(long, value_name = "PORT", default_value_t = MANAGER_PORT, value_parser = clap::value_parser!(u32).range(1..1024))]
    pub port: u32,

    /// The least important records to write to stderr: error, warn, info, debug, trace or off
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    pub log: LevelFilter,

    /// A shared directory (9p, virtiofs) to look into for requests
    ///
    /// The manager exports it, read-only. Mount it with cache=none. Needs --receipts.
    #[arg(long, value_name = "DIR", requires = "receipts")]
    pub share: Option<PathBuf>,

    /// The shared directory that takes the receipts of what came by --share; the guest writes it
    #[arg(long, value_name = "DIR", requires = "share")]
    pub receipts: Option<PathBuf>,

    /// How often to look into the share, 1s to 30s; a ring makes the agent look at once
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = look_every)]
    pub look_every: u64,

    /// Do not dial: this guest has no vsock device
    #[arg(long, requires = "share")]
    pub no_channel: bool,

    /// Close when nothing waits and dial again after this time, 1s to 86400s, give or take a tenth: rings are not
    /// heard in between
    #[arg(long, value_name = "TIME", value_parser = poll, conflicts_with = "no_channel")]
    pub poll: Option<Polls>,

    /// Who may sign requests: a file as ssh-keygen's -f for -Y verify, root's and writable by nobody else
    #[arg(long, value_name = "FILE", default_value = ALLOWED_SIGNERS)]
    pub allowed_signers: PathBuf,

    /// Begin no request that does not carry a good signature; the manager does not set this guest's clock then
    #[arg(long)]
    pub require_signature: bool,

    /// Serve only the manager with this key: its fingerprint (SHA256:...), or a file that has it
    ///
    /// `doorbell manager key` shows it on the host. Without this flag the key that the guest was launched with, or
    /// whoever answers at CID 2.
    #[arg(long, value_name = "SHA256:...|FILE")]
    pub manager_key: Option<String>,

    /// Show this one-time token to the manager until it lets this guest in; a file of 32 bytes, root's alone
    ///
    /// `doorbell guest enrol` makes one on the host. Without this flag that of the guest's launch, where it has one.
    #[arg(long, value_name = "FILE")]
    pub enrol_token: Option<PathBuf>,

    /// What this guest lets its manager do: a policy in TOML, root's and writable by nobody else
    ///
    /// Without this option it is /etc/doorbell-agent/policy.toml, which need not be there: then everything is allowed. A policy
    /// that cannot be used allows nothing.
    #[arg(long, value_name = "FILE", global = true)]
    pub policy: Option<PathBuf>,

    /// Do not run modprobe; wait until somebody else has loaded the vsock transport, and use a key of the launch only where
    /// qemu_fw_cfg is loaded
    #[arg(long)]
    pub no_modules: bool,

    /// Something else than to serve.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What the program does beside serving.
#[derive(Clone, Debug, Eq, PartialEq, Subcommand)]
pub enum Command {
    /// Look at the policy
    #[command(subcommand)]
    Policy(PolicyCommand),
}

/// What is done with a policy.
#[derive(Clone, Debug, Eq, PartialEq, Subcommand)]
pub enum PolicyCommand {
    /// Print the rules of a policy in their order, and what is wrong with it
    ///
    /// Fails where the policy demands signatures and lets through without one what amounts to root: a program as root that is not
    /// named to its last word, anything that is put, a file with secrets that is read.
    Check {
        /// The file; the agent's own policy when none is given
        file: Option<PathBuf>,
    },
}

/// Milliseconds from whole seconds, `5s`.
fn look_every(text: &str) -> Result<u64, String> {
    let seconds = text.strip_suffix('s').and_then(|digits| digits.parse::<u64>().ok());
    let ms =
        seconds.and_then(|seconds| seconds.checked_mul(1000)).filter(|ms| (1_000..=LOOK_MS_MAX).contains(ms));
    ms.ok_or_else(|| "expected 1s to 30s".to_owned())
}

/// Whole seconds, `30s`.
fn poll(text: &str) -> Result<Polls, String> {
    let seconds = text.strip_suffix('s').and_then(|digits| digits.parse::<u32>().ok());
    let seconds = seconds.filter(|seconds| (POLL_S_MIN..=POLL_S_MAX).contains(seconds));
    let every_ms = seconds.and_then(|seconds| seconds.checked_mul(1000));
    every_ms.map(|every_ms| Polls { every_ms }).ok_or_else(|| "expected 1s to 86400s".to_owned())
}

/// Where those who may sign are looked for.
pub const ALLOWED_SIGNERS: &str = "/etc/doorbell-agent/allowed_signers";

const ABOUT: &str = "Pulls requests from the host over vsock, applies them once, and acknowledges them";

// Paragraphs are one line each: the terminal's width decides where they are folded.
const LONG_ABOUT: &str = "\
Pulls requests from the host over vsock, applies them once, and acknowledges them.

The agent dials the manager (doorbelld) at CID 2 from a privileged port and keeps one connection. It listens \
nowhere and needs no network. When the manager rings, the agent pulls the next request: it runs a program, or \
reads or switches network links, and gives back the outcome with its evidence.

With --share and --receipts the same goes through two directories that host and guest share (9p, virtiofs), on a timer, \
also in a guest without any vsock device (--no-channel); where there is a channel, a ring makes the agent look at once.

A request can carry a signature (`doorbell sign`, or `ssh-keygen -Y sign -n doorbell-request`) over all that it does. \
One that does not fit, is not this guest's, is over, was used before, or is of nobody in --allowed-signers is refused; \
with --require-signature so is one without.

The policy of the guest's owner (--policy) says what else is let in: by action, words, paths and users it allows, denies, demands a signature, sets the user, and limits. The agent's own files are no target of any request.

A request starts at most once. Its start is on disk before it begins and its outcome before it is \
acknowledged; what a crash of the guest cut off is reported as interrupted.

A program runs as root, or as the user the request names, in a session and, where the guest has cgroup v2, in a \
cgroup of its own, with an environment of PATH, what the request gives, and DOORBELL_REQUEST; it starts in / unless \
told otherwise. A supervisor of its own looks after it: it goes on while the agent is restarted or replaced, and \
the next agent takes it up. A time limit or a cancel sends SIGTERM, and SIGKILL to all of it 2 s later. Processes \
that a program leaves behind are killed after 2 s if they hold its output, and go on if they let go.";

const AFTER_HELP: &str = "\
First start:
  The agent makes a key and logs its fingerprint (SHA256:...). The operator compares it with what
  `doorbell guest pending` shows on the host and says `doorbell guest approve NAME`.

Files in the state directory:
  key                 the guest's key; whoever has it is this guest
  token, token-share  what the manager gave at the last welcome; a copy of the guest has a stale one
  journal             what was started, how it ended, and what the manager has stored of it
  nonces              what was begun by a signature, until it has expired
  enrolled            the public half of the one-time token that was used last
  manager             the manager's key of the launch, where the guest was launched with one
  programs/, run/     programs, what runs and its output, until the receipt

Signals:
  SIGTERM, SIGINT     say goodbye to the manager and end; running programs go on

Exit status:
  0  told to stop by a signal
  2  the command line is wrong
  3  the state directory, the key or the journal cannot be used; the last line on stderr says what to do
  4  the kernel refused what the agent cannot do without, or the disk its state: to start it again may help
  5  policy check: the policy cannot be used, so nothing is allowed
  6  policy check: it demands signatures, and lets through without one what amounts to root";

impl Config {
    /// The files that it names for the agent's own use, but for the policy.
    #[must_use]
    pub fn files(&self) -> Vec<&Path> {
        let pin = self.manager_key.as_deref().filter(|key| !key.starts_with(FINGERPRINT)).map(Path::new);
        let token = self.enrol_token.as_deref();
        std::iter::once(self.allowed_signers.as_path()).chain(pin).chain(token).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(args: &[&str]) -> Result<Config, clap::Error> {
        Config::try_parse_from(std::iter::once(&"doorbell-agent").chain(args))
    }

    #[test]
    fn the_definition_is_sound() {
        Config::command().debug_assert();
    }

    #[test]
    fn defaults_need_no_argument() {
        let config = parse(&[]).unwrap();
        assert_eq!((config.port, config.no_modules, config.log), (707, false, LevelFilter::INFO));
        assert_eq!(config.state_dir, PathBuf::from("/var/lib/doorbell-agent"));
    }

    #[test]
    fn a_port_that_anybody_could_listen_on_is_refused() {
        assert!(parse(&["--port", "1024"]).is_err());
        assert!(parse(&["--port", "0"]).is_err());
        assert_eq!(parse(&["--port", "1023"]).unwrap().port, 1023);
    }

    #[test]
    fn a_share_needs_its_receipts_and_a_guest_without_channel_needs_a_share() {
        assert!(parse(&["--share", "/s"]).is_err());
        assert!(parse(&["--no-channel"]).is_err());
        let config = parse(&["--share", "/s", "--receipts", "/r", "--no-channel"]).unwrap();
        assert_eq!((config.look_every, config.no_channel), (5_000, true));
        for wrong in ["0s", "31s", "5", "5m", "s"] {
            assert!(parse(&["--look-every", wrong]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_files_of_its_keys_are_its_own() {
        let config = parse(&["--manager-key", "/etc/m.pub", "--enrol-token", "/run/token"]).unwrap();
        let files = ["/etc/doorbell-agent/allowed_signers", "/etc/m.pub", "/run/token"].map(Path::new);
        assert_eq!(config.files(), files);
        assert_eq!(parse(&["--manager-key", "SHA256:abc"]).unwrap().files().len(), 1);
    }

    #[test]
    fn unknown_words_are_refused() {
        assert!(parse(&["--log", "loud"]).is_err());
        assert!(parse(&["--listen"]).is_err());
        assert!(parse(&["extra"]).is_err());
    }

    #[test]
    fn every_exit_status_is_in_the_help() {
        let help = Config::command().render_long_help().to_string();
        for status in
            [crate::EXIT_STATE, crate::EXIT_KERNEL, crate::EXIT_BROKEN_POLICY, crate::EXIT_OPEN_POLICY]
        {
            assert!(help.contains(&format!("\n  {status}  ")), "{status}");
        }
    }
}
