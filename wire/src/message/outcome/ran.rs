//! When a request ran, what it took and what it printed.
//!
//! Used through [`super`]. The numbers are the guest's own: the manager shows them and computes with none of
//! them unchecked.

use crate::ids::Digest;
use serde::{Deserialize, Serialize};

/// What a request printed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct OutputTotals {
    /// Standard output.
    pub stdout: StreamTotal,
    /// Standard error.
    pub stderr: StreamTotal,
}

/// One stream of it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct StreamTotal {
    /// Bytes kept, and sent unless the channel was lost.
    pub kept: u64,
    /// Bytes beyond the limit, or beyond what the disk took, which were read and dropped.
    pub dropped: u64,
    /// SHA-256 of what was kept, where its end was seen.
    pub digest: Option<Digest>,
}

/// When a request ran and what it took. Times are microseconds of the guest's clock since boot, suspended
/// time included.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Ran {
    /// The effect began.
    pub started_us: u64,
    /// The first byte of output came, if any did.
    pub first_output_us: Option<u64>,
    /// The program itself ended; what it started may have gone on.
    pub exited_us: u64,
    /// All of it was over.
    pub ended_us: u64,
    /// What a program took; `None` for what is no program.
    pub usage: Option<Usage>,
}

/// What a program took, with all it had started, as far as the guest's kernel tells.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Microseconds of processor time in the program's own code.
    pub cpu_user_us: u64,
    /// Microseconds of processor time in the kernel.
    pub cpu_system_us: u64,
    /// The most memory it had at once, in bytes.
    pub memory_peak: Option<u64>,
    /// Whether the kernel killed any of it for want of memory.
    pub oom_killed: bool,
}
