//! Which guests have an open session, and the bell of each.
//!
//! Sessions enter themselves after their guest has proved its key, and leave when they end; the API rings
//! through it. A guest has one session at each door: a newer one that has proved the key ends the older. Where it has one
//! through its share, that is where its requests are.

use crate::ring::Bell;
use crate::store::{ClockTold, Door};
use doorbell_wire::error::Reason;
use doorbell_wire::ids::GuestId;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// All open sessions.
#[derive(Debug, Default)]
pub struct Registry {
    open: Mutex<BTreeMap<GuestId, Bells>>,
    clocks: Mutex<BTreeMap<GuestId, ClockTold>>,
}

/// The sessions of one guest.
#[derive(Debug, Default)]
struct Bells {
    channel: Option<Arc<Bell>>,
    share: Option<Arc<Bell>>,
}

impl Bells {
    const fn at(&mut self, door: Door) -> &mut Option<Arc<Bell>> {
        match door {
            Door::Channel => &mut self.channel,
            Door::Share => &mut self.share,
        }
    }

    fn all(&self) -> impl Iterator<Item = &Arc<Bell>> {
        self.share.iter().chain(&self.channel)
    }
}

impl Registry {
    /// Enters a session whose guest has proved its key. An older one of the same guest at the same door is told to
    /// end, and given back to be waited for.
    pub fn enter(&self, guest: GuestId, door: Door, bell: Arc<Bell>) -> Option<Arc<Bell>> {
        let older = self.lock().entry(guest).or_default().at(door).replace(bell)?;
        older.close(Reason::SUPERSEDED);
        Some(older)
    }

    /// Takes a session out, and says whether the guest has none any longer.
    pub fn leave(&self, guest: GuestId, door: Door, bell: &Arc<Bell>) -> bool {
        let mut open = self.lock();
        let Some(bells) = open.get_mut(&guest) else { return false };
        let entered = bells.at(door);
        if !entered.as_ref().is_some_and(|entered| Arc::ptr_eq(entered, bell)) {
            return false;
        }
        *entered = None;
        let last = bells.all().next().is_none();
        if last {
            open.remove(&guest);
        }
        last
    }

    /// The bell of the session that has the requests of a guest, if one is open.
    #[must_use]
    pub fn bell(&self, guest: GuestId) -> Option<Arc<Bell>> {
        self.lock().get(&guest).and_then(|bells| bells.all().next().cloned())
    }

    /// The bell of a guest for what is to be answered at once: the channel's, if it has one.
    #[must_use]
    pub fn fastest(&self, guest: GuestId) -> Option<Arc<Bell>> {
        self.lock().get(&guest).and_then(|bells| bells.all().last().cloned())
    }

    /// Whether the guest has a session on a connection.
    #[must_use]
    pub fn has_channel(&self, guest: GuestId) -> bool {
        self.lock().get(&guest).is_some_and(|bells| bells.channel.is_some())
    }

    /// Rings a guest, if it has a session. One that has none pulls when it comes.
    pub fn ring(&self, guest: GuestId) {
        if let Some(bell) = self.bell(guest) {
            bell.ring();
        }
    }

    /// Rings a guest on its connection, if it has one: there is something in its share.
    pub fn ring_channel(&self, guest: GuestId) {
        if let Some(bell) = self.lock().get(&guest).and_then(|bells| bells.channel.as_ref()) {
            bell.ring();
        }
    }

    /// Ends the sessions of a guest.
    pub fn close(&self, guest: GuestId, reason: Reason) {
        self.lock().get(&guest).iter().flat_map(|bells| bells.all()).for_each(|bell| bell.close(reason));
    }

    /// The guest has told of a time of its own. Of one kernel's run the latest counts.
    pub fn told(&self, guest: GuestId, told: ClockTold) {
        let mut clocks = self.clocks.lock().unwrap_or_else(PoisonError::into_inner);
        let known = clocks.entry(guest).or_insert(told);
        if known.boot != told.boot || known.us < told.us {
            *known = told;
        }
    }

    /// The guest's clock starts where it is: it was let in.
    pub fn clock_starts(&self, guest: GuestId, at: ClockTold) {
        self.clocks.lock().unwrap_or_else(PoisonError::into_inner).insert(guest, at);
    }

    /// The latest time that the guest has told of.
    #[must_use]
    pub fn clock(&self, guest: GuestId) -> Option<ClockTold> {
        self.clocks.lock().unwrap_or_else(PoisonError::into_inner).get(&guest).copied()
    }

    /// How many guests have an open session.
    #[must_use]
    pub fn count(&self) -> usize {
        self.lock().len()
    }

    /// Ends every session.
    pub fn close_all(&self, reason: Reason) {
        self.lock().values().flat_map(Bells::all).for_each(|bell| bell.close(reason));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<GuestId, Bells>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
