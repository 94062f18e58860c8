//! Output of a program as a stream of bytes that survives a restart of the daemon.
//!
//! Called by programs that follow a request. What was received is counted here, so that a new connection
//! goes on at the very next byte; a body that ends is checked against the request before it counts as the end.

use crate::client::Client;
use crate::error::ClientError;
use crate::outage::Outage;
use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt, try_unfold};
use reqwest::Method;

/// Which stream of a program.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// Its name in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

impl Client {
    /// The output of a request from byte `offset` on. With `follow` it goes on until the request is final and
    /// all was received; without, it ends with what the manager has.
    pub fn output(
        &self,
        id: &str,
        stream: Stream,
        offset: u64,
        follow: bool,
    ) -> impl futures_util::Stream<Item = Result<Bytes, ClientError>> + Send + use<> {
        self.read(Place { client: self.clone(), id: id.to_owned(), stream, offset, follow, attach: false })
    }

    /// The same to the end of the request, for a client that counts as attached to it: one whose going ends a
    /// request that says so.
    pub fn attached_output(
        &self,
        id: &str,
        stream: Stream,
        offset: u64,
    ) -> impl futures_util::Stream<Item = Result<Bytes, ClientError>> + Send + use<> {
        let id = id.to_owned();
        self.read(Place { client: self.clone(), id, stream, offset, follow: true, attach: true })
    }

    fn read(
        &self,
        place: Place,
    ) -> impl futures_util::Stream<Item = Result<Bytes, ClientError>> + Send + use<> {
        let reader = Reader { place, body: None, outage: Outage::of(self) };
        try_unfold(reader, |mut reader| async move { Ok(reader.next().await?.map(|bytes| (bytes, reader))) })
    }
}

/// Which byte of which output comes next.
struct Place {
    client: Client,
    id: String,
    stream: Stream,
    offset: u64,
    follow: bool,
    attach: bool,
}

struct Reader {
    place: Place,
    body: Option<BoxStream<'static, reqwest::Result<Bytes>>>,
    outage: Outage,
}

impl Reader {
    async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        loop {
            match self.step().await {
                Ok(Step::Bytes(bytes)) => {
                    self.outage.over();
                    return Ok(Some(bytes));
                }
                Ok(Step::End) => return Ok(None),
                Ok(Step::Short(error)) | Err(error) => {
                    self.body = None;
                    self.outage.endure(error).await?;
                }
            }
        }
    }

    async fn step(&mut self) -> Result<Step, ClientError> {
        let mut body = match self.body.take() {
            Some(body) => body,
            None => self.place.open().await?,
        };
        match body.next().await {
            Some(Ok(bytes)) => {
                self.place.offset = self.place.offset.saturating_add(bytes.len() as u64);
                self.body = Some(body);
                Ok(Step::Bytes(bytes))
            }
            Some(Err(error)) => Err(ClientError::transport(self.place.client.socket(), error)),
            None => self.place.ended().await,
        }
    }
}

impl Place {
    async fn open(&self) -> Result<BoxStream<'static, reqwest::Result<Bytes>>, ClientError> {
        let mut query = vec![
            ("stream", self.stream.as_str().to_owned()),
            ("offset", self.offset.to_string()),
            ("follow", self.follow.to_string()),
        ];
        query.extend(self.attach.then(|| ("attach", "true".to_owned())));
        // Silence is no fault here: a program may print nothing for days. So no limit on the whole.
        let url = self.client.url(&["requests", &self.id, "output"])?;
        let call = self.client.untimed(Method::GET, url).query(&query);
        Ok(self.client.send(call).await?.bytes_stream().boxed())
    }

    /// A daemon that stops in good order ends its bodies in good order too; only the request tells which end this is.
    async fn ended(&self) -> Result<Step, ClientError> {
        if !self.follow {
            return Ok(Step::End);
        }
        let request = self.client.request(&self.id).await?;
        let total = request.receipt.map(|receipt| match self.stream {
            Stream::Stdout => receipt.stdout.bytes,
            Stream::Stderr => receipt.stderr.bytes,
        });
        if request.state.is_final() && total.is_none_or(|total| self.offset >= total) {
            return Ok(Step::End);
        }
        let source =
            std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "the output ended before the request");
        Ok(Step::Short(ClientError::Lost { socket: self.client.socket().to_path_buf(), source }))
    }
}

enum Step {
    Bytes(Bytes),
    End,
    Short(ClientError),
}
