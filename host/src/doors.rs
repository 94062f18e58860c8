//! How many peers may stand at a door without having proved a key, and the bell that says guests changed.
//!
//! Called by both listeners. A place, not a guest, is counted: whoever reaches a place may hold a few
//! connections there for the handshake's deadline, and nobody else's; and how often a place may connect.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tokio::sync::Notify;

/// All doors.
#[derive(Debug, Default)]
pub struct Doors {
    places: Arc<Mutex<HashMap<String, Standing>>>,
    changed: Notify,
}

/// The right to stand at a door; it ends when dropped.
#[derive(Debug)]
pub struct Entry {
    place: String,
    places: Arc<Mutex<HashMap<String, Standing>>>,
}

/// Why a peer may not stand at a door.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Crowded {
    /// In words.
    pub why: &'static str,
    /// Whether this is new: a place that stays crowded is told of once.
    pub is_new: bool,
}

#[derive(Debug)]
struct Standing {
    unproved: usize,
    // What the place has used of its connections, in milliseconds until it is forgiven, and as of when.
    used_ms: u64,
    at: Instant,
    told: bool,
}

impl Standing {
    const fn fresh(now: Instant) -> Self {
        Self { unproved: 0, used_ms: 0, at: now, told: false }
    }

    /// What time has forgiven since the last look.
    fn forgive(&mut self, now: Instant) {
        let passed = u64::try_from(now.saturating_duration_since(self.at).as_millis()).unwrap_or(u64::MAX);
        self.used_ms = self.used_ms.saturating_sub(passed);
        self.at = now;
    }

    const fn is_idle(&self) -> bool {
        self.unproved == 0 && self.used_ms == 0
    }

    const fn refused(&mut self, why: &'static str) -> Crowded {
        let is_new = !self.told;
        self.told = true;
        Crowded { why, is_new }
    }
}

impl Doors {
    /// Lets one more peer stand at a place, if it is not crowded.
    ///
    /// # Errors
    /// [`Crowded`].
    pub fn enter(&self, place: &str) -> Result<Entry, Crowded> {
        self.enter_at(place, Instant::now())
    }

    fn enter_at(&self, place: &str, now: Instant) -> Result<Entry, Crowded> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        if places.len() >= PLACES_KEPT && !places.contains_key(place) {
            places.values_mut().for_each(|standing| standing.forgive(now));
            places.retain(|_, standing| !standing.is_idle());
        }
        let standing = places.entry(place.to_owned()).or_insert_with(|| Standing::fresh(now));
        standing.forgive(now);
        if standing.unproved >= UNPROVED_MAX {
            return Err(standing.refused("too many there have not proved a key yet"));
        }
        let used_ms = standing.used_ms.saturating_add(FORGIVEN_MS);
        if used_ms > USED_MS_MAX {
            return Err(standing.refused("it connects again and again; look into that guest"));
        }
        standing.used_ms = used_ms;
        standing.unproved = standing.unproved.saturating_add(1);
        standing.told = false;
        Ok(Entry { place: place.to_owned(), places: Arc::clone(&self.places) })
    }

    /// Says that a guest was added, moved or removed.
    pub fn refresh(&self) {
        self.changed.notify_one();
    }

    /// Waits until guests have changed.
    pub async fn refreshed(&self) {
        self.changed.notified().await;
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(standing) = places.get_mut(&self.place) {
            standing.unproved = standing.unproved.saturating_sub(1);
        }
    }
}

/// Peers at one place that have not proved a key.
const UNPROVED_MAX: usize = 4;
/// Milliseconds until one connection of a place is forgiven. Each costs lines of the log, and with a hello
/// records of the audit trail and a write to the disk; an agent that is turned away comes back less often.
const FORGIVEN_MS: u64 = 2_000;
/// A place may make 1024 connections at once.
const USED_MS_MAX: u64 = 1_024 * FORGIVEN_MS;
/// Places that are remembered before those at which all is quiet are forgotten.
const PLACES_KEPT: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_crowded_place_leaves_other_places_open_and_empties_again() {
        let doors = Doors::default();
        let standing: Vec<Entry> = (0..UNPROVED_MAX).filter_map(|_| doors.enter("cid 7").ok()).collect();
        assert_eq!(standing.len(), UNPROVED_MAX);
        assert!(doors.enter("cid 7").unwrap_err().is_new);
        assert!(!doors.enter("cid 7").unwrap_err().is_new, "a crowd is told of once");
        assert!(doors.enter("cid 8").is_ok());
        drop(standing);
        assert!(doors.enter("cid 7").is_ok());
    }

    #[test]
    fn a_place_that_connects_without_end_is_slowed_and_forgiven() {
        let (doors, begin) = (Doors::default(), Instant::now());
        let admitted = |from: Instant, tries: usize| {
            (0..tries).filter(|_| doors.enter_at("cid 7", from).is_ok()).count()
        };
        assert_eq!(admitted(begin, 5_000), 1024);
        assert_eq!(admitted(begin + Duration::from_secs(60), 5_000), 30);
        assert!(doors.enter_at("cid 8", begin).is_ok(), "a neighbour waits for it");
        assert_eq!(admitted(begin + Duration::from_secs(86_400), 5_000), 1024);
    }

    #[test]
    fn quiet_places_are_forgotten() {
        let (doors, begin) = (Doors::default(), Instant::now());
        for place in 0..PLACES_KEPT {
            doors.enter_at(&place.to_string(), begin).unwrap();
        }
        let _standing = doors.enter_at("held", begin + Duration::from_secs(10)).unwrap();
        assert_eq!(doors.places.lock().unwrap().len(), 1);
    }
}
