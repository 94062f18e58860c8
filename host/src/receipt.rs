//! Receipts: an acknowledgement checked against its request, made into a final state and the evidence. Pure.
//!
//! Called by the store in the transaction that closes a request. Trusts a guest about itself only, and not
//! where its words contradict each other: then the receipt says so, and nothing counts as done.

use crate::output::OutputKept;
use doorbell_api::receipt::{LinkState, OutputTotal, Receipt};
use doorbell_api::request::State;
use doorbell_wire::message::action::{Action, Executable, LinkSelector, LinkSet};
use doorbell_wire::message::outcome::{
    self, Acknowledgement, Evidence, LinkChange, NotReceived, Outcome, Refusal, StreamTotal,
};
use nix::errno::Errno;
use sha2::{Digest as _, Sha256};

/// What an acknowledgement amounts to.
#[derive(Clone, Debug)]
pub struct Judged {
    /// The final state.
    pub state: State,
    /// The receipt; when, by which boot and beside which audit record is the store's to fill in.
    pub receipt: Receipt,
}

/// Makes the receipt of an acknowledgement of a request for `action`, of whose output `kept` is on disk.
#[must_use]
pub fn judge(action: &Action, ack: &Acknowledgement, kept: OutputKept) -> Judged {
    let contradiction = contradiction(action, ack);
    let mut receipt = blank(kept, ack);
    if let Evidence::LinkChange(LinkChange { before, after }) = &ack.evidence {
        receipt.link_before = Some(link_to_api(before));
        receipt.link_after = Some(link_to_api(after));
    }
    let state = fill_outcome(&mut receipt, action, &ack.outcome);
    match contradiction {
        None => Judged { state, receipt },
        Some(what) => {
            receipt.detail = Some(format!("the acknowledgement contradicts itself: {what}"));
            Judged { state: State::Refused, receipt }
        }
    }
}

/// The receipt of a request that the manager itself closes: why, and what had been printed.
#[must_use]
pub fn closed(detail: &str, kept: OutputKept) -> Receipt {
    Receipt {
        stored_at_ms: 0,
        exit_code: None,
        signal: None,
        detail: Some(detail.to_owned()),
        errno: None,
        link_before: None,
        link_after: None,
        stdout: OutputTotal { bytes: kept.stdout, lost: 0 },
        stderr: OutputTotal { bytes: kept.stderr, lost: 0 },
        ran_for_ms: None,
        boot_id: None,
        audit_hash: String::new(),
    }
}

/// SHA-256 over a receipt without its audit hash: the audit record that stands beside it carries this, so
/// that an altered receipt is as visible as an altered record.
///
/// # Errors
/// When the receipt has no JSON form.
pub fn seal(receipt: &Receipt) -> Result<String, serde_json::Error> {
    let bare = Receipt { audit_hash: String::new(), ..receipt.clone() };
    serde_json::to_vec(&bare).map(|bytes| hex::encode(Sha256::digest(bytes)))
}

/// A link as the API shows it.
#[must_use]
pub fn link_to_api(link: &outcome::LinkState) -> LinkState {
    LinkState {
        index: link.index,
        name: link.name.to_string(),
        mac: link.mac.map(|mac| mac.to_string()),
        up: link.is_up(),
        carrier: link.carrier,
        flags: link.flags,
        mtu: link.mtu,
    }
}

fn blank(kept: OutputKept, ack: &Acknowledgement) -> Receipt {
    let ran_for_ms = ack.ran.map(|ran| ran.ended_ms.saturating_sub(ran.started_ms));
    Receipt {
        stdout: total(kept.stdout, ack.output.stdout),
        stderr: total(kept.stderr, ack.output.stderr),
        detail: None,
        ran_for_ms,
        ..closed("", kept)
    }
}

/// What the manager does not have of all that was printed is lost, wherever it was lost.
const fn total(bytes: u64, said: StreamTotal) -> OutputTotal {
    OutputTotal { bytes, lost: said.kept.saturating_add(said.dropped).saturating_sub(bytes) }
}

