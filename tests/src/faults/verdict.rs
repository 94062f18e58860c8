//! What must hold when the faults of a seed have stopped.
//!
//! Asked by the suite behind each schedule. Every rule is about what an operator relies on, and says which
//! request broke it.

use super::scene::{PATIENCE, Scene};
use super::schedule::{Fault, Kind, Schedule};
use super::work::{Answer, FAILS_WITH, Job, MARKS, place_of};
use crate::lab::GUEST;
use crate::process::kib_of;
use crate::wait::{comes_within, on, within};
use doorbell_api::error::ErrorCode;
use doorbell_api::receipt::{OutputTotal, Receipt};
use doorbell_api::request::{Request, State};
use doorbell_client::{ClientError, Stream};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::time::Duration;

/// What came of one request, to be compared with what is read later.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Known {
    /// Its id.
    pub id: String,
    /// Its state.
    pub state: State,
    /// The audit record beside its receipt.
    pub audit_hash: String,
}

/// What the faults of a schedule excuse.
#[derive(Clone, Copy, Debug)]
struct Excuse {
    /// Something in the guest went down.
    down: bool,
    /// The guest's disk was full.
    guest_full: bool,
    /// The manager's disk was full.
    manager_full: bool,
    /// The manager was away.
    away: bool,
}

impl Excuse {
    fn of(schedule: &Schedule) -> Self {
        let any = |faults: &[Fault]| faults.iter().any(|fault| schedule.has(*fault));
        let down = [Fault::AgentKilled, Fault::SupervisorsKilled, Fault::GuestReset, Fault::PowerOff];
        Self {
            down: any(&down),
            guest_full: any(&[Fault::GuestDiskFull]),
            manager_full: any(&[Fault::ManagerDiskFull]),
            away: any(&[Fault::ManagerKilled, Fault::ManagerGone, Fault::ManagerDiskFull]),
        }
    }
}

/// Waits for the end of everything, and judges it.
#[track_caller]
pub fn judge(scene: &mut Scene, schedule: &Schedule, mut jobs: Vec<Job>) -> Vec<Known> {
    let excuse = Excuse::of(schedule);
    let answers: Vec<Answer> = jobs.iter_mut().map(Job::answer).collect();
    jobs.iter().for_each(|job| job.insist(&scene.client));
    let mut ends = Vec::new();
    for (job, answer) in jobs.iter().zip(&answers).filter(|(job, _)| job.kind != Kind::Query) {
        ends.extend(end_of(scene, job, answer, excuse).map(|request| (job, request)));
    }
    if let Some((job, request)) = ends.first() {
        let again = job.repeat(&scene.client);
        assert_eq!(
            (again.sequence, again.state),
            (request.sequence, request.state),
            "{job:?} was accepted anew"
        );
    }
    let next = Job::begin(&scene.client, schedule.seed, u8::MAX, Kind::Slow);
    let marks = served(scene, next);
    for (job, request) in &ends {
        judge_state(job, request, excuse);
        judge_marks(job, request, *marks.get(&job.id).unwrap_or(&0));
        judge_output(scene, job, request, excuse);
    }
    let known = |id: &String| ends.iter().any(|(job, _)| job.id == *id);
    let strange: Vec<_> = marks.keys().filter(|id| !known(id)).collect();
    assert!(strange.is_empty(), "these ran although nobody has them, or once more: {strange:?}");
    judge_files(scene, &ends);
    judge_rest(scene);
    ends.into_iter().map(|(_, request)| known_of(&request)).collect()
}

/// What was judged before reads as it did then.
pub fn judge_again(scene: &Scene, all: &[Known]) {
    for known in all {
        assert_eq!(known_of(&scene.daemon.request(&known.id)), *known, "an outcome has changed");
    }
}

fn known_of(request: &Request) -> Known {
    let audit_hash = receipt(request).audit_hash.clone();
    Known { id: request.id.clone(), state: request.state, audit_hash }
}

