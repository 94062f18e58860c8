//! `doorbell`: the operator's command. A user of the SDK and of nothing else of the project.
//!
//! Station: command. What was typed is parsed once (`cli`), each subcommand is one file, and whatever goes
//! wrong comes back here to be printed once and turned into the exit status (`exit`).
#![forbid(unsafe_code)]

mod access;
mod attach;
mod audit;
mod backup;
mod can;
mod cancel;
mod cli;
mod context;
mod details;
mod doctor;
mod duration;
mod enrol;
mod exit;
mod failure;
mod feed;
mod follow;
mod gc;
mod guest;
mod kept;
mod keys;
mod launch;
mod link;
mod manager;
mod manual;
mod outcome;
mod pull;
mod push;
mod remote;
mod request;
mod run;
mod sign;
mod size;
mod table;
mod terminal;
mod text;
mod trace;
mod transfer;
mod upload;
mod waiting;
mod watch;

use crate::cli::Cli;
use crate::exit::Exit;
use crate::failure::Failure;
use clap::Parser as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    let ended = match Cli::try_parse() {
        Ok(cli) => start(cli),
        Err(error) => Err(Failure::usage(&error)),
    };
    match ended {
        Ok(exit) => exit.into(),
        Err(failure) => failure.report().into(),
    }
}

fn start(cli: Cli) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Daemon, format!("cannot start the I/O runtime: {error}")))?;
    let ended = runtime.block_on(cli.run());
    // A write to a reader that has stopped reading may be stuck in a thread: it must not keep the process.
    runtime.shutdown_background();
    ended
}
