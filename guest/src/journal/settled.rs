//! A set of sequences as ranges: few, since requests overtake each other seldom and gaps close.
//!
//! Used by `history`. What a manager can make it grow to is bounded: beyond [`RANGES_MAX`] ranges the lowest
//! gap counts as settled too, and a request that waits in it is refused rather than run twice.

use std::collections::BTreeMap;

/// The sequences, as `first -> last` of ranges that do not touch.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Ranges(BTreeMap<u64, u64>);

impl Ranges {
    /// Adds all from `first` to `last`.
    pub(super) fn add(&mut self, mut first: u64, mut last: u64) {
        while let Some((&from, &to)) = self.0.range(..=last.saturating_add(1)).next_back() {
            if to.saturating_add(1) < first {
                break;
            }
            self.0.remove(&from);
            first = first.min(from);
            last = last.max(to);
        }
        self.0.insert(first, last);
    }

    /// Whether a sequence is in the set.
    pub(super) fn contains(&self, sequence: u64) -> bool {
        self.0.range(..=sequence).next_back().is_some_and(|(_, &last)| last >= sequence)
    }

    /// The highest sequence; 0 when there is none.
    pub(super) fn max(&self) -> u64 {
        self.0.last_key_value().map_or(0, |(_, &last)| last)
    }

    /// The ranges in order.
    pub(super) fn list(&self) -> impl Iterator<Item = (u64, u64)> {
        self.0.iter().map(|(&first, &last)| (first, last))
    }

    /// Takes out all below `floor`.
    pub(super) fn cut_below(&mut self, floor: u64) {
        let mut kept = self.0.split_off(&floor);
        if let Some((_, &last)) = self.0.last_key_value()
            && last >= floor
        {
            kept.insert(floor, last);
        }
        self.0 = kept;
    }

    /// With more ranges than there may be, gives up the lowest and says where the floor is then.
    pub(super) fn shorten(&mut self) -> Option<u64> {
        if self.0.len() <= RANGES_MAX {
            return None;
        }
        self.0.pop_first().map(|(_, last)| last.saturating_add(1))
    }
}

/// So many fit one record of the journal several times over.
pub(super) const RANGES_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn ranges_are_the_set_they_stand_for(adds in prop::collection::vec((0_u64..60, 0_u64..6), 0..40), floor in 0_u64..70) {
            let mut ranges = Ranges::default();
            let mut set = BTreeSet::new();
            for (first, more) in adds {
                ranges.add(first, first + more);
                set.extend(first..=first + more);
            }
            ranges.cut_below(floor);
            set.retain(|&sequence| sequence >= floor);
            for sequence in 0..80 {
                prop_assert_eq!(ranges.contains(sequence), set.contains(&sequence), "{}", sequence);
            }
            prop_assert_eq!(ranges.max(), set.last().copied().unwrap_or(0));
            let list: Vec<_> = ranges.list().collect();
            prop_assert!(list.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0), "touching: {:?}", list);
        }
    }

    #[test]
    fn too_many_gaps_are_closed_from_below() {
        let mut ranges = Ranges::default();
        for number in 0..=RANGES_MAX as u64 {
            ranges.add(number * 2 + 10, number * 2 + 10);
        }
        assert_eq!(ranges.shorten(), Some(11));
        assert_eq!(ranges.shorten(), None);
        assert!(!ranges.contains(10) && ranges.contains(12));
    }
}
