//! A guest that stands still: its hypervisor has stopped it, so no silence of it means anything.
//!
//! Called by the manager's task when it is told so from outside the channel. While a session is suspended the
//! task writes nothing of what is owed, and takes what still comes.

use super::{Host, Owed};
use crate::ids::Tick;
use crate::limits::HEARTBEAT_MS;
use crate::message::FromHost;

impl Host {
    /// The guest stands still from now on: no deadline runs and no heartbeat is due until [`Host::resume`].
    #[must_use]
    pub fn suspend(mut self, now: Tick) -> Self {
        self.still_since.get_or_insert(now);
        self
    }

    /// The guest goes on: every deadline is later by as long as it stood still. A ping goes at once: a
    /// connection that did not outlive the stop ends by it.
    #[must_use]
    pub fn resume(mut self, now: Tick) -> Self {
        let Some(since) = self.still_since.take() else { return self };
        let stood = since.until(now);
        self.accepted = self.accepted.after(stood);
        // What came while it stood still was said before.
        self.heard = self.heard.min(since).after(stood);
        self.next_ping = self.next_ping.after(stood);
        if self.is_open() {
            self.ping(now);
        }
        self
    }

    /// Whether the guest stands still.
    #[must_use]
    pub const fn is_suspended(&self) -> bool {
        self.still_since.is_some()
    }

    pub(super) fn ping(&mut self, now: Tick) {
        self.next_ping = now.after(HEARTBEAT_MS);
        self.pings = self.pings.saturating_add(1);
        self.out.push_back(Owed::Send(FromHost::Ping(self.pings)));
    }
}
