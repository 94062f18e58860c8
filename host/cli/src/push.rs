//! `doorbell push`: a file or a tree into a guest.
//!
//! Stations: command and request. A tree is packed while it is uploaded; one that cannot be read whole is not
//! put at all.

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::follow::{attend_to, say};
use crate::run::must_be_connected;
use crate::transfer::{Order, Remote, counter, ended, evidence, tell_lines};
use crate::upload;
use clap::Args;
use doorbell_client::api::program::Program;
use doorbell_client::api::request::{Action, Form, OnDisconnect, Put, Request, State};
use doorbell_client::{FILE_LEN_MAX, Packing};
use std::fs::Metadata;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use tokio::fs::File;
use tokio::io::AsyncReadExt as _;

#[derive(Args, Debug)]
#[command(after_help = NOTES)]
pub(crate) struct PushArgs {
    /// A file or a directory of this host
    source: PathBuf,
    /// Where it is to be: GUEST:/PATH; behind a final / it keeps its name
    #[arg(value_name = "GUEST:/PATH", value_parser = Remote::parse)]
    target: Remote,
    /// Permission bits of a file, in octal: 0644; those of the source when not given
    #[arg(long, value_name = "BITS", value_parser = mode)]
    mode: Option<u32>,
    /// Whose it is to be in the guest, by name or number: root when not given
    #[arg(long, value_name = "USER[:GROUP]")]
    owner: Option<String>,
    /// Replace a tree that is there, with all in it, in one step; a file always is
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    order: Order,
}

pub(crate) async fn run(context: &Context, args: PushArgs) -> Result<Exit, Failure> {
    let PushArgs { source, target, mode, owner, replace, order } = args;
    let metadata = tokio::fs::metadata(&source).await.map_err(|error| unreadable(&source, &error))?;
    let target = named(target, &source)?;
    if order.no_queue {
        must_be_connected(context, &target.guest).await?;
    }
    let (program, form) = if metadata.is_dir() {
        if mode.is_some() {
            return Err(misused(
                &source,
                "a tree has the permission bits of its files; --mode is for one file",
            ));
        }
        (upload_tree(context, &source).await?, Form::Archive)
    } else {
        (upload_file(context, &source, &metadata).await?, Form::File)
    };
    let mode = (form == Form::File).then(|| mode.unwrap_or_else(|| metadata.permissions().mode() & 0o777));
    let mode = mode.map(|bits| format!("{bits:04o}"));
    let put = Put { path: target.path.clone(), digest: program.digest.clone(), form, mode, owner, replace };
    let new = order.request(Action::Put(put), OnDisconnect::Keep);
    let request = context.client.submit(&target.guest, new).await?;
    let work = async {
        tell_lines(context, &request).await?;
        Ok(context.client.wait(&request.id, None).await?)
    };
    let put = attend_to(context, &request, work).await?;
    show(context, &put, &target, &program)
}

/// The evidence is the guest's; that it names another digest than what was sent must not pass for success.
fn show(context: &Context, request: &Request, target: &Remote, sent: &Program) -> Result<Exit, Failure> {
    let file = request.receipt.as_ref().and_then(|receipt| receipt.file.as_ref());
    context
        .show(request, |_| file.map(|file| format!("{target}: {}\n", evidence(file))).unwrap_or_default())?;
    let exit = ended(request, target)?;
    let other = file.and_then(|file| file.sha256.as_ref()).filter(|digest| **digest != sent.digest);
    if let (State::Succeeded, Some(other)) = (request.state, other) {
        let line = format!("{target}: the guest has a file of digest {other}, {} was sent", sent.digest);
        return Err(Failure::new(Exit::Unconfirmed, line));
    }
    Ok(exit)
}

