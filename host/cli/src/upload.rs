//! A program file on its way to the manager, with a bar on a terminal.

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use doorbell_client::PROGRAM_LEN_MAX;
use doorbell_client::api::request::ProgramRef;
use indicatif::{ProgressBar, ProgressStyle};
use std::io;
use std::path::Path;
use tokio::fs::File;
use tokio::io::AsyncReadExt as _;

/// Uploads the file. What it is called comes from its path, what it is from the manager's answer.
pub(crate) async fn upload(context: &Context, path: &Path) -> Result<ProgramRef, Failure> {
    let (file, len) = open(path).await?;
    let bar = bar("upload", len);
    // A file that grows is cut, so that what is sent is what was looked at.
    let uploaded = context.client.upload(file.take(len), |sent| bar.set_position(sent)).await;
    bar.finish_and_clear();
    let program = uploaded?;
    if program.len < len {
        return Err(Failure::new(
            Exit::Misused,
            format!("program file {}: it became shorter while it was read", path.display()),
        ));
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(ProgramRef { digest: program.digest, name })
}

async fn open(path: &Path) -> Result<(File, u64), Failure> {
    let refuse = |why: &str| Failure::new(Exit::Misused, format!("program file {}: {why}", path.display()));
    let unreadable = |error: io::Error| {
        let kind = error.kind();
        if kind == io::ErrorKind::NotFound {
            return refuse("there is no such file; check the path given with --program");
        }
        if kind == io::ErrorKind::PermissionDenied {
            return refuse("permission denied; make it readable for this user");
        }
        refuse(&error.to_string())
    };
    let metadata = tokio::fs::metadata(path).await.map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(refuse("it is not a regular file; give the file to be run"));
    }
    if metadata.len() > PROGRAM_LEN_MAX {
        let len = metadata.len();
        return Err(refuse(&format!(
            "it has {len} bytes, at most {PROGRAM_LEN_MAX} can be sent; make it smaller"
        )));
    }
    let file = File::open(path).await.map_err(unreadable)?;
    Ok((file, metadata.len()))
}

/// A bar for so many bytes on their way; nothing where standard error is no terminal.
pub(crate) fn bar(what: &'static str, len: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix} {bar:32} {bytes}/{total_bytes} {bytes_per_sec}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(len).with_style(style).with_prefix(what)
}
