//! Where the time went: the stations of one request, and those of all of them.

use crate::client::Client;
use crate::error::ClientError;
use doorbell_api::trace::{Stations, Trace};

impl Client {
    /// The stations that a request has passed.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn trace(&self, id: &str) -> Result<Trace, ClientError> {
        self.get(&["requests", id, "trace"]).await
    }

    /// How long requests took to each station since the manager started.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn stations(&self) -> Result<Stations, ClientError> {
        self.get(&["stations"]).await
    }
}
