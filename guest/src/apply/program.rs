//! A program that is to be started: from a checked request to what a supervisor needs.
//!
//! Called by `apply`. What came over the channel is started only as a [`VerifiedProgram`]. Nothing of the disk is
//! looked at here: the supervisor does that, and a disk that hangs keeps no agent from its work.

use crate::verify::VerifiedProgram;
use doorbell_wire::ids::RequestId;
use doorbell_wire::message::action::{Executable, Run};
use doorbell_wire::message::outcome::{NotStarted, StartFault};
use nix::errno::Errno;
use std::num::NonZeroU8;

/// A program that can be started.
#[derive(Debug)]
pub struct Prepared {
    pub(crate) file: Found,
    /// The program's own name and what stands behind it.
    pub(crate) args: Vec<String>,
    env: Vec<(String, String)>,
    pub(crate) cwd: String,
    pub(crate) user: Option<String>,
    pub(crate) new_privileges: bool,
    /// Its step, where the guest may have to reboot for it.
    step: Option<NonZeroU8>,
}

/// Which file is started.
#[derive(Debug)]
pub(crate) enum Found {
    /// One of the guest's own: a path, or a name to be looked up.
    InGuest(String),
    /// One that came over the channel.
    Verified(VerifiedProgram),
}

impl Prepared {
    /// What `run` asks for, with the program that came for it.
    ///
    /// # Errors
    /// The outcome of a program that should have come and did not.
    pub fn new(run: &Run, program: Option<VerifiedProgram>) -> Result<Self, NotStarted> {
        let parts = run.parts();
        let (file, name) = match (&parts.executable, program) {
            (Executable::Program(_), Some(program)) => {
                let name = program.name().as_str().to_owned();
                (Found::Verified(program), name)
            }
            (Executable::Program(_), None) => {
                return Err(NotStarted { fault: StartFault::NotFound, errno: Errno::ENOENT as i32 });
            }
            (Executable::InGuest(command), _) => {
                (Found::InGuest(command.as_str().to_owned()), command.as_str().to_owned())
            }
        };
        Ok(Self {
            file,
            args: std::iter::once(name).chain(parts.args.iter().cloned()).collect(),
            env: parts.env.clone(),
            cwd: parts.cwd.as_ref().map_or("/", |cwd| cwd.as_str()).to_owned(),
            user: parts.user.as_ref().map(|user| user.as_str().to_owned()),
            new_privileges: parts.new_privileges,
            step: None,
        })
    }

    /// The same, told which step it is.
    #[must_use]
    pub fn at_step(self, step: NonZeroU8) -> Self {
        Self { step: Some(step), ..self }
    }

    /// The directories a name without a slash is looked up in.
    pub(crate) fn search_path(&self) -> &str {
        let given = self.env.iter().rev().find(|(name, _)| name == "PATH");
        given.map_or(DEFAULT_PATH, |(_, value)| value.as_str())
    }

    /// The whole environment as `NAME=value`: `defaults` where the request does not say, then what it says, each
    /// name once, and the request itself.
    pub(crate) fn environment(&self, request: RequestId, defaults: &[(&str, &str)]) -> Vec<String> {
        let given = self.env.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let defaults = std::iter::once(("PATH", DEFAULT_PATH)).chain(defaults.iter().copied());
        let all: Vec<_> = defaults.chain(given).collect();
        let last = |name: &str| all.iter().rposition(|(other, _)| *other == name);
        let named = all.iter().enumerate().filter(|(at, (name, _))| last(name) == Some(*at));
        let named = named.filter(|(_, (name, _))| ![REQUEST_VARIABLE, STEP_VARIABLE].contains(name));
        let texts = named.map(|(_, (name, value))| format!("{name}={value}"));
        let step = self.step.map(|step| format!("{STEP_VARIABLE}={step}"));
        texts.chain(std::iter::once(format!("{REQUEST_VARIABLE}={request}"))).chain(step).collect()
    }
}

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const REQUEST_VARIABLE: &str = "DOORBELL_REQUEST";
const STEP_VARIABLE: &str = "DOORBELL_STEP";

#[cfg(test)]
mod tests {
    use super::*;
    use doorbell_wire::message::action::{Input, Limits, RunParts};

    fn prepared(env: &[(&str, &str)]) -> Prepared {
        let command = "sh".to_owned().try_into().unwrap();
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let parts = RunParts {
            executable: Executable::InGuest(command),
            args: vec!["x".into()],
            env,
            cwd: None,
            user: None,
            input: Input::None,
            limits: Limits::default(),
            new_privileges: false,
        };
        Prepared::new(&Run::try_from(parts).unwrap(), None).unwrap()
    }

    #[test]
    fn the_environment_is_given_and_nothing_else() {
        let given = [("A", "1"), ("PATH", "/bin"), ("A", "2"), ("DOORBELL_REQUEST", "forged")];
        let prepared = prepared(&given);
        assert_eq!(prepared.search_path(), "/bin");
        assert_eq!(prepared.args, ["sh", "x"]);
        let env = prepared.environment(RequestId::new([0; 16]), &[("HOME", "/root"), ("A", "0")]);
        let request = "DOORBELL_REQUEST=00000000000000000000000000000000";
        assert_eq!(env, ["HOME=/root", "PATH=/bin", "A=2", request]);
    }
}
