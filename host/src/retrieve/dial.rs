//! A connection to where a program lives: name, addresses, TCP, and TLS where the URL says so.
//!
//! Called for each step of a fetch. A name is resolved once; every address of it is checked, and what is dialled
//! is one of these very addresses, so that no second answer of a name server comes between. Proxies of the
//! environment are not used: they would resolve by themselves.

use super::address;
use super::fault::Fault;
use super::location::Location;
use crate::config::Fetch;
use futures_util::future::BoxFuture;
use ipnet::IpNet;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::fmt::Debug;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;
use url::Host;

/// Who knows the addresses of a name.
pub(super) trait Names: Debug + Send + Sync {
    /// All of them, with the port that is wanted.
    fn addresses(&self, name: String, port: u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>>;
}

/// The system's resolver.
#[derive(Debug)]
pub(super) struct SystemNames;

impl Names for SystemNames {
    fn addresses(&self, name: String, port: u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
        Box::pin(async move { Ok(tokio::net::lookup_host((name, port)).await?.collect()) })
    }
}

/// What a request is written to and an answer read from.
pub(super) trait Channel: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Channel for T {}

/// Dials what a location names, within the time that the configuration gives.
pub(super) async fn dial(
    fetch: &Fetch,
    names: &dyn Names,
    tls: Option<Arc<ClientConfig>>,
    location: &Location,
) -> Result<(Box<dyn Channel>, SocketAddr), Fault> {
    let until = Instant::now() + fetch.connect();
    let late = |_| Fault::passing(format!("no connection within {} ms", fetch.connect_ms));
    let addresses = timeout_at(until, resolve(names, &fetch.networks, location)).await.map_err(late)??;
    let stream = connect(&addresses, until).await?;
    let peer = stream.peer_addr().map_err(|error| Fault::passing(format!("no connection: {error}")))?;
    let Some(tls) = tls.filter(|_| location.is_https()) else { return Ok((Box::new(stream), peer)) };
    let secured = TlsConnector::from(tls).connect(server_name(location)?, stream);
    let stream = timeout_at(until, secured).await.map_err(late)?.map_err(|error| untrusted(&error))?;
    Ok((Box::new(stream), peer))
}

/// The addresses of a location's host, all of which may be dialled. One that may not refuses the name as a
/// whole: otherwise chance, or whoever answers for the name, would decide.
async fn resolve(
    names: &dyn Names,
    networks: &[IpNet],
    location: &Location,
) -> Result<Vec<SocketAddr>, Fault> {
    let url = location.url();
    let port = url.port_or_known_default().unwrap_or_default();
    let (addresses, of) = match url.host() {
        None => return Err(Fault::last("it names no host")),
        Some(Host::Ipv4(address)) => (vec![SocketAddr::from((address, port))], String::new()),
        Some(Host::Ipv6(address)) => (vec![SocketAddr::from((address, port))], String::new()),
        Some(Host::Domain(name)) => {
            let unknown = |error| Fault::passing(format!("the name {name} cannot be resolved: {error}"));
            (names.addresses(name.to_owned(), port).await.map_err(unknown)?, format!(" of {name}"))
        }
    };
    if addresses.is_empty() {
        return Err(Fault::passing(format!("there is no address{of}")));
    }
    for address in &addresses {
        let ip = address.ip();
        address::check(ip, networks).map_err(|kind| forbidden(ip, &of, kind))?;
    }
    Ok(addresses)
}

fn forbidden(ip: IpAddr, of: &str, kind: &str) -> Fault {
    Fault::last(format!("refused: {ip}{of} is {kind}, and fetch.networks does not allow it"))
}

/// The first of the addresses that accepts; each has an equal part of the time that is left.
async fn connect(addresses: &[SocketAddr], until: Instant) -> Result<TcpStream, Fault> {
    let mut last = Fault::passing("no connection");
    for (tried, address) in addresses.iter().enumerate() {
        let left = u32::try_from(addresses.len().saturating_sub(tried)).unwrap_or(u32::MAX);
        let patience = until.saturating_duration_since(Instant::now()).checked_div(left);
        match timeout(patience.unwrap_or(Duration::ZERO), TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = Fault::passing(format!("no connection to {address}: {error}")),
            Err(_) => last = Fault::passing(format!("no connection to {address} in time")),
        }
    }
    Err(last)
}

fn server_name(location: &Location) -> Result<ServerName<'static>, Fault> {
    match location.url().host() {
        Some(Host::Domain(name)) => ServerName::try_from(name.to_owned())
            .map_err(|_| Fault::last(format!("no certificate can be for the name {name}"))),
        Some(Host::Ipv4(address)) => Ok(ServerName::from(IpAddr::from(address))),
        Some(Host::Ipv6(address)) => Ok(ServerName::from(IpAddr::from(address))),
        None => Err(Fault::last("it names no host")),
    }
}

/// A certificate that is not accepted will not be accepted in a moment either; all else may be the network.
fn untrusted(error: &io::Error) -> Fault {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
    match cause {
        Some(error @ (rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented)) => {
            Fault::last(format!("its certificate is not accepted: {error}"))
        }
        Some(_) | None => Fault::passing(format!("no TLS: {error}")),
    }
}
