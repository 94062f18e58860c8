//! `doorbell pull`: a file or a tree out of a guest.
//!
//! Stations: command and receipt. What the guest sends is an enemy's until it is unpacked; it takes its place
//! here in one step at the end, or not at all.

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::follow::{attend_to, copy, say};
use crate::outcome::say_what_is_amiss;
use crate::run::must_be_connected;
use crate::transfer::{Order, Remote, counter, ended, evidence, tell_lines};
use clap::Args;
use doorbell_client::api::request::{Action, Get, OnDisconnect, Request, State};
use doorbell_client::{Destination, FileError, Kind, Received, Receiving, Stream};
use futures_util::StreamExt as _;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::pin::pin;

#[derive(Args, Debug)]
#[command(after_help = NOTES)]
pub(crate) struct PullArgs {
    /// What is to be read: GUEST:/PATH; behind a final / a link is followed
    #[arg(value_name = "GUEST:/PATH", value_parser = Remote::parse)]
    source: Remote,
    /// Where it is to be on this host; in a directory it keeps its name; - prints a tar archive
    target: PathBuf,
    /// Replace a directory that is there already, as a whole
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    order: Order,
}

pub(crate) async fn run(context: &Context, args: PullArgs) -> Result<Exit, Failure> {
    let PullArgs { source, target, replace, order } = args;
    if order.no_queue {
        must_be_connected(context, &source.guest).await?;
    }
    let get = Action::Get(Get { path: source.path.clone() });
    // Nobody else waits for it.
    let new = order.request(get, OnDisconnect::Kill);
    if target == Path::new("-") {
        if std::io::stdout().is_terminal() {
            return Err(misused(
                "a tar archive is nothing for a terminal; give a name, or send it to a program",
            ));
        }
        if context.json {
            return Err(misused("- and --json cannot be used together: both print on standard output"));
        }
        let request = context.client.submit(&source.guest, new).await?;
        let request = attend_to(context, &request, print(context, &request)).await?;
        say_what_is_amiss(&request).await;
        return ended(&request, &source);
    }
    let target = named(&source, target, replace)?;
    // Whether there is room for a name is known before the guest is asked.
    drop(open(&target, "check")?);
    let request = context.client.submit(&source.guest, new).await?;
    receive(context, &request, &source, &target, replace).await
}

async fn print(context: &Context, request: &Request) -> Result<Request, Failure> {
    let output = copy(context, &request.id, Stream::Stdout, 0, true);
    tokio::try_join!(output, tell_lines(context, request))?;
    Ok(context.client.wait(&request.id, None).await?)
}

async fn receive(
    context: &Context,
    request: &Request,
    source: &Remote,
    target: &Path,
    replace: bool,
) -> Result<Exit, Failure> {
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let tell = move |fault: &doorbell_client::Fault| {
        // Nobody hears of it when the command is over.
        let _ = tell.send(fault.to_string());
    };
    let mut receiving = Receiving::begin(open(target, &request.id)?, tell).map_err(|error| failed(&error))?;
    let work = async {
        tokio::try_join!(take(context, request, &mut receiving), tell_lines(context, request))?;
        Ok(context.client.wait(&request.id, None).await?)
    };
    let request = match attend_to(context, request, work).await {
        Ok(request) => request,
        Err(failure) => {
            receiving.abandon().await;
            return Err(failure);
        }
    };
    let received = receiving.finish().await;
    while let Some(fault) = told.recv().await {
        say(&format!("{source}: {fault}")).await;
    }
    say_what_is_amiss(&request).await;
    let exit = ended(&request, source)?;
    match received {
        Ok(received) => place(context, &request, received, (source, target, replace)),
        // What the guest said of its own failure says more than that nothing came.
        Err(_) if exit != Exit::Done => Ok(exit),
        Err(error) => Err(failed(&error)),
    }
}

