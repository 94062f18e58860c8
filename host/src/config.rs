//! The manager's configuration: a TOML file over defaults, flags over both.
//!
//! Read once by the daemon at start. Trusts the operator who wrote it, but refuses a key it does not know,
//! because a misspelt key that is passed over is a setting that silently does not hold.

mod fetch;
mod keep;
mod remote;

pub use fetch::Fetch;
pub use keep::{Age, Size};
pub use remote::{NotSafe, Remote};

use doorbell_api::SOCKET_DEFAULT;
use doorbell_api::access::ActionName;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

/// What a busy client needs: an upload of a gibibyte is about a thousand calls.
const CALLS_PER_SECOND: NonZeroU32 = NonZeroU32::new(200).unwrap();
const CALLS_BURST: NonZeroU32 = NonZeroU32::new(1000).unwrap();

/// Where the manager keeps its state when nothing says otherwise.
pub const STATE_DIR_DEFAULT: &str = "/var/lib/doorbell";

/// What the manager runs with.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// Where guests, requests, programs and receipts are kept; only the manager's user may enter it.
    pub state_dir: PathBuf,
    /// The socket of the API.
    pub socket: PathBuf,
    /// Whether to listen on AF_VSOCK.
    pub vsock: VsockMode,
    /// The group that may use the API beside the manager's own user; only that user where absent.
    pub api_gid: Option<u32>,
    /// Where the API is served over TLS as well, with certificate and key; nowhere where absent.
    pub listen: Option<SocketAddr>,
    /// See above.
    pub tls_cert: Option<PathBuf>,
    /// See above.
    pub tls_key: Option<PathBuf>,
    /// The authority of clients' certificates; none are asked for where absent.
    pub client_ca: Option<PathBuf>,
    /// How many calls a second one token, certificate or member of the group may make, and how many at once.
    pub calls_per_second: NonZeroU32,
    /// See above.
    pub calls_burst: NonZeroU32,
    /// The spool directory: files that are put there become requests; none where absent.
    pub spool_dir: Option<PathBuf>,
    /// Whether whoever changes something has to say why.
    pub require_reason: bool,
    /// The actions that a second person has to approve.
    pub second_person: Vec<ActionName>,
    /// For how long requests that are over are kept, with their receipts.
    pub keep_requests_for: Age,
    /// For how long, and how much, output of requests that are over is kept.
    pub keep_outputs_for: Age,
    /// See above.
    pub keep_outputs_bytes: Size,
    /// For how long, and how much, programs and pushed files are kept that no open request names.
    pub keep_programs_for: Age,
    /// See above.
    pub keep_programs_bytes: Size,
    /// For how long the id of a request that was removed is refused when it is sent again.
    pub keep_ids_for: Age,
    /// How programs that live elsewhere are fetched; a table, and so the last of all.
    pub fetch: Fetch,
}

/// Whether to listen on AF_VSOCK.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum VsockMode {
    /// Where this machine is a host: where `/dev/vhost-vsock` exists.
    #[default]
    Auto,
    /// Always; failing to listen is fatal.
    On,
    /// Never.
    Off,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {}: check its path and permissions", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// The file says something that is not understood.
    #[error("configuration file {} line {line}: {message}; correct that line or remove it", path.display())]
    Unacceptable {
        /// Which file.
        path: PathBuf,
        /// Which of its lines, from 1.
        line: usize,
        /// What is wrong with it.
        message: String,
    },
}

impl Default for Config {
    fn default() -> Self {
        Self {
            state_dir: STATE_DIR_DEFAULT.into(),
            socket: SOCKET_DEFAULT.into(),
            vsock: VsockMode::default(),
            api_gid: None,
            listen: None,
            tls_cert: None,
            tls_key: None,
            client_ca: None,
            calls_per_second: CALLS_PER_SECOND,
            calls_burst: CALLS_BURST,
            spool_dir: None,
            require_reason: false,
            second_person: Vec::new(),
            keep_requests_for: Age::days(90),
            keep_outputs_for: Age::days(30),
            keep_outputs_bytes: Size::gib(32),
            keep_programs_for: Age::days(30),
            keep_programs_bytes: Size::gib(32),
            keep_ids_for: Age::days(5 * 365),
            fetch: Fetch::default(),
        }
    }
}

impl Config {
    /// The defaults, with what `path` says over them when one is given.
    ///
    /// # Errors
    /// When the file cannot be read, is not TOML, or has a key or value that is not known.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let Some(path) = path else { return Ok(Self::default()) };
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        let config: Self = toml::from_str(&text).map_err(|error| ConfigError::Unacceptable {
            path: path.to_owned(),
            line: line_of(&text, error.span().map_or(0, |span| span.start)),
            message: error.message().replace('\n', " "),
        })?;
        Ok(config.with_defaults())
    }

    /// What is kept by default, where the file says so in as many words.
    fn with_defaults(self) -> Self {
        let default = Self::default();
        Self {
            keep_requests_for: self.keep_requests_for.or(default.keep_requests_for),
            keep_outputs_for: self.keep_outputs_for.or(default.keep_outputs_for),
            keep_outputs_bytes: self.keep_outputs_bytes.or(default.keep_outputs_bytes),
            keep_programs_for: self.keep_programs_for.or(default.keep_programs_for),
            keep_programs_bytes: self.keep_programs_bytes.or(default.keep_programs_bytes),
            keep_ids_for: self.keep_ids_for.or(default.keep_ids_for),
            ..self
        }
    }

    /// The whole configuration in the form of its file.
    ///
    /// # Errors
    /// When a path is not UTF-8, which TOML cannot hold.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string(self)
    }
}

