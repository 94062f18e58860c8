//! Which guests have an open session, and the bell of each.
//!
//! Sessions enter themselves after their guest has proved its key, and leave when they end; the API rings
//! through it. A guest has one session: a newer one that has proved the key ends the older.

use crate::ring::Bell;
use doorbell_wire::error::Reason;
use doorbell_wire::ids::GuestId;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// All open sessions.
#[derive(Debug, Default)]
pub struct Registry {
    open: Mutex<BTreeMap<GuestId, Arc<Bell>>>,
}

impl Registry {
    /// Enters a session whose guest has proved its key. An older one of the same guest is told to end, and
    /// given back to be waited for.
    pub fn enter(&self, guest: GuestId, bell: Arc<Bell>) -> Option<Arc<Bell>> {
        let older = self.lock().insert(guest, bell)?;
        older.close(Reason::SUPERSEDED);
        Some(older)
    }

    /// Takes a session out, and says whether it was still the guest's one.
    pub fn leave(&self, guest: GuestId, bell: &Arc<Bell>) -> bool {
        let mut open = self.lock();
        let current = open.get(&guest).is_some_and(|entered| Arc::ptr_eq(entered, bell));
        if current {
            open.remove(&guest);
        }
        current
    }

    /// The bell of a guest with an open session.
    #[must_use]
    pub fn bell(&self, guest: GuestId) -> Option<Arc<Bell>> {
        self.lock().get(&guest).cloned()
    }

    /// Rings a guest, if it has a session. One that has none pulls when it comes.
    pub fn ring(&self, guest: GuestId) {
        if let Some(bell) = self.bell(guest) {
            bell.ring();
        }
    }

    /// How many sessions are open.
    #[must_use]
    pub fn count(&self) -> usize {
        self.lock().len()
    }

    /// Ends every session.
    pub fn close_all(&self, reason: Reason) {
        self.lock().values().for_each(|bell| bell.close(reason));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<GuestId, Arc<Bell>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
