//! How the API is reached from elsewhere: an address, and the files of TLS. There is no address without them.

use super::Config;
use crate::access::rates::Fill;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Where the API is served over TLS, and with what.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Remote {
    /// The address.
    pub listen: SocketAddr,
    /// The certificate, with those between it and its authority; PEM.
    pub tls_cert: PathBuf,
    /// Its key; PEM.
    pub tls_key: PathBuf,
    /// The authority of clients' certificates; none are asked for where absent.
    pub client_ca: Option<PathBuf>,
}

/// Why the API cannot be served so.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NotSafe {
    /// An address alone.
    #[error(
        "the API is not served over plain TCP: give a certificate and its key beside the address (--tls-cert, --tls-key)"
    )]
    Plain,
    /// Files alone.
    #[error("tls-cert, tls-key and client-ca are of no use without an address: give one with --listen")]
    Nowhere,
}

impl Config {
    /// Where the API is served over TLS, if anywhere.
    ///
    /// # Errors
    /// [`NotSafe`].
    pub fn remote(&self) -> Result<Option<Remote>, NotSafe> {
        let (cert, key) = (self.tls_cert.clone(), self.tls_key.clone());
        match (self.listen, cert, key) {
            (Some(listen), Some(tls_cert), Some(tls_key)) => {
                Ok(Some(Remote { listen, tls_cert, tls_key, client_ca: self.client_ca.clone() }))
            }
            (Some(_), ..) => Err(NotSafe::Plain),
            (None, None, None) if self.client_ca.is_none() => Ok(None),
            (None, ..) => Err(NotSafe::Nowhere),
        }
    }

    /// How often one token, certificate or member of the API's group may call.
    #[must_use]
    pub const fn rates(&self) -> Fill {
        Fill { per_second: self.calls_per_second, burst: self.calls_burst }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_without_tls_is_refused() {
        let listen = Some("127.0.0.1:7070".parse().unwrap());
        let (cert, key) = (Some(PathBuf::from("/c")), Some(PathBuf::from("/k")));
        let with = |listen, tls_cert, tls_key, client_ca| {
            Config { listen, tls_cert, tls_key, client_ca, ..Config::default() }.remote()
        };
        assert_eq!(with(None, None, None, None), Ok(None));
        assert!(with(listen, cert.clone(), key.clone(), None).unwrap().is_some());
        for (cert, key) in [(None, None), (cert.clone(), None), (None, key.clone())] {
            assert_eq!(with(listen, cert, key, None), Err(NotSafe::Plain));
        }
        assert_eq!(with(None, cert.clone(), key, None), Err(NotSafe::Nowhere));
        assert_eq!(with(None, None, None, cert), Err(NotSafe::Nowhere));
    }
}
