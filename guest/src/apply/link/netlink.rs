//! The few rtnetlink messages that links need, over a plain socket.
//!
//! Called by `apply::link`. Trusts the kernel and nobody else: answers from another sender are passed over,
//! and every receive has a deadline.

use crate::clock::now;
use crate::wait::until;
use doorbell_wire::ids::{LinkName, MacAddress, Tick};
use doorbell_wire::message::outcome::LinkState;
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recvfrom, sendto, socket,
};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use tracing::warn;

/// A socket to the kernel's link table.
#[derive(Debug)]
pub(super) struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

impl Netlink {
    pub(super) fn open() -> Result<Self, Errno> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Every link the kernel shows in this network namespace.
    pub(super) fn links(&mut self) -> Result<Vec<LinkState>, Errno> {
        let message = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let mut links = Vec::new();
        self.ask(message, NLM_F_DUMP, |link| links.extend(link_state(&link)))?;
        Ok(links)
    }

    /// Sets the administrative state of a link and no other flag.
    pub(super) fn set(&mut self, index: u32, up: bool) -> Result<(), Errno> {
        let mut link = LinkMessage::default();
        link.header.index = index;
        link.header.flags = if up { LinkFlags::Up } else { LinkFlags::empty() };
        link.header.change_mask = LinkFlags::Up;
        self.ask(RouteNetlinkMessage::NewLink(link), NLM_F_ACK, |_| ())
    }

    fn ask(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
        mut each: impl FnMut(LinkMessage),
    ) -> Result<(), Errno> {
        self.send(message, flags)?;
        let deadline = now().after(ANSWER_MS_MAX);
        let mut buffer = vec![0; RECEIVE_LEN];
        loop {
            let datagram = self.receive(&mut buffer, deadline)?;
            for payload in payloads(datagram, self.sequence)? {
                match payload {
                    NetlinkPayload::Done(_) => return Ok(()),
                    NetlinkPayload::Error(error) => return error_number(error.raw_code()),
                    NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => each(link),
                    NetlinkPayload::Overrun(_) => return Err(Errno::ENOBUFS),
                    NetlinkPayload::InnerMessage(_) | NetlinkPayload::Noop | _ => {}
                }
            }
        }
    }

    fn send(&mut self, message: RouteNetlinkMessage, flags: u16) -> Result<(), Errno> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut packet = NetlinkMessage::new(header, NetlinkPayload::from(message));
        packet.finalize();
        let mut bytes = vec![0; packet.buffer_len()];
        packet.serialize(&mut bytes);
        sendto(self.socket.as_raw_fd(), &bytes, &NetlinkAddr::new(KERNEL, 0), MsgFlags::empty()).map(|_| ())
    }

    /// The next datagram of the kernel.
    fn receive<'a>(&self, buffer: &'a mut [u8], deadline: Tick) -> Result<&'a [u8], Errno> {
        let len = loop {
            match recvfrom::<NetlinkAddr>(self.socket.as_raw_fd(), buffer) {
                Ok((len, sender)) if sender.is_none_or(|sender| sender.pid() == KERNEL) => break len,
                Ok(_) | Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => {
                    until(&mut [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)], deadline)?;
                    if now() >= deadline {
                        return Err(Errno::ETIMEDOUT);
                    }
                }
                Err(errno) => return Err(errno),
            }
        };
        buffer.get(..len).ok_or(Errno::EMSGSIZE)
    }
}

type Payload = NetlinkPayload<RouteNetlinkMessage>;

/// The messages of one datagram that answer `sequence`.
fn payloads(mut datagram: &[u8], sequence: u32) -> Result<Vec<Payload>, Errno> {
    let mut payloads = Vec::new();
    while !datagram.is_empty() {
        let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(datagram).map_err(|error| {
            warn!(%error, "an answer of the kernel's link table cannot be read");
            Errno::EBADMSG
        })?;
        let length = usize::try_from(message.header.length).map_err(|_| Errno::EBADMSG)?;
        let aligned =
            length.checked_next_multiple_of(4).filter(|&length| length > 0).ok_or(Errno::EBADMSG)?;
        datagram = datagram.get(aligned..).unwrap_or_default();
        if message.header.sequence_number == sequence {
            payloads.push(message.payload);
        }
    }
    Ok(payloads)
}

fn error_number(code: i32) -> Result<(), Errno> {
    if code == 0 { Ok(()) } else { Err(Errno::from_raw(code.saturating_abs())) }
}

/// What is reported of a link; `None` for a name that is no text.
pub(super) fn link_state(message: &LinkMessage) -> Option<LinkState> {
    let mut link = Seen::default();
    for attribute in &message.attributes {
        link.see(attribute);
    }
    Some(LinkState {
        index: message.header.index,
        name: link.name?,
        mac: link.mac,
        flags: message.header.flags.bits(),
        carrier: link.carrier,
        mtu: link.mtu,
    })
}

#[derive(Default)]
struct Seen {
    name: Option<LinkName>,
    mac: Option<MacAddress>,
    carrier: Option<bool>,
    mtu: u32,
}

impl Seen {
    #[allow(clippy::wildcard_enum_match_arm, reason = "a link has some sixty attributes; four are reported")]
    fn see(&mut self, attribute: &LinkAttribute) {
        match attribute {
            LinkAttribute::IfName(name) => self.name = name.parse().ok(),
            LinkAttribute::Address(bytes) => {
                self.mac = <[u8; 6]>::try_from(bytes.as_slice()).ok().map(MacAddress::new);
            }
            LinkAttribute::Carrier(carrier) => self.carrier = Some(*carrier != 0),
            LinkAttribute::Mtu(mtu) => self.mtu = *mtu,
            _ => {}
        }
    }
}

const KERNEL: u32 = 0;
/// Milliseconds the kernel may take for one answer; bringing a link up can load firmware.
const ANSWER_MS_MAX: u64 = 5_000;
/// The kernel fills at most 32 KiB of one datagram of a dump.
const RECEIVE_LEN: usize = 64 * 1024;
