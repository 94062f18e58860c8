//! Where the manager is, when it is not on this host, and by what it and we know each other.
//!
//! Parsed with every command. A token comes from a file or a descriptor and never from an argument, which every user of
//! this machine can read.

use crate::cli::EVERY;
use crate::failure::Failure;
use clap::Args;
use doorbell_client::api::{CA_ENV, TOKEN_FILE_ENV, URL_ENV};
use doorbell_client::{Client, Remote, read_token};
use std::path::PathBuf;

#[derive(Args, Debug)]
pub(crate) struct RemoteArgs {
    /// A manager elsewhere, reached over TLS instead of a socket: https://HOST:PORT
    #[arg(long, global = true, help_heading = EVERY, value_name = "URL", env = URL_ENV, hide_env_values = true)]
    url: Option<String>,
    /// The authority of its certificate, PEM; the system's authorities when not given
    #[arg(long, global = true, help_heading = EVERY, value_name = "FILE", env = CA_ENV, hide_env_values = true)]
    ca: Option<PathBuf>,
    /// A certificate to be known by there, PEM
    #[arg(long, global = true, help_heading = EVERY, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Its key, PEM
    #[arg(long, global = true, help_heading = EVERY, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// The file with the token to be known by; /dev/fd/N is a descriptor
    #[arg(long, global = true, help_heading = EVERY, value_name = "FILE", env = TOKEN_FILE_ENV, hide_env_values = true)]
    token_file: Option<PathBuf>,
}

impl RemoteArgs {
    /// Whether the manager is elsewhere.
    pub(crate) fn is_given(&self) -> bool {
        self.url.as_ref().is_some_and(|url| !url.is_empty())
    }

    /// The client of the manager at the address, or else at the socket.
    pub(crate) fn client(self, socket: PathBuf) -> Result<Client, Failure> {
        let client = match self.url.filter(|url| !url.is_empty()) {
            None => Client::at(socket)?,
            Some(url) => {
                let identity = self.tls_cert.zip(self.tls_key);
                Client::elsewhere(&Remote { url, ca: self.ca, identity })?
            }
        };
        match self.token_file {
            None => Ok(client),
            Some(path) => Ok(client.with_token(&read_token(&path)?)?),
        }
    }
}
