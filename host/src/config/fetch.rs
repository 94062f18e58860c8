//! The configuration of fetches: which URLs, which addresses, which files, how long.
//!
//! Read as the table `[fetch]` of the configuration file. Whatever is not written here is as strict as it can
//! be while `--from https://…` to the public internet still works.

use crate::retrieve::{Prefix, Rules};
use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

/// How programs that live elsewhere are fetched.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Fetch {
    /// Prefixes of URLs; nothing else is fetched where there is a list, and nothing at all where it is empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow: Option<Vec<Prefix>>,
    /// Whether plain HTTP is used.
    pub allow_http: bool,
    /// Networks that are dialled beside the public internet.
    pub networks: Vec<IpNet>,
    /// The directory below which `file:` URLs lie; they are off where absent.
    #[serde(deserialize_with = "absolute", skip_serializing_if = "Option::is_none")]
    pub file_root: Option<PathBuf>,
    /// Root certificates beside the system's own, in PEM.
    #[serde(deserialize_with = "absolute", skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// How often a server may send on.
    pub redirects: u32,
    /// How often a fetch is begun before it is given up.
    pub attempts: NonZeroU32,
    /// Milliseconds for name, connection and TLS.
    pub connect_ms: u64,
    /// Milliseconds without a byte.
    pub stall_ms: u64,
    /// Milliseconds for all of one attempt.
    pub whole_ms: u64,
}

impl Default for Fetch {
    fn default() -> Self {
        Self {
            allow: None,
            allow_http: false,
            networks: Vec::new(),
            file_root: None,
            ca_file: None,
            redirects: 5,
            attempts: NonZeroU32::MIN.saturating_add(4),
            connect_ms: 10_000,
            stall_ms: 30_000,
            whole_ms: 600_000,
        }
    }
}

impl Fetch {
    /// Which locations may be asked for.
    #[must_use]
    pub fn rules(&self) -> Rules<'_> {
        Rules {
            allow: self.allow.as_deref(),
            allow_http: self.allow_http,
            allow_files: self.file_root.is_some(),
        }
    }

    pub(crate) const fn connect(&self) -> Duration {
        Duration::from_millis(self.connect_ms)
    }

    pub(crate) const fn stall(&self) -> Duration {
        Duration::from_millis(self.stall_ms)
    }

    pub(crate) const fn whole(&self) -> Duration {
        Duration::from_millis(self.whole_ms)
    }
}

fn absolute<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<PathBuf>, D::Error> {
    let path = PathBuf::deserialize(deserializer)?;
    if path.is_absolute() {
        return Ok(Some(path));
    }
    Err(serde::de::Error::custom(format!("{:?} is no absolute path", path.display().to_string())))
}
