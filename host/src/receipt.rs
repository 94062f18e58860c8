//! Receipts: an acknowledgement checked against its request, made into a final state and the evidence. Pure.
//!
//! Called by the store in the transaction that closes a request. Trusts a guest about itself only, and not
//! where its words contradict each other: then the receipt says so, and nothing counts as done.

mod contradiction;
mod signature;

use crate::output::{OutputKept, StreamKept};
use crate::request::octal;
use doorbell_api::receipt::{
    FileEvidence, FileKind, LinkState, OutputTotal, Ran, Receipt, StartFault, Usage,
};
use doorbell_api::request::State;
use doorbell_wire::message::action::{Action, Executable, LinkSet, RunParts, RunReboot};
use doorbell_wire::message::outcome::{
    self, Acknowledgement, Evidence, LinkChange, NotReceived, NotStarted, Outcome, Rebooted, Refusal,
    StreamTotal,
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
    let contradiction = contradiction::of(action, ack);
    let mut receipt = blank(kept, ack);
    match &ack.evidence {
        Evidence::LinkChange(LinkChange { before, after }) => {
            receipt.link_before = Some(link_to_api(before));
            receipt.link_after = Some(link_to_api(after));
        }
        Evidence::File(file) => receipt.file = Some(file_to_api(file)),
        Evidence::Rebooted(Rebooted { before, .. }) => receipt.boot_before = Some(before.to_string()),
        Evidence::None | Evidence::Links(_) | Evidence::Verdict(_) => {}
    }
    let state = fill_outcome(&mut receipt, action, &ack.outcome);
    tell_of_memory(&mut receipt, action, state);
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
        start_fault: None,
        errno: None,
        link_before: None,
        link_after: None,
        stdout: OutputTotal { bytes: kept.stdout.len, ..OutputTotal::default() },
        stderr: OutputTotal { bytes: kept.stderr.len, ..OutputTotal::default() },
        file: None,
        ran: None,
        usage: None,
        boot_id: None,
        boot_before: None,
        amends: None,
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
    Receipt {
        stdout: total(kept.stdout, ack.output.stdout),
        stderr: total(kept.stderr, ack.output.stderr),
        detail: None,
        ran: ack.ran.map(|ran| Ran {
            started_us: safe(ran.started_us),
            first_output_us: ran.first_output_us.map(safe),
            exited_us: safe(ran.exited_us),
            ended_us: safe(ran.ended_us),
        }),
        usage: ack.ran.and_then(|ran| ran.usage).map(|usage| Usage {
            cpu_user_us: safe(usage.cpu_user_us),
            cpu_system_us: safe(usage.cpu_system_us),
            memory_peak: usage.memory_peak.map(safe),
            oom_killed: usage.oom_killed,
        }),
        ..closed("", kept)
    }
}

/// What the manager does not have of all that was printed is lost, wherever it was lost.
fn total(kept: StreamKept, said: StreamTotal) -> OutputTotal {
    let lost = safe(said.kept.saturating_add(said.dropped).saturating_sub(kept.len));
    OutputTotal {
        bytes: kept.len,
        lost,
        truncated: lost > 0,
        sha256: said.digest.map(|digest| digest.to_string()),
        // A part of what the guest kept has another digest than the whole, and is no sign of damage.
        intact: said
            .digest
            .zip(kept.digest)
            .filter(|_| said.kept == kept.len)
            .map(|(said, ours)| said == ours),
    }
}

/// A guest may say any number; ours are read by JSON parsers and data bases with signed integers.
const fn safe(number: u64) -> u64 {
    if number > i64::MAX as u64 { i64::MAX as u64 } else { number }
}

/// A file as the API shows it.
fn file_to_api(file: &outcome::FileEvidence) -> FileEvidence {
    FileEvidence {
        path: file.path.to_string(),
        kind: match file.kind {
            outcome::FileKind::File => FileKind::File,
            outcome::FileKind::Tree => FileKind::Tree,
            outcome::FileKind::Link => FileKind::Link,
        },
        len: safe(file.len),
        sha256: file.digest.map(|digest| digest.to_string()),
        mode: octal(file.mode),
        uid: file.uid,
        gid: file.gid,
        entries: safe(file.entries),
    }
}

