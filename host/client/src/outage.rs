//! How long a daemon may be away before a call that is safe to repeat gives up.
//!
//! Used by submit, wait, output, upload and input. A daemon that this client has never reached is an error at
//! once: nothing was begun.

use crate::client::Client;
use crate::error::ClientError;
use std::time::Duration;
use tokio::time::Instant;

/// How long a daemon may be away in the middle of a call: long enough for a restart.
pub const RESUME_FOR: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(crate) struct Outage {
    client: Client,
    since: Option<Instant>,
}

impl Outage {
    pub(crate) fn of(client: &Client) -> Self {
        Self { client: client.clone(), since: None }
    }

    /// The daemon answered.
    pub(crate) fn over(&mut self) {
        self.since = None;
    }

    /// Waits before the next try, or gives the error back when it is not the connection's or lasts too long.
    pub(crate) async fn endure(&mut self, error: ClientError) -> Result<(), ClientError> {
        let broke = matches!(error, ClientError::Lost { .. });
        if !(error.is_transport() && (broke || self.is_recent() || self.client.has_reached())) {
            return Err(error);
        }
        self.pause(error).await
    }

    /// The same for a refusal that may be for the first try, which broke here and is still under way there.
    pub(crate) async fn outlast(&mut self, error: ClientError) -> Result<(), ClientError> {
        if self.is_recent() { self.pause(error).await } else { Err(error) }
    }

    /// Whether a try has broken since the daemon last answered as it should.
    pub(crate) const fn is_recent(&self) -> bool {
        self.since.is_some()
    }

    async fn pause(&mut self, error: ClientError) -> Result<(), ClientError> {
        let since = *self.since.get_or_insert_with(Instant::now);
        if since.elapsed() >= RESUME_FOR {
            return Err(error);
        }
        // The socket's return cannot be waited for: a dead daemon leaves its path behind.
        tokio::time::sleep(PAUSE).await;
        Ok(())
    }
}

const PAUSE: Duration = Duration::from_millis(200);
