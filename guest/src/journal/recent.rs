//! The requests that were finished here last, by name.
//!
//! Used by `history`. A sequence says that a request was here before only to a manager that remembers which
//! sequence it had. One that was restored from a backup does not know the requests it accepted after that, and
//! gives the same id, sent again, a new sequence: then the id itself is what is known here. A journal that is
//! written anew has them as what they are, forgotten requests. Bounded: it costs 96 KiB of memory at most.

use doorbell_wire::ids::{RequestId, Sequence};
use std::collections::VecDeque;

/// The names and the sequences they had, oldest first.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Recent(VecDeque<(RequestId, Sequence)>);

impl Recent {
    /// One more; the oldest makes room for it.
    pub(super) fn add(&mut self, request: RequestId, sequence: Sequence) {
        // One that is finished again is mostly the last one; to look through all of them would cost a start more
        // than it is worth.
        if self.0.back() == Some(&(request, sequence)) {
            return;
        }
        if self.0.len() >= RECENT_MAX {
            self.0.pop_front();
        }
        self.0.push_back((request, sequence));
    }

    /// Whether it is one of them.
    pub(super) fn contains(&self, request: RequestId) -> bool {
        self.0.iter().any(|(known, _)| *known == request)
    }

    /// All of them, oldest first.
    pub(super) fn list(&self) -> impl Iterator<Item = (RequestId, Sequence)> {
        self.0.iter().copied()
    }
}

/// So many are known.
pub(super) const RECENT_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_known_and_the_oldest_make_room() {
        let id = |number: u64| RequestId::new(u128::from(number).to_be_bytes());
        let mut recent = Recent::default();
        for number in 1..=RECENT_MAX as u64 + 1 {
            recent.add(id(number), number.try_into().unwrap());
            recent.add(id(number), number.try_into().unwrap());
        }
        assert!(
            !recent.contains(id(1)) && recent.contains(id(2)) && recent.contains(id(RECENT_MAX as u64 + 1))
        );
        let mut again = Recent::default();
        recent.list().for_each(|(request, sequence)| again.add(request, sequence));
        assert_eq!(again, recent);
    }
}