/// A program that the kernel killed for want of memory ended by a signal like any other; the receipt says why.
fn tell_of_memory(receipt: &mut Receipt, action: &Action, state: State) {
    let Some(usage) = receipt.usage.filter(|usage| usage.oom_killed) else { return };
    let what = if state == State::Killed {
        "killed for want of memory"
    } else if state == State::Failed {
        "a part of it was killed for want of memory"
    } else {
        return;
    };
    let limit = run_parts(action).and_then(|parts| parts.limits.memory_max);
    let numbers = [("limit", limit), ("peak", usage.memory_peak)];
    let told: Vec<_> = numbers
        .into_iter()
        .filter_map(|(name, bytes)| bytes.map(|bytes| format!("{name} {}", mebibytes(bytes))))
        .collect();
    let told = if told.is_empty() { String::new() } else { format!(" ({})", told.join(", ")) };
    receipt.detail = Some(format!("{what}{told}"));
}

/// Bytes for people: whole MiB, or with one digit behind the point, cut.
fn mebibytes(bytes: u64) -> String {
    let whole = bytes >> 20;
    let rest = bytes & 0xf_ffff;
    let tenth = rest.saturating_mul(10) >> 20;
    if rest == 0 { format!("{whole} MiB") } else { format!("{whole}.{tenth} MiB") }
}

fn fill_outcome(receipt: &mut Receipt, action: &Action, outcome: &Outcome) -> State {
    match outcome {
        Outcome::Succeeded => {
            // What is no program has no status.
            receipt.exit_code = action.run().map(|_| 0);
            State::Succeeded
        }
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
            let what = format!("the {} could not be staged", payload(action));
            failed(receipt, State::NotReceived, &what, *errno)
        }
        Outcome::NotReceived(NotReceived::Length { expected, got }) => told(
            receipt,
            State::NotReceived,
            format!("the {} arrived with {got} bytes, expected {expected}", payload(action)),
        ),
        Outcome::NotVerified(digests) => told(
            receipt,
            State::NotVerified,
            format!(
                "the {} that arrived is sha256 {}, expected {}",
                payload(action),
                digests.got,
                digests.expected
            ),
        ),
        Outcome::NotStarted(why) => fill_not_started(receipt, action, *why),
        // An open request is queued by it; only one that was closed meanwhile comes here.
        Outcome::Continues(_) => told(
            receipt,
            State::Interrupted,
            "its program asked to be continued behind a reboot, and the request was closed by then".into(),
        ),
        Outcome::NotRebooted => told(
            receipt,
            State::Failed,
            "the program has ended as it should, and the guest did not reboot behind it".into(),
        ),
    }
}

fn fill_not_started(receipt: &mut Receipt, action: &Action, why: NotStarted) -> State {
    let NotStarted { fault, errno } = why;
    let (what, parts) = (subject(action), run_parts(action));
    let text = match fault {
        outcome::StartFault::NotFound => format!("{what} is not in the guest"),
        outcome::StartFault::NotExecutable => format!("{what} is there, and must not be executed"),
        outcome::StartFault::BadInterpreter => {
            "the interpreter that the program names is not in the guest".to_owned()
        }
        outcome::StartFault::WrongArchitecture => format!("{what} is a program for another machine"),
        outcome::StartFault::NotAProgram => {
            format!("{what} is no program: neither a format of the kernel nor a script with a first line")
        }
        outcome::StartFault::NoExecMount => {
            format!("{what} is on a file system from which nothing is executed")
        }
        outcome::StartFault::NoDirectory => {
            let cwd = parts.and_then(|parts| parts.cwd.as_ref()).map_or("/", |cwd| cwd.as_str());
            format!("the directory {cwd} cannot be entered: {}", Errno::from_raw(errno).desc())
        }
        outcome::StartFault::NoUser => {
            let user = parts.and_then(|parts| parts.user.as_ref()).map_or("root", |user| user.as_str());
            format!("the guest has no user {user}")
        }
        outcome::StartFault::Kernel => {
            format!("{what} could not be started: {}", Errno::from_raw(errno).desc())
        }
    };
    receipt.start_fault = Some(fault_to_api(fault));
    receipt.errno = Some(errno).filter(|errno| *errno != 0);
    told(receipt, State::NotStarted, text)
}

