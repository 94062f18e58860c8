//! The manager's API over TLS: an authority, a manager that serves with its certificate, and HTTPS by hand.
//!
//! Used by the suite of access. By hand, because the SDK is to be seen from outside: what is compared is the answer's
//! status and bytes.

use crate::daemon::Daemon;
use crate::place::Place;
use crate::wait::{on, until};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::Value;
use std::fs::Permissions;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpSocket;

/// An authority; its certificates are worth something where its root is given.
#[derive(Debug)]
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key.
#[derive(Clone, Debug)]
pub struct Issued {
    /// PEM.
    pub certificate: String,
    /// PEM.
    pub key: String,
    /// What the certificate is made of.
    pub der: Vec<u8>,
}

impl Authority {
    /// A new one.
    #[must_use]
    #[allow(clippy::new_without_default, reason = "to draw a key is no default")]
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters of a root");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self { issuer: CertifiedIssuer::self_signed(params, key).expect("a root") }
    }

    /// Its root, in PEM.
    #[must_use]
    pub fn root(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate for this name or address.
    #[must_use]
    pub fn issue(&self, name: &str) -> Issued {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec![name.to_owned()]).expect("parameters of a certificate");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        Issued { certificate: certificate.pem(), key: key.serialize_pem(), der: certificate.der().to_vec() }
    }
}

/// A manager that is reached over TLS too.
#[derive(Debug)]
pub struct Secured {
    /// The manager.
    pub daemon: Daemon,
    /// Who issued its certificate, and those of clients.
    pub authority: Authority,
    /// The file with the authority's root.
    pub ca: PathBuf,
    address: SocketAddr,
}

/// An answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its head, in lower case.
    pub head: String,
    /// Its body, or the beginning of one that has no end.
    pub body: String,
}

impl Answer {
    /// The body as JSON; null where it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or(Value::Null)
    }
}

impl Secured {
    /// Starts a manager with a fresh state, and this in its configuration besides.
    #[must_use]
    pub fn start(place: &Place, more: &str) -> Self {
        let authority = Authority::new();
        let ca = place.file("ca.pem", authority.root().as_bytes());
        let own = authority.issue("127.0.0.1");
        put_identity(place, &own);
        let config = format!(
            "listen = \"127.0.0.1:0\"\ntls-cert = {:?}\ntls-key = {:?}\nclient-ca = {ca:?}\n{more}",
            place.join("tls.pem"),
            place.join("tls.key")
        );
        let daemon = Daemon::start_with(place, &config);
        let address = until("the manager to say where it listens", || {
            let log = daemon.log();
            let said = log.split("the API is served over TLS address=").nth(1)?;
            said.split_whitespace().next()?.parse().ok()
        });
        Self { daemon, authority, ca, address }
    }

    /// Where it is.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// A plain connection to it.
    #[must_use]
    pub fn connect(&self) -> TcpStream {
        self.connect_from(None)
    }

    /// The same from another address of this host.
    #[must_use]
    pub fn connect_from(&self, from: Option<&str>) -> TcpStream {
        let stream = on("a connection", async {
            let socket = TcpSocket::new_v4()?;
            if let Some(from) = from {
                socket.bind(SocketAddr::new(from.parse().expect("an address"), 0))?;
            }
            socket.connect(self.address).await?.into_std()
        });
        let stream = stream.expect("a connection");
        stream.set_nonblocking(false).expect("a blocking socket");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a limit");
        stream
    }

    /// Makes a call as whoever has this token, or as nobody.
    #[must_use]
    pub fn call(&self, token: Option<&str>, method: &str, path: &str, body: &[u8]) -> Answer {
        self.call_as(None, token, method, path, body).expect("an answer")
    }

    /// The same with a certificate; an error where there is no answer at all.
    ///
    /// # Errors
    /// When the connection breaks.
    pub fn call_as(
        &self,
        identity: Option<&Issued>,
        token: Option<&str>,
        method: &str,
        path: &str,
        body: &[u8],
    ) -> std::io::Result<Answer> {
        let mut stream = self.secured(identity);
        let token = token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
        let json = if body.first() == Some(&b'{') { "content-type: application/json\r\n" } else { "" };
        let len = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: d\r\nconnection: close\r\n{token}{json}content-length: {len}\r\n\r\n"
        );
        stream.write_all(head.as_bytes())?;
        stream.write_all(body)?;
        stream.flush()?;
        read_answer(&mut BufReader::new(stream))
    }

    /// Follows what happens, as whoever has this token: the lines, as they come.
    pub fn watch(&self, token: &str) -> impl Iterator<Item = Value> + use<> {
        let mut stream = self.secured(None);
        let head = format!("GET /v1/events HTTP/1.1\r\nhost: d\r\nauthorization: Bearer {token}\r\n\r\n");
        stream.write_all(head.as_bytes()).expect("a call");
        let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
        assert!(lines.by_ref().take_while(|line| !line.trim().is_empty()).count() > 0, "no head");
        // The first, empty piece: from here on it watches.
        assert_eq!(lines.next().as_deref(), Some("1"));
        lines.filter_map(|line| serde_json::from_str::<Value>(&line).ok().filter(Value::is_object))
    }

    fn secured(&self, identity: Option<&Issued>) -> StreamOwned<ClientConnection, TcpStream> {
        let mut roots = RootCertStore::empty();
        let root = CertificateDer::from_pem_slice(self.authority.root().as_bytes()).expect("a root");
        roots.add(root).expect("a root");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions of TLS")
            .with_root_certificates(roots);
        let config = match identity {
            None => builder.with_no_client_auth(),
            Some(issued) => {
                let chain = vec![CertificateDer::from(issued.der.clone())];
                let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).expect("a key");
                builder.with_client_auth_cert(chain, key).expect("a certificate with its key")
            }
        };
        let name = ServerName::from(self.address.ip());
        let connection = ClientConnection::new(Arc::new(config), name).expect("a client");
        StreamOwned::new(connection, self.connect())
    }
}

/// Puts a certificate and its key where the manager takes its own from.
pub fn put_identity(place: &Place, issued: &Issued) {
    for (name, text) in [("tls.key", &issued.key), ("tls.pem", &issued.certificate)] {
        // In one step, as whoever renews it does: the manager may look at any time.
        let new = place.file(&format!("{name}.new"), text.as_bytes());
        std::fs::set_permissions(&new, Permissions::from_mode(0o600)).expect("a mode");
        std::fs::rename(&new, place.join(name)).expect("a file in its place");
    }
}

fn read_answer(stream: &mut BufReader<StreamOwned<ClientConnection, TcpStream>>) -> std::io::Result<Answer> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    let head = head.to_ascii_lowercase();
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok()).expect("a status");
    let mut body = Vec::new();
    if head.contains("application/x-ndjson") {
        // It has no end: its first line is enough.
        let mut line = String::new();
        stream.read_line(&mut line)?;
        body.extend_from_slice(line.as_bytes());
    } else {
        stream.read_to_end(&mut body)?;
    }
    Ok(Answer { status, head, body: String::from_utf8_lossy(&body).into_owned() })
}
