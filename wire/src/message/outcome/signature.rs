//! Why a signature does not let a request begin.
//!
//! Made by the agent's gate, told by the manager with what to do about it. All of it is the guest's own judgement.

use crate::ids::{Fingerprint, RequestId, ShortText};
use serde::{Deserialize, Serialize};

/// Why a request did not begin for want of a good signature.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum SignatureFault {
    /// This guest demands one, and there is none.
    Missing,
    /// It is not of a form that is read here; why not.
    Unreadable(ShortText),
    /// It was made in another namespace, for another tool.
    OtherNamespace(ShortText),
    /// It is not a signature over what was offered: something was altered, or another text was signed.
    Altered,
    /// The file of those who may sign cannot be used; why not.
    Signers(ShortText),
    /// No line of that file has the key.
    UnknownKey(Fingerprint),
    /// The file has the key, and not for this time.
    KeyOutOfTime(Fingerprint),
    /// The file has the key, and not for this namespace.
    KeyForOthers(Fingerprint),
    /// It is for other guests.
    OtherGuest,
    /// It is not good yet; both in seconds since the Unix epoch.
    TooEarly {
        /// From when on it is.
        not_before_s: u64,
        /// The guest's clock.
        now_s: u64,
    },
    /// It is good no longer; both in seconds since the Unix epoch.
    Expired {
        /// Until when it was.
        expires_s: u64,
        /// The guest's clock.
        now_s: u64,
    },
    /// The guest's clock shows a time before this agent was made, seconds since the Unix epoch.
    NoClock(u64),
    /// What was signed was begun before, as this request.
    Replayed(RequestId),
    /// That it is begun cannot be noted; the kernel's error number. Nothing is begun without.
    Unrecorded(i32),
    /// It carries a step behind a reboot that this guest knows nothing of, or reads what cannot be signed.
    NotSignable(ShortText),
}
