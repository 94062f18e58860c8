//! What the manager's tasks share.
//!
//! Made by the daemon at start, held by sessions, API and timers. Everything that outlives a connection hangs
//! off it; what has to survive a crash is in its store.

use crate::config::Config;
use crate::doors::Doors;
use crate::events::Events;
use crate::output::Outputs;
use crate::programs::Programs;
use crate::registry::Registry;
use crate::store::Store;

/// What sessions, API and timers share.
#[derive(Debug)]
pub struct Manager {
    /// As it was started.
    pub config: Config,
    /// Guests, requests, receipts, audit trail.
    pub store: Store,
    /// Programs by digest.
    pub programs: Programs,
    /// What programs printed.
    pub outputs: Outputs,
    /// Open sessions.
    pub registry: Registry,
    /// State changes.
    pub events: Events,
    /// Which guests are to be met where.
    pub doors: Doors,
    /// Whether AF_VSOCK is listened on, in one line.
    pub vsock: String,
    /// When it started, milliseconds since the Unix epoch.
    pub started_at_ms: u64,
}
