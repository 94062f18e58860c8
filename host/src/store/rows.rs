//! What the store gives out and takes in: plain rows, already checked types.
//!
//! Read by sessions, API and events. Nothing in here reaches the data base by itself.

use crate::access::TenantName;
use crate::request::{Admission, reboot};
use crate::signed::shown as shown_signature;
use doorbell_api::guest::{AgentInfo, CopyMet, Trigger};
use doorbell_api::receipt::Receipt;
use doorbell_api::request::{self as api, OnDisconnect, State};
use doorbell_wire::ids::{GuestCid, GuestId, GuestName, PublicKey, RequestId, Sequence, ShortText};
use doorbell_wire::message::action::Action;
use doorbell_wire::message::{Offer, Offsets, Signed};
use std::fmt;
use std::path::PathBuf;

/// Where a guest is met. No two guests share one.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Place {
    /// By its context id on AF_VSOCK.
    Cid(GuestCid),
    /// By the base path of its hybrid socket.
    Hybrid(PathBuf),
    /// Nowhere but in the directory that it shares.
    Share(PathBuf),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cid(cid) => write!(f, "cid {cid}"),
            Self::Hybrid(path) => write!(f, "hybrid socket {}", path.display()),
            Self::Share(path) => write!(f, "share {}", path.display()),
        }
    }
}

/// A guest to be added.
#[derive(Clone, Debug)]
pub struct AddGuest {
    /// What it is called.
    pub name: GuestName,
    /// Where it is met.
    pub place: Place,
    /// Its QMP socket.
    pub qmp: Option<PathBuf>,
    /// Its key, when it is known beforehand; such a guest needs no approval.
    pub key: Option<PublicKey>,
    /// How many ordinary requests it has in hand at once.
    pub concurrency: Option<u8>,
    /// The directory that it shares.
    pub share: Option<PathBuf>,
    /// How its requests come to it.
    pub trigger: Option<Trigger>,
    /// Whether its clock is set to the host's.
    pub set_clock: bool,
    /// Who owns it.
    pub tenant: Option<TenantName>,
    /// The one-time token by which its key is taken.
    pub enrolment: Option<NewEnrolment>,
    /// Whether the first key that is met is taken without an approval.
    pub trust_first_key: bool,
}

/// A one-time token to be noted.
#[derive(Clone, Copy, Debug)]
pub struct NewEnrolment {
    /// Its public half.
    pub token: PublicKey,
    /// Milliseconds until it is good for nothing.
    pub expires_in_ms: u64,
}

/// A change of a guest; what is `None` stays.
#[derive(Clone, Debug, Default)]
pub struct ChangeGuest {
    /// Where it is met.
    pub place: Option<Place>,
    /// Its QMP socket, or none.
    pub qmp: Option<Option<PathBuf>>,
    /// How many ordinary requests it has in hand at once.
    pub concurrency: Option<u8>,
    /// The directory that it shares, or none.
    pub share: Option<Option<PathBuf>>,
    /// How its requests come to it.
    pub trigger: Option<Trigger>,
    /// Whether its clock is set to the host's.
    pub set_clock: Option<bool>,
    /// Who owns it, or nobody.
    pub tenant: Option<Option<TenantName>>,
}

/// A guest.
#[derive(Clone, Debug)]
pub struct GuestRow {
    /// Its lasting id.
    pub id: GuestId,
    /// What it is called.
    pub name: GuestName,
    /// Where it is met.
    pub place: Place,
    /// Its QMP socket.
    pub qmp: Option<PathBuf>,
    /// Its approved key.
    pub key: Option<PublicKey>,
    /// A copy of it that presented a stale token since the last approval.
    pub copy: Option<CopyMet>,
    /// The directory that it shares.
    pub share: Option<PathBuf>,
    /// How its requests come to it.
    pub trigger: Trigger,
    /// Whether its clock is set to the host's.
    pub set_clock: bool,
    /// Who owns it.
    pub tenant: Option<TenantName>,
    /// When it was added.
    pub added_at_ms: u64,
    /// When it was last heard of.
    pub last_seen_ms: Option<u64>,
    /// What it said of itself when it was last admitted.
    pub agent: Option<AgentInfo>,
    /// How many ordinary requests it has in hand at once.
    pub concurrency: u8,
    /// Requests that have no final state.
    pub open_requests: u64,
    /// Whether a key that nobody has approved waits.
    pub pending: bool,
    /// The keys that the operator has rejected.
    pub rejected: Vec<PublicKey>,
    /// Whether the first key that is met is taken without an approval.
    pub trusts_first_key: bool,
    /// Until when a one-time token that nobody has used is good.
    pub enrolment_until_ms: Option<u64>,
}

/// What the removal of a guest took with it.
#[derive(Clone, Debug)]
pub struct Removed {
    /// The guest's id.
    pub id: GuestId,
    /// The requests that became undeliverable.
    pub closed: Vec<RequestRow>,
}

/// A key that waits for the operator.
#[derive(Clone, Debug)]
pub struct PendingRow {
    /// The guest it claims to be, by where it was met.
    pub guest: GuestName,
    /// The key.
    pub key: PublicKey,
    /// Where it was met.
    pub met_at: String,
    /// When it was last met.
    pub seen_at_ms: u64,
}

/// What the store says of a proved key that wants a session.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// The session is open; the fresh token is on disk.
    Welcome,
    /// The guest has no approved key.
    NotApproved,
    /// The guest has another key.
    WrongKey,
    /// The operator has rejected this key.
    Rejected,
    /// A stale token: a copy or a rewound guest. It is turned away until the guest is approved again.
    Fenced,
}

