//! The one place that builds HTTP calls and reads their answers. Called by every endpoint; trusts a body
//! only after its type has been read from it.

use crate::client::Client;
use crate::error::ClientError;
use doorbell_api::error::ErrorCode;
use reqwest::header::RETRY_AFTER;
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use serde::de::DeserializeOwned;
use std::time::Duration;

impl Client {
    /// The address of an endpoint; each segment is one name, whatever signs are in it.
    pub(crate) fn url(&self, segments: &[&str]) -> Result<Url, ClientError> {
        let mut url = self.base().clone();
        for segment in segments {
            if matches!(*segment, "" | "." | "..") {
                return Err(ClientError::Misuse {
                    what: "name",
                    got: (*segment).to_owned(),
                    expected: "a guest's name or a request's id",
                });
            }
        }
        if let Ok(mut path) = url.path_segments_mut() {
            path.clear().push("v1").extend(segments);
        }
        Ok(url)
    }

    pub(crate) fn call(&self, method: Method, segments: &[&str]) -> Result<RequestBuilder, ClientError> {
        Ok(self.untimed(method, self.url(segments)?).timeout(ANSWER_IN))
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, segments: &[&str]) -> Result<T, ClientError> {
        self.json(self.call(Method::GET, segments)?).await
    }

    pub(crate) async fn json<T: DeserializeOwned>(&self, call: RequestBuilder) -> Result<T, ClientError> {
        let response = self.send(call).await?;
        let body = response.bytes().await.map_err(|error| ClientError::transport(self.socket(), error))?;
        serde_json::from_slice(&body).map_err(|error| {
            ClientError::protocol(self.socket(), error.to_string(), std::any::type_name::<T>())
        })
    }

    /// Sends, and gives back only a success. A call that came too soon was not done: it waits as long as it is told, and
    /// is sent again, where its body is not one that can be read once only.
    pub(crate) async fn send(&self, call: RequestBuilder) -> Result<Response, ClientError> {
        let mut next = Some(call);
        let mut waited = Duration::ZERO;
        loop {
            let Some(call) = next else { return Err(too_soon()) };
            next = call.try_clone();
            let response = call.send().await.map_err(|error| ClientError::transport(self.socket(), error))?;
            self.reached();
            match again_in(&response).filter(|_| next.is_some() && waited < WAITED_MAX) {
                None => return self.success(response).await,
                Some(pause) => {
                    waited = waited.saturating_add(pause);
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    async fn success(&self, response: Response) -> Result<Response, ClientError> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = response.bytes().await.map_err(|error| ClientError::transport(self.socket(), error))?;
        Err(ClientError::refused(self.socket(), status.as_u16(), &body))
    }
}

/// How long a call that came too soon has to wait.
fn again_in(response: &Response) -> Option<Duration> {
    if response.status() != StatusCode::TOO_MANY_REQUESTS {
        return None;
    }
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds).min(PAUSE_MAX))
}

fn too_soon() -> ClientError {
    let code = ErrorCode::RateLimited;
    ClientError::Refused { code, message: "too many calls; try again later".into(), status: code.status() }
}

const PAUSE_MAX: Duration = Duration::from_secs(10);
/// How long a call waits for its turn in all.
const WAITED_MAX: Duration = Duration::from_secs(60);
/// How long an answer may take that needs no guest: room for a slow disk, and an end for a daemon that hangs.
pub(crate) const ANSWER_IN: Duration = Duration::from_secs(60);
