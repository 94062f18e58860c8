//! Where a request's time went: the stations it passed, by one clock.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The stations of one request, in the order of their times.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct Trace {
    /// The stations it has passed.
    pub passed: Vec<Passed>,
    /// How far the guest's times can be off, in microseconds: half the round trip of the handshake that
    /// aligned both clocks. Absent where no station was told by a guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_error_us: Option<u64>,
}

/// A station that was passed.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct Passed {
    /// Which.
    pub station: Station,
    /// When, microseconds since the Unix epoch by the manager's clock.
    pub at_us: u64,
    /// The guest's own time of it, microseconds since its boot, where the guest told it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest_us: Option<u64>,
}

/// The stations between a command and its receipt.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Station {
    /// The manager took the request.
    Accepted,
    /// It is on the manager's disk.
    Durable,
    /// The guest was rung.
    Rung,
    /// The guest pulled.
    Pulled,
    /// It was offered.
    Offered,
    /// The guest has its bytes.
    Fetched,
    /// They are those that were named.
    Verified,
    /// The start is on the guest's disk.
    Journalled,
    /// The effect began.
    Started,
    /// The first output came.
    FirstOutput,
    /// The program ended.
    Exited,
    /// The guest's acknowledgement arrived.
    Acknowledged,
    /// The receipt is on the manager's disk.
    Stored,
}

/// How long requests took to each station from the one before it, since the manager started.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct Stations {
    /// One for each station that any request has passed.
    pub stations: Vec<Histogram>,
}

/// How long the way to one station took.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct Histogram {
    /// The station.
    pub station: Station,
    /// How many requests passed it.
    pub count: u64,
    /// Microseconds of all of them.
    pub sum_us: u64,
    /// How many took at most so long: cumulative, as OpenMetrics has it.
    pub buckets: Vec<Bucket>,
}

/// One bound of a histogram.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct Bucket {
    /// Microseconds; absent in the last, which has no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub le_us: Option<u64>,
    /// How many took at most so long.
    pub count: u64,
}
