//! One GET, from redirect to redirect, each of which is asked for only if the rules allow it.
//!
//! Called by a fetch. Trusts nothing that a server says: lengths are counted, nothing is unpacked, and what came
//! is compared with its digest by whoever stores it.

use super::dial::{Names, dial};
use super::fault::Fault;
use super::location::Location;
use super::trust;
use crate::config::Fetch;
use futures_util::Stream;
use futures_util::stream::unfold;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// What a server gives.
#[derive(Debug)]
pub(super) struct Given {
    body: Incoming,
    // Ends with the answer: nobody else needs the connection.
    _connection: JoinSet<()>,
    /// Where it came from in the end, and by which address.
    pub(super) from: String,
    /// What the server says it has packed the bytes with.
    pub(super) packed: Option<String>,
}

/// Asks for a location.
pub(super) async fn get(fetch: &Fetch, names: &dyn Names, first: &Location) -> Result<Given, Fault> {
    let mut tls = None;
    let mut location = first.clone();
    for _ in 0..=fetch.redirects {
        let step = async {
            let refused = |rule| Fault::last(format!("refused: {rule}"));
            fetch.rules().check(&location).map_err(refused)?;
            if location.is_https() && tls.is_none() {
                let file = fetch.ca_file.clone();
                tls = Some(crate::disk::blocking(move || trust::client(file.as_deref())).await?);
            }
            ask(fetch, names, tls.clone(), &location).await
        };
        // What goes wrong behind a redirect is told of the place where it went wrong.
        let told = |fault: Fault| {
            if location == *first { fault } else { fault.behind(&format!("it sends on to {location}")) }
        };
        match step.await.map_err(told)? {
            Answer::Given(given) => return Ok(given),
            Answer::SentOn(there) => location = there,
        }
    }
    Err(Fault::last(format!("it sends on more than {} times (fetch.redirects)", fetch.redirects)))
}

enum Answer {
    Given(Given),
    SentOn(Location),
}

async fn ask(
    fetch: &Fetch,
    names: &dyn Names,
    tls: Option<Arc<ClientConfig>>,
    location: &Location,
) -> Result<Answer, Fault> {
    let broken = |error: hyper::Error| Fault::passing(format!("the connection failed: {}", whole(&error)));
    let (channel, peer) = dial(fetch, names, tls, location).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(channel)).await.map_err(broken)?;
    let mut driver = JoinSet::new();
    driver.spawn(async move {
        // Whoever reads the answer is told of a failure there.
        let _ = connection.await;
    });
    let answer = timeout(fetch.stall(), sender.send_request(request(location)?)).await;
    let answer = answer.map_err(|_| stalled(fetch.stall()))?.map_err(broken)?;
    judge(answer, driver, location, peer)
}

fn request(location: &Location) -> Result<Request<Empty<Bytes>>, Fault> {
    let url = location.url();
    let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
    let host = url.host_str().unwrap_or_default();
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    Request::get(format!("{}{query}", url.path()))
        .header(header::HOST, format!("{host}{port}"))
        .header(header::USER_AGENT, concat!("doorbelld/", env!("CARGO_PKG_VERSION")))
        .header(header::ACCEPT, "*/*")
        .header(header::ACCEPT_ENCODING, "identity")
        .body(Empty::new())
        .map_err(|error| Fault::last(format!("it cannot be asked for: {error}")))
}

fn judge(
    answer: Response<Incoming>,
    connection: JoinSet<()>,
    location: &Location,
    peer: SocketAddr,
) -> Result<Answer, Fault> {
    let (head, body) = answer.into_parts();
    match head.status {
        StatusCode::OK => {}
        StatusCode::MOVED_PERMANENTLY
        | StatusCode::FOUND
        | StatusCode::SEE_OTHER
        | StatusCode::TEMPORARY_REDIRECT
        | StatusCode::PERMANENT_REDIRECT => return sent_on(location, &head.headers).map(Answer::SentOn),
        status => return Err(unwanted(status)),
    }
    if let Some(len) = body.size_hint().exact().filter(|len| *len > super::LEN_MAX) {
        return Err(Fault::last(format!(
            "it has {len} bytes where a program has {} at most",
            super::LEN_MAX
        )));
    }
    let packed = head.headers.get(header::CONTENT_ENCODING).map(plain).filter(|name| name != "identity");
    Ok(Answer::Given(Given { body, _connection: connection, from: format!("{location} ({peer})"), packed }))
}

fn sent_on(location: &Location, headers: &HeaderMap) -> Result<Location, Fault> {
    let there = headers.get(header::LOCATION).and_then(|value| value.to_str().ok());
    let there = there.ok_or_else(|| Fault::last("it sends on, and says not where"))?;
    match location.join(there) {
        Err(error) => Err(Fault::last(format!("refused: it sends on to a URL, and {error}"))),
        // A file is for who asks for it, never for a server to choose.
        Ok(there) if there.is_file() => Err(Fault::last(format!("refused: it sends on to {there}, a file"))),
        Ok(there) => Ok(there),
    }
}

/// A server that is at its end may be well again in a moment; one that says no has said it.
fn unwanted(status: StatusCode) -> Fault {
    let text = format!("HTTP status {status} where 200 was expected");
    let passing = status.is_server_error()
        || matches!(
            status,
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS | StatusCode::TOO_EARLY
        );
    if passing { Fault::Passing(text) } else { Fault::Final(text) }
}

impl Given {
    /// The bytes as they come, until the first that does not come in time.
    pub(super) fn pieces(self, stall: Duration) -> impl Stream<Item = Result<Bytes, Fault>> + Send {
        unfold(Some(self), move |given| async move {
            let mut given = given?;
            match timeout(stall, given.body.frame()).await {
                Err(_) => Some((Err(stalled(stall)), None)),
                Ok(None) => None,
                Ok(Some(Err(error))) => {
                    Some((Err(Fault::passing(format!("its bytes broke off: {}", whole(&error)))), None))
                }
                Ok(Some(Ok(frame))) => Some((Ok(frame.into_data().unwrap_or_default()), Some(given))),
            }
        })
    }
}

fn stalled(stall: Duration) -> Fault {
    Fault::passing(format!("no byte came for {} ms", stall.as_millis()))
}

/// A value of a header for people, short and without the power to move a cursor.
fn plain(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).chars().filter(char::is_ascii_graphic).take(40).collect()
}

fn whole(error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
