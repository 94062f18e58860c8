//! From the API's plain words to the channel's checked types: the one place where a command becomes a request.
//!
//! Called by the handlers and by the spool. A value that passes here can be sent to a guest as it is.

use super::error::ApiError;
use crate::access::Scope;
use crate::cause::Cause;
use crate::manager::Manager;
use crate::retrieve::Location;
use crate::store::{AcceptRequest, Place};
use doorbell_api::error::ErrorCode;
use doorbell_api::request::{
    Action as AskedAction, Form as AskedForm, Input as AskedInput, NewRequest, ProgramRef, Put as AskedPut,
    Reboot as AskedReboot, Run as AskedRun, Source, Window as AskedWindow,
};
use doorbell_wire::ids::{Digest, GuestCid, LinkName, MacAddress, ShortText};
use doorbell_wire::limits::{MANAGER_PORT, OUTPUT_LEN_DEFAULT, PATH_LEN_MAX};
use doorbell_wire::message::action::{
    Action, Asked, Can, Command, Executable, Form, Get, Input, Limits, LinkSelector, LinkSet, Mode, Payload,
    Program, Put, Reboot, Run, RunParts, RunReboot, Window,
};
use std::num::NonZeroU8;
use std::path::PathBuf;

/// Checks a request. What was said around it holds where it does not say why itself.
pub(crate) async fn request(
    manager: &Manager,
    scope: &Scope,
    new: NewRequest,
    around: Cause,
) -> Result<AcceptRequest, ApiError> {
    let cause = Cause::told(new.reason.as_deref(), new.ticket.as_deref())?.or(around);
    let cause = cause.demanded(&manager.config)?;
    if new.timeout_ms == Some(0) {
        return Err(ApiError::invalid(
            "timeout_ms 0 would end the program before it starts; leave it out for no limit",
        ));
    }
    if new.confirm_within_ms == Some(0) {
        return Err(ApiError::invalid(
            "confirm_within_ms 0 would close every request; leave it out for an hour",
        ));
    }
    let (action, elsewhere) = action((manager, scope, Bytes::Here), new.action).await?;
    let (source, awaits_program) =
        elsewhere.map_or((None, false), |Elsewhere { source, here }| (Some(source), !here));
    Ok(AcceptRequest {
        id: new.id.map(|id| id.parse()).transpose()?,
        action: with_reboot(action, new.reboot)?,
        timeout_ms: new.timeout_ms,
        expires_in_ms: new.expires_in_ms,
        idempotent: new.idempotent || crate::planted::is("G2"),
        urgent: new.urgent,
        on_disconnect: new.on_disconnect,
        reason: cause.reason,
        ticket: cause.ticket,
        confirm_within_ms: new.confirm_within_ms,
        source,
        awaits_program,
        signed: new.signature.map(crate::signed::read).transpose()?,
    })
}

/// A reboot belongs to a program: what else is there to do is done by then, or has no exit status.
fn with_reboot(action: Action, asked: Option<AskedReboot>) -> Result<Action, ApiError> {
    let Some(asked) = asked else { return Ok(action) };
    let Action::Run(run) = action else {
        return Err(ApiError::invalid("a reboot belongs to a run; send it as a run of its own"));
    };
    let reboot = match asked {
        AskedReboot::AfterSuccess => Reboot::AfterSuccess,
        AskedReboot::OnStatus { status, steps_max } => {
            let bad = |what: &str| ApiError::invalid(format!("{what} 0 is not valid: expected 1 to 255"));
            let status = NonZeroU8::new(status).ok_or_else(|| bad("the status that asks for a reboot"))?;
            let steps_max = NonZeroU8::new(steps_max).ok_or_else(|| bad("steps_max"))?;
            Reboot::OnStatus { status, steps_max }
        }
    };
    if run.parts().input != Input::None {
        return Err(ApiError::invalid(
            "a program behind which the guest reboots reads no input: it would be gone",
        ));
    }
    Ok(Action::RunReboot(RunReboot { run, reboot, step: NonZeroU8::MIN }))
}

/// Where a guest is met.
pub(super) fn place(cid: Option<u32>, hybrid_socket: Option<String>) -> Result<Option<Place>, ApiError> {
    match (cid, hybrid_socket) {
        (None, None) => Ok(None),
        (Some(cid), None) => Ok(Some(Place::Cid(GuestCid::try_from(cid)?))),
        (None, Some(path)) => {
            let longest = format!("{path}_{MANAGER_PORT}");
            if longest.len() > SOCKET_PATH_MAX {
                return Err(ApiError::invalid(format!(
                    "the hybrid socket's path is too long: {longest} has {} bytes where the kernel takes {SOCKET_PATH_MAX}",
                    longest.len()
                )));
            }
            Ok(Some(Place::Hybrid(absolute("hybrid_socket", path)?)))
        }
        (Some(_), Some(_)) => Err(ApiError::invalid("a guest has a cid or a hybrid_socket, not both")),
    }
}