/// The request once it is final; `None` where the manager never had it, which it must not have said then.
fn end_of(scene: &Scene, job: &Job, answer: &Answer, excuse: Excuse) -> Option<Request> {
    match answer {
        Answer::Accepted(_) | Answer::Asked => {}
        Answer::Refused(code, text) => {
            let clear = *code == ErrorCode::NoSpace && excuse.manager_full;
            assert!(clear, "{:?} {} was refused: {text}", job.kind, job.id);
        }
        Answer::Unknown(text) => {
            assert!(excuse.away, "{:?} {} was not answered: {text}", job.kind, job.id);
        }
    }
    match on("the request", scene.client.request(&job.id)) {
        Ok(_) => {}
        Err(ClientError::Refused { code: ErrorCode::NotFound, .. }) => {
            let told = matches!(answer, Answer::Accepted(_));
            assert!(!told, "{:?} {} was accepted and is not known", job.kind, job.id);
            return None;
        }
        Err(error) => panic!("{:?} {} cannot be read: {error}", job.kind, job.id),
    }
    let mut seen = None;
    let request = within(PATIENCE, &format!("the end of {:?} {}", job.kind, job.id), || {
        let request = scene.daemon.request(&job.id);
        if seen != Some(request.state) {
            seen = Some(request.state);
            job.insist(&scene.client);
        }
        request.state.is_final().then_some(request)
    });
    if let Answer::Accepted(sequence) = answer {
        assert_eq!(request.sequence, *sequence, "{:?} {} has moved", job.kind, job.id);
    }
    Some(request)
}

/// The next request is served; gives the marks of all others, by their ids.
fn served(scene: &mut Scene, mut next: Job) -> BTreeMap<String, usize> {
    let Answer::Accepted(_) = next.answer() else { panic!("the next request is not accepted") };
    let request = scene.daemon.finished(&next.id);
    assert_eq!(request.state, State::Succeeded, "the next request is not served: {request:?}");
    let text = scene.port.run(&format!("cat {MARKS}"));
    let mut marks = BTreeMap::new();
    for line in text.lines() {
        *marks.entry(line.to_owned()).or_insert(0) += 1;
    }
    assert_eq!(marks.remove(&next.id), Some(1), "the next request did not run once");
    scene.port.run(&format!("rm {MARKS}; sync"));
    marks
}

fn judge_state(job: &Job, request: &Request, excuse: Excuse) {
    let refused = [State::Refused, State::NotReceived, State::NotStarted];
    // What may start again does.
    let interrupted = excuse.down && job.kind != Kind::Idempotent;
    let may = request.state == job.wanted()
        || request.state == State::Interrupted && interrupted
        || refused.contains(&request.state) && excuse.guest_full
        || had_no_room(job, request, excuse);
    assert!(may, "{:?} came to {:?} in vain: {request:?}", job.kind, request.state);
    let code = receipt(request).exit_code;
    if request.state == State::Failed && !had_no_room(job, request, excuse) {
        assert_eq!(code, Some(FAILS_WITH), "{request:?}");
    }
    let link = receipt(request).link_after.as_ref().map(|link| link.up);
    if matches!(job.kind, Kind::LinkUp | Kind::LinkDown) && request.state == State::Succeeded {
        assert_eq!(link, Some(job.kind == Kind::LinkUp), "{request:?}");
    }
}

/// A file began to be put or read and found the disk full by then: a put has no room for the file, and neither has
/// room for what it found.
fn had_no_room(job: &Job, request: &Request, excuse: Excuse) -> bool {
    matches!(job.kind, Kind::Put | Kind::Get) && request.state == State::Failed && excuse.guest_full
}

/// What succeeded ran once, and nothing ran twice but what may.
fn judge_marks(job: &Job, request: &Request, marks: usize) {
    let most = if job.kind == Kind::Idempotent { request.offers as usize } else { 1 };
    assert!(marks <= most, "{:?} ran {marks} times: {request:?}", job.kind);
    let whole = matches!(request.state, State::Succeeded | State::Failed);
    if job.marks() && whole {
        assert!(marks >= 1, "{:?} is {:?} and did not run: {request:?}", job.kind, request.state);
    }
    // What was refused for its input had begun.
    let begun = job.kind == Kind::Fed && request.state == State::Refused;
    if matches!(request.state, State::Refused | State::NotReceived | State::NotStarted) && !begun {
        assert_eq!(marks, 0, "{:?} is {:?} and ran: {request:?}", job.kind, request.state);
    }
}

