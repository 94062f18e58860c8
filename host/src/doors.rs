//! How many peers may stand at a door without having proved a key, and the bell that says guests changed.
//!
//! Called by both listeners. A place, not a guest, is counted: whoever reaches a place may hold a few
//! connections there for the handshake's deadline, and nobody else's.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;

/// All doors.
#[derive(Debug, Default)]
pub struct Doors {
    unproved: Arc<Mutex<HashMap<String, usize>>>,
    changed: Notify,
}

/// The right to stand at a door; it ends when dropped.
#[derive(Debug)]
pub struct Entry {
    place: String,
    unproved: Arc<Mutex<HashMap<String, usize>>>,
}

impl Doors {
    /// Lets one more peer stand at a place, if it is not crowded.
    pub fn enter(&self, place: &str) -> Option<Entry> {
        let mut unproved = self.unproved.lock().unwrap_or_else(PoisonError::into_inner);
        let standing = unproved.entry(place.to_owned()).or_default();
        if *standing >= UNPROVED_MAX {
            return None;
        }
        *standing = standing.saturating_add(1);
        Some(Entry { place: place.to_owned(), unproved: Arc::clone(&self.unproved) })
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
        let mut unproved = self.unproved.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(standing) = unproved.get_mut(&self.place) {
            *standing = standing.saturating_sub(1);
            if *standing == 0 {
                unproved.remove(&self.place);
            }
        }
    }
}

/// Peers at one place that have not proved a key.
const UNPROVED_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowded_place_leaves_other_places_open_and_empties_again() {
        let doors = Doors::default();
        let standing: Vec<Entry> = (0..UNPROVED_MAX).filter_map(|_| doors.enter("cid 7")).collect();
        assert_eq!(standing.len(), UNPROVED_MAX);
        assert!(doors.enter("cid 7").is_none());
        assert!(doors.enter("cid 8").is_some());
        drop(standing);
        assert!(doors.enter("cid 7").is_some());
    }
}
