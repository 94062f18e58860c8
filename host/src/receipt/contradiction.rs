//! What cannot be true of an acknowledgement. Pure.
//!
//! Asked by [`super`] before anything of it counts. Trusts nothing.

use doorbell_wire::message::action::{Action, Form, LinkSelector, LinkSet, Put, Reboot, RunReboot};
use doorbell_wire::message::outcome::{
    Acknowledgement, Evidence, FileEvidence, LinkChange, LinkState, Outcome, Rebooted,
};

/// What cannot be true of an acknowledgement for this action.
pub(super) fn of(action: &Action, ack: &Acknowledgement) -> Option<String> {
    match &ack.outcome {
        Outcome::NotVerified(digests) if digests.got == digests.expected => {
            return Some("a digest that differs from itself".into());
        }
        Outcome::NotVerified(_) | Outcome::NotReceived(_) if action.payload().is_none() => {
            return Some("bytes that did not arrive for a request without any".into());
        }
        Outcome::Continues(_) | Outcome::NotRebooted if !matches!(action, Action::RunReboot(_)) => {
            return Some("a reboot for a request without one".into());
        }
        Outcome::Continues(_)
        | Outcome::NotRebooted
        | Outcome::Succeeded
        | Outcome::Failed(_)
        | Outcome::Killed(_)
        | Outcome::TimedOut
        | Outcome::Cancelled
        | Outcome::Refused(_)
        | Outcome::Interrupted
        | Outcome::NotReceived(_)
        | Outcome::NotVerified(_)
        | Outcome::NotStarted(_) => {}
    }
    let succeeded = ack.outcome == Outcome::Succeeded;
    match (action, &ack.evidence) {
        (Action::LinkSet(wanted), Evidence::LinkChange(change)) => {
            link_contradiction(wanted, change, succeeded)
        }
        (Action::LinkSet(_), Evidence::None) => {
            succeeded.then(|| "a link was switched, and no link was read back".into())
        }
        (Action::Put(put), Evidence::File(file)) => put_contradiction(put, file, succeeded),
        (Action::Get(get), Evidence::File(file)) => {
            (get.path != file.path).then(|| format!("evidence of another file than {}", get.path))
        }
        (Action::Put(_) | Action::Get(_), Evidence::None) => {
            succeeded.then(|| "a file was put or read, and none was read back".into())
        }
        (Action::RunReboot(wanted), evidence) => reboot_contradiction(wanted, &ack.outcome, evidence),
        (
            Action::Run(_) | Action::LinkList | Action::LinkSet(_) | Action::Put(_) | Action::Get(_),
            Evidence::Rebooted(_),
        )
        | (
            Action::Run(_)
            | Action::LinkList
            | Action::LinkSet(_)
            | Action::Put(_)
            | Action::Get(_)
            | Action::Can(_),
            Evidence::Verdict(_),
        )
        | (Action::Can(_), _) => Some(format!("evidence that does not belong to {}", action.name())),
        (Action::Run(_) | Action::LinkList, Evidence::None) | (Action::LinkList, Evidence::Links(_)) => None,
        (Action::Run(_) | Action::LinkSet(_) | Action::Put(_) | Action::Get(_), Evidence::Links(_))
        | (Action::Run(_) | Action::LinkList | Action::Put(_) | Action::Get(_), Evidence::LinkChange(_))
        | (Action::Run(_) | Action::LinkList | Action::LinkSet(_), Evidence::File(_)) => {
            Some(format!("evidence that does not belong to {}", action.name()))
        }
    }
}

fn link_contradiction(wanted: &LinkSet, change: &LinkChange, succeeded: bool) -> Option<String> {
    let LinkChange { before, after } = change;
    let is_the_one = |link: &LinkState| match &wanted.link {
        LinkSelector::Name(name) => link.name == *name,
        LinkSelector::Mac(mac) => link.mac == Some(*mac),
    };
    if before.index != after.index || !is_the_one(before) {
        return Some(format!("evidence of another link than {}", wanted.link));
    }
    let word = |up| if up { "up" } else { "down" };
    (succeeded && after.is_up() != wanted.up).then(|| {
        format!(
            "{} is said to be {}, and was read back {}",
            wanted.link,
            word(wanted.up),
            word(after.is_up())
        )
    })
}

/// What says that the guest rebooted has to name two runs of its kernel.
fn reboot_contradiction(wanted: &RunReboot, outcome: &Outcome, evidence: &Evidence) -> Option<String> {
    let rebooted = match evidence {
        Evidence::Rebooted(Rebooted { before, after }) if before == after => {
            return Some("a reboot into the run of the kernel that was there before".into());
        }
        Evidence::Rebooted(_) => true,
        Evidence::None => false,
        Evidence::Links(_) | Evidence::LinkChange(_) | Evidence::File(_) | Evidence::Verdict(_) => {
            return Some("evidence that does not belong to run-reboot".into());
        }
    };
    let due = *outcome == Outcome::Succeeded && wanted.reboot == Reboot::AfterSuccess
        || matches!(outcome, Outcome::Continues(_));
    (due && !rebooted).then(|| "a reboot is said to be done, and no other run of the kernel was seen".into())
}

fn put_contradiction(put: &Put, file: &FileEvidence, succeeded: bool) -> Option<String> {
    if put.path != file.path {
        return Some(format!("evidence of another file than {}", put.path));
    }
    let another = put.form == Form::File && file.digest.is_some_and(|digest| digest != put.payload.digest);
    (succeeded && another)
        .then(|| format!("{} is said to be put, and was read back with other bytes", put.path))
}
