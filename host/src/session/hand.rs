//! What the guest has in hand, as the manager's task sees it.
//!
//! Kept by the session's task between an offer and its acknowledgement; lost with the session, for the store
//! has what counts.

use crate::ring::Query;
use doorbell_wire::ids::RequestId;
use doorbell_wire::message::action::Program;

/// What was offered last.
#[derive(Debug, Default)]
pub(super) enum Hand {
    /// Nothing.
    #[default]
    Empty,
    /// A durable request.
    Request {
        /// Its name.
        id: RequestId,
        /// Its program, if it has one to fetch.
        program: Option<Program>,
        /// Whether it was offered in this session, so that nothing of this start has been told before.
        fresh: bool,
    },
    /// A request of an earlier session that this manager does not have.
    Stranger,
    /// A query; somebody waits for its answer.
    Query(Query),
}