/// Behind a final `/` stands the source's own name.
fn named(target: Remote, source: &Path) -> Result<Remote, Failure> {
    if !target.path.ends_with('/') {
        return Ok(target);
    }
    let whole = std::fs::canonicalize(source).map_err(|error| unreadable(source, &error))?;
    let name = source.file_name().or_else(|| whole.file_name()).and_then(|name| name.to_str());
    let name = name.ok_or_else(|| misused(source, "it has no name that the guest's path could end with"))?;
    Ok(Remote { path: format!("{}{name}", target.path), ..target })
}

async fn upload_file(context: &Context, source: &Path, metadata: &Metadata) -> Result<Program, Failure> {
    let len = metadata.len();
    if !metadata.is_file() {
        return Err(misused(source, "it is neither a file nor a directory"));
    }
    if len > FILE_LEN_MAX {
        return Err(misused(source, &format!("it has {len} bytes, at most {FILE_LEN_MAX} can be sent")));
    }
    let file = File::open(source).await.map_err(|error| unreadable(source, &error))?;
    let bar = upload::bar("upload", len);
    // A file that grows is cut, so that what is sent is what was looked at.
    let sent = context.client.upload(file.take(len), |sent| bar.set_position(sent)).await;
    bar.finish_and_clear();
    let sent = sent?;
    if sent.len < len {
        return Err(misused(source, "it became shorter while it was read; nothing was put"));
    }
    Ok(sent)
}

async fn upload_tree(context: &Context, source: &Path) -> Result<Program, Failure> {
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let tell = move |fault: &doorbell_client::Fault| {
        // Nobody hears of it when the command is over.
        let _ = tell.send(fault.to_string());
    };
    let packing = Packing::of(source.to_owned(), tell).map_err(|error| unreadable(source, &error))?;
    let bar = counter("upload");
    let sent = context.client.upload(packing, |sent| bar.set_position(sent)).await;
    bar.finish_and_clear();
    while let Some(fault) = told.recv().await {
        say(&fault).await;
    }
    match sent {
        Err(doorbell_client::ClientError::Source(error)) => {
            Err(Failure::new(Exit::NotSo, format!("{}: {error}; nothing was put", source.display())))
        }
        sent => Ok(sent?),
    }
}

fn mode(text: &str) -> Result<u32, String> {
    let bits = u32::from_str_radix(text, 8).ok().filter(|&bits| bits <= 0o7777 && !text.starts_with('+'));
    bits.ok_or_else(|| "expected permission bits in octal, 0 to 7777".to_owned())
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    misused(path, &doorbell_client::kernel(error))
}

fn misused(path: &Path, why: &str) -> Failure {
    Failure::new(Exit::Misused, format!("{}: {why}", path.display()))
}

/// What the options alone do not tell.
const NOTES: &str = "\
What is at PATH is replaced in one step, or stays as it is. A file takes the place of a file or a link, a directory
that of a directory only with --replace, and then as a whole. The directory above must be there.
A tree keeps its permission bits and times; set-user-id and the like only with --owner. Links of a tree that lead
out of it are left out and told, and the exit status is 1; sockets, pipes and devices are left out.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permission_bits_are_octal() {
        assert_eq!((mode("0644"), mode("4755"), mode("0")), (Ok(0o644), Ok(0o4755), Ok(0)));
        for wrong in ["", "8", "10000", "u+x", "+644", "-1"] {
            assert!(mode(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn behind_a_slash_a_source_keeps_its_name() {
        let target = |path: &str| Remote { guest: "web-3".into(), path: path.into() };
        let named = |path, source| named(target(path), Path::new(source)).map(|target| target.path).ok();
        assert_eq!(named("/srv/x", "/etc/passwd").as_deref(), Some("/srv/x"));
        assert_eq!(named("/srv/", "/etc/passwd").as_deref(), Some("/srv/passwd"));
        assert_eq!(named("/", "/etc/.").as_deref(), Some("/etc"));
        assert_eq!(named("/srv/", "/"), None);
        assert_eq!(named("/srv/", "/nowhere/at/all"), None);
    }
}
