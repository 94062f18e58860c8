//! What the guest has in hand, as the manager's task sees it.
//!
//! Kept by the session's task between an offer or an attach and the acknowledgement; lost with the session, for
//! the store has what counts.

use crate::request::is_closed;
use crate::ring::Query;
use crate::store::RequestRow;
use crate::trace::Stamp;
use doorbell_wire::ids::RequestId;
use doorbell_wire::limits::{CONCURRENCY_MAX, HANDS_MAX, URGENT_MAX};
use doorbell_wire::message::Offsets;
use doorbell_wire::message::action::{Action, Input, Payload, Window};
use std::collections::HashMap;

/// All that the guest has in hand.
pub(super) type Hands = HashMap<RequestId, Hand>;

/// One thing in the guest's hands.
#[derive(Debug)]
pub(super) enum Hand {
    /// A durable request.
    Request(Held),
    /// A request of an earlier session that this manager does not have.
    Stranger,
    /// A query; somebody waits for its answer.
    Query(Query),
}

/// A durable request.
#[derive(Debug)]
pub(super) struct Held {
    /// What it has to fetch.
    pub(super) payload: Option<Payload>,
    /// Whether it was offered in this session, so that nothing of this start has been told before.
    pub(super) fresh: bool,
    /// Whether it had its receipt when the guest presented it.
    pub(super) over: bool,
    /// Whether it reads input.
    pub(super) reads: bool,
    /// Output bytes that are kept of each stream.
    pub(super) output_max: u64,
    /// Where its output begins behind that of the steps before.
    pub(super) base: Offsets,
    /// Stations that are not in the store yet.
    pub(super) stamps: Vec<Stamp>,
    /// The size of its terminal that the guest was told in this session.
    pub(super) window: Option<Window>,
}

impl Held {
    /// One that is offered now.
    pub(super) fn offered(action: &Action) -> Self {
        Self {
            payload: action.payload(),
            fresh: true,
            over: false,
            reads: action.input() != Input::None,
            output_max: action.output_len_max(),
            base: Offsets::default(),
            stamps: Vec::new(),
            window: None,
        }
    }

    /// One that the guest presents.
    pub(super) fn attached(row: &RequestRow) -> Self {
        let base = row.output_base;
        Self { fresh: false, over: is_closed(row.state), base, ..Self::offered(&row.action) }
    }
}

/// Queries beside what else is in hand: so many that every program finds a free hand.
pub(super) const QUERIES_MAX: usize = HANDS_MAX - CONCURRENCY_MAX as usize - URGENT_MAX - 1;

/// Whether another query may be offered.
pub(super) fn takes_query(hands: &Hands) -> bool {
    hands.values().filter(|hand| matches!(hand, Hand::Query(_))).count() < QUERIES_MAX
}
