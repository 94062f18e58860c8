//! What the disk of the state directory refuses at the moment: told to the log once when it begins and once when it
//! is over, and to whoever asks meanwhile.
//!
//! Written by the store and the sessions, read by the API. Nothing is decided by it.

use crate::time::unix_ms;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tracing::{info, warn};

/// All that is refused; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Trouble(Arc<Mutex<BTreeMap<&'static str, Refused>>>);

#[derive(Debug)]
struct Refused {
    why: String,
    since_ms: u64,
    times: u64,
}

impl Trouble {
    /// The disk would not do this; again and again is one piece of news.
    pub fn met(&self, what: &'static str, why: &str) {
        let mut all = self.lock();
        let refused = all.entry(what).or_insert_with(|| {
            warn!(why, "{what} is refused by the disk of the state directory; it goes on by itself when that is well again");
            Refused { why: String::new(), since_ms: unix_ms(), times: 0 }
        });
        why.clone_into(&mut refused.why);
        refused.times = refused.times.saturating_add(1);
    }

    /// The disk has done this.
    pub fn over(&self, what: &'static str) {
        if let Some(Refused { times, since_ms, .. }) = self.lock().remove(what) {
            let ms = unix_ms().saturating_sub(since_ms);
            info!(times, ms, "{what} goes on: the disk of the state directory takes it again");
        }
    }

    /// All of it in one line; `None` when the disk takes everything.
    #[must_use]
    pub fn now(&self) -> Option<String> {
        let all = self.lock();
        let told = |(what, refused): (&&str, &Refused)| format!("{what} is refused: {}", refused.why);
        let lines: Vec<_> = all.iter().map(told).collect();
        (!lines.is_empty()).then(|| lines.join("; "))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, Refused>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Changes of the data base.
pub const STORE: &str = "writing to the data base";
/// What programs print.
pub const OUTPUT: &str = "keeping output";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_is_told_until_it_is_over() {
        let trouble = Trouble::default();
        assert_eq!(trouble.now(), None);
        trouble.met(STORE, "no space");
        trouble.met(OUTPUT, "no space");
        trouble.met(STORE, "it fails");
        assert_eq!(
            trouble.now().unwrap(),
            "keeping output is refused: no space; writing to the data base is refused: it fails"
        );
        trouble.over(STORE);
        trouble.over(OUTPUT);
        assert_eq!(trouble.now(), None);
    }
}
