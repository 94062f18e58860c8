//! A program file on its way to the manager, with a bar on a terminal.

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use bytes::Bytes;
use doorbell_client::PROGRAM_LEN_MAX;
use doorbell_client::api::request::ProgramRef;
use futures_util::{Stream, StreamExt as _, stream};
use indicatif::{ProgressBar, ProgressStyle};
use std::io;
use std::path::Path;
use tokio::fs::File;
use tokio::io::AsyncReadExt as _;

/// Uploads the file. What it is called comes from its path, what it is from the manager's answer.
pub(crate) async fn upload(context: &Context, path: &Path) -> Result<ProgramRef, Failure> {
    let (file, len) = open(path).await?;
    let bar = ProgressBar::new(len).with_style(bar_style());
    let counted = bar.clone();
    let pieces = read(file, len).inspect(move |piece| {
        counted.inc(piece.as_ref().map_or(0, |piece| piece.len() as u64));
    });
    let uploaded = context.client.upload(len, pieces).await;
    bar.finish_and_clear();
    let program = uploaded?;
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

/// The first `len` bytes: the length is told before the bytes, so a file that grows is cut and one that
/// shrinks is an error.
fn read(file: File, len: u64) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    stream::try_unfold((file, len), |(mut file, left)| async move {
        if left == 0 {
            return Ok(None);
        }
        let mut piece = bytes::BytesMut::with_capacity(PIECE);
        let got = (&mut file).take(left).read_buf(&mut piece).await?;
        if got == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the file became shorter while it was read",
            ));
        }
        Ok(Some((piece.freeze(), (file, left.saturating_sub(got as u64)))))
    })
}

fn bar_style() -> ProgressStyle {
    ProgressStyle::with_template("upload {bar:32} {bytes}/{total_bytes} {bytes_per_sec}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}

const PIECE: usize = 256 * 1024;
