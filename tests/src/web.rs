//! A server of HTTP or HTTPS on loopback that answers as a test wants, and remembers what it was asked.
//!
//! Started by tests of programs that live elsewhere. One thread for each connection, one answer for each.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// What a server does with one request.
#[derive(Clone, Debug)]
pub enum Does {
    /// Answers with this.
    Says(Vec<u8>),
    /// Answers with the first part, waits for its gate to be opened, and goes on with the second.
    Waits(Vec<u8>, Gate, Vec<u8>),
    /// Answers with this, and with zeros until nobody reads any more.
    Floods(Vec<u8>),
}

/// What holds an answer back.
#[derive(Clone, Debug, Default)]
pub struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    /// Lets it go on, for ever.
    pub fn open(&self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.1.notify_all();
    }

    fn pass(&self) {
        let closed = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        let _open = self.0.1.wait_while(closed, |open| !*open).unwrap_or_else(PoisonError::into_inner);
    }
}

/// An authority whose certificates nobody believes but who is given its root.
#[derive(Debug)]
pub struct Authority {
    /// Its root, in PEM.
    pub root: String,
    server: Arc<ServerConfig>,
}

impl Authority {
    /// A new one, with a certificate for this name or address.
    #[must_use]
    pub fn with(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters of a root");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let root = CertifiedIssuer::self_signed(params, key).expect("a root");
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec![name.to_owned()]).expect("parameters of a certificate");
        let certificate = params.signed_by(&key, &root).expect("a certificate");
        let chain = vec![CertificateDer::from(certificate.der().to_vec())];
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions of TLS")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("a certificate with its key");
        Self { root: root.pem(), server: Arc::new(server) }
    }
}

/// The server. It ends with the process of the test.
#[derive(Debug)]
pub struct Web {
    address: SocketAddr,
    scheme: &'static str,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    next: VecDeque<Does>,
    asked: Vec<String>,
}

impl Web {
    /// Serves HTTP.
    #[must_use]
    pub fn plain() -> Self {
        Self::serve("http", None)
    }

    /// Serves HTTPS.
    #[must_use]
    pub fn secured(by: &Authority) -> Self {
        Self::serve("https", Some(Arc::clone(&by.server)))
    }

    /// What it does with the next requests, one after the other, whatever they ask for.
    pub fn does(&self, next: impl IntoIterator<Item = Does>) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).next.extend(next);
    }

    /// The URL of a path.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme, self.address)
    }

    /// The first lines of what it was asked.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).asked.clone()
    }

    fn serve(scheme: &'static str, tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let state: Arc<Mutex<State>> = Arc::default();
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (tls, state) = (tls.clone(), Arc::clone(&shared));
                std::thread::spawn(move || match tls {
                    None => answer(stream, &state),
                    Some(tls) => {
                        let connection = ServerConnection::new(tls).expect("a session of TLS");
                        answer(StreamOwned::new(connection, stream), &state)
                    }
                });
            }
        });
        Self { address, scheme, state }
    }
}

/// A connection that can be ended in good order.
trait End {
    fn end(&mut self);
}

impl End for TcpStream {
    fn end(&mut self) {}
}

impl End for StreamOwned<ServerConnection, TcpStream> {
    fn end(&mut self) {
        self.conn.send_close_notify();
        let _ = self.flush();
    }
}

/// Reads one request and does what is next; a peer that goes away ends it.
fn answer(stream: impl Read + Write + End, state: &Mutex<State>) -> Option<()> {
    let mut stream = BufReader::new(stream);
    let mut first = String::new();
    stream.read_line(&mut first).ok().filter(|count| *count > 0)?;
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        stream.read_line(&mut line).ok().filter(|count| *count > 0)?;
    }
    let does = {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        state.asked.push(first.trim_end().to_owned());
        state.next.pop_front().unwrap_or_else(|| status("404 Not Found"))
    };
    let stream = stream.get_mut();
    match does {
        Does::Says(bytes) => stream.write_all(&bytes).ok()?,
        Does::Waits(first, gate, second) => {
            stream.write_all(&first).and_then(|()| stream.flush()).ok()?;
            gate.pass();
            stream.write_all(&second).ok()?;
        }
        Does::Floods(bytes) => {
            stream.write_all(&bytes).ok()?;
            while stream.write_all(&[0; 64 * 1024]).is_ok() {}
        }
    }
    stream.end();
    Some(())
}

/// A good answer with these bytes.
#[must_use]
pub fn file(bytes: &[u8]) -> Does {
    Does::Says([head(&format!("content-length: {}\r\n", bytes.len())).as_slice(), bytes].concat())
}

/// A good answer that is held back in the middle of these bytes.
#[must_use]
pub fn held(bytes: &[u8], gate: &Gate) -> Does {
    let (first, second) = bytes.split_at(bytes.len() / 2);
    let head = head(&format!("content-length: {}\r\n", bytes.len()));
    Does::Waits([head.as_slice(), first].concat(), gate.clone(), second.to_vec())
}

/// The head of a good answer, with these lines in it.
#[must_use]
pub fn head(lines: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\n{lines}\r\n").into_bytes()
}

/// An answer without a body.
#[must_use]
pub fn status(status: &str) -> Does {
    Does::Says(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").into_bytes())
}

/// An answer that sends on.
#[must_use]
pub fn sends_on(to: &str) -> Does {
    Does::Says(format!("HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n").into_bytes())
}
