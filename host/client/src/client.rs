//! The client: a socket's path or an address, and a connection pool behind it.

use crate::error::ClientError;
use crate::guest::GuestHandle;
use crate::remote::no_tls;
use doorbell_api::info::Info;
use doorbell_api::secret::Secret;
use doorbell_api::{REASON, TICKET};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{Method, RequestBuilder, Url};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use zeroize::Zeroizing;

/// A client of one manager. Cheap to clone; clones share their connections.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
    base: Url,
    http: reqwest::Client,
    reached: Arc<AtomicBool>,
    // What goes with every call: why, and the token.
    headers: HeaderMap,
}

impl Client {
    /// A client of the manager that listens on this socket. Connects at the first call.
    ///
    /// # Errors
    /// [`ClientError::Misuse`] when no client can be made for that path.
    pub fn at(socket: impl Into<PathBuf>) -> Result<Self, ClientError> {
        let socket = socket.into();
        let misuse = || ClientError::Misuse {
            what: "socket",
            got: socket.display().to_string(),
            expected: "the path of doorbelld's socket",
        };
        let http = reqwest::Client::builder()
            .unix_socket(socket.as_path())
            // There is none on a socket; without this the library would look for some.
            .tls_backend_preconfigured(no_tls().map_err(|_| misuse())?)
            .no_proxy()
            .build()
            .map_err(|_| misuse())?;
        // Every address is on the socket; the name only fills the Host header.
        let base = Url::parse("http://doorbelld/").map_err(|_| misuse())?;
        Ok(Self::over(http, base, socket))
    }

    /// Over connections that are made; `place` is what errors call the other end.
    pub(crate) fn over(http: reqwest::Client, base: Url, place: PathBuf) -> Self {
        Self { socket: place, base, http, reached: Arc::default(), headers: HeaderMap::new() }
    }

    /// The same client with a token, which from here on says who calls.
    ///
    /// # Errors
    /// [`ClientError::Misuse`] for a text that is no token.
    pub fn with_token(&self, token: &Secret) -> Result<Self, ClientError> {
        let text = Zeroizing::new(format!("Bearer {}", token.expose()));
        let mut value = HeaderValue::from_str(&text).map_err(|_| ClientError::Misuse {
            what: "token",
            // Not what was got: it may be one.
            got: String::new(),
            expected: "a token of the manager",
        })?;
        value.set_sensitive(true);
        let mut client = self.clone();
        client.headers.insert(AUTHORIZATION, value);
        Ok(client)
    }

    /// The same client for somebody who says why: the manager keeps it with all that is changed through it, except
    /// where a request says otherwise.
    ///
    /// # Errors
    /// [`ClientError::Misuse`] for a text with control characters.
    pub fn because(&self, reason: Option<&str>, ticket: Option<&str>) -> Result<Self, ClientError> {
        let mut client = self.clone();
        for (what, name, text) in [("reason", REASON, reason), ("ticket", TICKET, ticket)] {
            let Some(text) = text else { continue };
            let value = HeaderValue::from_bytes(text.as_bytes()).map_err(|_| ClientError::Misuse {
                what,
                got: text.to_owned(),
                expected: "at most 256 bytes without control characters",
            })?;
            client.headers.insert(name, value);
        }
        Ok(client)
    }

    /// A client of the manager named by the environment, or of the one at the default place.
    ///
    /// # Errors
    /// As [`Client::at`].
    pub fn from_env() -> Result<Self, ClientError> {
        match std::env::var_os(doorbell_api::SOCKET_ENV) {
            Some(socket) => Self::at(socket),
            None => Self::at(doorbell_api::SOCKET_DEFAULT),
        }
    }

    /// The socket it speaks to, or the address.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// What the daemon says of itself.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn info(&self) -> Result<Info, ClientError> {
        self.get(&["info"]).await
    }

    /// The calls that are about one guest.
    #[must_use]
    pub fn guest(&self, name: impl Into<String>) -> GuestHandle {
        GuestHandle::new(self.clone(), name.into())
    }

    /// Whether the daemon has ever answered this client or a clone of it.
    pub(crate) fn has_reached(&self) -> bool {
        self.reached.load(Ordering::Relaxed)
    }

    pub(crate) fn reached(&self) {
        self.reached.store(true, Ordering::Relaxed);
    }

    pub(crate) fn base(&self) -> &Url {
        &self.base
    }

    /// A call that has to be given its time.
    pub(crate) fn untimed(&self, method: Method, url: Url) -> RequestBuilder {
        self.http.request(method, url).headers(self.headers.clone())
    }
}