/// A request to be accepted.
#[derive(Clone, Debug)]
pub struct AcceptRequest {
    /// The caller's own name for it.
    pub id: Option<RequestId>,
    /// What is to be done.
    pub action: Action,
    /// Milliseconds it may run.
    pub timeout_ms: Option<u64>,
    /// Milliseconds until it is no longer offered.
    pub expires_in_ms: Option<u64>,
    /// Whether an interrupted start may be started again.
    pub idempotent: bool,
    /// Whether it goes before the ordinary ones.
    pub urgent: bool,
    /// What becomes of it without a client.
    pub on_disconnect: OnDisconnect,
    /// Why.
    pub reason: Option<ShortText>,
    /// The ticket it belongs to.
    pub ticket: Option<ShortText>,
    /// Milliseconds its guest may be away once it has started.
    pub confirm_within_ms: Option<u64>,
    /// Where its program lives, when that is elsewhere.
    pub source: Option<api::Source>,
    /// Whether the program has to be fetched from there first.
    pub awaits_program: bool,
    /// The signature it is offered with.
    pub signed: Option<Signed>,
}

/// A request.
#[derive(Clone, Debug)]
pub struct RequestRow {
    /// Its name.
    pub id: RequestId,
    /// The name of its guest.
    pub guest: GuestName,
    /// The id of its guest.
    pub guest_id: GuestId,
    /// Its place in the guest's order.
    pub sequence: Sequence,
    /// What is to be done.
    pub action: Action,
    /// The action as the API shows it.
    pub shown: api::Action,
    /// Where it stands.
    pub state: State,
    /// Who asked.
    pub asked_by: String,
    /// The second person, where one was needed and has approved it.
    pub approved_by: Option<String>,
    /// Why.
    pub reason: Option<ShortText>,
    /// The ticket it belongs to.
    pub ticket: Option<ShortText>,
    /// When it was accepted.
    pub accepted_at_ms: u64,
    /// Milliseconds it had until its expiry when it was accepted.
    pub expires_in_ms: Option<u64>,
    /// When it is no longer offered.
    pub expires_at_ms: Option<u64>,
    /// Milliseconds it may run.
    pub timeout_ms: Option<u64>,
    /// Whether an interrupted start may be started again.
    pub idempotent: bool,
    /// Whether it goes before the ordinary ones.
    pub urgent: bool,
    /// What becomes of it without a client.
    pub on_disconnect: OnDisconnect,
    /// Whether a cancel was asked for.
    pub cancel_asked: bool,
    /// Where its program lives, when that is elsewhere.
    pub source: Option<api::Source>,
    /// Whether the program has to be fetched from there first.
    pub awaits_program: bool,
    /// The signature it is offered with.
    pub signed: Option<Signed>,
    /// How often it was offered.
    pub offers: u32,
    /// How often its start was reported.
    pub starts: u32,
    /// Its step.
    pub step: u8,
    /// Milliseconds its guest may be away once it has started.
    pub confirm_within_ms: u64,
    /// Where the output of this step begins behind that of the steps before.
    pub output_base: Offsets,
    /// What came of it.
    pub receipt: Option<Receipt>,
    /// When retention removed its output.
    pub output_removed_at_ms: Option<u64>,
    /// Who owned its guest when it was accepted.
    pub tenant: Option<TenantName>,
}

impl RequestRow {
    /// The request as the API shows it.
    #[must_use]
    pub fn to_api(&self) -> api::Request {
        api::Request {
            id: self.id.to_string(),
            guest: self.guest.to_string(),
            sequence: self.sequence.into(),
            action: self.shown.clone(),
            state: self.state,
            asked_by: self.asked_by.clone(),
            approved_by: self.approved_by.clone(),
            reason: self.reason.as_ref().map(ToString::to_string),
            ticket: self.ticket.as_ref().map(ToString::to_string),
            accepted_at_ms: self.accepted_at_ms,
            expires_at_ms: self.expires_at_ms,
            timeout_ms: self.timeout_ms,
            urgent: self.urgent,
            on_disconnect: self.on_disconnect,
            cancel_asked: self.cancel_asked,
            signature: self.signed.as_ref().map(shown_signature),
            waits_for: None,
            offers: self.offers,
            reboot: reboot(&self.action),
            step: self.step,
            starts: self.starts,
            confirm_within_ms: self.confirm_within_ms,
            held: None,
            receipt: self.receipt.clone(),
            output_removed_at_ms: self.output_removed_at_ms,
        }
    }
}

/// A guest's pull, as its session saw it.
#[derive(Clone, Debug, Default)]
pub struct Pull {
    /// What the guest has in hand.
    pub in_hand: Vec<RequestId>,
    /// When it was rung, if a ring stood out; microseconds since the Unix epoch.
    pub rung_us: Option<u64>,
    /// When it pulled.
    pub pulled_us: u64,
}

/// The answer to a pull.
#[derive(Clone, Debug)]
pub struct NextOffer {
    /// The request to offer; it is marked offered on disk.
    pub offer: Option<Offer>,
    /// Whether another one could be offered beside it now.
    pub more: bool,
    /// Every sequence of the guest below this one is settled.
    pub floor: u64,
    /// All requests whose state changed, for the events.
    pub moved: Vec<RequestRow>,
}

/// Which requests to list.
#[derive(Clone, Debug)]
pub struct RequestFilter {
    /// Only those of this guest.
    pub guest: Option<GuestName>,
    /// Only those without a final state.
    pub open: bool,
    /// At most so many.
    pub limit: u32,
}

/// What came of an acceptance: whether the row is new, and the row.
pub type Accepted = (Admission, RequestRow);
