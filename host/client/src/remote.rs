//! A manager on another machine: reached over TLS, known by its certificate, and shown a token or a certificate.
//!
//! Called by programs that do not run on the manager's host. Trusts whoever has a certificate of the authority that is given,
//! or of one that the system trusts where none is.

use crate::client::Client;
use crate::error::ClientError;
use doorbell_api::secret::Secret;
use reqwest::Url;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier};
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zeroize::Zeroizing;

/// Where a manager is, and by what both ends know each other.
#[derive(Clone, Debug, Default)]
pub struct Remote {
    /// Its address: `https://host:port`.
    pub url: String,
    /// The file with the authority of its certificate, PEM; the system's own authorities where absent.
    pub ca: Option<PathBuf>,
    /// The files with a certificate of ours and its key, PEM.
    pub identity: Option<(PathBuf, PathBuf)>,
}

impl Client {
    /// A client of a manager on another machine. Connects at the first call.
    ///
    /// # Errors
    /// [`ClientError::Misuse`] for an address that is not `https://host:port`, and for files that cannot be used.
    pub fn elsewhere(remote: &Remote) -> Result<Self, ClientError> {
        let expected = "the address of a manager, as https://host:port";
        let misuse = || ClientError::Misuse { what: "address", got: remote.url.clone(), expected };
        let base = Url::parse(&remote.url).map_err(|_| misuse())?;
        // A token is never shown to whoever listens on the way.
        let is_plain = base.scheme() == "https"
            && base.host_str().is_some()
            && base.username().is_empty()
            && base.password().is_none();
        if !is_plain {
            return Err(misuse());
        }
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(config(remote)?)
            .https_only(true)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|_| misuse())?;
        Ok(Self::over(http, base, PathBuf::from(&remote.url)))
    }
}

/// Reads a token from a file, or from what stands for one (`/dev/fd/3`): its one line.
///
/// # Errors
/// [`ClientError::Misuse`] when it cannot be read, has no token in it, or is a file that others can read.
pub fn read_token(path: &Path) -> Result<Secret, ClientError> {
    let misuse =
        |expected| ClientError::Misuse { what: "token file", got: path.display().to_string(), expected };
    let file = File::open(path).map_err(|_| misuse("a file that can be read"))?;
    let about = file.metadata().map_err(|_| misuse("a file that can be looked at"))?;
    if about.is_file() && about.mode() & 0o077 != 0 {
        return Err(misuse("a file that nobody else can read: chmod 0600"));
    }
    let mut text = Zeroizing::new(String::with_capacity(TOKEN_LEN_MAX));
    let read = file.take(TOKEN_LEN_MAX as u64).read_to_string(&mut text);
    read.map_err(|_| misuse("a token on one line"))?;
    let token = text.trim();
    if token.is_empty() || token.contains(char::is_whitespace) || text.len() == TOKEN_LEN_MAX {
        return Err(misuse("a token on one line"));
    }
    Ok(Secret::from(token.to_owned()))
}

/// What believes nobody.
pub(crate) fn no_tls() -> Result<ClientConfig, rustls::Error> {
    Ok(builder()?.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
}

fn builder() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, rustls::Error> {
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
}

fn config(remote: &Remote) -> Result<ClientConfig, ClientError> {
    let misuse = |what, expected| ClientError::Misuse { what, got: remote.url.clone(), expected };
    let builder = builder()
        .map_err(|_| misuse("address", "versions of TLS that are known here"))?
        .with_root_certificates(roots(remote.ca.as_deref())?);
    let Some((certificate, key)) = &remote.identity else { return Ok(builder.with_no_client_auth()) };
    let unusable = |path: &Path| ClientError::Misuse {
        what: "certificate or key",
        got: path.display().to_string(),
        expected: "PEM, and a key that belongs to its certificate",
    };
    let chain = certificates(certificate).map_err(|_| unusable(certificate))?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(|_| unusable(key))?;
    builder.with_client_auth_cert(chain, key).map_err(|_| unusable(certificate))
}

fn roots(ca: Option<&Path>) -> Result<RootCertStore, ClientError> {
    let mut roots = RootCertStore::empty();
    let Some(path) = ca else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        return Ok(roots);
    };
    let unusable = || ClientError::Misuse {
        what: "authority",
        got: path.display().to_string(),
        expected: "a file with its certificate in PEM",
    };
    let (added, _) = roots.add_parsable_certificates(certificates(path).map_err(|_| unusable())?);
    if added == 0 { Err(unusable()) } else { Ok(roots) }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, rustls::pki_types::pem::Error> {
    CertificateDer::pem_file_iter(path)?.collect()
}

/// Longer than any token, with room for what an editor puts behind it.
const TOKEN_LEN_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_token_is_read_from_a_file_that_nobody_else_can_read() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("token");
        std::fs::write(&path, "dbt_1_2\n").expect("written");
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("a mode");
        assert_eq!(read_token(&path).expect("a token").expose(), "dbt_1_2");
        std::fs::set_permissions(&path, Permissions::from_mode(0o640)).expect("a mode");
        assert!(read_token(&path).expect_err("refused").to_string().contains("chmod 0600"));
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("a mode");
        for bad in ["", "\n", "two words", &"a".repeat(300)] {
            std::fs::write(&path, bad).expect("written");
            assert!(read_token(&path).is_err(), "{bad:?}");
        }
        assert!(read_token(&dir.path().join("none")).is_err());
    }

    #[test]
    fn an_address_without_tls_or_with_a_password_is_refused() {
        for url in ["http://a:1", "a:1", "", "https://", "https://u:p@a:1", "file:///a"] {
            let remote = Remote { url: url.into(), ..Remote::default() };
            assert!(Client::elsewhere(&remote).is_err(), "{url:?}");
        }
        let remote = Remote { url: "https://manager.example:7070".into(), ..Remote::default() };
        assert!(Client::elsewhere(&remote).is_ok());
    }
}
