//! When the guest was last heard of: kept with the bell, written down now and then, and told when it falls silent.
//!
//! Called by the session's loop for every piece that is read. A connection says nothing of a guest that says nothing.

use super::Session;
use crate::time::unix_ms;
use doorbell_api::guest::Presence;
use doorbell_wire::ids::Tick;
use doorbell_wire::limits::HEARTBEAT_MS;
use tokio::io::{AsyncRead, AsyncWrite};
use tracing::warn;

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Session<S> {
    /// A byte of the guest's has come.
    pub(super) async fn hear(&mut self) {
        self.heard = self.now();
        self.bell.hear(unix_ms());
        if !self.entered {
            return;
        }
        if self.bell.set_silent(false) {
            self.tell_presence(Presence::Connected, None);
        }
        if self.seen.until(self.heard) >= SEEN_EVERY_MS {
            self.seen = self.heard;
            self.keep_seen().await;
        }
    }

    /// Writes down when the guest was last heard of.
    pub(super) async fn keep_seen(&mut self) {
        if let Err(error) = self.manager.store.seen(self.guest.id, self.bell.heard_ms()).await {
            warn!(error = error.whole(), "the time the guest was last seen could not be stored");
        }
    }

    /// When the guest counts as silent, if it does not yet.
    pub(super) fn silent_deadline(&self) -> Option<Tick> {
        let counts = self.entered && !self.standing.is_still() && !self.bell.is_silent();
        counts.then(|| self.heard.after(SILENT_MS))
    }

    pub(super) fn check_silent(&self) {
        if self.silent_deadline().is_some_and(|deadline| self.now() >= deadline)
            && !self.bell.set_silent(true)
        {
            self.tell_presence(Presence::Silent, Some("nothing was heard for more than a heartbeat".into()));
        }
    }

    /// Tells whoever watches; what the hypervisor says of the guest's machine goes before.
    pub(super) fn tell_presence(&self, presence: Presence, detail: Option<String>) {
        let presence = self.manager.presence_or(self.guest.id, presence);
        self.manager.events.presence(&self.guest.name, presence, detail);
    }
}

/// A guest that has not answered the last heartbeat within a few seconds is silent.
const SILENT_MS: u64 = HEARTBEAT_MS + 5_000;
/// What a crash of the manager can lose of the time a guest was last seen.
const SEEN_EVERY_MS: u64 = 300_000;
