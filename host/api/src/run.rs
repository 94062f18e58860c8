//! A program to start, as the API takes and shows it: what, as whom, with which input and within which limits.
//!
//! Used through [`crate::request`].

use crate::program::Source;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A program to start. Exactly one of `command`, `program` and `from` is given.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// A file of the guest, or a name looked up in its `PATH`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// A program that was uploaded before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<ProgramRef>,
    /// A program that lives elsewhere: the manager fetches it, never the guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Source>,
    /// Arguments; there is no shell in between.
    #[serde(default)]
    pub args: Vec<String>,
    /// Variables of the environment.
    #[serde(default)]
    pub env: Vec<Variable>,
    /// An absolute path to start in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// As whom: a user of the guest by name or number; the agent's own user, root, when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// What it reads.
    #[serde(default)]
    pub input: Input,
    /// How much it may take.
    #[serde(default)]
    pub limits: Limits,
    /// Whether it may have more privileges than its user, by files that are set-user-ID or have capabilities. Without
    /// it the kernel's `no_new_privs` is set for a program that does not run as root.
    #[serde(default, skip_serializing_if = "is_false")]
    pub new_privileges: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_false(value: &bool) -> bool {
    !*value
}

/// What a program reads on its standard input.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Input {
    /// Nothing.
    #[default]
    None,
    /// What is written with `PUT /v1/requests/{id}/input`, to its end.
    Stream,
    /// The same, through a terminal of its own; all output is then standard output.
    Terminal(Window),
}

/// The size of a terminal.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// Lines.
    pub rows: u16,
    /// Columns.
    pub columns: u16,
}

/// How much a program, with all it starts, may take. What is absent is not limited.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Bytes of memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_max: Option<u64>,
    /// Processes and threads at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processes_max: Option<u32>,
    /// Hundredths of one processor's time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_percent_max: Option<u32>,
    /// Output bytes that are kept of each stream; 64 MiB when absent, 16 GiB at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_max: Option<u64>,
}

/// A program by its content.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProgramRef {
    /// SHA-256 of its bytes, 64 hexadecimal digits.
    pub digest: String,
    /// What people call it.
    pub name: String,
}

/// A variable of the environment.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}
