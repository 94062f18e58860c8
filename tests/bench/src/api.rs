//! The manager's API as bare HTTP over its socket: what is measured is the manager, and no client of ours around it.
//!
//! Called by the measuring modules. Trusts the manager it was started with.

use anyhow::{Context as _, Result, bail};
use reqwest::{Method, Url};
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// A connection pool to one manager.
#[derive(Debug)]
pub(crate) struct Api {
    http: reqwest::Client,
    base: Url,
    runtime: Runtime,
}

impl Api {
    pub(crate) fn at(socket: &Path) -> Result<Self> {
        let http = reqwest::Client::builder().unix_socket(socket).no_proxy().build()?;
        Ok(Self { http, base: Url::parse("http://doorbelld/v1/")?, runtime: Runtime::new()? })
    }

    /// One call; an answer that is no success is an error with its text.
    pub(crate) fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        self.runtime.block_on(self.send(method, path, body))
    }

    pub(crate) fn get(&self, path: &str) -> Result<Value> {
        self.call(Method::GET, path, None)
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.call(Method::POST, path, Some(body))
    }

    async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        let mut call = self.http.request(method, self.base.join(path)?).timeout(CALL_IN);
        if let Some(body) = body {
            call = call.json(body);
        }
        let answer = call.send().await.with_context(|| path.to_owned())?;
        let status = answer.status();
        let text = answer.text().await?;
        if !status.is_success() {
            bail!("{path}: {status}: {text}");
        }
        Ok(serde_json::from_str(&text).unwrap_or_default())
    }

    /// Uploads a program; gives how a request names it.
    pub(crate) fn upload(&self, name: &str, bytes: Vec<u8>) -> Result<Value> {
        self.runtime.block_on(async {
            let call = self.http.put(self.base.join("programs")?).timeout(CALL_IN).body(bytes);
            let answer = call.send().await?.error_for_status()?.text().await?;
            let program: Value = serde_json::from_str(&answer)?;
            Ok(json!({ "digest": program["digest"], "name": name }))
        })
    }

    /// Submits a request and gives its id.
    pub(crate) fn submit(&self, guest: &str, request: &Value) -> Result<String> {
        let accepted = self.post(&format!("guests/{guest}/requests"), request)?;
        Ok(accepted["id"].as_str().context("a request without an id")?.to_owned())
    }

    /// The request once it is final; one that did not succeed is an error.
    pub(crate) fn finished(&self, id: &str) -> Result<Value> {
        self.finished_within(id, CALL_IN)
    }

    /// The same, within a time.
    pub(crate) fn finished_within(&self, id: &str, limit: Duration) -> Result<Value> {
        let end = Instant::now().checked_add(limit).context("a time")?;
        while Instant::now() < end {
            let request = self.get(&format!("requests/{id}/wait?timeout_ms=5000"))?;
            match request["state"].as_str().unwrap_or_default() {
                "succeeded" => return Ok(request),
                "queued" | "offered" | "fetched" | "started" => {}
                _ => bail!("a request ended badly: {request}"),
            }
        }
        bail!("a request has not ended within {limit:?}")
    }

    /// Runs a command of the guest to its end; gives its standard output.
    pub(crate) fn run(&self, guest: &str, words: &[&str]) -> Result<String> {
        let id = self.submit(guest, &command(words))?;
        self.finished(&id)?;
        self.runtime.block_on(async {
            let path = self.base.join(&format!("requests/{id}/output?stream=stdout"))?;
            let answer = self.http.get(path).timeout(CALL_IN).send().await?.error_for_status()?;
            Ok(answer.text().await?)
        })
    }

    /// Submits so many requests, so many of them at a time; gives how long that took.
    pub(crate) fn submit_many(&self, guest: &str, count: u32, at_once: usize) -> Result<Duration> {
        use futures_util::{StreamExt as _, TryStreamExt as _};
        let path = format!("guests/{guest}/requests");
        let request = command(&["/bin/true"]);
        let start = Instant::now();
        self.runtime.block_on(async {
            let calls = (0..count).map(|_| self.send(Method::POST, &path, Some(&request)));
            futures_util::stream::iter(calls).buffer_unordered(at_once).try_for_each(async |_| Ok(())).await
        })?;
        Ok(start.elapsed())
    }
}

/// A request that runs a command of the guest.
pub(crate) fn command(words: &[&str]) -> Value {
    let (command, args) = words.split_first().unwrap_or((&"", &[]));
    json!({ "action": { "type": "run", "command": command, "args": args } })
}

/// Longer than anything here may take.
const CALL_IN: Duration = Duration::from_secs(120);
