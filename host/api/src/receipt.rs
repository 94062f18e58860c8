//! Receipts: the manager's durable record of what came of a request, with the evidence.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What came of a request.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct Receipt {
    /// When the manager had it on disk, milliseconds since the Unix epoch.
    pub stored_at_ms: u64,
    /// The exit status, when a program exited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<u8>,
    /// The signal's number, when one ended the program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<u8>,
    /// What went wrong, in one line: what was expected, what was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Why a program was not started, in one word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_fault: Option<StartFault>,
    /// The kernel's error number behind it, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errno: Option<i32>,
    /// The link before the change, read from the guest's kernel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link_before: Option<LinkState>,
    /// The link after the change, read back from the guest's kernel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link_after: Option<LinkState>,
    /// Standard output.
    pub stdout: OutputTotal,
    /// Standard error.
    pub stderr: OutputTotal,
    /// The file or tree that was put or read, as the guest read it back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<FileEvidence>,
    /// When it ran, by the guest's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ran: Option<Ran>,
    /// What a program took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// The run of the guest's kernel that acknowledged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_id: Option<String>,
    /// The run of the guest's kernel before a reboot that belongs to the request; `boot_id` is the one behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_before: Option<String>,
    /// What stood here before this receipt took its place: only `unconfirmed` is ever amended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amends: Option<Amended>,
    /// The hash of the audit record that was written with this receipt.
    pub audit_hash: String,
}

/// A receipt that another one took the place of.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct Amended {
    /// The state it had.
    pub state: crate::request::State,
    /// When it was stored, milliseconds since the Unix epoch.
    pub stored_at_ms: u64,
    /// The hash of its audit record.
    pub audit_hash: String,
}

/// What a stream of a program gave.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct OutputTotal {
    /// Bytes that can be read from the manager.
    pub bytes: u64,
    /// Bytes that were lost: beyond the limit, or with a guest that went down.
    pub lost: u64,
    /// Whether anything is missing.
    pub truncated: bool,
    /// SHA-256 of the bytes, as the guest computed it where they were printed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Whether the manager's copy has that digest; absent where there is none to compare with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intact: Option<bool>,
}

/// Why a program was not started.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StartFault {
    /// No such file.
    NotFound,
    /// The file must not be executed.
    NotExecutable,
    /// The interpreter that the file names is not there.
    BadInterpreter,
    /// The file is for another machine.
    WrongArchitecture,
    /// The file is no program.
    NotAProgram,
    /// The file is on a file system from which nothing is executed.
    NoExecMount,
    /// The directory to start in cannot be entered.
    NoDirectory,
    /// The guest has no such user.
    NoUser,
    /// The kernel refused for another reason: `errno` says which.
    Kernel,
}

/// When a request ran: microseconds since the guest's boot, suspended time included.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct Ran {
    /// The effect began.
    pub started_us: u64,
    /// The first byte of output came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_output_us: Option<u64>,
    /// The program itself ended.
    pub exited_us: u64,
    /// All of it was over.
    pub ended_us: u64,
}

/// What a program took, with all it had started.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct Usage {
    /// Microseconds of processor time in its own code.
    pub cpu_user_us: u64,
    /// Microseconds of processor time in the kernel.
    pub cpu_system_us: u64,
    /// The most memory it had at once, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_peak: Option<u64>,
    /// Whether the kernel killed any of it for want of memory.
    pub oom_killed: bool,
}

/// A file or a tree, as the guest read it back.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct FileEvidence {
    /// Where it is.
    pub path: String,
    /// `file`, `tree` or `link`.
    pub kind: FileKind,
    /// Bytes of its content; of a tree, of all files in it.
    pub len: u64,
    /// SHA-256 of a file's content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Permission bits, in octal.
    pub mode: String,
    /// Number of the owner.
    pub uid: u32,
    /// Number of the group.
    pub gid: u32,
    /// How many files, directories and links.
    pub entries: u64,
}

/// What a path names.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FileKind {
    /// A file.
    File,
    /// A directory with all in it.
    Tree,
    /// A symbolic link.
    Link,
}

/// A link as the guest's kernel shows it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct LinkState {
    /// The kernel's number of it.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its MAC address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// Whether it is administratively up.
    pub up: bool,
    /// Whether it sees a carrier, where it can tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carrier: Option<bool>,
    /// All `IFF_*` flags.
    pub flags: u32,
    /// Its largest packet, in bytes.
    pub mtu: u32,
}
