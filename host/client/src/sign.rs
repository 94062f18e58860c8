//! What is signed: the text for a request, and a request for several guests made ready for one of them.
//!
//! Called by whoever signs, before anything is sent, and again when it is sent. Asks the manager nothing: the text is
//! made here of the request's own words, for the manager is the one whom a signature is to bind.

use crate::error::ClientError;
use doorbell_api::request::{self as api, NewRequest};
use doorbell_api::signature::{Proof, Signature, Target};
use doorbell_wire::ids::{Fingerprint, InvalidId, Nonce, ShortText};
use doorbell_wire::limits::OUTPUT_LEN_DEFAULT;
use doorbell_wire::manifest;
use doorbell_wire::merkle::Guests;
use doorbell_wire::message::action::{
    Action, Command, Executable, Form, Get, Input, Limits, LinkSelector, LinkSet, Mode, Payload, Program,
    Put, Reboot, Run, RunParts, RunReboot,
};
use doorbell_wire::message::{self, Terms};
use std::num::NonZeroU8;

/// The namespace to sign in: `ssh-keygen -Y sign -n doorbell-request`.
pub const NAMESPACE: &str = manifest::NAMESPACE;

/// The terms of a signature for these guests, by their fingerprints; it is still to be made.
///
/// # Errors
/// [`ClientError::Misuse`] for what is no fingerprint, and for no guest or too many.
pub fn terms(guests: &[String], not_before_s: Option<u64>, expires_s: u64) -> Result<Signature, ClientError> {
    let target = match set(guests)?.target() {
        message::Target::Guest(guest) => Target::Guest { fingerprint: guest.to_string() },
        message::Target::Guests { root, count } => Target::Guests { root: root.to_string(), count },
    };
    let mut nonce = [0; Nonce::LEN];
    getrandom::fill(&mut nonce).map_err(|error| ClientError::Source(std::io::Error::other(error)))?;
    let nonce = Nonce::new(nonce).to_string();
    Ok(Signature { target, proof: None, not_before_s, expires_s, nonce, armored: String::new() })
}

/// Where one of these guests stands among them; what a request needs for each guest that it is sent to.
///
/// # Errors
/// [`ClientError::Misuse`] for a guest that is none of them.
pub fn proof(guests: &[String], guest: &str) -> Result<Option<Proof>, ClientError> {
    let set = set(guests)?;
    let stranger = || misuse("guest", guest, "one of those that the signature is for");
    let message::Proof { index, path } = set.proof(&guest.parse()?).ok_or_else(stranger)?;
    if let message::Target::Guest(_) = set.target() {
        return Ok(None);
    }
    Ok(Some(Proof { index, path: path.iter().map(ToString::to_string).collect() }))
}

/// The text to sign for a request with its terms.
///
/// # Errors
/// [`ClientError::Misuse`] for a request without terms, and for what cannot be signed.
pub fn text(new: &NewRequest) -> Result<String, ClientError> {
    // What is not taken out here is the manager's business: when, and who is told.
    let NewRequest { action: asked, reboot, timeout_ms, idempotent, signature, .. } = new;
    let signature =
        signature.as_ref().ok_or_else(|| misuse("request", "one without terms", "a signature's terms"))?;
    let action = with_reboot(action(asked)?, *reboot)?;
    let terms = terms_of(signature)?;
    let text = manifest::manifest(&action, *timeout_ms, *idempotent, &terms);
    text.map_err(|why| misuse("request", &why.to_string(), "what can be signed"))
}

fn terms_of(signature: &Signature) -> Result<Terms, ClientError> {
    let Signature { target, proof: _, not_before_s, expires_s, nonce, armored: _ } = signature;
    let target = match target {
        Target::Guest { fingerprint } => message::Target::Guest(fingerprint.parse()?),
        Target::Guests { root, count } => message::Target::Guests { root: root.parse()?, count: *count },
    };
    Ok(Terms { target, not_before_s: *not_before_s, expires_s: *expires_s, nonce: nonce.parse()? })
}

fn set(guests: &[String]) -> Result<Guests, ClientError> {
    let guests = guests.iter().map(|guest| guest.parse()).collect::<Result<Vec<Fingerprint>, _>>()?;
    let count = guests.len().to_string();
    Guests::of(guests).ok_or_else(|| misuse("number of guests", &count, "1 to 1048576"))
}

