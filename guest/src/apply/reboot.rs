//! Takes the guest down and up again.
//!
//! Called by `pull` for a request whose program has ended, when that is on disk. Asks whoever runs the guest; where
//! nobody does, or nothing comes of it, the kernel is told.

use nix::sys::reboot::{RebootMode, reboot};
use nix::unistd::sync;
use std::path::Path;
use std::process::{Command, Stdio};
use tracing::{info, warn};

/// Begins to reboot the guest and comes back, unless the kernel itself is told to. `forced` is for a guest that was
/// asked and did not go down.
pub fn go(forced: bool) {
    sync();
    if !forced && asked() {
        return;
    }
    warn!("the kernel is told to reboot");
    let Err(errno) = reboot(RebootMode::RB_AUTOBOOT);
    warn!(%errno, "the kernel does not reboot");
}

/// Whether somebody was asked who can stop what else runs first.
fn asked() -> bool {
    let words: &[&str] =
        if Path::new(SYSTEMD).is_dir() { &["systemctl", "--no-block", "reboot"] } else { &["reboot"] };
    let Some((program, args)) = words.split_first() else { return false };
    let quiet = Stdio::null;
    let spawned = Command::new(program).args(args).stdin(quiet()).stdout(quiet()).stderr(quiet()).spawn();
    match spawned {
        Ok(_) => {
            info!(by = program, "the guest reboots");
            true
        }
        Err(error) => {
            warn!(by = program, %error, "the guest's own way to reboot cannot be taken");
            false
        }
    }
}

/// It is there where systemd is the first process.
const SYSTEMD: &str = "/run/systemd/system";
