//! State changes as they happen: lines of JSON on `GET /v1/events`.

use crate::guest::Presence;
use crate::request::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A state change.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct Event {
    /// When, milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// The guest's name.
    pub guest: String,
    /// What changed.
    pub change: Change,
}

/// What changed.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Change {
    /// A guest was added.
    Added,
    /// A guest was removed.
    Removed,
    /// A guest came or went.
    Presence {
        /// Whether it is there.
        presence: Presence,
        /// Why, where there is more to say.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        detail: Option<String>,
    },
    /// The guest was rung.
    Rung,
    /// The guest pulled.
    Pulled,
    /// A request moved.
    Request {
        /// Its name.
        id: String,
        /// Where it stands.
        state: State,
    },
    /// The reader was too slow; this many events are missing here.
    Missed {
        /// How many; 0 where that is not known.
        count: u64,
    },
}
