//! From the API's plain words to the channel's checked types: the one place where a command becomes a request.
//!
//! Called by the handlers. A value that passes here can be sent to a guest as it is.

use super::error::ApiError;
use crate::manager::Manager;
use crate::store::{AcceptRequest, Place};
use doorbell_api::error::ErrorCode;
use doorbell_api::request::{Action as AskedAction, NewRequest, ProgramRef, Run as AskedRun};
use doorbell_wire::ids::{Digest, GuestCid, LinkName, MacAddress};
use doorbell_wire::limits::{MANAGER_PORT, PATH_LEN_MAX};
use doorbell_wire::message::action::{
    Action, Command, Executable, LinkSelector, LinkSet, Program, Run, RunParts,
};
use std::path::PathBuf;

/// Checks a request.
pub(super) async fn request(manager: &Manager, new: NewRequest) -> Result<AcceptRequest, ApiError> {
    if new.timeout_ms == Some(0) {
        return Err(ApiError::invalid(
            "timeout_ms 0 would end the program before it starts; leave it out for no limit",
        ));
    }
    Ok(AcceptRequest {
        id: new.id.map(|id| id.parse()).transpose()?,
        action: action(manager, new.action).await?,
        timeout_ms: new.timeout_ms,
        expires_in_ms: new.expires_in_ms,
        idempotent: new.idempotent,
        reason: new.reason.map(TryInto::try_into).transpose()?,
    })
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

async fn action(manager: &Manager, asked: AskedAction) -> Result<Action, ApiError> {
    match asked {
        AskedAction::Run(asked) => run(manager, asked).await.map(Action::Run),
        AskedAction::LinkUp(asked) => Ok(Action::LinkSet(LinkSet { link: link(&asked.link)?, up: true })),
        AskedAction::LinkDown(asked) => Ok(Action::LinkSet(LinkSet { link: link(&asked.link)?, up: false })),
    }
}

async fn run(manager: &Manager, asked: AskedRun) -> Result<Run, ApiError> {
    let executable = match (asked.command, asked.program) {
        (Some(command), None) => Executable::InGuest(Command::try_from(command)?),
        (None, Some(program)) => Executable::Program(self::program(manager, program).await?),
        (None, None) => return Err(ApiError::invalid("a run needs a command or a program")),
        (Some(_), Some(_)) => return Err(ApiError::invalid("a run has a command or a program, not both")),
    };
    let env = asked.env.into_iter().map(|variable| (variable.name, variable.value)).collect();
    let cwd = asked.cwd.map(TryInto::try_into).transpose()?;
    Ok(Run::try_from(RunParts { executable, args: asked.args, env, cwd })?)
}

async fn program(manager: &Manager, asked: ProgramRef) -> Result<Program, ApiError> {
    let digest: Digest = asked.digest.parse()?;
    let Some(len) = manager.programs.len(digest).await else {
        let text = format!("the manager has no program {digest}; upload it with PUT /v1/programs first");
        return Err(ApiError::new(ErrorCode::NotFound, text));
    };
    Ok(Program::new(digest, len, asked.name.try_into()?)?)
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
