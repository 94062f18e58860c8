//! What a request asks a guest to do.
//!
//! Built by the manager from a command, read by the agent's `apply`. Decoding runs the same checks as building.

use super::list::at_most;
use crate::ids::{Digest, GuestPath, InvalidId, LinkName, MacAddress, ShortText};
use crate::limits::{ARGS_MAX, ENV_MAX, PROGRAM_LEN_MAX, RUN_BYTES_MAX};
use serde::{Deserialize, Serialize};

/// One thing to be done.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum Action {
    /// Start a program and wait for its end.
    Run(Run),
    /// Read every link. A query.
    LinkList,
    /// Bring one link administratively up or down.
    LinkSet(LinkSet),
}

impl Action {
    /// The program's bytes that the agent has to fetch first, if any.
    #[must_use]
    pub fn program(&self) -> Option<&Program> {
        match self {
            Self::Run(run) => match &run.parts().executable {
                Executable::Program(program) => Some(program),
                Executable::InGuest(_) => None,
            },
            Self::LinkList | Self::LinkSet(_) => None,
        }
    }

    /// The action's name in commands, policies and records.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Run(_) => "run",
            Self::LinkList => "link-list",
            Self::LinkSet(LinkSet { up: true, .. }) => "link-up",
            Self::LinkSet(LinkSet { up: false, .. }) => "link-down",
        }
    }
}

/// A program to start: checked parts.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RunParts", into = "RunParts")]
pub struct Run(RunParts);

/// The parts of a [`Run`] before they are checked.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct RunParts {
    /// What to start.
    pub executable: Executable,
    /// The arguments behind the program's own name. There is no shell in between.
    #[serde(deserialize_with = "at_most::<_, _, ARGS_MAX>")]
    pub args: Vec<String>,
    /// Variables of the environment, in order; the program gets these, a `PATH` and what the agent adds.
    #[serde(deserialize_with = "at_most::<_, _, ENV_MAX>")]
    pub env: Vec<(String, String)>,
    /// Where to start it; `/` when none is given.
    pub cwd: Option<GuestPath>,
}

impl Run {
    /// The checked parts.
    #[must_use]
    pub const fn parts(&self) -> &RunParts {
        &self.0
    }
}

impl TryFrom<RunParts> for Run {
    type Error = InvalidId;

    fn try_from(parts: RunParts) -> Result<Self, InvalidId> {
        let refuse = |got: String, expected| Err(InvalidId { what: "program start", got, expected });
        if parts.args.len() >= ARGS_MAX {
            return refuse(format!("{} arguments", parts.args.len()), "at most 1023 arguments");
        }
        if parts.env.len() > ENV_MAX {
            return refuse(format!("{} variables", parts.env.len()), "at most 1024 variables");
        }
        if parts.texts().any(|text| text.contains('\0')) {
            return refuse("a NUL byte".into(), "arguments and variables without NUL");
        }
        if parts.env.iter().any(|(name, _)| name.is_empty() || name.contains('=')) {
            return refuse("a variable".into(), "names of variables that are not empty and have no '='");
        }
        let bytes = parts.texts().fold(0_usize, |sum, text| sum.saturating_add(text.len()).saturating_add(1));
        if bytes > RUN_BYTES_MAX {
            return refuse(format!("{bytes} bytes"), "at most 49152 bytes of arguments, variables and paths");
        }
        Ok(Self(parts))
    }
}

impl From<Run> for RunParts {
    fn from(run: Run) -> Self {
        run.0
    }
}

impl RunParts {
    fn texts(&self) -> impl Iterator<Item = &str> {
        let executable = match &self.executable {
            Executable::InGuest(command) => command.as_str(),
            Executable::Program(program) => program.name.as_str(),
        };
        let env = self.env.iter().flat_map(|(name, value)| [name.as_str(), value.as_str()]);
        let cwd = self.cwd.iter().map(GuestPath::as_str);
        std::iter::once(executable).chain(self.args.iter().map(String::as_str)).chain(env).chain(cwd)
    }
}

/// What is started.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum Executable {
    /// A file of the guest: a path, or a name looked up in the guest's `PATH`.
    InGuest(Command),
    /// A program that comes over the channel.
    Program(Program),
}

/// The name or path of an executable in the guest.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Command(String);

impl Command {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Command {
    type Error = InvalidId;
    fn try_from(text: String) -> Result<Self, InvalidId> {
        if text.is_empty() {
            return Err(InvalidId { what: "command", got: text, expected: "the name or path of a program" });
        }
        Ok(Self(text))
    }
}

impl From<Command> for String {
    fn from(command: Command) -> String {
        command.0
    }
}

/// A program by its content. Made by [`Program::new`] only.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "ProgramParts", into = "ProgramParts")]
#[non_exhaustive]
pub struct Program {
    /// SHA-256 of its bytes.
    pub digest: Digest,
    /// Bytes it has; at most [`PROGRAM_LEN_MAX`].
    pub len: u64,
    /// What people call it; its own name (`argv[0]`) in the guest.
    pub name: ShortText,
}

impl Program {
    /// A program of this digest, length and name.
    ///
    /// # Errors
    /// [`InvalidId`] when it is longer than [`PROGRAM_LEN_MAX`].
    pub fn new(digest: Digest, len: u64, name: ShortText) -> Result<Self, InvalidId> {
        if len > PROGRAM_LEN_MAX {
            let got = format!("{len} bytes");
            return Err(InvalidId { what: "program", got, expected: "at most 67108864 bytes" });
        }
        Ok(Self { digest, len, name })
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct ProgramParts {
    digest: Digest,
    len: u64,
    name: ShortText,
}

impl TryFrom<ProgramParts> for Program {
    type Error = InvalidId;
    fn try_from(ProgramParts { digest, len, name }: ProgramParts) -> Result<Self, InvalidId> {
        Self::new(digest, len, name)
    }
}

impl From<Program> for ProgramParts {
    fn from(Program { digest, len, name }: Program) -> Self {
        Self { digest, len, name }
    }
}

/// A change of one link.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct LinkSet {
    /// Which link.
    pub link: LinkSelector,
    /// Up, or down.
    pub up: bool,
}

/// How a link is named.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum LinkSelector {
    /// By the name the kernel shows.
    Name(LinkName),
    /// By its hardware address, which no rename changes.
    Mac(MacAddress),
}

impl std::fmt::Display for LinkSelector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Mac(mac) => mac.fmt(f),
        }
    }
}
