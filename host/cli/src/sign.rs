//! `doorbell sign`: a request that its guest knows to be ours, whoever carries it there.
//!
//! Stations: command, before there is a request. The key never comes here: `ssh-keygen` signs, so agents and hardware
//! work. What is sent later, by `doorbell run --signed`, is a [`Bundle`].

use crate::context::{Context, print};
use crate::duration;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::run::{How, Most, Reboots};
use clap::Args;
use doorbell_client::api::request::{
    Action, Form, Get, Input, Limits, Link, NewRequest, ProgramRef, Put, Run,
};
use doorbell_client::sign::{NAMESPACE, proof, terms, text};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

#[derive(Args, Debug)]
#[command(after_help = NOTES)]
pub(crate) struct SignArgs {
    /// The guests it is for: SHA256:… of their keys, or names, which the manager is asked about then
    #[arg(long = "guest", value_name = "GUEST", required = true)]
    guests: Vec<String>,
    /// The key to sign with, as for ssh-keygen: a private key, or the public one of a key in an agent
    #[arg(long, value_name = "FILE", required_unless_present = "manifest")]
    key: Option<PathBuf>,
    /// How long it is good
    #[arg(long, value_name = "TIME", value_parser = duration::parse, default_value = "1h")]
    valid_for: Duration,
    /// From when on it is good, such as 2026-12-24T18:00:00Z; --valid-for counts from then
    #[arg(long, value_name = "TIME")]
    not_before: Option<Timestamp>,
    /// Where the signed request is put
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Do not sign: put the text there, for `ssh-keygen -Y sign -n doorbell-request -f KEY FILE`
    #[arg(long, value_name = "FILE", conflicts_with = "key")]
    manifest: Option<PathBuf>,
    #[command(flatten)]
    what: What,
    #[command(flatten)]
    how: How,
    #[command(flatten)]
    most: Most,
    #[command(flatten)]
    reboots: Reboots,
    /// It may be started again when the guest went down in the middle of it
    #[arg(long)]
    idempotent: bool,
    /// What to run in the guest; behind --program its arguments
    #[arg(last = true, value_names = ["COMMAND", "ARGS"], num_args = 1..)]
    command: Vec<String>,
}

/// What is to be done, where it is no command
#[derive(Args, Debug)]
pub(crate) struct What {
    /// Run this file; it is read for its digest
    #[arg(long, value_name = "FILE", group = "action")]
    program: Option<PathBuf>,
    /// Bring a link up
    #[arg(long, value_name = "LINK", group = "action")]
    link_up: Option<String>,
    /// Bring a link down
    #[arg(long, value_name = "LINK", group = "action")]
    link_down: Option<String>,
    /// Put this file into the guest; it is read for its digest
    #[arg(long, value_name = "FILE", group = "action", requires = "to")]
    put: Option<PathBuf>,
    /// Where the file is to be in the guest
    #[arg(long, value_name = "PATH", requires = "put")]
    to: Option<String>,
    /// Permission bits of that file, in octal
    #[arg(long, value_name = "BITS", requires = "put")]
    mode: Option<String>,
    /// Whose that file is to be
    #[arg(long, value_name = "USER[:GROUP]", requires = "put")]
    owner: Option<String>,
    /// Read a file or a tree of the guest
    #[arg(long, value_name = "PATH", group = "action")]
    get: Option<String>,
}

/// A signed request in a file: what `doorbell sign` writes and `doorbell run --signed` sends.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Bundle {
    /// The form of this file: 1.
    doorbell_signed: u8,
    /// The keys of the guests it is for.
    guests: Vec<String>,
    /// The request as the API takes it, without the proof of a guest.
    request: NewRequest,
}

pub(crate) async fn run(context: &Context, args: SignArgs) -> Result<Exit, Failure> {
    let mut guests = Vec::new();
    for guest in &args.guests {
        guests.push(fingerprint(context, guest).await?);
    }
    let from_s = args.not_before.map_or_else(now_s, |at| u64::try_from(at.as_second()).unwrap_or(0));
    let expires_s = from_s.saturating_add(args.valid_for.as_secs().max(1));
    let signature = terms(&guests, args.not_before.map(|_| from_s), expires_s)?;
    let mut new = args.what.request(args.command, args.how, &args.most)?;
    new.reboot = args.reboots.reboot();
    new.timeout_ms = args.most.timeout.map(duration::ms);
    new.confirm_within_ms = args.reboots.confirm_within.map(duration::ms);
    new.idempotent = args.idempotent || !matches!(new.action, Action::Run(_));
    new.signature = Some(signature);
    let manifest = text(&new)?;
    if let Some(path) = &args.manifest {
        write(path, manifest.as_bytes())?;
    } else if let (Some(key), Some(signature)) = (&args.key, &mut new.signature) {
        signature.armored = signed(key, &manifest)?;
    }
    let bundle = Bundle { doorbell_signed: FORM, guests, request: new };
    let text = serde_json::to_string_pretty(&bundle).unwrap_or_default();
    write(&args.out, format!("{text}\n").as_bytes())?;
    if context.json {
        context.show(&bundle, |_| String::new())?
    } else {
        print(&manifest)?
    }
    Ok(Exit::Done)
}

