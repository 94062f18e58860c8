//! What came of a request, in one line and one exit status. What the status alone does not tell is said.
//!
//! Station: receipt. Called by whatever has waited for a request's end.

use crate::exit::Exit;
use crate::failure::Failure;
use crate::follow::say;
use crate::size;
use crate::text::{started, word};
use doorbell_client::api::receipt::{OutputTotal, Receipt, StartFault, Usage};
use doorbell_client::api::request::{Action, Request, Run, State};
use nix::errno::Errno;
use nix::sys::signal::Signal;

/// The exit status of a request that was waited for, with a line where the status does not tell all.
pub(crate) fn outcome(request: &Request) -> Result<Exit, Failure> {
    let exit = Exit::of_request(request);
    if matches!(request.state, State::Succeeded | State::Failed) {
        return Ok(exit);
    }
    if request.state.is_final() {
        return Err(Failure::new(exit, sentence(request)));
    }
    let (id, state) = (&request.id, word(&request.state));
    Err(Failure::new(exit, format!("request {id} is still {state}: wait again, or cancel it")))
}

/// What must not pass unnoticed although a program ended by itself: output that is not there, and processes of
/// it that the kernel killed.
pub(crate) async fn say_what_is_amiss(request: &Request) {
    let Some(receipt) = &request.receipt else { return };
    if let Some(line) = truncated(receipt) {
        say(&line).await;
    }
    for (name, total) in streams(receipt) {
        if total.intact == Some(false) {
            say(&format!("{name} was damaged on its way: it has not the digest that the guest computed"))
                .await;
        }
    }
    if matches!(request.state, State::Succeeded | State::Failed)
        && let Some(usage) = receipt.usage.filter(|usage| usage.oom_killed)
    {
        say(&format!("a process that it had started was killed: {}", out_of_memory(request, &usage))).await;
    }
}

/// A signal by its name, where it has one.
pub(crate) fn signal_name(signal: u8) -> String {
    Signal::try_from(i32::from(signal))
        .map_or_else(|_| format!("signal {signal}"), |signal| signal.as_str().to_owned())
}

/// Why a program was not started, each reason in words of its own.
pub(crate) fn start_fault(run: &Run, receipt: &Receipt) -> Option<String> {
    let name = started(run)?;
    let why = match receipt.start_fault? {
        StartFault::NotFound if name.contains('/') => "there is no such file in the guest".to_owned(),
        StartFault::NotFound => "there is no such command in the guest's PATH".to_owned(),
        StartFault::NotExecutable => "it is not executable; `chmod +x` it in the guest".to_owned(),
        StartFault::BadInterpreter => "the interpreter that it names is not in the guest".to_owned(),
        StartFault::WrongArchitecture => "it was built for another kind of processor".to_owned(),
        StartFault::NotAProgram => {
            "it is no program: neither an executable nor a script that begins with #!".to_owned()
        }
        StartFault::NoExecMount => "it lies on a file system of the guest that is mounted noexec".to_owned(),
        StartFault::NoDirectory => {
            format!("the guest has no directory {} to start it in", run.cwd.as_deref().unwrap_or("/"))
        }
        StartFault::NoUser => format!("the guest has no user {}", run.user.as_deref().unwrap_or("root")),
        StartFault::Kernel => kernel(receipt),
    };
    Some(format!("could not start {name}: {why}"))
}

fn kernel(receipt: &Receipt) -> String {
    let errno = receipt.errno.map(|errno| format!(" ({}, errno {errno})", Errno::from_raw(errno).desc()));
    let detail = receipt.detail.as_ref().map(|detail| format!(": {detail}"));
    format!("the guest's kernel refused{}{}", errno.unwrap_or_default(), detail.unwrap_or_default())
}

fn sentence(request: &Request) -> String {
    let receipt = request.receipt.as_ref();
    if let (State::Killed, Some(receipt)) = (request.state, receipt) {
        return killed(request, receipt);
    }
    if let (State::NotStarted, Action::Run(run), Some(receipt)) = (request.state, &request.action, receipt)
        && let Some(line) = start_fault(run, receipt)
    {
        return line;
    }
    let detail = receipt.and_then(|receipt| receipt.detail.as_ref()).map(|detail| format!(": {detail}"));
    format!("request {} is {}{}", request.id, word(&request.state), detail.unwrap_or_default())
}

fn killed(request: &Request, receipt: &Receipt) -> String {
    let signal = receipt.signal.map_or_else(|| "a signal".to_owned(), signal_name);
    let why = receipt
        .usage
        .filter(|usage| usage.oom_killed)
        .map(|usage| out_of_memory(request, &usage))
        .or_else(|| receipt.detail.clone());
    format!("killed by {signal}{}", why.map(|why| format!(": {why}")).unwrap_or_default())
}

/// Whose memory was at its end, and how much it was.
fn out_of_memory(request: &Request, usage: &Usage) -> String {
    let limit = match &request.action {
        Action::Run(run) => run.limits.memory_max,
        Action::LinkUp(_) | Action::LinkDown(_) | Action::Put(_) | Action::Get(_) => None,
    };
    let limit = limit
        .map_or_else(|| "no limit of its own".to_owned(), |limit| format!("limit {}", size::show(limit)));
    let peak = usage.memory_peak.map(|peak| format!(", peak {}", size::show(peak)));
    format!("out of memory ({limit}{})", peak.unwrap_or_default())
}

/// One line for all output that is missing.
fn truncated(receipt: &Receipt) -> Option<String> {
    let cut: Vec<String> = streams(receipt)
        .into_iter()
        .filter(|(_, total)| total.truncated || total.lost > 0)
        .map(|(name, total)| format!("{name} has {} bytes, {} more were lost", total.bytes, total.lost))
        .collect();
    (!cut.is_empty()).then(|| format!("the output is truncated: {}", cut.join("; ")))
}

const fn streams(receipt: &Receipt) -> [(&'static str, &OutputTotal); 2] {
    [("standard output", &receipt.stdout), ("standard error", &receipt.stderr)]
}

#[cfg(test)]
mod tests;
