//! State changes as they happen: lines of JSON, one event each.

use crate::client::Client;
use crate::error::ClientError;
use bytes::{Bytes, BytesMut};
use doorbell_api::event::Event;
use futures_util::stream::{BoxStream, StreamExt, try_unfold};
use reqwest::Method;

impl Client {
    /// Every state change from now on. The stream ends with an error when the daemon goes: what happens until
    /// it is back is not told afterwards, and the caller has to know.
    ///
    /// # Errors
    /// Any [`ClientError`], before the first event.
    pub async fn events(
        &self,
    ) -> Result<impl futures_util::Stream<Item = Result<Event, ClientError>> + Send + use<>, ClientError>
    {
        let call = self.untimed(Method::GET, self.url(&["events"])?);
        let body = self.send(call).await?.bytes_stream().boxed();
        let lines = Lines { client: self.clone(), body, buffer: BytesMut::new() };
        Ok(try_unfold(lines, |mut lines| async move {
            let event = lines.next().await?;
            Ok(Some((event, lines)))
        }))
    }
}

struct Lines {
    client: Client,
    body: BoxStream<'static, reqwest::Result<Bytes>>,
    buffer: BytesMut,
}

impl Lines {
    async fn next(&mut self) -> Result<Event, ClientError> {
        loop {
            if let Some(event) = self.take()? {
                return Ok(event);
            }
            match self.body.next().await {
                Some(Ok(bytes)) => self.buffer.extend_from_slice(&bytes),
                Some(Err(error)) => return Err(ClientError::transport(self.client.socket(), error)),
                None => return Err(self.stopped()),
            }
        }
    }

    /// The next whole line, where there is one. An empty line keeps the connection warm and says nothing.
    fn take(&mut self) -> Result<Option<Event>, ClientError> {
        while let Some(end) = self.buffer.iter().position(|&byte| byte == b'\n') {
            let line = self.buffer.split_to(end.saturating_add(1));
            if line.trim_ascii().is_empty() {
                continue;
            }
            return serde_json::from_slice(&line).map(Some).map_err(|error| self.garbled(&error.to_string()));
        }
        if self.buffer.len() > LINE_LEN_MAX {
            return Err(self.garbled("a line without an end"));
        }
        Ok(None)
    }

    fn garbled(&self, what: &str) -> ClientError {
        ClientError::protocol(self.client.socket(), what.to_owned(), "one event in JSON on each line")
    }

    fn stopped(&self) -> ClientError {
        let source = std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "it ended the events");
        ClientError::Lost { socket: self.client.socket().to_path_buf(), source }
    }
}

/// Bytes of a line that has no end yet; an event has a few hundred.
const LINE_LEN_MAX: usize = 64 * 1024;
