//! Many guests in one signature: a root over their fingerprints, and each guest's proof that it stands under it.
//!
//! Called by whoever signs, to make root and proofs, and by the agent, to see that it is meant. Trusts no proof: it
//! has to use up exactly the steps that its place among so many has. Leaves and nodes are hashed under different
//! tags, so that no node is ever taken for a guest. A node without another beside it goes up as it is.

use crate::ids::{Digest, Fingerprint};
use crate::limits::SIGNED_GUESTS_MAX;
use crate::message::{Proof, Target};
use sha2::{Digest as _, Sha256};

/// Guests that one signature is for: sorted, each once.
#[derive(Clone, Debug)]
pub struct Guests {
    sorted: Vec<Fingerprint>,
}

impl Guests {
    /// These guests; `None` where there are none, or too many.
    #[must_use]
    pub fn of(mut guests: Vec<Fingerprint>) -> Option<Self> {
        guests.sort_unstable();
        guests.dedup();
        (1..=SIGNED_GUESTS_MAX as usize).contains(&guests.len()).then_some(Self { sorted: guests })
    }

    /// What the terms name: a guest alone, or the root of several.
    #[must_use]
    pub fn target(&self) -> Target {
        let count = u32::try_from(self.sorted.len()).unwrap_or(u32::MAX);
        match *self.sorted {
            [alone] => Target::Guest(alone),
            _ => Target::Guests { root: self.walk(0, |_| {}), count },
        }
    }

    /// The proof of one of them; `None` for any other. One that is named alone needs none.
    #[must_use]
    pub fn proof(&self, guest: &Fingerprint) -> Option<Proof> {
        let at = self.sorted.binary_search(guest).ok()?;
        let mut path = Vec::new();
        self.walk(at, |beside| path.push(beside));
        Some(Proof { index: u32::try_from(at).ok()?, path })
    }

    /// Up to the root, telling each node beside the way from a place.
    fn walk(&self, mut at: usize, mut beside: impl FnMut(Digest)) -> Digest {
        let mut level: Vec<Digest> = self.sorted.iter().map(leaf).collect();
        while level.len() > 1 {
            if let Some(found) = level.get(at ^ 1) {
                beside(*found);
            }
            at /= 2;
            level = level.chunks(2).filter_map(up).collect();
        }
        level.first().copied().unwrap_or(Digest::new([0; Digest::LEN]))
    }
}

/// The root to which a guest's proof leads among so many; `None` where it has too many or too few steps.
#[must_use]
pub fn leads(guest: &Fingerprint, proof: &Proof, count: u32) -> Option<Digest> {
    let (mut at, mut left) = (proof.index, count);
    if at >= count || count > SIGNED_GUESTS_MAX {
        return None;
    }
    let mut path = proof.path.iter();
    let mut here = leaf(guest);
    while left > 1 {
        if at & 1 == 1 {
            here = node(path.next()?, &here);
        } else if at.saturating_add(1) < left {
            here = node(&here, path.next()?);
        }
        at /= 2;
        left = left.div_ceil(2);
    }
    path.next().is_none().then_some(here)
}

fn up(pair: &[Digest]) -> Option<Digest> {
    match pair {
        [left, right] => Some(node(left, right)),
        _ => pair.first().copied(),
    }
}

fn leaf(guest: &Fingerprint) -> Digest {
    hash(LEAF, &[guest.digest()])
}

fn node(left: &Digest, right: &Digest) -> Digest {
    hash(NODE, &[left, right])
}

fn hash(tag: &[u8], parts: &[&Digest]) -> Digest {
    let mut sum = Sha256::new_with_prefix(tag);
    parts.iter().for_each(|part| sum.update(part.as_bytes()));
    Digest::new(sum.finalize().into())
}

const LEAF: &[u8] = b"doorbell-guest\0";
const NODE: &[u8] = b"doorbell-guests\0";
