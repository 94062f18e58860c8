//! How it ended: the record that a supervisor leaves, put together from what the kernel told.
//!
//! Built by `process`, read by the agent through `status`. An exit status of 0 is a success and nothing else is.

use super::order::{EVIDENCE, WORD};
use doorbell_wire::codec::decode;
use doorbell_wire::message::outcome::{Evidence, NotStarted, Outcome, OutputTotals, Ran, Usage};
use nix::libc;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::Read;
use std::num::NonZeroU8;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;

/// The end of what a supervisor ran.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Over {
    /// How.
    pub outcome: Outcome,
    /// What a job of the agent says it did.
    pub evidence: Evidence,
    /// What was printed.
    pub output: OutputTotals,
    /// When it ran and what it took; `None` when it did not start.
    pub ran: Option<Ran>,
}

/// Why a program was ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Stop {
    /// It ran longer than it may.
    TimedOut,
    /// The manager asked for it.
    Cancelled,
}

impl Over {
    /// Nothing was started.
    pub(super) fn not_started(why: NotStarted) -> Self {
        let (evidence, output) = (Evidence::None, OutputTotals::default());
        Self { outcome: Outcome::NotStarted(why), evidence, output, ran: None }
    }
}

/// Takes a program's exit status and what it took from the kernel; `None` when it has not ended.
pub(super) fn reap(pid: Pid) -> Option<(ExitStatus, Usage)> {
    let mut status = 0;
    // SAFETY: a structure of numbers, for which all zeroes are a value.
    let mut took: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both places live across the call, which writes into them and nothing else.
    let found = unsafe { libc::wait4(pid.as_raw(), &raw mut status, libc::WNOHANG, &raw mut took) };
    if found != pid.as_raw() {
        return None;
    }
    let us = |time: libc::timeval| {
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        seconds.saturating_mul(1_000_000).saturating_add(u64::try_from(time.tv_usec).unwrap_or(0))
    };
    let peak = u64::try_from(took.ru_maxrss).ok().map(|kib| kib.saturating_mul(1024));
    let usage = Usage {
        cpu_user_us: us(took.ru_utime),
        cpu_system_us: us(took.ru_stime),
        memory_peak: peak,
        oom_killed: false,
    };
    Some((ExitStatus::from_raw(status), usage))
}

/// The outcome of an end. A program that was stopped was stopped, whatever status it ended with.
pub(super) fn outcome(stopped: Option<Stop>, status: Option<ExitStatus>, word: Option<Outcome>) -> Outcome {
    match (stopped, status) {
        (Some(Stop::TimedOut), _) => Outcome::TimedOut,
        (Some(Stop::Cancelled), _) => Outcome::Cancelled,
        (None, Some(status)) if status.code().is_some() => word.unwrap_or_else(|| of_status(status)),
        (None, Some(status)) => of_status(status),
        (None, None) => Outcome::Interrupted,
    }
}

fn of_status(status: ExitStatus) -> Outcome {
    let byte = |number: i32| u8::try_from(number).ok();
    let failed = status
        .code()
        .and_then(byte)
        .map(|code| NonZeroU8::new(code).map_or(Outcome::Succeeded, Outcome::Failed));
    let killed =
        || status.signal().and_then(byte).and_then(|signal| signal.try_into().ok()).map(Outcome::Killed);
    failed.or_else(killed).unwrap_or(Outcome::Interrupted)
}

/// What a job of the agent said it did.
pub(super) fn evidence(dir: &Path) -> Evidence {
    let bytes = read(&dir.join(EVIDENCE));
    bytes.and_then(|bytes| decode("evidence", &bytes).ok()).map_or(Evidence::None, Evidence::File)
}

/// The outcome that a job of the agent said it had.
pub(super) fn word(dir: &Path) -> Option<Outcome> {
    read(&dir.join(WORD)).and_then(|bytes| decode("outcome", &bytes).ok())
}

fn read(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(WORD_LEN_MAX).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// More than a path and some numbers.
const WORD_LEN_MAX: u64 = 8 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_told_apart_and_a_stop_goes_before_it() {
        let exited = |code: i32| Some(ExitStatus::from_raw(code << 8));
        assert_eq!(outcome(None, exited(0), None), Outcome::Succeeded);
        assert_eq!(outcome(None, exited(7), None), Outcome::Failed(NonZeroU8::new(7).unwrap()));
        let killed = Some(ExitStatus::from_raw(9));
        assert_eq!(outcome(None, killed, None), Outcome::Killed(9.try_into().unwrap()));
        assert_eq!(outcome(Some(Stop::TimedOut), exited(0), None), Outcome::TimedOut);
        assert_eq!(outcome(Some(Stop::Cancelled), killed, None), Outcome::Cancelled);
        assert_eq!(outcome(None, None, None), Outcome::Interrupted);
        assert_eq!(outcome(None, exited(1), Some(Outcome::Succeeded)), Outcome::Succeeded);
        let killed_first = outcome(None, killed, Some(Outcome::Succeeded));
        assert_eq!(killed_first, Outcome::Killed(9.try_into().unwrap()), "a word does not cover a signal");
    }
}
