//! A program to start: what, with which words, as whom, with which input and within which limits.
//!
//! Used through [`super`]. Trusts nothing: a [`Run`] is made of checked [`RunParts`] only, also when it is read.

use crate::ids::{Digest, GuestPath, InvalidId, ShortText};
use crate::limits::{ARGS_MAX, ENV_MAX, OUTPUT_LEN_DEFAULT, OUTPUT_LEN_MAX, PROGRAM_LEN_MAX, RUN_BYTES_MAX};
use crate::message::list::at_most;
use serde::{Deserialize, Serialize};

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
    /// As whom: a user's name or number of the guest; the agent's own user when none is given.
    pub user: Option<ShortText>,
    /// What it reads.
    pub input: Input,
    /// How much it may take.
    pub limits: Limits,
    /// Whether it may have more privileges than its user, by files that are set-user-ID or have capabilities. Root
    /// has them all.
    #[serde(default)]
    pub new_privileges: bool,
}

/// What a program reads on its standard input.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub enum Input {
    /// Nothing: `/dev/null`.
    #[default]
    None,
    /// Bytes that the manager sends, to their end.
    Stream,
    /// A terminal of its own, for input and all output.
    Terminal(Window),
}

/// The size of a terminal.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// Lines.
    pub rows: u16,
    /// Columns.
    pub columns: u16,
}

/// How much a program, with all it starts, may take. `None` is no limit of ours.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes of memory; beyond them the kernel kills.
    pub memory_max: Option<u64>,
    /// Processes and threads at once; beyond them a fork fails.
    pub processes_max: Option<u32>,
    /// Hundredths of one processor's time; 150 is one and a half.
    pub cpu_percent_max: Option<u32>,
    /// Output bytes that are kept of each stream; beyond them they are counted and dropped.
    pub output_len_max: u64,
}

impl Limits {
    /// Whether a limit is set that needs a controller of the guest's kernel.
    #[must_use]
    pub const fn needs_controllers(&self) -> bool {
        self.memory_max.is_some() || self.processes_max.is_some() || self.cpu_percent_max.is_some()
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_max: None,
            processes_max: None,
            cpu_percent_max: None,
            output_len_max: OUTPUT_LEN_DEFAULT,
        }
    }
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
        let Limits { memory_max, processes_max, cpu_percent_max, output_len_max } = parts.limits;
        if memory_max == Some(0) || processes_max == Some(0) || cpu_percent_max == Some(0) {
            return refuse("a limit of 0".into(), "limits that let a program run");
        }
        if output_len_max > OUTPUT_LEN_MAX {
            return refuse(
                format!("{output_len_max} bytes of output"),
                "at most 17179869184 bytes of output",
            );
        }
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
        let user = self.user.iter().map(ShortText::as_str);
        std::iter::once(executable)
            .chain(self.args.iter().map(String::as_str))
            .chain(env)
            .chain(cwd)
            .chain(user)
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
