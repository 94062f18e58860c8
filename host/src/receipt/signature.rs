//! Why a signature was not good in its guest, in words that say what to do.
//!
//! Called for a receipt. What is told is the guest's own judgement.

use doorbell_wire::manifest::Moment;
use doorbell_wire::message::outcome::SignatureFault;
use nix::errno::Errno;

/// The fault as a line.
pub(super) fn text(fault: &SignatureFault) -> String {
    match fault {
        SignatureFault::Missing => {
            "this guest demands a signature, and the request has none: make one with `doorbell sign`".into()
        }
        SignatureFault::Unreadable(why) => {
            format!("the signature cannot be read: {why}: sign with an Ed25519 or ECDSA P-256 key, or their hardware forms")
        }
        SignatureFault::OtherNamespace(found) => format!(
            "the signature is of the namespace {:?} and not doorbell-request: sign with -n doorbell-request",
            found.as_str()
        ),
        SignatureFault::Altered => {
            "the signature is not over this request: it was altered on its way, or signed as another: sign it anew".into()
        }
        SignatureFault::Signers(why) => {
            format!("the guest's allowed signers cannot be used: {why}: mend that file in the guest")
        }
        SignatureFault::UnknownKey(key) => {
            format!("key {key} is not among the guest's allowed signers: add it there, or sign with one that is")
        }
        SignatureFault::KeyOutOfTime(key) => {
            format!("key {key} is not allowed to sign at this time (valid-after, valid-before): sign with one that is")
        }
        SignatureFault::KeyForOthers(key) => format!(
            "key {key} is not allowed to sign here (namespaces without doorbell-request): change its line in the guest"
        ),
        SignatureFault::OtherGuest => {
            "the signature is for other guests: sign for the fingerprint that `doorbell guest show` has of this one".into()
        }
        SignatureFault::TooEarly { not_before_s, now_s } => format!(
            "the signature is good from {} on, and the guest's clock shows {}: wait, or set its clock",
            Moment(*not_before_s),
            Moment(*now_s)
        ),
        SignatureFault::Expired { expires_s, now_s } => format!(
            "the signature was good until {}, and the guest's clock shows {}: sign it anew, or set its clock",
            Moment(*expires_s),
            Moment(*now_s)
        ),
        SignatureFault::NoClock(now_s) => format!(
            "the guest's clock shows {}, which cannot be, so no signature is judged: set its clock",
            Moment(*now_s)
        ),
        SignatureFault::Replayed(request) => format!(
            "what was signed was begun before, as request {request}: sign it anew to have it done once more"
        ),
        SignatureFault::Unrecorded(errno) => format!(
            "the guest cannot note that it begins by this signature ({}): make room on its disk, or look at the file \
             nonces in the agent's state directory",
            Errno::from_raw(*errno).desc()
        ),
        SignatureFault::NotSignable(why) => format!("it cannot be begun by a signature: {why}"),
    }
}
