//! A request on its way to the guest, and the stations it reaches there.
//!
//! Offers come from the manager's store, stations from the agent; both halves of a session read them.

use super::action::Action;
use crate::ids::{RequestId, Sequence};
use serde::{Deserialize, Serialize};

/// One request.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Offer {
    /// Its name.
    pub request: RequestId,
    /// Its place in the guest's order; `None` makes it a query, which no journal keeps.
    pub sequence: Option<Sequence>,
    /// What is to be done.
    pub action: Action,
    /// Milliseconds the program may run once it has started; `None` is no limit.
    pub timeout_ms: Option<u64>,
    /// Whether an interrupted start may be started again.
    pub idempotent: bool,
}

/// A station the request has reached in the guest.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// The request.
    pub request: RequestId,
    /// The station.
    pub stage: Stage,
    /// The guest's clock since boot, in milliseconds, suspended time included.
    pub at_ms: u64,
}

/// Stations inside the guest.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub enum Stage {
    /// All program bytes are staged.
    Fetched,
    /// The program has the digest that was offered.
    Verified,
    /// The start is on the guest's disk.
    Journalled,
    /// The effect has begun.
    Started,
}
