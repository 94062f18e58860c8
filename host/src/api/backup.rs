//! A backup as a stream.

use super::caller::Caller;
use super::cause::{CauseHeaders, Told};
use super::error::ApiError;
use crate::backup::Backup;
use crate::manager::Manager;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use doorbell_api::retention::BACKUP_ABOUT;
use futures_util::stream;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

/// The whole state as one archive, consistent, while the manager goes on. Restored with `doorbell restore`.
#[utoipa::path(get, operation_id = "take-backup", tag = "housekeeping", path = "/v1/backup", params(CauseHeaders),
    responses((status = 200, content_type = "application/x-tar", body = Vec<u8>),
        (status = 409, description = "a sweep or another backup is under way"), (status = 507)))]
pub(super) async fn take(
    State(manager): State<Arc<Manager>>,
    caller: Caller,
    Told(cause): Told,
) -> Result<Response, ApiError> {
    let backup = manager.begin_backup(&caller.actor(), &cause).await?;
    let about = backup.about().to_string();
    let (pieces, arriving) = mpsc::channel(PIECES_WAITING);
    tokio::task::spawn_blocking(move || write(backup, &pieces));
    let body = Body::from_stream(stream::unfold(Some(arriving), next));
    Ok(([(CONTENT_TYPE.as_str(), "application/x-tar"), (BACKUP_ABOUT, about.as_str())], body).into_response())
}

/// A part of the archive. The end is said, so that a writer that vanishes is not taken for one that is done.
enum Piece {
    Bytes(Vec<u8>),
    End,
    Failed(io::Error),
}

type Arriving = mpsc::Receiver<Piece>;

async fn next(arriving: Option<Arriving>) -> Option<(io::Result<Bytes>, Option<Arriving>)> {
    let mut arriving = arriving?;
    match arriving.recv().await {
        Some(Piece::Bytes(bytes)) => Some((Ok(bytes.into()), Some(arriving))),
        Some(Piece::End) => None,
        // The body breaks off: whoever reads it sees that it has no end.
        Some(Piece::Failed(error)) => Some((Err(error), None)),
        None => Some((Err(io::ErrorKind::UnexpectedEof.into()), None)),
    }
}

fn write(backup: Backup, pieces: &mpsc::Sender<Piece>) {
    let runtime = Handle::current();
    let out =
        io::BufWriter::with_capacity(PIECE_LEN, Out { pieces: pieces.clone(), runtime: runtime.clone() });
    let last = match backup.write(out) {
        Ok(()) => Piece::End,
        Err(error) => {
            tracing::warn!(%error, "a backup was not finished");
            Piece::Failed(error)
        }
    };
    // Whoever asked may have gone.
    let _ = runtime.block_on(tokio::time::timeout(PATIENCE, pieces.send(last)));
}

struct Out {
    pieces: mpsc::Sender<Piece>,
    runtime: Handle,
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.pieces.send(Piece::Bytes(bytes.to_vec()));
        let sent = self.runtime.block_on(async { tokio::time::timeout(PATIENCE, sent).await });
        match sent {
            Ok(Ok(())) => Ok(bytes.len()),
            Ok(Err(_)) => {
                Err(io::Error::new(io::ErrorKind::BrokenPipe, "whoever asked for the backup has gone"))
            }
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "nobody reads the backup")),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

const PIECE_LEN: usize = 256 * 1024;
const PIECES_WAITING: usize = 4;
/// How long a reader may stand still: nothing is removed from the disk while it does.
const PATIENCE: Duration = Duration::from_secs(60);
