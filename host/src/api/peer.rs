//! What a connection says of whoever is at its other end: the kernel's word on the socket, an address and perhaps a
//! certificate over TLS.
//!
//! Made once for each connection by the listeners, read by the gate. That somebody is here is no right to anything.

use crate::actor::Actor;
use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use nix::unistd::{Uid, User};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::UnixListener;

/// A process at the other end of a connection.
#[derive(Clone, Debug)]
pub(super) enum Peer {
    /// On this host, at the socket.
    Here {
        /// User and main group, where the kernel says so.
        credentials: Option<(u32, u32)>,
        /// The process that connected.
        process: Option<i32>,
    },
    /// Anywhere, over TLS.
    There {
        /// Where it calls from.
        address: SocketAddr,
        /// The certificate that it has proved to have the key of, issued by the authority for clients.
        certificate: Option<Arc<Certificate>>,
    },
}

/// A client's certificate, as far as somebody can be known by it.
#[derive(Debug)]
pub(super) struct Certificate {
    /// SHA-256 of it, in hexadecimal digits.
    pub(super) fingerprint: String,
    /// The DNS names it was issued for.
    pub(super) names: Vec<String>,
}

impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        let peer = stream.io().peer_cred().ok();
        Self::Here {
            credentials: peer.map(|peer| (peer.uid(), peer.gid())),
            process: peer.and_then(|peer| peer.pid()),
        }
    }
}

impl Peer {
    /// Who it is where nothing else says so.
    pub(super) fn actor(&self) -> Actor {
        match self {
            Self::Here { credentials, .. } => Actor::of_uid(credentials.map_or(u32::MAX, |(uid, _)| uid)),
            Self::There { address, .. } => Actor::Stranger(address.ip()),
        }
    }

    /// Where it calls from, as far as its actor does not say so.
    pub(super) fn place(&self) -> String {
        match self {
            Self::Here { process, .. } => {
                process.map_or_else(String::new, |pid| format!(", from process {pid}"))
            }
            Self::There { address, .. } => format!(", from port {}", address.port()),
        }
    }
}

/// Root, the manager's own user, and the configured group; `None` for everybody else.
pub(super) fn allowed((uid, gid): (u32, u32), api_gid: Option<u32>) -> Option<Standing> {
    if uid == 0 || uid == Uid::effective().as_raw() {
        return Some(Standing::Owner);
    }
    api_gid.filter(|allowed| is_in_group(uid, gid, *allowed)).map(|_| Standing::Member)
}

/// As what somebody is let in who is known by the kernel's word.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Standing {
    /// Root, or the manager's own user.
    Owner,
    /// A member of the configured group.
    Member,
}

/// The peer's main group comes with its credentials; the others are in the group data base.
fn is_in_group(uid: u32, gid: u32, allowed: u32) -> bool {
    let members = || nix::unistd::Group::from_gid(nix::unistd::Gid::from_raw(allowed)).ok().flatten();
    let name = || User::from_uid(Uid::from_raw(uid)).ok().flatten().map(|user| user.name);
    gid == allowed || members().zip(name()).is_some_and(|(group, name)| group.mem.contains(&name))
}