const fn fault_to_api(fault: outcome::StartFault) -> StartFault {
    match fault {
        outcome::StartFault::NotFound => StartFault::NotFound,
        outcome::StartFault::NotExecutable => StartFault::NotExecutable,
        outcome::StartFault::BadInterpreter => StartFault::BadInterpreter,
        outcome::StartFault::WrongArchitecture => StartFault::WrongArchitecture,
        outcome::StartFault::NotAProgram => StartFault::NotAProgram,
        outcome::StartFault::NoExecMount => StartFault::NoExecMount,
        outcome::StartFault::NoDirectory => StartFault::NoDirectory,
        outcome::StartFault::NoUser => StartFault::NoUser,
        outcome::StartFault::Kernel => StartFault::Kernel,
    }
}

fn fill_refusal(receipt: &mut Receipt, link: &str, refusal: &Refusal) -> State {
    let state = State::Refused;
    match refusal {
        Refusal::Unsupported(what) => told(receipt, state, format!("this guest cannot do that: {what}")),
        // It did not run now. Whether it has run before is what nobody knows: least of all that it has not.
        Refusal::StaleSequence(sequence) => told(
            receipt,
            State::Interrupted,
            format!(
                "its guest has settled it before and no longer knows how it ended (sequence {sequence}): the manager was \
                 restored from a backup since, or the guest's journal was damaged; it is not run again"
            ),
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
        Refusal::Signature(fault) => told(receipt, state, signature::text(fault)),
        Refusal::Policy(rule) => told(receipt, state, format!("the guest's policy refuses it: {rule}")),
    }
}

/// Why a guest would not begin something, in the words of a receipt.
#[must_use]
pub fn refusal_text(action: &Action, refusal: &Refusal) -> String {
    let mut receipt = closed("", OutputKept::default());
    let _ = fill_refusal(&mut receipt, &subject(action), refusal);
    receipt.detail.unwrap_or_default()
}

/// What an action is about, for people: a program, or a link.
fn subject(action: &Action) -> String {
    match action {
        Action::LinkSet(LinkSet { link, .. }) => link.to_string(),
        Action::Run(run) | Action::RunReboot(RunReboot { run, .. }) => match &run.parts().executable {
            Executable::InGuest(command) => command.as_str().to_owned(),
            Executable::Program(program) => program.name.to_string(),
        },
        Action::LinkList | Action::Can(_) => "the query".to_owned(),
        Action::Put(put) => put.path.to_string(),
        Action::Get(get) => get.path.to_string(),
    }
}

fn run_parts(action: &Action) -> Option<&RunParts> {
    action.run().map(|run| run.parts())
}

/// What the bytes of an action are, for people.
const fn payload(action: &Action) -> &'static str {
    if matches!(action, Action::Put(_)) { "file" } else { "program" }
}

fn told(receipt: &mut Receipt, state: State, detail: String) -> State {
    receipt.detail = Some(detail);
    state
}

