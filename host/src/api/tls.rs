//! The API over TLS: the one way to the manager that is not on its host.
//!
//! Started by the daemon where `listen` is configured; there is no plain TCP. Trusts nothing of a connection but what the
//! handshake has shown: an address, and a certificate of the authority for clients if one was given. Until then a
//! connection costs its buffers and has a deadline; how many there are at once is bounded.

use super::peer::{Certificate, Peer};
use super::places::Places;
use crate::config::Remote;
use crate::manager::Manager;
use anyhow::{Context as _, bail};
use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, version::TLS13};
use sha2::{Digest as _, Sha256};
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tracing::{debug, info, warn};

/// What is listened on, and with which certificate.
#[derive(Debug)]
pub struct Listening {
    listener: TcpListener,
    identity: Identity,
}

/// Listens where the configuration says so.
///
/// # Errors
/// One line that says what is in the way.
pub async fn bind(remote: Option<&Remote>) -> anyhow::Result<Option<Listening>> {
    let Some(remote) = remote else { return Ok(None) };
    let identity = Identity::load(remote)?;
    let listener = TcpListener::bind(remote.listen)
        .await
        .with_context(|| format!("{} cannot be listened on", remote.listen))?;
    info!(address = %listener.local_addr()?, client_ca = remote.client_ca.is_some(), "the API is served over TLS");
    Ok(Some(Listening { listener, identity }))
}

/// Answers until the manager stops.
pub async fn serve(manager: Arc<Manager>, listening: Option<Listening>, mut stopped: watch::Receiver<bool>) {
    let Some(Listening { listener, mut identity }) = listening else {
        let _ = stopped.changed().await;
        return;
    };
    let (router, places) = (super::router(manager), Places::default());
    let mut connections = JoinSet::new();
    let mut look = tokio::time::interval(LOOK_EVERY);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = look.tick() => {
                identity.refresh();
                continue;
            }
            Some(_) = connections.join_next() => continue,
            _ = stopped.changed() => return,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Descriptors may be short; those that are served give theirs back.
                warn!(%error, "a connection over TLS is not accepted");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let Some(place) = places.take(address.ip()) else {
            debug!(%address, "the places for connections over TLS are taken, all or those of that address");
            continue;
        };
        let (router, acceptor) = (router.clone(), TlsAcceptor::from(Arc::clone(&identity.config)));
        connections.spawn(async move {
            if let Err(error) = converse(stream, address, acceptor, router).await {
                debug!(%address, error = format!("{error:#}"), "a connection over TLS ended");
            }
            drop(place);
        });
    }
}

async fn converse(
    stream: TcpStream,
    address: SocketAddr,
    acceptor: TlsAcceptor,
    router: Router,
) -> anyhow::Result<()> {
    // An answer is written whole; waiting for company only delays it.
    stream.set_nodelay(true)?;
    let stream = timeout(HANDSHAKE_MAX, acceptor.accept(stream)).await.context("no handshake in time")??;
    let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let certificate = shown.map(certificate).transpose()?.map(Arc::new);
    let peer = Peer::There { address, certificate };
    let service = TowerToHyperService::new(router);
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(peer.clone()));
        service.call(request)
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        // Also how long a connection may be idle.
        .header_read_timeout(HEAD_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .await?;
    Ok(())
}

fn certificate(der: &CertificateDer<'_>) -> anyhow::Result<Certificate> {
    let parsed = webpki::EndEntityCert::try_from(der).context("the client's certificate cannot be read")?;
    // A name with a wildcard is nobody's.
    let names = parsed.valid_dns_names().filter(|name| !name.starts_with('*')).map(str::to_ascii_lowercase);
    Ok(Certificate { fingerprint: hex::encode(Sha256::digest(der)), names: names.take(NAMES_MAX).collect() })
}

/// The manager's certificate and key, and the authority for clients: as they are on the disk.
#[derive(Debug)]
struct Identity {
    remote: Remote,
    stamps: Vec<Option<Stamp>>,
    config: Arc<ServerConfig>,
}

/// By what a file is seen to be another one.
type Stamp = (u64, u64, SystemTime);

impl Identity {
    fn load(remote: &Remote) -> anyhow::Result<Self> {
        // Before the files are read: one that changes meanwhile is read again.
        let stamps = stamps(remote);
        Ok(Self { config: config(remote)?, remote: remote.clone(), stamps })
    }

    /// Takes new files at once; those that are of no use leave the old ones in their place.
    fn refresh(&mut self) {
        let found = stamps(&self.remote);
        if found == self.stamps {
            return;
        }
        match config(&self.remote) {
            Ok(config) => {
                info!("the certificate of the API has changed and is taken");
                self.config = config;
            }
            Err(error) => warn!(error = format!("{error:#}"), "the API keeps the certificate that it has"),
        }
        self.stamps = found;
    }
}

fn stamps(remote: &Remote) -> Vec<Option<Stamp>> {
    let files = [Some(&remote.tls_cert), Some(&remote.tls_key), remote.client_ca.as_ref()];
    let stamp = |path: &PathBuf| {
        let file = path.metadata().ok()?;
        Some((file.ino(), file.len(), file.modified().ok()?))
    };
    files.into_iter().flatten().map(stamp).collect()
}

fn config(remote: &Remote) -> anyhow::Result<Arc<ServerConfig>> {
    let (chain, key) = (certificates(&remote.tls_cert)?, key(&remote.tls_key)?);
    let provider = Arc::new(ring::default_provider());
    // Both ends are ours or of these years.
    let builder =
        ServerConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(&[&TLS13])?;
    let builder = match &remote.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for root in certificates(path)? {
                roots
                    .add(root)
                    .with_context(|| format!("{} has no authority's certificate", path.display()))?;
            }
            // One without a certificate may still show a token.
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.allow_unauthenticated().build()?)
        }
    };
    let mut config = builder.with_single_cert(chain, key).with_context(|| {
        format!("{} is not the key of {}", remote.tls_key.display(), remote.tls_cert.display())
    })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn certificates(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let unusable = || format!("the certificate {} cannot be read", path.display());
    let found: Vec<_> =
        CertificateDer::pem_file_iter(path).and_then(Iterator::collect).with_context(unusable)?;
    if found.is_empty() {
        bail!("{} has no certificate in it, expected PEM", path.display());
    }
    Ok(found)
}

fn key(path: &Path) -> anyhow::Result<PrivateKeyDer<'static>> {
    let unusable = || format!("the key {} cannot be read", path.display());
    let mode = path.metadata().with_context(unusable)?.mode() & 0o777;
    if mode & 0o007 != 0 {
        bail!(
            "the key {0} has mode {mode:04o}, so that everybody can read it: `chmod o= {0}`",
            path.display()
        );
    }
    PrivateKeyDer::from_pem_file(path).with_context(unusable)
}

const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// For the head of a request, and between two requests.
const HEAD_MAX: Duration = Duration::from_secs(60);
/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(100);
/// Names of one certificate that are looked up.
const NAMES_MAX: usize = 16;