/// An absolute path of the host.
pub(super) fn absolute(what: &str, path: String) -> Result<PathBuf, ApiError> {
    if !path.starts_with('/') || path.len() > PATH_LEN_MAX || path.contains('\0') {
        return Err(ApiError::invalid(format!("{what} {path:?} is not an absolute path")));
    }
    Ok(path.into())
}

/// Where a program lives that is not uploaded, and whether the manager has it all the same.
struct Elsewhere {
    source: Source,
    here: bool,
}

/// The manager, whose things there are for whoever asks, and whether bytes that are named have to be here.
type Within<'a> = (&'a Manager, &'a Scope, Bytes);

/// Whether the bytes that a request names have to be here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Bytes {
    Here,
    Anywhere,
}

/// Checks a request that is asked about and not made: its bytes need not be here.
pub(super) async fn dry(manager: &Manager, scope: &Scope, new: NewRequest) -> Result<Can, ApiError> {
    let (action, _) = action((manager, scope, Bytes::Anywhere), new.action).await?;
    let asked = Asked::of(with_reboot(action, new.reboot)?);
    let asked = asked.ok_or_else(|| ApiError::invalid("a dry run is not asked about"))?;
    let signed = new.signature.map(crate::signed::read).transpose()?.map(Box::new);
    Ok(Can { asked, timeout_ms: new.timeout_ms, idempotent: new.idempotent, signed })
}

async fn action(within: Within<'_>, asked: AskedAction) -> Result<(Action, Option<Elsewhere>), ApiError> {
    let action = match asked {
        AskedAction::Run(asked) => {
            let (run, elsewhere) = run(within, asked).await?;
            return Ok((Action::Run(run), elsewhere));
        }
        AskedAction::LinkUp(asked) => Action::LinkSet(LinkSet { link: link(&asked.link)?, up: true }),
        AskedAction::LinkDown(asked) => Action::LinkSet(LinkSet { link: link(&asked.link)?, up: false }),
        AskedAction::Put(asked) => put(within, asked).await.map(Action::Put)?,
        AskedAction::Get(asked) => Action::Get(Get { path: asked.path.try_into()? }),
    };
    Ok((action, None))
}

async fn run(within: Within<'_>, asked: AskedRun) -> Result<(Run, Option<Elsewhere>), ApiError> {
    let (executable, elsewhere) = match (asked.command, asked.program, asked.from) {
        (Some(command), None, None) => (Executable::InGuest(Command::try_from(command)?), None),
        (None, Some(program), None) => (Executable::Program(self::program(within, program).await?), None),
        (None, None, Some(from)) => {
            let (program, elsewhere) = self::elsewhere(within, from).await?;
            (Executable::Program(program), Some(elsewhere))
        }
        (None, None, None) => return Err(ApiError::invalid("a run needs a command, a program or from")),
        (Some(_), ..) | (None, Some(_), Some(_)) => {
            return Err(ApiError::invalid("a run has one of command, program and from"));
        }
    };
    let env = asked.env.into_iter().map(|variable| (variable.name, variable.value)).collect();
    let cwd = asked.cwd.map(TryInto::try_into).transpose()?;
    let user = asked.user.map(|user| filled("user", user)).transpose()?;
    let input = match asked.input {
        AskedInput::None => Input::None,
        AskedInput::Stream => Input::Stream,
        AskedInput::Terminal(asked) => Input::Terminal(window(asked)?),
    };
    let limits = Limits {
        memory_max: asked.limits.memory_max,
        processes_max: asked.limits.processes_max,
        cpu_percent_max: asked.limits.cpu_percent_max,
        output_len_max: asked.limits.output_max.unwrap_or(OUTPUT_LEN_DEFAULT),
    };
    let run = Run::try_from(RunParts {
        executable,
        args: asked.args,
        env,
        cwd,
        user,
        input,
        limits,
        new_privileges: asked.new_privileges,
    })?;
    Ok((run, elsewhere))
}

/// The size of a terminal.
pub(super) fn window(asked: AskedWindow) -> Result<Window, ApiError> {
    let AskedWindow { rows, columns } = asked;
    if rows == 0 || columns == 0 {
        return Err(ApiError::invalid(format!(
            "a terminal of {rows} rows and {columns} columns shows nothing; give at least one of each"
        )));
    }
    Ok(Window { rows, columns })
}