fn fill_outcome(receipt: &mut Receipt, action: &Action, outcome: &Outcome) -> State {
    match outcome {
        Outcome::Succeeded => State::Succeeded,
        Outcome::Failed(code) => {
            receipt.exit_code = Some(code.get());
            State::Failed
        }
        Outcome::Killed(signal) => {
            receipt.signal = Some((*signal).into());
            State::Killed
        }
        Outcome::TimedOut => told(receipt, State::TimedOut, "the time limit of the request ended it".into()),
        Outcome::Cancelled => State::Cancelled,
        Outcome::Refused(refusal) => fill_refusal(receipt, &subject(action), refusal),
        Outcome::Interrupted => told(
            receipt,
            State::Interrupted,
            "it had started, and guest or agent went down before its outcome was on disk".into(),
        ),
        Outcome::NotReceived(NotReceived::Unstageable(errno)) => {
            failed(receipt, State::NotReceived, "the program could not be staged", *errno)
        }
        Outcome::NotReceived(NotReceived::Length { expected, got }) => told(
            receipt,
            State::NotReceived,
            format!("the program arrived with {got} bytes, expected {expected}"),
        ),
        Outcome::NotVerified(digests) => told(
            receipt,
            State::NotVerified,
            format!("the program that arrived is sha256 {}, expected {}", digests.got, digests.expected),
        ),
        Outcome::NotStarted(errno) => {
            failed(receipt, State::NotStarted, &format!("{} could not be started", subject(action)), *errno)
        }
    }
}

fn fill_refusal(receipt: &mut Receipt, link: &str, refusal: &Refusal) -> State {
    let state = State::Refused;
    match refusal {
        Refusal::Unsupported(what) => told(receipt, state, format!("this guest cannot do that: {what}")),
        Refusal::StaleSequence(mark) => told(
            receipt,
            state,
            format!("the guest finished everything up to sequence {mark} and has no record of this request"),
        ),
        Refusal::StateUnwritable(errno) => failed(receipt, state, "the agent cannot write its state", *errno),
        Refusal::NoSuchLink => told(receipt, state, format!("the guest has no link {link}")),
        Refusal::AmbiguousLink(count) => {
            told(receipt, state, format!("{count} links have the address {link}: use a name"))
        }
        Refusal::LinkRefused(errno) => {
            failed(receipt, state, &format!("link {link} did not take the state"), *errno)
        }
        Refusal::NotInEffect => told(
            receipt,
            state,
            format!("the kernel took the change of link {link}, and the state read back is another one"),
        ),
    }
}

/// What an action is about, for people: a program, or a link.
fn subject(action: &Action) -> String {
    match action {
        Action::LinkSet(LinkSet { link, .. }) => link.to_string(),
        Action::Run(run) => match &run.parts().executable {
            Executable::InGuest(command) => command.as_str().to_owned(),
            Executable::Program(program) => program.name.to_string(),
        },
        Action::LinkList => "the query".to_owned(),
    }
}

fn told(receipt: &mut Receipt, state: State, detail: String) -> State {
    receipt.detail = Some(detail);
    state
}

fn failed(receipt: &mut Receipt, state: State, what: &str, errno: i32) -> State {
    receipt.errno = Some(errno);
    told(receipt, state, format!("{what}: {}", Errno::from_raw(errno).desc()))
}

/// What cannot be true of an acknowledgement for this action.
fn contradiction(action: &Action, ack: &Acknowledgement) -> Option<String> {
    match &ack.outcome {
        Outcome::NotVerified(digests) if digests.got == digests.expected => {
            return Some("a digest that differs from itself".into());
        }
        Outcome::NotVerified(_) | Outcome::NotReceived(_) if action.program().is_none() => {
            return Some("a program that did not arrive for a request without one".into());
        }
        Outcome::Succeeded
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
        (Action::Run(_) | Action::LinkList, Evidence::None) | (Action::LinkList, Evidence::Links(_)) => None,
        (Action::Run(_) | Action::LinkSet(_), Evidence::Links(_))
        | (Action::Run(_) | Action::LinkList, Evidence::LinkChange(_)) => {
            Some(format!("evidence that does not belong to {}", action.name()))
        }
    }
}

