//! `doorbell backup` and `doorbell restore`: the manager's whole state as one file, and back.
//!
//! A backup comes from a running manager and takes its place here in one step, on the disk, or not at all. A
//! restore needs no manager: the daemon's own program does it, which knows the state directory.

use crate::context::{Context, unwritten};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::{follow, size, upload};
use clap::Args;
use doorbell_client::Backup;
use futures_util::StreamExt as _;
use indicatif::ProgressBar;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::{self, IsTerminal as _, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::NamedTempFile;

#[derive(Args, Debug)]
#[command(after_help = NOTES)]
pub(crate) struct BackupArgs {
    /// The file to make; one that is there is replaced when the backup is whole; - prints the archive
    #[arg(value_name = "FILE")]
    target: PathBuf,
}

#[derive(Args, Debug)]
#[command(after_help = RESTORE_NOTES)]
pub(crate) struct RestoreArgs {
    /// The backup; - reads it from standard input
    #[arg(value_name = "FILE")]
    source: PathBuf,
    /// Where the state is to be: a directory that is not there yet or has nothing in it
    #[arg(long, value_name = "DIR")]
    state_dir: PathBuf,
    /// The daemon's program, where it is neither beside this one nor in the PATH
    #[arg(long, value_name = "PATH")]
    doorbelld: Option<PathBuf>,
}

/// What was taken.
#[derive(Debug, Serialize)]
struct Taken<'a> {
    file: &'a Path,
    bytes: u64,
    sha256: String,
}

pub(crate) async fn take(context: &Context, args: &BackupArgs) -> Result<Exit, Failure> {
    let target = args.target.as_path();
    let mut interrupts = follow::interrupts()?;
    let taken =
        async { if target == Path::new("-") { print(context).await } else { keep(context, target).await } };
    // Dropped, it takes along what it had made.
    tokio::select! {
        taken = taken => taken,
        _ = interrupts.recv() => Err(Failure::new(Exit::NotSo, "the backup was given up, and nothing is left of it")),
    }
}

async fn print(context: &Context) -> Result<Exit, Failure> {
    if io::stdout().is_terminal() {
        return Err(misused("a tar archive is nothing for a terminal; give a name, or send it to a program"));
    }
    if context.json {
        return Err(misused("- and --json cannot be used together: both print on standard output"));
    }
    let backup = context.client.backup().await?;
    let mut stdout = io::stdout().lock();
    let _ = copy(backup, &mut stdout, |error| unwritten(error, Exit::NotSo)).await?;
    Ok(Exit::Done)
}

async fn keep(context: &Context, target: &Path) -> Result<Exit, Failure> {
    let refuse = |error: &io::Error| {
        Failure::new(Exit::Misused, format!("cannot write {}: {error}", target.display()))
    };
    let dir = target.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    if target.is_dir() {
        return Err(misused(&format!("{} is a directory; give the name of a file", target.display())));
    }
    // Whether there is room for a name is known before the manager is asked. Its mode lets nobody else in.
    let mut fresh =
        NamedTempFile::with_prefix_in(".doorbell-backup.", dir).map_err(|error| refuse(&error))?;
    let backup = context.client.backup().await?;
    let (bytes, sha256) = copy(backup, fresh.as_file_mut(), refuse).await?;
    fresh.as_file().sync_all().map_err(|error| refuse(&error))?;
    fresh.persist(target).map_err(|error| refuse(&error.error))?;
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|error| refuse(&error))?;
    context.show(&Taken { file: target, bytes, sha256 }, taken)?;
    Ok(Exit::Done)
}

/// Copies the archive to its end; gives its length and digest.
async fn copy(
    mut backup: Backup,
    out: &mut impl Write,
    refuse: impl Fn(&io::Error) -> Failure,
) -> Result<(u64, String), Failure> {
    let bar = backup.about.map_or_else(ProgressBar::hidden, |about| upload::bar("backup", about));
    let (mut len, mut sum) = (0_u64, Sha256::new());
    while let Some(piece) = backup.bytes.next().await {
        let piece = piece?;
        out.write_all(&piece).map_err(|error| refuse(&error))?;
        sum.update(&piece);
        len = len.saturating_add(piece.len() as u64);
        bar.set_position(len);
    }
    bar.finish_and_clear();
    out.flush().map_err(|error| refuse(&error))?;
    Ok((len, hex::encode(sum.finalize())))
}

fn taken(taken: &Taken<'_>) -> String {
    let Taken { file, bytes, sha256 } = taken;
    format!("{} has the whole state: {}, sha256 {sha256}\n", file.display(), size::show(*bytes))
}

pub(crate) fn restore(context: &Context, args: &RestoreArgs) -> Result<Exit, Failure> {
    let daemon = args.doorbelld.clone().unwrap_or_else(daemon);
    let mut command = Command::new(&daemon);
    command.arg("--restore").arg(&args.source).arg("--state-dir").arg(&args.state_dir);
    if context.json {
        command.arg("--json");
    }
    for (option, text) in [("--reason", &context.reason), ("--ticket", &context.ticket)] {
        command.args(text.iter().flat_map(|text| [option, text.as_str()]));
    }
    let ended = command.status().map_err(|error| {
        let daemon = daemon.display();
        Failure::new(Exit::Daemon, format!("cannot start {daemon}: {error}; name it with --doorbelld"))
    })?;
    // It has said itself what there is to say.
    match ended.code() {
        Some(0) => Ok(Exit::Done),
        Some(2) => Err(Failure::quiet(Exit::Misused)),
        Some(_) => Err(Failure::quiet(Exit::NotSo)),
        None => {
            Err(Failure::new(Exit::Daemon, format!("{} was killed; nothing was restored", daemon.display())))
        }
    }
}

/// The daemon's program beside this one, else whichever the PATH has.
pub(crate) fn daemon() -> PathBuf {
    let beside = std::env::current_exe().ok().and_then(|own| Some(own.parent()?.join(DAEMON)));
    beside.filter(|path| path.is_file()).unwrap_or_else(|| DAEMON.into())
}

fn misused(line: &str) -> Failure {
    Failure::new(Exit::Misused, line)
}

const DAEMON: &str = "doorbelld";
const NOTES: &str = "\
The archive has guests, keys' public halves, requests with what they print and read, programs and the audit trail:
keep it as the state directory itself. The manager goes on meanwhile.";
const RESTORE_NOTES: &str = "\
No manager may use the directory, and the manager that the backup is of must not run any longer. Everything in the
archive is checked first. What a guest has done since the backup is not done again; start doorbelld as before.";
