//! Where agents are met: AF_VSOCK and hybrid Unix sockets.
//!
//! Started by the daemon. A listener accepts, says where the peer was met, and hands the connection to a
//! session; it reads nothing itself. The place comes from the kernel, never from the peer.

pub mod hybrid;
mod socket;
pub mod vsock;

use crate::doors::Entry;
use crate::manager::Manager;
use crate::session;
use crate::store::GuestRow;
use doorbell_wire::error::Reason;
use doorbell_wire::message::FromHost;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tracing::{debug, info};

/// Hands a connection from a known place to a session of its own.
pub(crate) fn hand_over<S>(manager: &Arc<Manager>, stream: S, guest: GuestRow, met_at: String, entry: Entry)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let manager = Arc::clone(manager);
    tokio::spawn(session::serve(manager, stream, guest, met_at, entry));
}

/// The right to stand at the door of a place; a peer that may not is turned away.
pub(crate) fn enter<S>(manager: &Arc<Manager>, stream: S, met_at: &str) -> Option<(S, Entry)>
where
    S: AsyncWrite + Send + Unpin + 'static,
{
    if crate::planted::is("G8") {
        std::mem::forget(vec![1_u8; 64 * 1024]);
    }
    match manager.doors.enter(met_at) {
        Ok(entry) => Some((stream, entry)),
        Err(crowded) => {
            if crowded.is_new {
                info!(met_at, why = crowded.why, "connections refused");
                tell_refused(manager, met_at, crowded.why);
            }
            turn_away(stream, Reason::OVERLOADED);
            None
        }
    }
}

/// Tells the audit trail of a peer that no guest is known for. Whoever accepts does not wait for the disk.
pub(crate) fn tell_refused(manager: &Arc<Manager>, met_at: &str, why: &str) {
    let (manager, met_at, why) = (Arc::clone(manager), met_at.to_owned(), why.to_owned());
    tokio::spawn(async move { manager.session_refused(None, &met_at, &why).await });
}

/// Tells a peer why it is not wanted, and closes.
pub(crate) fn turn_away<S>(mut stream: S, reason: Reason)
where
    S: AsyncWrite + Send + Unpin + 'static,
{
    tokio::spawn(async move {
        let mut bytes = Vec::new();
        let written = FromHost::HostBye(reason).to_frame().and_then(|frame| frame.write(&mut bytes));
        if written.is_ok() {
            let sent = tokio::time::timeout(TURN_AWAY_MAX, stream.write_all(&bytes)).await;
            debug!(?reason, sent = sent.is_ok(), "connection turned away");
        }
    });
}

const TURN_AWAY_MAX: Duration = Duration::from_secs(1);
