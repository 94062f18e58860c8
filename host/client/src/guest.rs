//! Guests: add, look up, change, approve, reject, remove, and ask.

use crate::client::Client;
use crate::error::ClientError;
use crate::http::ANSWER_IN;
use doorbell_api::guest::{Approval, Guest, GuestChange, NewEnrolment, NewGuest, PendingKey, Rejection};
use doorbell_api::query::Ruling;
use doorbell_api::request::{Answer, NewQuery, NewRequest, Query, Request};
use reqwest::Method;
use std::time::Duration;

impl Client {
    /// Every guest.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn guests(&self) -> Result<Vec<Guest>, ClientError> {
        self.get(&["guests"]).await
    }

    /// Adds a guest.
    ///
    /// # Errors
    /// Any [`ClientError`]; a name or a place that is taken is refused as a conflict.
    pub async fn add_guest(&self, new: &NewGuest) -> Result<Guest, ClientError> {
        self.json(self.call(Method::POST, &["guests"])?.json(new)).await
    }

    /// Keys that wait for approval.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn pending(&self) -> Result<Vec<PendingKey>, ClientError> {
        self.get(&["pending"]).await
    }
}

/// The calls that are about one guest.
#[derive(Clone, Debug)]
pub struct GuestHandle {
    client: Client,
    name: String,
}

impl GuestHandle {
    pub(crate) const fn new(client: Client, name: String) -> Self {
        Self { client, name }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The guest as the manager knows it.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn show(&self) -> Result<Guest, ClientError> {
        self.client.get(&["guests", &self.name]).await
    }

    /// Changes where it is met.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn change(&self, change: &GuestChange) -> Result<Guest, ClientError> {
        self.client.json(self.client.call(Method::PATCH, &["guests", &self.name])?.json(change)).await
    }

    /// Removes it; its open requests become undeliverable.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn remove(&self) -> Result<(), ClientError> {
        self.client.send(self.client.call(Method::DELETE, &["guests", &self.name])?).await.map(drop)
    }

    /// Approves the key that waits for it.
    ///
    /// # Errors
    /// Any [`ClientError`]; a fingerprint that is not the waiting one is refused as a conflict.
    pub async fn approve(&self, approval: &Approval) -> Result<Guest, ClientError> {
        let call = self.client.call(Method::POST, &["guests", &self.name, "approve"])?;
        self.client.json(call.json(approval)).await
    }

    /// Rejects the key that waits for it.
    ///
    /// # Errors
    /// Any [`ClientError`]; where no key waits, or another one than is named, that is a conflict.
    pub async fn reject(&self, rejection: &Rejection) -> Result<Guest, ClientError> {
        let call = self.client.call(Method::POST, &["guests", &self.name, "reject"])?;
        self.client.json(call.json(rejection)).await
    }

    /// Has whoever proves this one-time token be taken for the guest, once.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn enrol(&self, new: &NewEnrolment) -> Result<Guest, ClientError> {
        let call = self.client.call(Method::POST, &["guests", &self.name, "enrolment"])?;
        self.client.json(call.json(new)).await
    }

    /// Submits a request to it; see [`Client::submit`].
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn submit(&self, new: NewRequest) -> Result<Request, ClientError> {
        self.client.submit(&self.name, new).await
    }

    /// Asks it whether it would begin a request, and which rule of its policy decides. Nothing is done.
    ///
    /// # Errors
    /// Any [`ClientError`]; an agent that has no policy is a conflict.
    pub async fn can(&self, new: &NewRequest) -> Result<Ruling, ClientError> {
        let call = self.client.call(Method::POST, &["guests", &self.name, "can"])?;
        self.client.json(call.timeout(ANSWER_IN.saturating_add(ANSWER_IN)).json(new)).await
    }

    /// Asks it something, and waits for the answer.
    ///
    /// # Errors
    /// Any [`ClientError`]; a guest that is not connected or does not answer is a refusal with a code of its own.
    pub async fn query(&self, query: Query, timeout: Option<Duration>) -> Result<Answer, ClientError> {
        let timeout_ms = timeout.map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
        let call = self.client.call(Method::POST, &["guests", &self.name, "queries"])?;
        // The manager keeps the time; this limit only ends the wait for a manager that hangs.
        let patience = timeout.unwrap_or(ANSWER_IN).saturating_add(ANSWER_IN);
        self.client.json(call.timeout(patience).json(&NewQuery { query, timeout_ms })).await
    }
}
