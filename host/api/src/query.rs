//! Queries as the API takes and answers them.

use crate::receipt::LinkState;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A query: it only reads, no journal keeps it, and the answer comes back at once.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewQuery {
    /// What is to be read.
    pub query: Query,
    /// Milliseconds to wait for the answer; 30 000 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// What is to be read.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Query {
    /// Every link.
    LinkList,
}

/// What a guest would decide about a request.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct Ruling {
    /// Whether it would begin it as it was asked.
    pub allowed: bool,
    /// What the rule that decides does.
    pub effect: Effect,
    /// The rule's own text; the guest's.
    pub rule: String,
    /// The user that it would run as, where the rule says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_as: Option<String>,
    /// Why it would not, as a receipt says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// What a rule does.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    /// Lets it begin.
    Allow,
    /// Refuses it.
    Deny,
    /// Lets it begin with a good signature.
    RequireSignature,
}

/// The answer to a query.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct Answer {
    /// The links.
    pub links: Vec<LinkState>,
    /// How many links were left out because there were too many.
    pub links_left_out: u32,
}
