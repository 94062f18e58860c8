//! The API's socket file.
//!
//! Made by the daemon at start. A leftover of a manager that was killed is replaced; one that somebody
//! listens on is not.

use crate::config::Config;
use anyhow::{Context as _, bail};
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, PermissionsExt as _};
use std::path::Path;
use tokio::net::UnixListener;

/// Listens on the configured path.
///
/// # Errors
/// One line that says what is in the way.
pub fn bind(config: &Config) -> anyhow::Result<UnixListener> {
    let path = &config.socket;
    let cannot = || format!("the API socket {} cannot be listened on", path.display());
    if let Some(parent) = path.parent()
        && !parent.exists()
    {
        DirBuilder::new().recursive(true).mode(0o755).create(parent).with_context(cannot)?;
        // The socket's own mode says who may open it; the way to it is open whatever the umask is.
        fs::set_permissions(parent, Permissions::from_mode(0o755)).with_context(cannot)?;
    }
    remove_leftover(path)?;
    let listener = UnixListener::bind(path).with_context(cannot)?;
    let mode = if config.api_gid.is_some() { 0o660 } else { 0o600 };
    fs::set_permissions(path, Permissions::from_mode(mode)).with_context(cannot)?;
    if let Some(gid) = config.api_gid {
        std::os::unix::fs::chown(path, None, Some(gid)).with_context(cannot)?;
    }
    Ok(listener)
}

fn remove_leftover(path: &Path) -> anyhow::Result<()> {
    let Ok(found) = fs::symlink_metadata(path) else { return Ok(()) };
    if !found.file_type().is_socket() {
        bail!("{} exists and is not a socket; remove it or name another with --socket", path.display());
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => {
            bail!("another process answers on {}; stop it or name another with --socket", path.display())
        }
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path)
            .with_context(|| format!("the leftover socket {} cannot be removed", path.display())),
        Err(error) => Err(error).with_context(|| format!("{} cannot be looked at", path.display())),
    }
}
