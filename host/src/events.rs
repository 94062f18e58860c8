//! Every state change, told to whoever watches.
//!
//! Called by sessions, the API and the expiry timer after a change is on disk; read by `watch`, `wait` and
//! `output --follow`. Carries no authority: a reader that misses events reads the store.

use crate::access::TenantName;
use crate::store::RequestRow;
use crate::time::unix_ms;
use doorbell_api::event::{Change, Event};
use doorbell_api::guest::Presence;
use doorbell_api::request::State;
use doorbell_wire::ids::{GuestName, RequestId};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{broadcast, watch};

/// The sending side; cheap to clone.
#[derive(Clone, Debug)]
pub struct Events {
    changes: broadcast::Sender<Owned>,
    owners: Arc<Mutex<HashMap<GuestName, TenantName>>>,
    outputs: Arc<Mutex<HashMap<RequestId, watch::Sender<()>>>>,
}

/// An event, and who owned its guest when it happened.
#[derive(Clone, Debug)]
pub struct Owned {
    /// The owner.
    pub owner: Option<TenantName>,
    /// What happened.
    pub event: Event,
}

impl Default for Events {
    fn default() -> Self {
        Self { changes: broadcast::channel(BACKLOG).0, owners: Arc::default(), outputs: Arc::default() }
    }
}

impl Events {
    /// Tells of a change of a guest.
    pub fn tell(&self, guest: &GuestName, change: Change) {
        let owner = self.owners.lock().unwrap_or_else(PoisonError::into_inner).get(guest).cloned();
        let event = Event { at_ms: unix_ms(), guest: guest.to_string(), change };
        // An error means that nobody watches.
        let _ = self.changes.send(Owned { owner, event });
    }

    /// Says who owns a guest from here on: told before its first event, and when that changes.
    pub fn owned_by(&self, guest: &GuestName, owner: Option<TenantName>) {
        let mut owners = self.owners.lock().unwrap_or_else(PoisonError::into_inner);
        match owner {
            Some(owner) => owners.insert(guest.clone(), owner),
            None => owners.remove(guest),
        };
    }

    /// Tells that a guest came or went.
    pub fn presence(&self, guest: &GuestName, presence: Presence, detail: Option<String>) {
        self.tell(guest, Change::Presence { presence, detail });
    }

    /// Tells where a request stands, and wakes whoever follows its output: a final state ends following.
    pub fn request(&self, row: &RequestRow, state: State) {
        self.tell(&row.guest, Change::Request { id: row.id.to_string(), state });
        self.output(row.id);
    }

    /// Tells that output of a request was spooled.
    pub fn output(&self, request: RequestId) {
        let mut outputs = self.outputs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(follower) = outputs.get(&request)
            && follower.send(()).is_err()
        {
            outputs.remove(&request);
        }
    }

    /// Every change from now on.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Owned> {
        self.changes.subscribe()
    }

    /// Changes whenever the request has new output or another state.
    #[must_use]
    pub fn follow(&self, request: RequestId) -> watch::Receiver<()> {
        let mut outputs = self.outputs.lock().unwrap_or_else(PoisonError::into_inner);
        outputs.retain(|_, follower| follower.receiver_count() > 0);
        outputs.entry(request).or_insert_with(|| watch::channel(()).0).subscribe()
    }
}

/// Events a slow reader may be behind before it is told that it missed some.
const BACKLOG: usize = 4096;
