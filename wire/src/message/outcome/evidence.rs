//! What the agent read back from its kernel: links and files.
//!
//! Used through [`super`]. The manager trusts none of it beyond its form.

use crate::ids::{BootId, Digest, GuestPath, InvalidId, LinkName, MacAddress, ShortText};
use crate::limits::LINKS_MAX;
use crate::message::action::Mode;
use crate::message::list::at_most;
use serde::{Deserialize, Serialize};

/// What was read back from the kernel.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum Evidence {
    /// Nothing beyond the outcome.
    None,
    /// All links, for a list.
    Links(Links),
    /// One link before and after a change.
    LinkChange(LinkChange),
    /// What was put into the guest, or read from it.
    File(FileEvidence),
    /// The runs of the guest's kernel before a reboot and behind it; since version 1.
    Rebooted(Rebooted),
    /// Which rule would decide, for a dry run; since version 1.
    Verdict(Verdict),
}

/// What the guest's policy says of something that was asked about.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// What the rule does.
    pub effect: Effect,
    /// The rule's own text.
    pub rule: ShortText,
    /// The user that it would run as, where the rule says so.
    pub run_as: Option<ShortText>,
}

/// What a rule of a policy does.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum Effect {
    /// It lets it begin.
    Allow,
    /// It refuses it.
    Deny,
    /// It lets it begin with a good signature.
    RequireSignature,
}

/// The two sides of a reboot.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Rebooted {
    /// The run of the kernel in which the program ended.
    pub before: BootId,
    /// The run of the kernel that says so.
    pub after: BootId,
}

/// A file or a tree, as it was read back.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct FileEvidence {
    /// Where it is.
    pub path: GuestPath,
    /// What it is.
    pub kind: FileKind,
    /// Bytes of its content; of a tree, of all files in it.
    pub len: u64,
    /// SHA-256 of a file's content, where it was read.
    pub digest: Option<Digest>,
    /// Permission bits.
    pub mode: Mode,
    /// Number of the owner.
    pub uid: u32,
    /// Number of the group.
    pub gid: u32,
    /// How many files, directories and links: 1 for a file.
    pub entries: u64,
}

/// What a path names.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum FileKind {
    /// A file.
    File,
    /// A directory with all in it.
    Tree,
    /// A symbolic link.
    Link,
}

/// Links, at most [`LINKS_MAX`].
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "LinksParts", into = "LinksParts")]
pub struct Links {
    list: Vec<LinkState>,
    cut: u32,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct LinksParts {
    #[serde(deserialize_with = "at_most::<_, _, LINKS_MAX>")]
    list: Vec<LinkState>,
    cut: u32,
}

impl Links {
    /// The first [`LINKS_MAX`] of `all`, and how many more there were.
    #[must_use]
    pub fn cut(mut all: Vec<LinkState>) -> Self {
        let cut = u32::try_from(all.len().saturating_sub(LINKS_MAX)).unwrap_or(u32::MAX);
        all.truncate(LINKS_MAX);
        Self { list: all, cut }
    }
    /// The links.
    #[must_use]
    pub fn list(&self) -> &[LinkState] {
        &self.list
    }
    /// How many links were left out.
    #[must_use]
    pub const fn left_out(&self) -> u32 {
        self.cut
    }
}

impl TryFrom<LinksParts> for Links {
    type Error = InvalidId;
    fn try_from(LinksParts { list, cut }: LinksParts) -> Result<Self, InvalidId> {
        if cut > 0 && list.len() < LINKS_MAX {
            let got = format!("{} links, {cut} left out", list.len());
            return Err(InvalidId { what: "link list", got, expected: "256 links where any was left out" });
        }
        Ok(Self { list, cut })
    }
}

impl From<Links> for LinksParts {
    fn from(Links { list, cut }: Links) -> Self {
        Self { list, cut }
    }
}

/// One link, twice.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct LinkChange {
    /// Before the change.
    pub before: LinkState,
    /// After it, read back.
    pub after: LinkState,
}

/// One link as the kernel shows it.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct LinkState {
    /// The kernel's number of it.
    pub index: u32,
    /// Its name.
    pub name: LinkName,
    /// Its hardware address, if it has one of six bytes.
    pub mac: Option<MacAddress>,
    /// `IFF_*` flags, all of them.
    pub flags: u32,
    /// Whether a carrier is seen, where the link can tell.
    pub carrier: Option<bool>,
    /// Its largest packet, in bytes.
    pub mtu: u32,
}

impl LinkState {
    /// Whether the link is administratively up.
    #[must_use]
    pub const fn is_up(&self) -> bool {
        self.flags & IFF_UP != 0
    }
}

const IFF_UP: u32 = 1;