fn link_contradiction(wanted: &LinkSet, change: &LinkChange, succeeded: bool) -> Option<String> {
    let LinkChange { before, after } = change;
    let is_the_one = |link: &outcome::LinkState| match &wanted.link {
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

#[cfg(test)]
mod tests {
    use super::*;
    use doorbell_wire::ids::{Digest, RequestId};
    use doorbell_wire::message::outcome::{NotVerified, OutputTotals, Ran};
    use serde_json::json;

    fn run() -> Action {
        serde_json::from_value(
            json!({"Run": {"executable": {"InGuest": "true"}, "args": [], "env": [], "cwd": null}}),
        )
        .unwrap()
    }

    fn fetched_run() -> Action {
        let program = json!({"digest": "11".repeat(32), "len": 3, "name": "fix"});
        serde_json::from_value(
            json!({"Run": {"executable": {"Program": program}, "args": [], "env": [], "cwd": null}}),
        )
        .unwrap()
    }

    fn link_down() -> Action {
        Action::LinkSet(LinkSet { link: LinkSelector::Name("eth0".parse().unwrap()), up: false })
    }

    fn link(name: &str, up: bool) -> outcome::LinkState {
        outcome::LinkState {
            index: 2,
            name: name.parse().unwrap(),
            mac: None,
            flags: u32::from(up),
            carrier: None,
            mtu: 1500,
        }
    }

    fn change(name: &str, up: bool) -> Evidence {
        Evidence::LinkChange(LinkChange { before: link(name, true), after: link(name, up) })
    }

    fn ack(outcome: Outcome, evidence: Evidence) -> Acknowledgement {
        let request = RequestId::new([7; 16]);
        Acknowledgement { request, outcome, evidence, output: OutputTotals::default(), ran: None }
    }

    fn plain(outcome: Outcome) -> Judged {
        judge(&run(), &ack(outcome, Evidence::None), OutputKept::default())
    }

    #[test]
    fn exit_status_signal_and_could_not_start_are_three_things() {
        let failed = plain(Outcome::Failed(3.try_into().unwrap()));
        assert_eq!(
            (failed.state, failed.receipt.exit_code, failed.receipt.signal),
            (State::Failed, Some(3), None)
        );
        let killed = plain(Outcome::Killed(9.try_into().unwrap()));
        assert_eq!(
            (killed.state, killed.receipt.exit_code, killed.receipt.signal),
            (State::Killed, None, Some(9))
        );
        let not_started = plain(Outcome::NotStarted(2));
        assert_eq!((not_started.state, not_started.receipt.errno), (State::NotStarted, Some(2)));
        assert_eq!(
            not_started.receipt.detail.unwrap(),
            "true could not be started: No such file or directory"
        );
    }

    #[test]
    fn a_link_change_is_kept_before_and_after() {
        let judged =
            judge(&link_down(), &ack(Outcome::Succeeded, change("eth0", false)), OutputKept::default());
        assert_eq!(judged.state, State::Succeeded);
        assert!(judged.receipt.link_before.unwrap().up);
        assert!(!judged.receipt.link_after.unwrap().up);
    }

    #[test]
    fn a_refused_link_is_named() {
        for refusal in
            [Refusal::NoSuchLink, Refusal::AmbiguousLink(2), Refusal::LinkRefused(1), Refusal::NotInEffect]
        {
            let judged =
                judge(&link_down(), &ack(Outcome::Refused(refusal), Evidence::None), OutputKept::default());
            assert!(judged.receipt.detail.unwrap().contains("eth0"));
        }
    }

    #[test]
    fn output_that_never_came_counts_as_lost() {
        let mut ack = ack(Outcome::Succeeded, Evidence::None);
        ack.output.stdout = StreamTotal { kept: 100, dropped: 7 };
        ack.ran = Some(Ran { started_ms: 50, ended_ms: 80 });
        let receipt = judge(&run(), &ack, OutputKept { stdout: 60, stderr: 0 }).receipt;
        assert_eq!(receipt.stdout, OutputTotal { bytes: 60, lost: 47 });
        assert_eq!(receipt.ran_for_ms, Some(30));
    }

    #[test]
    fn what_contradicts_itself_is_never_done() {
        let digest = Digest::new([0x22; 32]);
        let rotten = NotVerified { expected: digest, got: digest };
        let cases = [
            (run(), ack(Outcome::Succeeded, change("eth0", false))),
            (run(), ack(Outcome::NotReceived(NotReceived::Unstageable(28)), Evidence::None)),
            (fetched_run(), ack(Outcome::NotVerified(rotten), Evidence::None)),
            (link_down(), ack(Outcome::Succeeded, Evidence::None)),
            (link_down(), ack(Outcome::Succeeded, change("eth0", true))),
            (link_down(), ack(Outcome::Succeeded, change("eth1", false))),
        ];
        for (action, ack) in cases {
            let judged = judge(&action, &ack, OutputKept::default());
            assert_eq!(judged.state, State::Refused, "{ack:?}");
            let detail = judged.receipt.detail.unwrap();
            assert!(detail.starts_with("the acknowledgement contradicts itself: "), "{detail}");
        }
    }

    #[test]
    fn the_seal_covers_all_but_the_audit_hash() {
        let receipt = plain(Outcome::Failed(3.try_into().unwrap())).receipt;
        let beside = Receipt { audit_hash: "00".into(), ..receipt.clone() };
        let altered = Receipt { exit_code: Some(0), ..receipt.clone() };
        assert_eq!(seal(&receipt).unwrap(), seal(&beside).unwrap());
        assert_ne!(seal(&receipt).unwrap(), seal(&altered).unwrap());
    }
}