async fn put(within: Within<'_>, asked: AskedPut) -> Result<Put, ApiError> {
    let digest: Digest = asked.digest.parse()?;
    let form = match asked.form {
        AskedForm::File => Form::File,
        AskedForm::Archive => Form::Archive,
    };
    if form == Form::Archive && asked.mode.is_some() {
        return Err(ApiError::invalid("permission bits of an archive stand in it; leave mode out"));
    }
    let Some(len) = used(within, digest).await? else {
        let text = format!("the manager has no file {digest}; upload it with PUT /v1/uploads/{{id}} first");
        return Err(ApiError::new(ErrorCode::NotFound, text));
    };
    Ok(Put {
        path: asked.path.try_into()?,
        payload: Payload::new(digest, len)?,
        form,
        mode: asked.mode.as_deref().map(mode).transpose()?,
        owner: asked.owner.map(owner).transpose()?,
        replace: asked.replace,
    })
}

fn mode(text: &str) -> Result<Mode, ApiError> {
    let digits = (1..=5).contains(&text.len()) && text.bytes().all(|digit| digit.is_ascii_digit());
    let bits = u16::from_str_radix(text, 8).ok().filter(|_| digits);
    let mode = bits.and_then(|bits| Mode::try_from(bits).ok());
    mode.ok_or_else(|| ApiError::invalid(format!("mode {text:?} is not valid: expected 0 to 7777, octal")))
}

/// `user`, `user:group` or `:group`.
fn owner(text: String) -> Result<ShortText, ApiError> {
    let (user, group) =
        text.split_once(':').map_or((text.as_str(), None), |(user, group)| (user, Some(group)));
    let plain = |part: &str| !part.contains(|sign: char| sign == ':' || sign.is_whitespace());
    let named = if group.is_some() { group != Some("") } else { !user.is_empty() };
    if named && plain(user) && group.is_none_or(plain) {
        return Ok(text.try_into()?);
    }
    Err(ApiError::invalid(format!("owner {text:?} is not valid: expected user, user:group or :group")))
}

fn filled(what: &str, text: String) -> Result<ShortText, ApiError> {
    if text.is_empty() || text.contains(|sign: char| sign == ':' || sign.is_whitespace()) {
        return Err(ApiError::invalid(format!("{what} {text:?} is not valid: expected a name or a number")));
    }
    Ok(text.try_into()?)
}

/// The length of a program that a request is about to name, where it is there for whoever asks.
async fn used((manager, scope, bytes): Within<'_>, digest: Digest) -> Result<Option<u64>, ApiError> {
    // Nothing is looked at, so that the answer, and the time that it takes, tell nobody what is here.
    if bytes == Bytes::Anywhere {
        return Ok(Some(0));
    }
    if let Some(tenant) = scope.tenant()
        && !manager.store.holds(tenant, digest).await?
    {
        return Ok(None);
    }
    Ok(manager.programs.used(digest).await)
}

async fn program(within: Within<'_>, asked: ProgramRef) -> Result<Program, ApiError> {
    let digest: Digest = asked.digest.parse()?;
    let Some(len) = used(within, digest).await? else {
        let text = format!("the manager has no program {digest}; upload it with PUT /v1/programs first");
        return Err(ApiError::new(ErrorCode::NotFound, text));
    };
    Ok(Program::new(digest, len, asked.name.try_into()?)?)
}

/// A program by its digest and place. Whether the place may be asked is seen when it is: one that is here
/// already is not fetched.
async fn elsewhere(within: Within<'_>, asked: Source) -> Result<(Program, Elsewhere), ApiError> {
    let digest: Digest = asked.sha256.parse()?;
    let place = Location::parse(&asked.url).map_err(|error| {
        // Not the URL: what is wrong with it can be a password in it.
        ApiError::invalid(format!("the program's URL cannot be taken: {error}"))
    })?;
    let name = asked.name.unwrap_or_else(|| place.name());
    let len = used(within, digest).await?;
    let program = Program::new(digest, len.unwrap_or(0), name.clone().try_into()?)?;
    let source = Source { url: place.as_str().to_owned(), sha256: digest.to_string(), name: Some(name) };
    Ok((program, Elsewhere { source, here: len.is_some() }))
}

/// A MAC address where it reads as one, else a name: the kernel takes no ':' in names.
fn link(text: &str) -> Result<LinkSelector, ApiError> {
    if text.contains(':') {
        return Ok(LinkSelector::Mac(text.parse::<MacAddress>()?));
    }
    Ok(LinkSelector::Name(text.parse::<LinkName>()?))
}

/// Bytes of a Unix socket's path, without its final NUL.
const SOCKET_PATH_MAX: usize = 107;
