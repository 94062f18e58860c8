//! Requests: submit, look up, wait, cancel, approve as a second person.

use crate::client::Client;
use crate::error::ClientError;
use crate::http::ANSWER_IN;
use crate::outage::Outage;
use doorbell_api::request::{NewRequest, Request, RequestList};
use reqwest::Method;
use std::time::Duration;
use tokio::time::Instant;

/// Which requests to list, newest first.
#[derive(Clone, Debug, Default)]
pub struct RequestFilter {
    /// Only those of this guest.
    pub guest: Option<String>,
    /// Only those that have no final state.
    pub open: bool,
    /// At most so many; the manager's own default when absent.
    pub limit: Option<u32>,
}

impl Client {
    /// Submits a request to a guest. Without an id it gets a fresh one here, so that it can be sent again
    /// over a broken connection and is still accepted once.
    ///
    /// # Errors
    /// Any [`ClientError`]; an id that was used for something else is refused as a conflict.
    pub async fn submit(&self, guest: &str, mut new: NewRequest) -> Result<Request, ClientError> {
        if new.id.is_none() {
            new.id = Some(fresh_id()?);
        }
        let mut outage = Outage::of(self);
        loop {
            let call = self.call(Method::POST, &["guests", guest, "requests"])?.json(&new);
            match self.json(call).await {
                Ok(request) => return Ok(request),
                Err(error) => outage.endure(error).await?,
            }
        }
    }

    /// The request with this id, or with the only id that begins so.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn request(&self, id: &str) -> Result<Request, ClientError> {
        self.get(&["requests", id]).await
    }

    /// Requests, newest first.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn requests(&self, filter: &RequestFilter) -> Result<RequestList, ClientError> {
        let mut query: Vec<(&str, String)> = Vec::new();
        query.extend(filter.guest.clone().map(|guest| ("guest", guest)));
        query.extend(filter.limit.map(|limit| ("limit", limit.to_string())));
        query.extend(filter.open.then(|| ("open", "true".to_owned())));
        self.json(self.call(Method::GET, &["requests"])?.query(&query)).await
    }

    /// Asks for a request's end. Asking twice is as good as once.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn cancel(&self, id: &str) -> Result<Request, ClientError> {
        self.json(self.call(Method::POST, &["requests", id, "cancel"])?).await
    }

    /// Approves a request that waits for a second person. Somebody else has to have asked for it.
    ///
    /// # Errors
    /// Any [`ClientError`]; a conflict where it does not wait for that, or where the caller asked for it.
    pub async fn approve_request(&self, id: &str) -> Result<Request, ClientError> {
        self.json(self.call(Method::POST, &["requests", id, "approve"])?).await
    }

    /// Refuses a request that waits for a second person: it is cancelled.
    ///
    /// # Errors
    /// As for [`Client::approve_request`].
    pub async fn refuse_request(&self, id: &str) -> Result<Request, ClientError> {
        self.json(self.call(Method::POST, &["requests", id, "refuse"])?).await
    }

    /// The request once it is final; as it stands when `timeout` has passed before. Without one, waits for ever.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn wait(&self, id: &str, timeout: Option<Duration>) -> Result<Request, ClientError> {
        let until = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut outage = Outage::of(self);
        loop {
            let left = until.map_or(WAIT_STEP, |until| until.saturating_duration_since(Instant::now()));
            match self.wait_once(id, left.min(WAIT_STEP)).await {
                Ok(request) if request.state.is_final() || left.is_zero() => return Ok(request),
                Ok(_) => outage.over(),
                Err(error) => outage.endure(error).await?,
            }
        }
    }

    async fn wait_once(&self, id: &str, timeout: Duration) -> Result<Request, ClientError> {
        let call = self
            .call(Method::GET, &["requests", id, "wait"])?
            .query(&[("timeout_ms", timeout.as_millis().to_string())])
            .timeout(timeout.saturating_add(ANSWER_IN));
        self.json(call).await
    }
}

/// A name of our own, for what must be accepted once however often it is sent.
pub(crate) fn fresh_id() -> Result<String, ClientError> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|error| ClientError::Misuse {
        what: "random source",
        got: error.to_string(),
        expected: "16 random bytes from the kernel",
    })?;
    Ok(hex::encode(id))
}

/// One wait on the wire: short, so that a connection that died without a word is noticed.
const WAIT_STEP: Duration = Duration::from_secs(30);