/// The action in the channel's types. The lengths of what is named by digest are no part of the text.
fn action(asked: &api::Action) -> Result<Action, ClientError> {
    Ok(match asked {
        api::Action::Run(asked) => Action::Run(run(asked)?),
        api::Action::LinkUp(asked) => Action::LinkSet(LinkSet { link: link(&asked.link)?, up: true }),
        api::Action::LinkDown(asked) => Action::LinkSet(LinkSet { link: link(&asked.link)?, up: false }),
        api::Action::Put(asked) => Action::Put(put(asked)?),
        api::Action::Get(asked) => Action::Get(Get { path: asked.path.parse()? }),
    })
}

fn run(asked: &api::Run) -> Result<Run, ClientError> {
    let program = |digest: &str, name: &str| {
        Ok::<_, InvalidId>(Executable::Program(Program::new(digest.parse()?, 0, name.parse()?)?))
    };
    let executable = match (&asked.command, &asked.program, &asked.from) {
        (Some(command), None, None) => Executable::InGuest(Command::try_from(command.clone())?),
        (None, Some(named), None) => program(&named.digest, &named.name)?,
        (None, None, Some(from)) => {
            let named = from.name.as_deref();
            program(
                &from.sha256,
                named.ok_or_else(|| misuse("program", &from.url, "a name for it, with --name"))?,
            )?
        }
        _ => return Err(misuse("run", "none or several", "one of command, program and from")),
    };
    let limits = Limits {
        memory_max: asked.limits.memory_max,
        processes_max: asked.limits.processes_max,
        cpu_percent_max: asked.limits.cpu_percent_max,
        output_len_max: asked.limits.output_max.unwrap_or(OUTPUT_LEN_DEFAULT),
    };
    let input = match asked.input {
        api::Input::None => Input::None,
        api::Input::Stream | api::Input::Terminal(_) => Input::Stream,
    };
    let env = asked.env.iter().map(|variable| (variable.name.clone(), variable.value.clone())).collect();
    let cwd = asked.cwd.as_deref().map(str::parse).transpose()?;
    let user = asked.user.as_deref().map(str::parse).transpose()?;
    Ok(Run::try_from(RunParts {
        executable,
        args: asked.args.clone(),
        env,
        cwd,
        user,
        input,
        limits,
        new_privileges: asked.new_privileges,
    })?)
}

fn put(asked: &api::Put) -> Result<Put, ClientError> {
    let bits = |text: &String| {
        let bits = u16::from_str_radix(text, 8).map_err(|_| misuse("mode", text, "0 to 7777, octal"))?;
        Ok::<_, ClientError>(Mode::try_from(bits)?)
    };
    Ok(Put {
        path: asked.path.parse()?,
        payload: Payload::new(asked.digest.parse()?, 0)?,
        form: match asked.form {
            api::Form::File => Form::File,
            api::Form::Archive => Form::Archive,
        },
        mode: asked.mode.as_ref().map(bits).transpose()?,
        owner: asked.owner.as_deref().map(str::parse::<ShortText>).transpose()?,
        replace: asked.replace,
    })
}

fn with_reboot(action: Action, asked: Option<api::Reboot>) -> Result<Action, ClientError> {
    let (run, asked) = match (action, asked) {
        (Action::Run(run), Some(asked)) => (run, asked),
        (action, _) => return Ok(action),
    };
    let number = |number| NonZeroU8::new(number).ok_or_else(|| misuse("status or steps", "0", "1 to 255"));
    let reboot = match asked {
        api::Reboot::AfterSuccess => Reboot::AfterSuccess,
        api::Reboot::OnStatus { status, steps_max } => {
            Reboot::OnStatus { status: number(status)?, steps_max: number(steps_max)? }
        }
    };
    Ok(Action::RunReboot(RunReboot { run, reboot, step: NonZeroU8::MIN }))
}

fn link(text: &str) -> Result<LinkSelector, ClientError> {
    if text.contains(':') {
        return Ok(LinkSelector::Mac(text.parse()?));
    }
    Ok(LinkSelector::Name(text.parse()?))
}

fn misuse(what: &'static str, got: &str, expected: &'static str) -> ClientError {
    ClientError::Misuse { what, got: got.to_owned(), expected }
}

impl From<InvalidId> for ClientError {
    fn from(InvalidId { what, got, expected }: InvalidId) -> Self {
        Self::Misuse { what, got, expected }
    }
}