fn failed(receipt: &mut Receipt, state: State, what: &str, errno: i32) -> State {
    receipt.errno = Some(errno);
    told(receipt, state, format!("{what}: {}", Errno::from_raw(errno).desc()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use doorbell_wire::ids::{Digest, RequestId};
    use doorbell_wire::message::action::LinkSelector;
    use doorbell_wire::message::outcome::{NotVerified, OutputTotals};
    use serde_json::json;

    fn run() -> Action {
        serde_json::from_value(
            json!({"Run": {"executable": {"InGuest": "true"}, "args": [], "env": [], "cwd": "/srv",
                "user": "bob", "input": "None", "limits": {"output_len_max": 0, "memory_max": 32 << 20}}}),
        )
        .unwrap()
    }

    fn fetched_run() -> Action {
        let program = json!({"digest": "11".repeat(32), "len": 3, "name": "fix"});
        serde_json::from_value(json!({"Run": {"executable": {"Program": program}, "args": [], "env": [],
                "input": "None", "limits": {"output_len_max": 0}}}))
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
    }

    #[test]
    fn what_could_not_be_started_says_why_in_a_word_and_in_a_line() {
        use outcome::StartFault as Fault;
        let cases = [
            (Fault::NotFound, 2, "not-found", "true is not in the guest"),
            (Fault::NotExecutable, 13, "not-executable", "true is there, and must not be executed"),
            (
                Fault::BadInterpreter,
                2,
                "bad-interpreter",
                "the interpreter that the program names is not in the guest",
            ),
            (Fault::WrongArchitecture, 8, "wrong-architecture", "true is a program for another machine"),
            (
                Fault::NotAProgram,
                8,
                "not-a-program",
                "true is no program: neither a format of the kernel nor a script with a first line",
            ),
            (
                Fault::NoExecMount,
                13,
                "no-exec-mount",
                "true is on a file system from which nothing is executed",
            ),
            (
                Fault::NoDirectory,
                2,
                "no-directory",
                "the directory /srv cannot be entered: No such file or directory",
            ),
            (Fault::NoUser, 0, "no-user", "the guest has no user bob"),
            (Fault::Kernel, 7, "kernel", "true could not be started: Argument list too long"),
        ];
        for (fault, errno, word, line) in cases {
            let judged = plain(Outcome::NotStarted(NotStarted { fault, errno }));
            assert_eq!(judged.state, State::NotStarted);
            assert_eq!(judged.receipt.errno, Some(errno).filter(|errno| *errno != 0));
            assert_eq!(serde_json::to_value(judged.receipt.start_fault).unwrap(), word);
            assert_eq!(judged.receipt.detail.unwrap(), line);
        }
    }

    #[test]
    fn a_program_that_was_killed_for_want_of_memory_says_so() {
        let usage = |oom_killed| outcome::Usage {
            cpu_user_us: u64::MAX,
            cpu_system_us: 2,
            memory_peak: Some((32 << 20) - 1),
            oom_killed,
        };
        let ran = |oom_killed| outcome::Ran {
            started_us: 5,
            first_output_us: None,
            exited_us: 7,
            ended_us: 8,
            usage: Some(usage(oom_killed)),
        };
        let judged = |outcome, oom_killed| {
            let ack = Acknowledgement { ran: Some(ran(oom_killed)), ..ack(outcome, Evidence::None) };
            judge(&run(), &ack, OutputKept::default())
        };
        let killed = judged(Outcome::Killed(9.try_into().unwrap()), true);
        assert_eq!(killed.receipt.detail.unwrap(), "killed for want of memory (limit 32 MiB, peak 31.9 MiB)");
        let shown = killed.receipt.usage.unwrap();
        assert_eq!((shown.cpu_user_us, shown.oom_killed), (i64::MAX as u64, true));
        assert_eq!(killed.receipt.ran.unwrap().ended_us, 8);
        let failed = judged(Outcome::Failed(1.try_into().unwrap()), true);
        let detail = failed.receipt.detail.unwrap();
        assert!(detail.starts_with("a part of it was killed for want of memory"), "{detail}");
        assert_eq!(judged(Outcome::Succeeded, true).receipt.detail, None);
        assert_eq!(judged(Outcome::Killed(9.try_into().unwrap()), false).receipt.detail, None);
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
    fn a_refusal_by_the_guests_policy_has_the_rules_own_text() {
        let rule = "rule 2: not by day".parse().unwrap();
        let judged = plain(Outcome::Refused(Refusal::Policy(rule)));
        assert_eq!(judged.state, State::Refused);
        assert_eq!(judged.receipt.detail.unwrap(), "the guest's policy refuses it: rule 2: not by day");
    }

    #[test]
    fn what_was_settled_before_is_not_said_to_have_been_refused() {
        let judged = plain(Outcome::Refused(Refusal::StaleSequence(7)));
        assert_eq!(judged.state, State::Interrupted);
        let line = judged.receipt.detail.unwrap();
        assert!(line.contains("settled it before") && line.contains("it is not run again"), "{line}");
    }

    #[test]
    fn output_that_never_came_counts_as_lost() {
        let mut ack = ack(Outcome::Succeeded, Evidence::None);
        ack.output.stdout = StreamTotal { kept: 100, dropped: 7, digest: None };
        ack.output.stderr = StreamTotal { kept: u64::MAX, dropped: u64::MAX, digest: None };
        let stdout = StreamKept { len: 60, digest: None };
        let receipt = judge(&run(), &ack, OutputKept { stdout, ..OutputKept::default() }).receipt;
        assert_eq!((receipt.stdout.bytes, receipt.stdout.lost, receipt.stdout.truncated), (60, 47, true));
        assert_eq!((receipt.stderr.lost, receipt.stderr.intact), (i64::MAX as u64, None));
    }

    #[test]
    fn a_copy_is_intact_or_not_or_cannot_be_told() {
        let (one, other) = (Digest::new([1; 32]), Digest::new([2; 32]));
        let intact = |kept, said, len, ours| {
            let mut ack = ack(Outcome::Succeeded, Evidence::None);
            ack.output.stdout = StreamTotal { kept, dropped: 9, digest: said };
            let stdout = StreamKept { len, digest: ours };
            judge(&run(), &ack, OutputKept { stdout, ..OutputKept::default() }).receipt.stdout
        };
        let same = intact(3, Some(one), 3, Some(one));
        assert_eq!((same.intact, same.sha256), (Some(true), Some(one.to_string())));
        assert_eq!((same.truncated, same.lost), (true, 9), "what was kept is whole and not all there was");
        assert_eq!(intact(3, Some(one), 3, Some(other)).intact, Some(false));
        assert_eq!(intact(3, Some(one), 2, Some(other)).intact, None, "a part is not damaged but lost");
        assert_eq!(intact(3, None, 3, Some(one)).intact, None);
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
            (put(), ack(Outcome::Succeeded, Evidence::None)),
            (put(), ack(Outcome::Succeeded, file("/etc/other", [0x11; 32]))),
            (put(), ack(Outcome::Succeeded, file("/etc/motd", [0x12; 32]))),
            (get(), ack(Outcome::Succeeded, Evidence::None)),
            (get(), ack(Outcome::Succeeded, file("/etc/other", [0x11; 32]))),
            (get(), ack(Outcome::NotReceived(NotReceived::Unstageable(28)), Evidence::None)),
            (run(), ack(Outcome::Succeeded, file("/etc/motd", [0x11; 32]))),
        ];
        for (action, ack) in cases {
            let judged = judge(&action, &ack, OutputKept::default());
            assert_eq!(judged.state, State::Refused, "{ack:?}");
            let detail = judged.receipt.detail.unwrap();
            assert!(detail.starts_with("the acknowledgement contradicts itself: "), "{detail}");
        }
    }

    fn put() -> Action {
        let payload = json!({"digest": "11".repeat(32), "len": 3});
        let put = json!({"path": "/etc/motd", "payload": payload, "form": "File", "mode": null, "owner": null,
            "replace": false});
        serde_json::from_value(json!({ "Put": put })).unwrap()
    }

    fn get() -> Action {
        serde_json::from_value(json!({"Get": {"path": "/etc/motd"}})).unwrap()
    }

    fn file(path: &str, digest: [u8; 32]) -> Evidence {
        Evidence::File(outcome::FileEvidence {
            path: path.parse().unwrap(),
            kind: outcome::FileKind::File,
            len: 3,
            digest: Some(Digest::new(digest)),
            mode: 0o644.try_into().unwrap(),
            uid: 0,
            gid: 5,
            entries: 1,
        })
    }

    #[test]
    fn a_file_is_shown_as_it_was_read_back() {
        for action in [put(), get()] {
            let ack = ack(Outcome::Succeeded, file("/etc/motd", [0x11; 32]));
            let judged = judge(&action, &ack, OutputKept::default());
            assert_eq!(judged.state, State::Succeeded);
            let file = judged.receipt.file.unwrap();
            assert_eq!((file.path.as_str(), file.mode.as_str(), file.gid), ("/etc/motd", "0644", 5));
            assert_eq!((file.kind, file.len, file.sha256), (FileKind::File, 3, Some("11".repeat(32))));
        }
        let full = ack(Outcome::NotReceived(NotReceived::Unstageable(28)), Evidence::None);
        let judged = judge(&put(), &full, OutputKept::default());
        assert_eq!(judged.receipt.detail.unwrap(), "the file could not be staged: No space left on device");
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