fn line_of(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|byte| *byte == b'\n').count().saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_file<T>(text: &str, check: impl FnOnce(Result<Config, String>) -> T) -> T {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("doorbelld.toml");
        std::fs::write(&path, text).unwrap();
        let loaded = Config::load(Some(&path));
        check(loaded.map_err(|error| error.to_string().replace(&*path.to_string_lossy(), "FILE")))
    }

    fn refusal(text: &str) -> String {
        let line = with_file(text, Result::unwrap_err);
        assert!(!line.contains('\n'), "{line:?}");
        line
    }

    #[test]
    fn without_a_file_the_defaults_hold() {
        let config = Config::load(None).unwrap();
        assert_eq!(config.state_dir, Path::new("/var/lib/doorbell"));
        assert_eq!(config.socket, Path::new("/run/doorbell/doorbelld.sock"));
        assert_eq!(config.vsock, VsockMode::Auto);
        assert_eq!(config.api_gid, None);
    }

    #[test]
    fn a_file_changes_what_it_names_and_nothing_else() {
        let text = "state-dir = \"/srv/doorbell\"\nvsock = \"off\"\napi-gid = 27\n";
        let config = with_file(text, Result::unwrap);
        let expected = Config {
            state_dir: "/srv/doorbell".into(),
            vsock: VsockMode::Off,
            api_gid: Some(27),
            ..Config::default()
        };
        assert_eq!(config, expected);
    }

    #[test]
    fn what_is_kept_is_read_and_nought_is_the_default() {
        let text =
            "keep-requests-for = \"7d\"\nkeep-outputs-bytes = \"0\"\nkeep-programs-for = \"forever\"\n";
        let config = with_file(text, Result::unwrap);
        assert_eq!(config.keep_requests_for, Age::days(7));
        assert_eq!(config.keep_outputs_bytes, Size::gib(32));
        assert_eq!(config.keep_programs_for.ms(), None);
        assert!(config.to_toml().unwrap().contains("keep-requests-for = \"7d\"\n"));
        let line = refusal("vsock = \"off\"\nkeep-requests-for = \"7\"\n");
        assert!(line.starts_with("configuration file FILE line 2: \"7\" is not valid"), "{line}");
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_line() {
        let line = refusal("vsock = \"on\"\nstate_dir = \"/srv\"\n");
        assert!(line.starts_with("configuration file FILE line 2: unknown field `state_dir`"), "{line}");
    }

    #[test]
    fn an_unknown_value_is_refused_with_its_line() {
        let line = refusal("\nvsock = \"maybe\"\n");
        assert!(line.starts_with("configuration file FILE line 2: unknown variant `maybe`"), "{line}");
    }

    #[test]
    fn what_is_fetched_is_a_table_and_each_key_of_it_is_checked() {
        let text = "[fetch]\nallow = [\"https://a.example/x\"]\nallow-http = true\nnetworks = [\"10.0.0.0/8\"]\n\
            file-root = \"/srv/programs\"\nconnect-ms = 500\nredirects = 0\n";
        let fetch = with_file(text, Result::unwrap).fetch;
        assert_eq!((fetch.allow_http, fetch.connect_ms, fetch.redirects), (true, 500, 0));
        assert_eq!((fetch.networks.len(), fetch.allow.clone().unwrap().len()), (1, 1));
        assert_eq!(fetch.stall_ms, Fetch::default().stall_ms);
        let config = Config { fetch, ..Config::default() };
        assert_eq!(
            with_file(&config.to_toml().unwrap(), Result::unwrap),
            config,
            "it is printed as it is read"
        );
        for (text, part) in [
            (
                "[fetch]\nallow = [\"https://a.example@b/\"]\n",
                "line 2: \"https://a.example@b/\" is no prefix",
            ),
            ("[fetch]\nnetworks = [\"10.0.0.0/33\"]\n", "line 2: "),
            ("[fetch]\nfile-root = \"programs\"\n", "line 2: \"programs\" is no absolute path"),
            ("[fetch]\nattempts = 0\n", "line 2: "),
            ("[fetch]\nallow_http = true\n", "line 2: unknown field `allow_http`"),
        ] {
            let line = refusal(text);
            assert!(line.contains(part), "{text}: {line}");
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = Config::load(Some(Path::new("/nonexistent/doorbelld.toml"))).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/doorbelld.toml"), "{error}");
    }
}
