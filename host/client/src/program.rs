//! Programs in one call: bytes on their way to the manager, which names them by their SHA-256.

use crate::client::Client;
use crate::error::ClientError;
use bytes::Bytes;
use doorbell_api::error::ErrorCode;
use doorbell_api::program::Program;
use doorbell_wire::limits::PROGRAM_LEN_MAX;
use futures_util::{Stream, StreamExt};
use reqwest::{Body, Method, header};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

impl Client {
    /// Sends a program of `len` bytes in one call, which is not resumed; see [`Client::upload`]. The answer names
    /// it by its SHA-256.
    ///
    /// # Errors
    /// Any [`ClientError`]; a program beyond [`PROGRAM_LEN_MAX`] is refused before anything is sent.
    pub async fn put_program<S>(&self, len: u64, bytes: S) -> Result<Program, ClientError>
    where
        S: Stream<Item = io::Result<Bytes>> + Send + 'static,
    {
        if len > PROGRAM_LEN_MAX {
            return Err(too_large(len));
        }
        let fault = Arc::new(Mutex::new(None));
        let seen = Arc::clone(&fault);
        let body = bytes.map(move |piece| piece.map_err(|error| keep(&seen, error)));
        let call = self
            .call(Method::PUT, &["programs"])?
            .timeout(UPLOAD_IN)
            .header(header::CONTENT_LENGTH, len)
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .body(Body::wrap_stream(body));
        let answer = self.json(call).await;
        match fault.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(error) => Err(ClientError::Source(error)),
            None => answer,
        }
    }
}

/// Keeps the reason aside: the HTTP client reports only that the body ended early.
fn keep(seen: &Mutex<Option<io::Error>>, error: io::Error) -> io::Error {
    let kind = error.kind();
    *seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    io::Error::from(kind)
}

fn too_large(len: u64) -> ClientError {
    let code = ErrorCode::TooLarge;
    let message =
        format!("the program has {len} bytes: at most {PROGRAM_LEN_MAX} can be sent; make it smaller");
    ClientError::Refused { code, message, status: code.status() }
}

/// How long an upload may take: the largest program at half a megabyte a second.
const UPLOAD_IN: Duration = Duration::from_secs(120);