async fn take(context: &Context, request: &Request, receiving: &mut Receiving) -> Result<(), Failure> {
    let bar = counter("download");
    let mut pieces = pin!(context.client.attached_output(&request.id, Stream::Stdout, 0));
    while let Some(piece) = pieces.next().await {
        let piece = piece?;
        bar.inc(piece.len() as u64);
        receiving.write(&piece).await.map_err(|error| failed(&error))?;
    }
    bar.finish_and_clear();
    Ok(())
}

/// A tree of which something could not be read is placed with what there is, and is no success. A file is placed
/// whole or not at all.
fn place(
    context: &Context,
    request: &Request,
    received: Received,
    (source, target, replace): (&Remote, &Path, bool),
) -> Result<Exit, Failure> {
    let file = request.receipt.as_ref().and_then(|receipt| receipt.file.as_ref());
    let line = file.map(evidence).unwrap_or_default();
    let whole = request.state == State::Succeeded;
    let stdout = request.receipt.as_ref().map(|receipt| &receipt.stdout);
    if stdout.is_some_and(|stdout| stdout.truncated || stdout.intact == Some(false)) {
        return Err(Failure::new(
            Exit::Unconfirmed,
            format!("{source}: it did not arrive whole; nothing was placed"),
        ));
    }
    if received.unpacked().kind == Kind::File {
        let named = file.and_then(|file| file.sha256.as_deref());
        if !whole || named != received.digest() {
            let why = if whole { "the guest names another digest" } else { "it could not be read whole" };
            return Err(Failure::new(Exit::NotSo, format!("{source}: {why}; nothing was placed")));
        }
    }
    let refused = received.unpacked().faults > 0;
    received.place(replace).map_err(|error| failed(&error))?;
    context.show(request, |_| format!("{}: {line}\n", target.display()))?;
    if whole && !refused { Ok(Exit::Done) } else { Ok(Exit::NotSo) }
}

/// In a directory that is there a source keeps its name; `--replace` means the directory itself.
fn named(source: &Remote, target: PathBuf, replace: bool) -> Result<PathBuf, Failure> {
    let inside = target.as_os_str().as_encoded_bytes().ends_with(b"/") || target.file_name().is_none();
    if !inside && (replace || !target.is_dir()) {
        return Ok(target);
    }
    let name = source
        .name()
        .ok_or_else(|| misused(&format!("{source} has no name; give one behind {}", target.display())))?;
    Ok(target.join(name))
}

fn open(target: &Path, request: &str) -> Result<Destination, Failure> {
    Destination::open(target, request).map_err(|error| failed(&error))
}

fn failed(error: &FileError) -> Failure {
    let way_out =
        if matches!(error, FileError::Occupied(_)) { "; --replace replaces it as a whole" } else { "" };
    Failure::new(Exit::NotSo, format!("{error}{way_out}"))
}

fn misused(why: &str) -> Failure {
    Failure::new(Exit::Misused, why)
}

/// What the options alone do not tell.
const NOTES: &str = "\
The target is replaced in one step, or stays as it is. Files belong to whoever pulls them, with the permission bits
they have in the guest less the umask's. A link is pulled as a link, and made only where it leads to something
within its tree; what leads out of it is left out and told, and the exit status is 1.
Of a tree that could not be read whole what there is is placed, and the exit status is 1; a file is placed whole or
not at all. The guest is trusted with nothing: no name and no link of it leads out of the target.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_keeps_its_name_in_a_directory() {
        let dir = tempfile::tempdir().expect("a directory");
        let source = Remote::parse("web-3:/var/log").expect("a place");
        let named = |target: PathBuf, replace| named(&source, target, replace).expect("a target");
        assert_eq!(named(dir.path().to_owned(), false), dir.path().join("log"));
        assert_eq!(named(dir.path().to_owned(), true), dir.path());
        assert_eq!(named(dir.path().join("new"), false), dir.path().join("new"));
        assert_eq!(named(dir.path().join("new/"), true), dir.path().join("new/log"));
        assert_eq!(named(PathBuf::from("."), true), PathBuf::from("./log"));
        let root = Remote::parse("web-3:/").expect("a place");
        assert!(super::named(&root, PathBuf::from("."), false).is_err());
    }
}
