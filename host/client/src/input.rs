//! What a program reads: bytes for the input of a request, each of which arrives once.
//!
//! Called by programs that feed a request. A piece has its place in the input, so one whose answer was lost is
//! sent again, and the manager passes over what it knows.

use crate::client::Client;
use crate::error::ClientError;
use crate::outage::Outage;
use bytes::{Buf as _, Bytes};
use doorbell_api::error::ErrorCode;
use doorbell_api::request::{InputState, Window};
use reqwest::{Method, header};

impl Client {
    /// How much of a request's input the manager has.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn input_state(&self, id: &str) -> Result<InputState, ClientError> {
        self.get(&["requests", id, "input"]).await
    }

    /// Writes a request's input from byte `offset` on: 0, or what [`Client::input_state`] says.
    #[must_use]
    pub fn input(&self, id: &str, offset: u64) -> Input {
        Input { client: self.clone(), id: id.to_owned(), offset }
    }

    /// Tells the size of the terminal that a request's program runs in.
    ///
    /// # Errors
    /// Any [`ClientError`]; a request without a terminal, or one that is over, is a conflict.
    pub async fn resize(&self, id: &str, window: Window) -> Result<(), ClientError> {
        self.send(self.call(Method::PUT, &["requests", id, "window"])?.json(&window)).await.map(drop)
    }
}

/// The writing end of a request's input.
#[derive(Debug)]
pub struct Input {
    client: Client,
    id: String,
    offset: u64,
}

impl Input {
    /// The place of the next byte.
    #[must_use]
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// Goes behind all that the manager has of the input: for one of several that write at the same time, whose
    /// bytes would else be taken for bytes that are there.
    ///
    /// # Errors
    /// As [`Input::write`].
    pub async fn to_end(&mut self) -> Result<(), ClientError> {
        let mut outage = Outage::of(&self.client);
        loop {
            match self.client.input_state(&self.id).await {
                Ok(InputState { len, .. }) => {
                    self.offset = self.offset.max(len);
                    return Ok(());
                }
                Err(error) => outage.endure(error).await?,
            }
        }
    }

    /// Writes bytes; they are with the manager when this returns. A daemon that is away for a while is waited for.
    ///
    /// # Errors
    /// Any [`ClientError`]; a request that is over or whose input has its end is a conflict.
    pub async fn write(&mut self, mut bytes: Bytes) -> Result<(), ClientError> {
        let mut outage = Outage::of(&self.client);
        while !bytes.is_empty() {
            match self.put(bytes.clone(), false).await {
                Ok(InputState { len, .. }) => {
                    // It may be further than this piece, where the input was written before.
                    let taken = len.saturating_sub(self.offset);
                    if taken == 0 {
                        return Err(self.misplaced(len));
                    }
                    let taken = usize::try_from(taken).unwrap_or(usize::MAX).min(bytes.len());
                    bytes.advance(taken);
                    self.offset = self.offset.saturating_add(taken as u64);
                    outage.over();
                }
                Err(error) => outage.endure(error).await?,
            }
        }
        Ok(())
    }

    /// Ends the input: the program reads its end.
    ///
    /// # Errors
    /// As [`Input::write`].
    pub async fn end(self) -> Result<(), ClientError> {
        let mut outage = Outage::of(&self.client);
        loop {
            match self.put(Bytes::new(), true).await {
                Ok(InputState { ended: true, .. }) => return Ok(()),
                Ok(InputState { len, .. }) => return Err(self.misplaced(len)),
                Err(error @ ClientError::Refused { code: ErrorCode::Conflict, .. }) => {
                    // The first try may have been done, and only its answer lost.
                    let state = self.client.input_state(&self.id).await?;
                    return if state.ended && state.len == self.offset { Ok(()) } else { Err(error) };
                }
                Err(error) => outage.endure(error).await?,
            }
        }
    }

    async fn put(&self, bytes: Bytes, end: bool) -> Result<InputState, ClientError> {
        let call = self
            .client
            .call(Method::PUT, &["requests", &self.id, "input"])?
            .query(&[("offset", self.offset.to_string()), ("end", end.to_string())])
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .body(bytes);
        self.client.json(call).await
    }

    fn misplaced(&self, len: u64) -> ClientError {
        let what = format!("that it has {len} bytes of an input that was written at {}", self.offset);
        ClientError::protocol(self.client.socket(), what, "a length behind what was written")
    }
}