/// Every byte that is there is the right one, and where all are said to be there, they are.
fn judge_output(scene: &Scene, job: &Job, request: &Request, excuse: Excuse) {
    let receipt = receipt(request);
    let expected = job.printed();
    let streams = [(Stream::Stdout, &receipt.stdout), (Stream::Stderr, &receipt.stderr)];
    for (stream, total) in streams {
        let bytes = scene.daemon.output(&request.id, stream, 0);
        let about =
            || format!("{stream:?} of {:?} {}: {} bytes, {total:?}", job.kind, request.id, bytes.len());
        assert_eq!(bytes.len() as u64, total.bytes, "{}", about());
        assert_ne!(total.intact, Some(false), "{}", about());
        if total.intact == Some(true) {
            assert_eq!(
                total.sha256.as_deref(),
                Some(hex::encode(Sha256::digest(&bytes)).as_str()),
                "{}",
                about()
            );
        }
        let whole =
            request.state == job.wanted() && !matches!(request.state, State::TimedOut | State::Cancelled);
        assert!(!whole || !total.truncated || excuse.guest_full || excuse.down, "{}", about());
        let Some((out, err)) = &expected else { continue };
        let expected = if stream == Stream::Stdout { out } else { err };
        assert!(expected.starts_with(&bytes), "{} are not what it printed", about());
        assert!(
            !whole || total.truncated || bytes.len() == expected.len(),
            "{} of {}",
            about(),
            expected.len()
        );
    }
    judge_total(&receipt.stdout);
    judge_total(&receipt.stderr);
}

fn judge_total(total: &OutputTotal) {
    assert_eq!(total.truncated, total.lost > 0, "{total:?}");
}

/// A put file is there whole, or not at all, and nothing else lies about.
fn judge_files(scene: &mut Scene, ends: &[(&Job, Request)]) {
    let text = scene.port.run("cd /effects/put; for each in $(ls -A); do sha256sum \"$each\"; done; rm -rf /effects/put/*; cd /; sync");
    let there: BTreeMap<&str, &str> =
        text.lines().filter_map(|line| line.split_once("  ").map(|(sum, name)| (name, sum))).collect();
    for (name, sum) in &there {
        let put = ends.iter().find(|(job, _)| job.kind == Kind::Put && job.id == *name);
        let Some((job, request)) = put else { panic!("{} lies about", place_of(name)) };
        assert_eq!(*sum, hex::encode(Sha256::digest(&job.bytes)), "{request:?}");
    }
    for (job, request) in ends.iter().filter(|(job, _)| job.kind == Kind::Put) {
        let is_there = there.contains_key(job.id.as_str());
        assert!(is_there || request.state != State::Succeeded, "it is not there: {request:?}");
    }
}

/// The trail is whole, memory is as it was, and the guest keeps nothing of what is over.
fn judge_rest(scene: &mut Scene) {
    scene.daemon.assert_audit_intact();
    let resident = scene.daemon.resident_kib();
    assert!(resident <= MANAGER_KIB_MAX, "the manager has {resident} KiB");
    let open = on("the guest", scene.client.guest(GUEST).show()).expect("the guest").open_requests;
    assert_eq!(open, 0, "requests are open");
    let mut left = String::new();
    let nothing = comes_within(LEFT_FOR, || {
        left = scene.port.run(LEFT);
        left.trim().is_empty()
    });
    assert!(nothing, "the guest keeps of what is over: {left}");
    let agent = scene.port.run(
        "for each in /proc/[0-9]*; do read name 2>/dev/null <$each/comm; [ \"$name\" != doorbell-agent ] || \
         grep VmHWM $each/status; done",
    );
    let resident: Vec<u64> =
        agent.lines().filter_map(|line| line.split_whitespace().nth(1)?.parse().ok()).collect();
    assert!(resident.len() == 1 && resident[0] <= AGENT_KIB_MAX, "the agent has {agent:?}");
    let peak = kib_of(scene.daemon.id(), "VmHWM:").unwrap_or(0);
    assert!(peak <= MANAGER_KIB_MAX, "the manager had {peak} KiB");
}

fn receipt(request: &Request) -> &Receipt {
    request.receipt.as_ref().expect("a final request has a receipt")
}

/// What runs and what is staged: files of the agent's, and supervisors. One that has ended is waited for by the
/// agent when it starts the next.
const LEFT: &str = "cd /var/lib/doorbell-agent; find run programs -mindepth 1; cd /; for each in /proc/[0-9]*; do \
     read name 2>/dev/null <$each/comm; [ \"$name\" != doorbell-run ] || \
     grep -q '^State:.Z' $each/status || echo \"$each $name\"; done";
const LEFT_FOR: Duration = Duration::from_secs(20);
/// As built for development.
const MANAGER_KIB_MAX: u64 = 128 * 1024;
const AGENT_KIB_MAX: u64 = 8 * 1024;
