//! The AF_VSOCK door, on hosts that have vhost-vsock.
//!
//! Bound by the daemon at start. No AF_VSOCK socket is opened anywhere else in the manager, and none here
//! where `/dev/vhost-vsock` is missing: what answers at such a machine's CIDs is not its own guests.

use super::{enter, hand_over, tell_refused, turn_away};
use crate::config::{Config, VsockMode};
use crate::manager::Manager;
use crate::store::{GuestRow, Place, StoreError};
use anyhow::Context as _;
use doorbell_wire::error::Reason;
use doorbell_wire::ids::GuestCid;
use doorbell_wire::limits::MANAGER_PORT;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_vsock::{VMADDR_CID_ANY, VsockAddr, VsockListener, VsockStream};
use tracing::{info, warn};

/// The door, or why there is none.
#[derive(Debug)]
pub enum Door {
    /// It is listened on.
    Open(VsockListener),
    /// It is not, for this reason.
    Closed(&'static str),
}

impl Door {
    /// One line for people.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Open(_) => format!("listening on port {MANAGER_PORT}"),
            Self::Closed(reason) => (*reason).to_owned(),
        }
    }
}

/// Opens the door if the configuration and the machine want it.
///
/// # Errors
/// When it is wanted and the port cannot be had.
pub fn bind(config: &Config) -> anyhow::Result<Door> {
    match config.vsock {
        VsockMode::Off => return Ok(Door::Closed("off: the configuration says vsock = \"off\"")),
        VsockMode::Auto if !Path::new(DEVICE).exists() => {
            return Ok(Door::Closed("off: this machine has no /dev/vhost-vsock (modprobe vhost_vsock)"));
        }
        VsockMode::Auto | VsockMode::On => {}
    }
    let listener = VsockListener::bind(VsockAddr::new(VMADDR_CID_ANY, MANAGER_PORT)).with_context(|| {
        format!("AF_VSOCK port {MANAGER_PORT} cannot be listened on; is another doorbelld running, and is this one root?")
    })?;
    Ok(Door::Open(listener))
}

/// Accepts until the manager stops.
pub async fn serve(manager: Arc<Manager>, door: Door, mut stopped: watch::Receiver<bool>) {
    let Door::Open(listener) = door else {
        let _ = stopped.changed().await;
        return;
    };
    let mut pause = PAUSE_MIN;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopped.changed() => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                pause = PAUSE_MIN;
                admit(&manager, stream, peer).await;
            }
            Err(error) => {
                // Out of descriptors, usually: the error comes back at once, so the loop would spin.
                warn!(%error, "a vsock connection could not be accepted");
                tokio::time::sleep(pause).await;
                pause = pause.saturating_mul(2).min(PAUSE_MAX);
            }
        }
    }
}

async fn admit(manager: &Arc<Manager>, stream: VsockStream, peer: VsockAddr) {
    let met_at = format!("cid {}", peer.cid());
    if peer.port() > PRIVILEGED_MAX {
        // Counted apart: whoever has no privileges there does not use up what its agent may do.
        let Some((stream, _)) = enter(manager, stream, &format!("{met_at}, unprivileged")) else { return };
        warn!(
            met_at,
            port = peer.port(),
            "connection refused: its source port shows a process without privileges"
        );
        tell_refused(manager, &met_at, "its source port shows a process without privileges");
        return turn_away(stream, Reason::NOT_PROVED);
    }
    let Some((stream, entry)) = enter(manager, stream, &met_at) else { return };
    match find(manager, peer.cid()).await {
        Ok(Some(guest)) => hand_over(manager, stream, guest, met_at, entry),
        Ok(None) => {
            info!(
                met_at,
                "connection refused: no guest has this CID; to add one: doorbell guest add NAME --cid {}",
                peer.cid()
            );
            tell_refused(manager, &met_at, "no guest has this CID");
            turn_away(stream, Reason::UNKNOWN_GUEST);
        }
        Err(error) => {
            warn!(
                met_at,
                error = error.whole(),
                "connection refused: the store cannot say which guest this is"
            );
            turn_away(stream, Reason::INTERNAL);
        }
    }
}

async fn find(manager: &Manager, cid: u32) -> Result<Option<GuestRow>, StoreError> {
    let Ok(cid) = GuestCid::try_from(cid) else { return Ok(None) };
    manager.store.guest_at(&Place::Cid(cid)).await
}

const DEVICE: &str = "/dev/vhost-vsock";
const PRIVILEGED_MAX: u32 = 1023;
const PAUSE_MIN: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_secs(1);
