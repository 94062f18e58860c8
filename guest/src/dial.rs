//! Dialling the manager: CID 2, from a privileged port, never waiting long.
//!
//! Called by the event loop. The privileged source port tells the manager that root of the guest dials; the
//! peer's CID tells the agent that the host answers and no process of the guest.

use doorbell_wire::ids::Tick;
use doorbell_wire::limits::{AGENT_PORT_MAX, AGENT_PORT_MIN, CONNECT_MS_MAX};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, VsockAddr, bind, connect, getpeername, getsockopt, socket, sockopt,
};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use vsock::{VMADDR_CID_ANY, VMADDR_CID_HOST, VsockStream};

/// Why a dial did not succeed.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub enum DialError {
    /// The kernel refused, or nobody listens.
    #[error("cannot {verb} vsock port {port}")]
    Refused {
        /// What was tried.
        verb: &'static str,
        /// On which port.
        port: u32,
        /// Why not.
        #[source]
        errno: Errno,
    },
    /// Nobody answered in time.
    #[error("no answer of the host at vsock port {port} within {CONNECT_MS_MAX} ms")]
    Silent {
        /// The manager's port.
        port: u32,
    },
    /// Somebody else answered.
    #[error("vsock port {port} was answered by cid {cid} where the host has {VMADDR_CID_HOST}")]
    NotTheHost {
        /// The manager's port.
        port: u32,
        /// Who it was.
        cid: u32,
    },
}

impl DialError {
    /// Whether the kernel has no transport to dial over.
    #[must_use]
    pub fn is_no_transport(&self) -> bool {
        matches!(self, Self::Refused { errno: Errno::ENODEV | Errno::EAFNOSUPPORT, .. })
    }
}

/// A dial under way.
#[derive(Debug)]
pub struct Dial {
    socket: OwnedFd,
    port: u32,
    /// The port it is made from.
    pub from: u32,
    /// When it is given up.
    pub deadline: Tick,
}

impl Dial {
    /// Begins to dial the manager's `port` from the source port `from`.
    ///
    /// # Errors
    /// [`DialError::Refused`].
    pub fn begin(port: u32, from: u32, now: Tick) -> Result<Self, DialError> {
        let refused = |verb, port| move |errno| DialError::Refused { verb, port, errno };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Vsock, SockType::Stream, flags, None)
            .map_err(refused("make a socket for", port))?;
        bind(socket.as_raw_fd(), &VsockAddr::new(VMADDR_CID_ANY, from)).map_err(refused("bind", from))?;
        match connect(socket.as_raw_fd(), &VsockAddr::new(VMADDR_CID_HOST, port)) {
            Ok(()) | Err(Errno::EINPROGRESS) => {
                Ok(Self { socket, port, from, deadline: now.after(CONNECT_MS_MAX) })
            }
            Err(errno) => Err(refused("connect to", port)(errno)),
        }
    }

    /// What the event loop has to watch.
    #[must_use]
    pub fn watched(&self) -> PollFd<'_> {
        PollFd::new(self.socket.as_fd(), PollFlags::POLLOUT)
    }

    /// The connection, when it is made; the dial itself when it is still under way.
    ///
    /// # Errors
    /// [`DialError`] when there is none and will be none.
    pub fn finish(self, now: Tick) -> Result<Result<VsockStream, Self>, DialError> {
        let port = self.port;
        let refused = |errno| DialError::Refused { verb: "connect to", port, errno };
        match getsockopt(&self.socket, sockopt::SocketError).map_err(refused)? {
            0 => {}
            errno => return Err(refused(Errno::from_raw(errno))),
        }
        match getpeername::<VsockAddr>(self.socket.as_raw_fd()) {
            Ok(peer) if peer.cid() == VMADDR_CID_HOST => Ok(Ok(VsockStream::from(self.socket))),
            Ok(peer) => Err(DialError::NotTheHost { port, cid: peer.cid() }),
            Err(Errno::ENOTCONN) if now < self.deadline => Ok(Err(self)),
            Err(Errno::ENOTCONN) => Err(DialError::Silent { port }),
            Err(errno) => Err(refused(errno)),
        }
    }
}

/// A source port by chance, another one than the last: after a reset the host may still hold the old pair.
#[must_use]
pub fn source_port(chance: u32, last: Option<u32>) -> u32 {
    let count = AGENT_PORT_MAX.saturating_sub(AGENT_PORT_MIN).saturating_add(1);
    let at = |offset: u32| AGENT_PORT_MIN.saturating_add(offset.checked_rem(count).unwrap_or(0));
    let port = at(chance);
    if last == Some(port) { at(chance.wrapping_add(1)) } else { port }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_ports_are_privileged_and_change() {
        for chance in (0..5_000).chain([u32::MAX - 1, u32::MAX]) {
            let port = source_port(chance, None);
            assert!((AGENT_PORT_MIN..=AGENT_PORT_MAX).contains(&port));
            let other = source_port(chance, Some(port));
            assert!((AGENT_PORT_MIN..=AGENT_PORT_MAX).contains(&other) && other != port, "{chance}");
        }
    }

    #[test]
    fn a_missing_transport_is_told_from_a_missing_manager() {
        let refused = |errno| DialError::Refused { verb: "connect to", port: 707, errno };
        assert!(refused(Errno::ENODEV).is_no_transport());
        assert!(!refused(Errno::ECONNRESET).is_no_transport());
    }
}
