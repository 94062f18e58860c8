//! Requests as the API shows and takes them.

pub use crate::program::Source;
pub use crate::query::{Answer, NewQuery, Query};
use crate::receipt::Receipt;
pub use crate::run::{Input, Limits, ProgramRef, Run, Variable, Window};
pub use crate::signature::Signature;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A request to be accepted.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRequest {
    /// A name of the caller's own, 32 hexadecimal digits: accepting it twice gives one request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// What is to be done.
    pub action: Action,
    /// Milliseconds a program may run once it has started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Milliseconds until the request is no longer offered to its guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_ms: Option<u64>,
    /// Whether an interrupted start may be started again.
    #[serde(default)]
    pub idempotent: bool,
    /// Whether it goes before the ordinary requests of its guest, and runs beside what runs there.
    #[serde(default)]
    pub urgent: bool,
    /// What becomes of it when the last client that was attached to it is gone.
    #[serde(default)]
    pub on_disconnect: OnDisconnect,
    /// When the guest is to reboot for it; only for a run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reboot: Option<Reboot>,
    /// Milliseconds that the guest may be away once it has started, before it is closed as unconfirmed; an hour
    /// when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm_within_ms: Option<u64>,
    /// Why, for receipt and audit trail; at most 256 bytes. The header `doorbell-reason` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The ticket it belongs to; at most 256 bytes. The header `doorbell-ticket` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<String>,
    /// A signature over what is to be done, which the guest judges; the manager hands it on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<Signature>,
}

impl NewRequest {
    /// A request for an action with nothing else said.
    #[must_use]
    pub const fn of(action: Action) -> Self {
        Self {
            id: None,
            action,
            timeout_ms: None,
            expires_in_ms: None,
            idempotent: false,
            urgent: false,
            on_disconnect: OnDisconnect::Keep,
            reboot: None,
            confirm_within_ms: None,
            reason: None,
            ticket: None,
            signature: None,
        }
    }
}

/// What is to be done.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Action {
    /// Start a program and wait for its end.
    Run(Run),
    /// Bring a link up.
    LinkUp(Link),
    /// Bring a link down.
    LinkDown(Link),
    /// Put a file or a tree into the guest; its bytes were uploaded before.
    Put(Put),
    /// Read a file or a tree of the guest: it comes as the request's standard output, a tar archive.
    Get(Get),
}

/// When a guest is to reboot for a request. Done is what has seen another run of the guest's kernel.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(tag = "when", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Reboot {
    /// Once, when the program has exited with 0.
    AfterSuccess,
    /// Whenever the program exits with `status`; it is then started again, with `DOORBELL_STEP` one higher.
    OnStatus {
        /// The exit status that asks for it, 1 to 255.
        status: u8,
        /// Steps in all, 1 to 255; 5 when absent. The last one asks in vain.
        #[serde(default = "steps_default")]
        steps_max: u8,
    },
}

const fn steps_default() -> u8 {
    5
}

/// What becomes of a request without a client.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnDisconnect {
    /// It goes on.
    #[default]
    Keep,
    /// It is cancelled.
    Kill,
}

/// A file or a tree for the guest.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Put {
    /// An absolute path; a file that is there is replaced whole.
    pub path: String,
    /// SHA-256 of the bytes that were uploaded, 64 hexadecimal digits.
    pub digest: String,
    /// What the bytes are.
    pub form: Form,
    /// Permission bits of a file, in octal: `0644`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// `user`, `user:group` or `:group`, by name or number; root when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Whether a tree that is there is replaced whole, too.
    #[serde(default)]
    pub replace: bool,
}

/// What the bytes of a put are.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// The content of one file.
    File,
    /// A tar archive of a tree.
    Archive,
}

/// A file or a tree of the guest to be read.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Get {
    /// An absolute path.
    pub path: String,
}

/// How much of a request's input the manager has.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct InputState {
    /// Bytes.
    pub len: u64,
    /// Whether that is all of it.
    pub ended: bool,
}

/// A link by its name or its MAC address.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// `eth0` or `52:54:00:12:34:56`.
    pub link: String,
}

/// A request.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct Request {
    /// Its name, 32 hexadecimal digits.
    pub id: String,
    /// The guest's name.
    pub guest: String,
    /// Its place in the guest's order.
    pub sequence: u64,
    /// What is to be done.
    pub action: Action,
    /// Where it stands.
    pub state: State,
    /// Who asked: `uid 0 (root)`.
    pub asked_by: String,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The ticket it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<String>,
    /// The second person, where one was needed and has approved it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approved_by: Option<String>,
    /// When it was accepted, milliseconds since the Unix epoch.
    pub accepted_at_ms: u64,
    /// When it is no longer offered, milliseconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at_ms: Option<u64>,
    /// Milliseconds a program may run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Whether it goes before the ordinary requests of its guest.
    pub urgent: bool,
    /// What becomes of it without a client.
    pub on_disconnect: OnDisconnect,
    /// Whether a cancel was asked for.
    pub cancel_asked: bool,
    /// The signature that its guest judges.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<Signature>,
    /// What it waits for before it can be offered, where that is not its guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<String>,
    /// How often it was offered to the guest.
    pub offers: u32,
    /// When the guest is to reboot for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reboot: Option<Reboot>,
    /// Its step: 1, and one more behind each reboot that its program asked for.
    #[serde(default = "first")]
    pub step: u8,
    /// How often its start was reported: more than once only for one that may start again, or by steps.
    #[serde(default)]
    pub starts: u32,
    /// Milliseconds that the guest may be away once it has started.
    #[serde(default)]
    pub confirm_within_ms: u64,
    /// Where it stands besides being held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<State>,
    /// What came of it, once it has a final state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<Receipt>,
    /// When retention removed its output; the receipt still says what it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_removed_at_ms: Option<u64>,
}

const fn first() -> u8 {
    1
}

/// Where a request stands.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// On disk; neither offered nor rung for before a second person has approved it.
    Unapproved,
    /// On disk; the guest has not seen it.
    Queued,
    /// The guest has seen it.
    Offered,
    /// The guest has its program.
    Fetched,
    /// The effect has begun.
    Started,
    /// Done; a program exited with 0.
    Succeeded,
    /// A program exited with another status.
    Failed,
    /// A signal ended the program.
    Killed,
    /// The request's own time limit ended it.
    TimedOut,
    /// A cancel ended it.
    Cancelled,
    /// The agent would not do it.
    Refused,
    /// It had started, and guest or agent went down before an outcome was on disk.
    Interrupted,
    /// The manager does not have the program, or could not fetch it.
    NotRetrieved,
    /// The program did not arrive whole in the guest.
    NotReceived,
    /// What arrived is not the program that was named.
    NotVerified,
    /// The effect could not be begun.
    NotStarted,
    /// It was not begun before its expiry.
    Expired,
    /// Its guest was removed.
    Undeliverable,
    /// It had started, and its guest was away for too long; what the guest says later amends it.
    Unconfirmed,
    /// Its guest is paused or off; it stands where `held` says.
    Held,
}

impl State {
    /// Whether nothing follows, except that an unconfirmed one may be amended.
    #[must_use]
    pub const fn is_final(self) -> bool {
        !matches!(
            self,
            Self::Unapproved | Self::Queued | Self::Offered | Self::Fetched | Self::Started | Self::Held
        )
    }
}

/// The requests that `GET /v1/requests` gives, newest first.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct RequestList {
    /// The requests.
    pub requests: Vec<Request>,
    /// Whether older ones were left out.
    pub more: bool,
}
