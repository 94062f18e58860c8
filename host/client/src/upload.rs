//! Bytes on their way to the manager, in pieces that go on where a lost connection broke.
//!
//! Called by whoever sends a program or a file. The reader is read once and never rewound, so a pipe will do:
//! one piece is in memory until the manager has it. What the manager then stores is trusted only when it has the
//! digest that was computed here, of what was read.

use crate::client::Client;
use crate::error::ClientError;
use crate::outage::Outage;
use crate::request::fresh_id;
use bytes::{Buf as _, Bytes, BytesMut};
use doorbell_api::error::ErrorCode;
use doorbell_api::program::{Program, Upload};
use doorbell_wire::limits::FILE_LEN_MAX;
use reqwest::{Method, header};
use sha2::{Digest as _, Sha256};
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _};

impl Client {
    /// Uploads all that `reader` gives; `progress` hears how many bytes the manager has. The answer names them by
    /// their SHA-256. A connection that breaks, or a daemon that is restarted, costs one piece sent again.
    ///
    /// # Errors
    /// Any [`ClientError`]; more than [`FILE_LEN_MAX`] bytes are refused.
    pub async fn upload<R, P>(&self, mut reader: R, mut progress: P) -> Result<Program, ClientError>
    where
        R: AsyncRead + Unpin,
        P: FnMut(u64),
    {
        let mut sent = Sent { client: self.clone(), id: fresh_id()?, len: 0 };
        let mut digest = Sha256::new();
        let mut piece = fill(&mut reader).await?;
        loop {
            if sent.len.saturating_add(piece.len() as u64) > FILE_LEN_MAX {
                return Err(too_large());
            }
            digest.update(&piece);
            let is_last = piece.is_empty();
            // While a piece is on its way, the next is read.
            let (next, taken) = tokio::join!(
                async { if is_last { Ok(Bytes::new()) } else { fill(&mut reader).await } },
                sent.send(piece)
            );
            taken?;
            progress(sent.len);
            piece = next?;
            if piece.is_empty() {
                return sent.finish(&hex::encode(digest.finalize())).await;
            }
        }
    }
}

/// An upload as far as the manager has it.
struct Sent {
    client: Client,
    id: String,
    len: u64,
}

impl Sent {
    /// Sends a piece until the manager has all of it. An empty one begins an upload of nothing.
    async fn send(&mut self, mut piece: Bytes) -> Result<(), ClientError> {
        let mut outage = Outage::of(&self.client);
        loop {
            match self.append(piece.clone()).await {
                Ok(Upload { len }) => {
                    self.advance(&mut piece, len)?;
                    if piece.is_empty() {
                        return Ok(());
                    }
                }
                Err(error) => {
                    endure(&mut outage, error).await?;
                    self.look(&mut piece, &mut outage).await?;
                }
            }
        }
    }

    async fn append(&self, piece: Bytes) -> Result<Upload, ClientError> {
        let call = self
            .client
            .call(Method::PUT, &["uploads", &self.id])?
            .timeout(PIECE_IN)
            .query(&[("offset", self.len)])
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .body(piece);
        self.client.json(call).await
    }

    /// After a piece went wrong: finds out how much of it arrived.
    async fn look(&mut self, piece: &mut Bytes, outage: &mut Outage) -> Result<(), ClientError> {
        loop {
            match self.client.get::<Upload>(&["uploads", &self.id]).await {
                Ok(Upload { len }) => return self.advance(piece, len),
                Err(ClientError::Refused { code: ErrorCode::NotFound, .. }) if self.len == 0 => return Ok(()),
                Err(error) => outage.endure(error).await?,
            }
        }
    }

    /// The manager has `len` bytes: what of the piece is among them need not be sent again.
    fn advance(&mut self, piece: &mut Bytes, len: u64) -> Result<(), ClientError> {
        let taken = len.checked_sub(self.len).and_then(|taken| usize::try_from(taken).ok());
        let taken = taken.filter(|taken| *taken <= piece.len()).ok_or_else(|| self.misplaced(len))?;
        piece.advance(taken);
        self.len = len;
        Ok(())
    }

    async fn finish(&self, digest: &str) -> Result<Program, ClientError> {
        let mut outage = Outage::of(&self.client);
        loop {
            // The manager may have to read all of it once more.
            let call = self.client.call(Method::POST, &["uploads", &self.id, "finish"])?.timeout(FINISH_IN);
            match self.client.json::<Program>(call).await {
                Ok(program) if program.digest == digest && program.len == self.len => return Ok(program),
                Ok(program) => {
                    let what = format!("{} bytes with the digest {}", program.len, program.digest);
                    let expected = "what was uploaded, with its own digest";
                    return Err(ClientError::protocol(self.client.socket(), what, expected));
                }
                // The first try has finished it, and only its answer was lost. What is named below is what was
                // sent: whoever uses it is refused if the manager has something else.
                Err(ClientError::Refused { code: ErrorCode::NotFound, .. }) if outage.is_recent() => {
                    return Ok(Program { digest: digest.to_owned(), len: self.len });
                }
                Err(error) => endure(&mut outage, error).await?,
            }
        }
    }

    fn misplaced(&self, len: u64) -> ClientError {
        let what = format!("that it has {len} bytes of an upload of which {} were sent and known", self.len);
        ClientError::protocol(self.client.socket(), what, "a length within the last piece")
    }
}

/// Waits before the next try, also where the manager is still at work on the one before.
async fn endure(outage: &mut Outage, error: ClientError) -> Result<(), ClientError> {
    let busy = matches!(error, ClientError::Refused { code: ErrorCode::Conflict, .. });
    if busy { outage.outlast(error).await } else { outage.endure(error).await }
}

/// The next piece: as much as fits, empty only at the end.
async fn fill<R: AsyncRead + Unpin>(reader: &mut R) -> Result<Bytes, ClientError> {
    let mut piece = BytesMut::with_capacity(PIECE);
    let mut room = reader.take(PIECE as u64);
    while room.limit() > 0 {
        match room.read_buf(&mut piece).await {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(ClientError::Source(error)),
        }
    }
    Ok(piece.freeze())
}

fn too_large() -> ClientError {
    let code = ErrorCode::TooLarge;
    let message = format!("there are more than {FILE_LEN_MAX} bytes: that is the most that can be sent");
    ClientError::Refused { code, message, status: code.status() }
}

/// Bytes of one call: enough that a call costs nothing beside them, few enough to hold in memory twice.
const PIECE: usize = 4 * 1024 * 1024;

/// How long one piece may take: a disk that writes a hundred kilobytes a second.
const PIECE_IN: Duration = Duration::from_secs(60);

/// How long the end of an upload may take: the largest file read once more by a slow disk.
const FINISH_IN: Duration = Duration::from_secs(600);
