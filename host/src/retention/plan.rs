//! What is over: the oldest first, by age and then by size. Pure.
//!
//! Asked by the store for outputs and by `retention` for programs. What is in use stays, whatever its age, and
//! so does what was there within the last hour: a size that is too small must not take away what somebody is
//! about to read.

use doorbell_api::retention::Why;

/// How much of one kind of thing is kept.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Bounds {
    /// Milliseconds.
    pub age_ms: Option<u64>,
    /// Bytes of all together.
    pub bytes: Option<u64>,
}

/// One of them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Thing<K> {
    /// What it is called.
    pub key: K,
    /// Bytes on the disk.
    pub bytes: u64,
    /// When it was of use last.
    pub since_ms: u64,
    /// Whether it has to stay.
    pub in_use: bool,
}

/// Which of these are over at `now`, and why. They come oldest first and have `total` bytes together; no more
/// than `most` are given.
pub fn over<K>(
    things: impl IntoIterator<Item = Thing<K>>,
    total: u64,
    bounds: Bounds,
    now: u64,
    most: usize,
) -> Vec<(Thing<K>, Why)> {
    let (mut left, mut found) = (total, Vec::new());
    for thing in things {
        let age = now.saturating_sub(thing.since_ms);
        let old = bounds.age_ms.is_some_and(|max| age > max);
        let heavy = bounds.bytes.is_some_and(|max| left > max) && age >= FRESH_MS;
        if found.len() >= most || !(old || heavy) {
            break;
        }
        if !thing.in_use {
            left = left.saturating_sub(thing.bytes);
            found.push((thing, if old { Why::Age } else { Why::Size }));
        }
    }
    found
}

/// What was of use within an hour is not removed for its size.
pub const FRESH_MS: u64 = 3_600_000;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: u64 = 100 * FRESH_MS;

    proptest! {
        #[test]
        fn the_oldest_go_first_and_no_more_than_need_to(
            parts in prop::collection::vec((0_u64..1000, 0_u64..90 * FRESH_MS, any::<bool>()), 0..40),
            age_ms in prop::option::of(0_u64..90 * FRESH_MS),
            bytes in prop::option::of(0_u64..20_000),
        ) {
            let mut things: Vec<_> = parts
                .into_iter()
                .enumerate()
                .map(|(key, (bytes, age, in_use))| Thing { key, bytes, since_ms: NOW - age, in_use })
                .collect();
            things.sort_by_key(|thing| thing.since_ms);
            let total = things.iter().map(|thing| thing.bytes).sum();
            let gone = over(things.clone(), total, Bounds { age_ms, bytes }, NOW, usize::MAX);
            let is_gone = |key: usize| gone.iter().any(|(thing, _)| thing.key == key);
            let mut left: u64 = total;
            for (thing, why) in &gone {
                prop_assert!(!thing.in_use, "something in use is removed");
                let age = NOW - thing.since_ms;
                match why {
                    Why::Size => prop_assert!(left > bytes.unwrap() && age >= FRESH_MS),
                    Why::Age | Why::Unused => prop_assert!(age > age_ms.unwrap()),
                }
                left -= thing.bytes;
            }
            for thing in things.iter().filter(|thing| !is_gone(thing.key) && !thing.in_use) {
                let age = NOW - thing.since_ms;
                prop_assert!(age_ms.is_none_or(|max| age <= max), "something old stays");
                let older_is_gone = gone.iter().all(|(gone, _)| gone.since_ms <= thing.since_ms);
                prop_assert!(older_is_gone, "something goes before what is older");
                prop_assert!(bytes.is_none_or(|max| left <= max) || age < FRESH_MS, "too much stays");
            }
        }
    }

    #[test]
    fn nothing_goes_without_a_bound() {
        let thing = Thing { key: 1, bytes: u64::MAX, since_ms: 0, in_use: false };
        assert!(over([thing], u64::MAX, Bounds::default(), u64::MAX, 9).is_empty());
    }
}
