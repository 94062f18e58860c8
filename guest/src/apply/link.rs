//! Network links: which there are, and one of them brought up or down.
//!
//! Called by `apply`. A link is found by the kernel's own list, changed by its number, and read back: what
//! the acknowledgement says is what the kernel shows afterwards, not what was asked of it.

mod netlink;

use super::Done;
use crate::clock::now_us;
use doorbell_wire::message::action::{LinkSelector, LinkSet};
use doorbell_wire::message::outcome::{Evidence, LinkChange, LinkState, Links, Outcome, Ran, Refusal};
use netlink::Netlink;
use nix::errno::Errno;

/// A link that was found, with the change it is to take.
#[derive(Debug)]
pub struct Prepared {
    before: LinkState,
    up: bool,
}

/// All links.
///
/// # Errors
/// The kernel's error number.
pub fn list() -> Result<Links, Errno> {
    Ok(Links::cut(Netlink::open()?.links()?))
}

impl Prepared {
    /// Finds the link.
    ///
    /// # Errors
    /// [`Refusal`] when there is not exactly one.
    pub fn new(set: &LinkSet) -> Result<Self, Refusal> {
        let links = Netlink::open().and_then(|mut netlink| netlink.links()).map_err(refused)?;
        select(links, &set.link).map(|before| Self { before, up: set.up })
    }

    /// Changes it and reads it back.
    #[must_use]
    pub fn set(self) -> Done {
        let started_us = now_us();
        let outcome = self.change();
        let ended_us = now_us();
        let ran = Some(Ran { started_us, first_output_us: None, exited_us: ended_us, ended_us, usage: None });
        match outcome {
            Ok(after) => {
                let outcome = if after.is_up() == self.up {
                    Outcome::Succeeded
                } else {
                    Outcome::Refused(Refusal::NotInEffect)
                };
                let evidence = Evidence::LinkChange(LinkChange { before: self.before, after });
                Done { outcome, evidence, ran }
            }
            Err(refusal) => Done { outcome: Outcome::Refused(refusal), evidence: Evidence::None, ran },
        }
    }

    fn change(&self) -> Result<LinkState, Refusal> {
        let mut netlink = Netlink::open().map_err(refused)?;
        netlink.set(self.before.index, self.up).map_err(refused)?;
        let links = netlink.links().map_err(refused)?;
        links.into_iter().find(|link| link.index == self.before.index).ok_or(Refusal::NoSuchLink)
    }
}

fn select(links: Vec<LinkState>, wanted: &LinkSelector) -> Result<LinkState, Refusal> {
    let mut found: Vec<_> = links.into_iter().filter(|link| matches(link, wanted)).collect();
    match (found.len(), found.pop()) {
        (1, Some(link)) => Ok(link),
        (0, _) | (_, None) => Err(Refusal::NoSuchLink),
        (count, Some(_)) => Err(Refusal::AmbiguousLink(u32::try_from(count).unwrap_or(u32::MAX))),
    }
}

/// The loopback link is never meant by a hardware address, whatever address it shows.
fn matches(link: &LinkState, wanted: &LinkSelector) -> bool {
    match wanted {
        LinkSelector::Name(name) => link.name == *name,
        LinkSelector::Mac(mac) => link.mac == Some(*mac) && link.flags & IFF_LOOPBACK == 0,
    }
}

fn refused(errno: Errno) -> Refusal {
    if errno == Errno::ENODEV { Refusal::NoSuchLink } else { Refusal::LinkRefused(errno as i32) }
}

const IFF_LOOPBACK: u32 = 8;

#[cfg(test)]
mod tests;
