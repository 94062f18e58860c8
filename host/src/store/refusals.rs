//! Refusals in the audit trail: each is told, and nobody can fill the trail with them.
//!
//! Called by the API and the listeners for what they refuse, and by the store for keys and tokens. Within a window a
//! refusal that is like one before it is counted, not written; so is what goes beyond a few that differ. The counts
//! are written when their window is over. Kept in memory: a manager that is killed forgets counts, never a refusal.

use super::writer::Work;
use super::{Store, StoreError};
use crate::actor::Actor;
use doorbell_wire::ids::GuestName;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What was refused.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// What kind of refusal it is.
    pub event: &'static str,
    /// The guest it is about, as whoever was refused names it.
    pub guest: Option<GuestName>,
    /// What was asked for, by which rule it was refused: two that say the same are alike.
    pub what: String,
    /// Where it came from, as far as that differs from one to the next of the same.
    pub from: String,
    /// Whether each guest has a window of its own. Not for a stranger, who may name them all.
    pub by_guest: bool,
}

impl Store {
    /// Tells the audit trail of a refusal, or counts it.
    ///
    /// # Errors
    /// When the data base cannot be written.
    pub async fn refused(&self, by: &Actor, refusal: Refusal) -> Result<(), StoreError> {
        let by = by.to_string();
        self.write(move |work| {
            let Refusal { event, guest, what, from, by_guest } = refusal;
            // A name that no guest has is only a word of the asker's.
            let guest = guest.filter(|name| work.guest(name).is_ok());
            let name = guest.as_ref().map(GuestName::as_str);
            let key = Key::of(&by, event, name.filter(|_| by_guest));
            let first = work.refusals.meet(key, &what, Instant::now());
            if first {
                work.audit(&by, event, name, None, format!("{what}{from}"))?;
            }
            Ok(())
        })
        .await
    }

    /// Writes the counts of windows that are over, or of all.
    ///
    /// # Errors
    /// When the data base cannot be written.
    pub async fn tell_refusals(&self, all: bool) -> Result<(), StoreError> {
        let over = self.refusals().over(Instant::now(), all);
        if over.is_empty() {
            return Ok(());
        }
        self.write(move |work| {
            for (Key { actor, event, guest }, Window { more, last, .. }) in &over {
                let detail = format!("{more} more like those before, the last: {last}");
                work.audit(actor, event, guest.as_deref(), None, detail)?;
            }
            Ok(())
        })
        .await
    }
}

impl Work<'_> {
    /// Tells the audit trail of a refusal that the store itself decides, or counts it.
    pub(super) fn refuse(
        &mut self,
        event: &'static str,
        guest: &str,
        what: String,
    ) -> Result<(), StoreError> {
        if self.refusals.meet(Key::of(MANAGER, event, Some(guest)), &what, Instant::now()) {
            self.audit(MANAGER, event, Some(guest), None, what)?;
        }
        Ok(())
    }
}

/// Windows that are open. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Refusals(Arc<Mutex<HashMap<Key, Window>>>);

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Key {
    actor: String,
    event: &'static str,
    guest: Option<String>,
}

#[derive(Clone, Debug)]
struct Window {
    until: Instant,
    written: Vec<String>,
    more: u64,
    last: String,
}

impl Key {
    fn of(actor: &str, event: &'static str, guest: Option<&str>) -> Self {
        Self { actor: actor.to_owned(), event, guest: guest.map(str::to_owned) }
    }

    /// Where refusals go when more are open than is remembered.
    fn beyond() -> Self {
        Self::of(MANAGER, "refusals-beyond-count", None)
    }
}

impl Refusals {
    /// Counts a refusal; says whether it is to be written.
    fn meet(&self, key: Key, what: &str, now: Instant) -> bool {
        let mut windows = self.lock();
        let full = windows.len() >= WINDOWS_MAX && !windows.contains_key(&key);
        let key = if full { Key::beyond() } else { key };
        let fresh = || Window { until: now + WINDOW, written: Vec::new(), more: 0, last: String::new() };
        let window = windows.entry(key).or_insert_with(fresh);
        // One that is over and has nothing to tell begins anew; a count waits until it is written.
        if window.until <= now && window.more == 0 {
            *window = fresh();
        }
        let is_new = !window.written.iter().any(|written| written == what);
        if is_new && window.written.len() < DIFFERENT_MAX {
            window.written.push(what.to_owned());
            return true;
        }
        window.more = window.more.saturating_add(1);
        what.clone_into(&mut window.last);
        false
    }

    /// Takes out the windows that are over, or all; gives those that have counted something.
    fn over(&self, now: Instant, all: bool) -> Vec<(Key, Window)> {
        let over = self.lock().extract_if(|_, window| all || window.until <= now).collect::<Vec<_>>();
        over.into_iter().filter(|(_, window)| window.more > 0).collect()
    }

    /// What was said to be written may not be: from here on everything is new.
    pub(super) fn forget(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Window>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const MANAGER: &str = "manager";
/// For how long what is alike is counted.
const WINDOW: Duration = Duration::from_secs(600);
/// Refusals of one actor, event and guest that are written in a window, as far as they differ.
const DIFFERENT_MAX: usize = 8;
/// Windows that are open at once: bounds the memory, and what all askers together can write.
const WINDOWS_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: usize) -> Key {
        Key::of(&format!("uid {number}"), "call-refused", None)
    }

    #[test]
    fn what_is_alike_is_written_once_in_a_window_and_counted() {
        let (refusals, now) = (Refusals::default(), Instant::now());
        assert!(refusals.meet(key(1), "a", now));
        assert!(refusals.meet(key(2), "a", now), "another asker");
        assert!(refusals.meet(key(1), "b", now), "another rule");
        assert!((0..5).all(|_| !refusals.meet(key(1), "a", now)));
        assert!(refusals.over(now + WINDOW - Duration::from_millis(1), false).is_empty());
        let over = refusals.over(now + WINDOW, false);
        assert_eq!(over.len(), 1, "who has nothing to count has nothing to tell");
        assert_eq!((&over[0].0, over[0].1.more, over[0].1.last.as_str()), (&key(1), 5, "a"));
        assert!(refusals.meet(key(1), "a", now + WINDOW), "a window of its own");
    }

    #[test]
    fn what_differs_is_bounded_too() {
        let (refusals, now) = (Refusals::default(), Instant::now());
        let written = (0..1000).filter(|number| refusals.meet(key(1), &number.to_string(), now)).count();
        assert_eq!(written, DIFFERENT_MAX);
        assert_eq!(refusals.over(now, true)[0].1.more, 1000 - DIFFERENT_MAX as u64);
    }

    #[test]
    fn many_askers_share_one_window_and_the_memory_is_bounded() {
        let (refusals, now) = (Refusals::default(), Instant::now());
        let written = (0..10 * WINDOWS_MAX).filter(|&number| refusals.meet(key(number), "a", now)).count();
        assert_eq!(written, WINDOWS_MAX + 1);
        assert_eq!(refusals.lock().len(), WINDOWS_MAX + 1);
    }
}