impl Bundle {
    /// Reads the file; the signature may lie in another one.
    pub(crate) fn open(path: &Path, signature: Option<&Path>) -> Result<Self, Failure> {
        let wrong = |why: String| {
            misused(path, &format!("it is no signed request: {why}; make one with `doorbell sign`"))
        };
        let bytes = std::fs::read(path).map_err(|error| misused(path, &error.to_string()))?;
        let mut bundle: Self = serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
        if bundle.doorbell_signed != FORM {
            return Err(wrong(format!("its form is {}, expected {FORM}", bundle.doorbell_signed)));
        }
        let Some(signed) = &mut bundle.request.signature else { return Err(wrong("it has no terms".into())) };
        if let Some(path) = signature {
            signed.armored =
                std::fs::read_to_string(path).map_err(|error| misused(path, &error.to_string()))?;
        }
        if signed.armored.is_empty() {
            return Err(wrong("its manifest was not signed yet; give the signature with --signature".into()));
        }
        Ok(bundle)
    }

    /// The request for one of its guests. Several need to be told apart by their keys.
    pub(crate) async fn request(self, context: &Context, guest: &str) -> Result<NewRequest, Failure> {
        let Self { doorbell_signed: _, guests, mut request } = self;
        if guests.len() > 1 {
            let fingerprint = fingerprint(context, guest).await?;
            if let Some(signature) = &mut request.signature {
                signature.proof = proof(&guests, &fingerprint)?;
            }
        }
        Ok(request)
    }
}

impl What {
    pub(crate) fn request(self, command: Vec<String>, how: How, most: &Most) -> Result<NewRequest, Failure> {
        let is_other =
            self.link_up.is_some() || self.link_down.is_some() || self.put.is_some() || self.get.is_some();
        if is_other && !command.is_empty() {
            return Err(Failure::new(
                Exit::Misused,
                "a command and another action do not go together; make two requests of them",
            ));
        }
        let action = match self {
            Self { link_up: Some(link), .. } => Action::LinkUp(Link { link }),
            Self { link_down: Some(link), .. } => Action::LinkDown(Link { link }),
            Self { get: Some(path), .. } => Action::Get(Get { path }),
            Self { put: Some(file), to: Some(path), mode, owner, .. } => {
                let digest = digest(&file)?;
                Action::Put(Put { path, digest, form: Form::File, mode, owner, replace: false })
            }
            Self { program, .. } => Action::Run(to_run(program.as_deref(), command, how, most)?),
        };
        Ok(NewRequest::of(action))
    }
}

fn to_run(program: Option<&Path>, command: Vec<String>, how: How, most: &Most) -> Result<Run, Failure> {
    let mut words = command.into_iter();
    let (command, program) = match program {
        Some(path) => {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            (None, Some(ProgramRef { digest: digest(path)?, name }))
        }
        None => match words.next() {
            None => {
                return Err(Failure::new(
                    Exit::Misused,
                    "there is nothing to do: give a command behind --, or --program",
                ));
            }
            command => (command, None),
        },
    };
    let limits = Limits {
        memory_max: most.memory,
        processes_max: most.processes,
        cpu_percent_max: most.cpu,
        output_max: most.output_max,
    };
    let How { env, cwd, user, new_privileges } = how;
    Ok(Run {
        command,
        program,
        from: None,
        args: words.collect(),
        env,
        cwd,
        user,
        input: Input::None,
        limits,
        new_privileges,
    })
}

/// The fingerprint of a guest that is given by it, or by the name that the manager knows.
async fn fingerprint(context: &Context, guest: &str) -> Result<String, Failure> {
    if guest.starts_with("SHA256:") {
        return Ok(guest.to_owned());
    }
    let shown = context.client.guest(guest).show().await?;
    shown.fingerprint.ok_or_else(|| {
        Failure::new(
            Exit::Misused,
            format!("guest {guest} has no approved key; approve it, or give its SHA256:…"),
        )
    })
}

/// Has ssh-keygen sign; what it asks, it asks at the terminal.
fn signed(key: &Path, manifest: &str) -> Result<String, Failure> {
    let failed = |why: String| {
        Failure::new(Exit::NotSo, format!("ssh-keygen did not sign with {}: {why}", key.display()))
    };
    let mut child = Command::new("ssh-keygen")
        .args(["-q", "-Y", "sign", "-n", NAMESPACE, "-f"])
        .arg(key)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| failed(format!("{error}; is it installed?")))?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that has ended already says why by its status.
        let _ = stdin.write_all(manifest.as_bytes());
    }
    let output = child.wait_with_output().map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        return Err(failed(output.status.to_string()));
    }
    String::from_utf8(output.stdout).map_err(|_| failed("what it wrote is no text".into()))
}

fn digest(path: &Path) -> Result<String, Failure> {
    let bytes = std::fs::read(path).map_err(|error| misused(path, &error.to_string()))?;
    Ok(hex::encode(Sha256::digest(bytes)))
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    std::fs::write(path, bytes).map_err(|error| misused(path, &error.to_string()))
}

fn misused(path: &Path, why: &str) -> Failure {
    Failure::new(Exit::Misused, format!("{}: {why}", path.display()))
}

fn now_s() -> u64 {
    u64::try_from(Timestamp::now().as_second()).unwrap_or(0)
}

const FORM: u8 = 1;

/// What the options alone do not tell.
const NOTES: &str = "\
What is printed is the text that was signed: all that the request does, for whom, and until when. A guest begins it once.
`doorbell run GUEST --signed FILE` sends it, with --program FILE where it names one that the manager does not have.
A guest's name is looked up at the manager: compare the SHA256:… in the text, or give that instead of the name.
A signed request reads no input and has no terminal. One that reboots has to be good until its last step.";
