//! The share from the agent's side: a manager that only writes and reads files.

use super::*;
use crate::apply::cgroup::Cgroups;
use crate::identity::Identity;
use crate::journal::Journal;
use crate::link::tests::manager::Manager;
use crate::link::tests::rig::{alone, command, offer, pair, program, script, sh};
use crate::state::StateDir;
use doorbell_wire::ids::{Digest, RequestId, SessionToken};
use doorbell_wire::message::outcome::{Acknowledgement, NotVerified, Outcome};
use doorbell_wire::message::{Attached, Hello, Offer, Offsets, Stage};
use doorbell_wire::share::{Of, prompt, read_ack, receipt_transcript, whole_frames};
use ed25519_dalek::VerifyingKey;
use sha2::{Digest as _, Sha256};
use std::sync::MutexGuard;

/// The agent with its share, and the directories that a manager has on the other side.
struct Rig {
    agent: Agent,
    share: Share,
    dir: tempfile::TempDir,
    greetings: u8,
    session: Option<Nonce>,
    _alone: MutexGuard<'static, ()>,
}

impl Rig {
    fn new() -> Self {
        let (alone, dir) = (alone(), tempfile::tempdir().unwrap());
        for name in ["out/programs", "out/sessions", "in"] {
            std::fs::create_dir_all(dir.path().join(name)).unwrap();
        }
        let (agent, share) = agent(dir.path());
        let mut rig = Self { agent, share, dir, greetings: 0, session: None, _alone: alone };
        rig.greet();
        rig
    }

    /// The agent is gone without a word, and starts again on the same state.
    fn crash(self) -> Self {
        let Self { agent: crashed, dir, greetings, _alone, .. } = self;
        drop(crashed);
        let (mut agent, share) = agent(dir.path());
        agent.present_by(Way::Share);
        Self { agent, share, dir, greetings, session: None, _alone }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn greet(&mut self) {
        self.greetings += 1;
        let nonce = Nonce::new([self.greetings; 32]);
        let greeting = Greeting { version_min: 0, version_max: 0, nonce, host_time_ms: 1 };
        std::fs::write(self.path("out/manager"), layout::manager_file(greeting).unwrap()).unwrap();
    }

    fn turn(&mut self) {
        self.share.look_now();
        self.agent.step();
        self.share.turn(now(), &mut self.agent);
        let mut fds: Vec<_> = self.share.watched().chain(self.agent.watched()).collect();
        crate::wait::until(&mut fds, now().after(5)).unwrap();
    }

    fn until<T>(&mut self, mut found: impl FnMut(&Self) -> Option<T>) -> T {
        let end = now().after(20_000);
        loop {
            self.turn();
            if let Some(found) = found(self) {
                return found;
            }
            assert!(now() < end, "what was waited for did not come; the last trouble: {:?}", self.share.told);
        }
    }

    /// Serves a connection beside the share until it is over.
    fn until_ended(&mut self, link: &mut Link<UnixStream>, manager: &mut Manager) -> Ended {
        loop {
            self.turn();
            if let Err(ended) = link.turn(now(), &mut self.agent) {
                return ended;
            }
            manager.pump(now());
        }
    }

    /// Waits for a hello that answers the last greeting.
    fn hello(&mut self) -> Hello {
        let before = self.session;
        self.until(|rig| {
            let bytes = std::fs::read(rig.path("in/hello")).ok()?;
            let frame = layout::one_frame("hello", &bytes).unwrap();
            let FromGuest::Hello(hello) = FromGuest::from_frame(&frame).unwrap() else { panic!("{frame:?}") };
            (Some(hello.claims.nonce) != before).then_some(*hello)
        })
    }

    fn say(&self, name: &str, message: &FromHost) {
        let mut bytes = Vec::new();
        message.to_frame().unwrap().write(&mut bytes).unwrap();
        let path = self.from(name);
        std::fs::write(path.with_extension("tmp"), bytes).unwrap();
        std::fs::rename(path.with_extension("tmp"), path).unwrap();
    }

    fn from(&self, name: &str) -> PathBuf {
        self.path("out").join(layout::session(&self.session.unwrap())).join(name)
    }

    fn to(&self, name: &str) -> PathBuf {
        self.path("in").join(layout::session(&self.session.unwrap())).join(name)
    }

    /// Has the agent welcomed; gives what it presents.
    fn welcome(&mut self) -> Vec<RequestId> {
        let hello = self.hello();
        let older = self.session.replace(hello.claims.nonce);
        std::fs::create_dir(self.from("")).unwrap();
        let token = SessionToken::new([self.greetings; 32]);
        self.say("answer", &FromHost::Welcome(Welcome { token, host_time_ms: 1, proof: None }));
        self.greet();
        if let Some(older) = older {
            let _ = std::fs::remove_dir_all(self.path("out").join(layout::session(&older)));
        }
        let attach = self.until(|rig| std::fs::read(rig.to("attach")).ok());
        let (frames, used) = whole_frames(&attach).unwrap();
        assert_eq!(used, attach.len());
        frames
            .iter()
            .map(|frame| {
                let FromGuest::Attach(attach) = FromGuest::from_frame(frame).unwrap() else {
                    panic!("{frame:?}")
                };
                attach.request
            })
            .collect()
    }

    fn submit(&self, (offer, bytes): (Offer, Vec<u8>)) -> RequestId {
        if let Some(payload) = offer.action.payload() {
            std::fs::write(self.path("out/programs").join(payload.digest.to_string()), bytes).unwrap();
        }
        let request = offer.request;
        let name = prompt(offer.sequence.map_or(0, u64::from), request);
        self.say(&name, &FromHost::Offer(Box::new(offer)));
        request
    }

    /// Waits for a receipt, checks its signature and has it forgotten.
    fn receipt(&mut self, request: RequestId) -> Acknowledgement {
        let bytes = self.until(|rig| std::fs::read(rig.to(&Of::Ack.name(request))).ok());
        let (frame, ack, signature) = read_ack(&bytes).unwrap();
        let signed = receipt_transcript(&self.session.unwrap(), &frame);
        let key = self.agent.hello(Way::Share, &greeting()).unwrap().claims.public_key;
        let key = VerifyingKey::from_bytes(key.as_bytes()).unwrap();
        key.verify_strict(&signed, &ed25519_dalek::Signature::from_bytes(signature.as_bytes())).unwrap();
        *ack
    }

    fn note(&mut self, request: RequestId) {
        for entry in std::fs::read_dir(self.from("")).unwrap().flatten() {
            if entry.file_name().to_string_lossy().ends_with(&format!("{request}.prompt")) {
                std::fs::remove_file(entry.path()).unwrap();
            }
        }
        self.say(&Of::Noted.name(request), &FromHost::Noted(request));
        self.until(|rig| rig.agent.is_idle().then_some(()));
    }

    fn stdout(&self, request: RequestId) -> String {
        String::from_utf8(std::fs::read(self.to(&Of::Stdout.name(request))).unwrap_or_default()).unwrap()
    }
}

fn greeting() -> Greeting {
    Greeting { version_min: 0, version_max: 0, nonce: Nonce::new([9; 32]), host_time_ms: 1 }
}

fn agent(dir: &Path) -> (Agent, Share) {
    let state = StateDir::open(&dir.join("state")).unwrap();
    let identity = Identity::open(&state).unwrap();
    let journal = Journal::open(&state).unwrap();
    let agent = Agent::resume(state, identity, journal, Cgroups::find());
    (agent, Share::new(&dir.join("out"), &dir.join("in"), 1_000))
}

#[test]
fn a_prompt_in_the_share_runs_once_and_leaves_a_signed_receipt() {
    let mut rig = Rig::new();
    assert_eq!(rig.welcome(), []);
    let request = rig.submit(offer(1, command(&["echo", "hello"])));
    let ack = rig.receipt(request);
    assert_eq!((ack.outcome, rig.stdout(request)), (Outcome::Succeeded, "hello\n".into()));
    let progress = std::fs::read(rig.to(&Of::Progress.name(request))).unwrap();
    let stages: Vec<_> = whole_frames(&progress)
        .unwrap()
        .0
        .iter()
        .map(|frame| {
            let FromGuest::Progress(progress) = FromGuest::from_frame(frame).unwrap() else {
                panic!("{frame:?}")
            };
            progress.stage
        })
        .collect();
    assert_eq!(stages, [Stage::Journalled, Stage::Started]);
    rig.note(request);
    let next = rig.submit(offer(2, sh("exit 3")));
    assert!(matches!(rig.receipt(next).outcome, Outcome::Failed(code) if code.get() == 3));
}

#[test]
fn a_program_is_taken_by_its_digest_and_refused_when_its_bytes_are_others() {
    let mut rig = Rig::new();
    rig.welcome();
    let bytes = [&b"#!/bin/sh\necho mine\nexit 0\n"[..], &vec![b'#'; 300_000]].concat();
    let request = rig.submit(program(1, &bytes, &[]));
    assert_eq!(rig.receipt(request).outcome, Outcome::Succeeded);
    assert_eq!(rig.stdout(request), "mine\n");
    rig.note(request);

    let mut other = bytes.clone();
    other[40] ^= 1;
    let (changed, _) = program(2, &bytes, &[]);
    let request = rig.submit((changed, other.clone()));
    let (expected, got) =
        (Digest::new(Sha256::digest(&bytes).into()), Digest::new(Sha256::digest(&other).into()));
    assert_eq!(rig.receipt(request).outcome, Outcome::NotVerified(NotVerified { expected, got }));
    rig.note(request);

    let (short, _) = program(3, &bytes, &[]);
    let request = rig.submit((short, bytes[..100_000].to_vec()));
    assert!(matches!(rig.receipt(request).outcome, Outcome::NotVerified(_)));
}

#[test]
fn a_program_goes_on_while_the_agent_starts_again_and_the_share_is_away() {
    let mut rig = Rig::new();
    rig.welcome();
    let gate = rig.path("gate");
    nix::unistd::mkfifo(&gate, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let request = rig.submit(offer(1, sh(&format!("echo one; read go <{}; echo two", gate.display()))));
    rig.until(|rig| (rig.stdout(request) == "one\n").then_some(()));
    let mut rig = rig.crash();
    std::fs::rename(rig.path("out"), rig.path("gone")).unwrap();
    (0..5).for_each(|_| rig.turn());
    std::fs::rename(rig.path("gone"), rig.path("out")).unwrap();
    assert_eq!(rig.welcome(), [request]);
    let from = Some(Offsets { stdout: 4, stderr: 0 });
    rig.say(&Of::Attached.name(request), &FromHost::Attached(Attached { request, from }));
    std::fs::write(gate, "go\n").unwrap();
    let ack = rig.receipt(request);
    assert_eq!((ack.outcome, ack.output.stdout.kept), (Outcome::Succeeded, 8));
    assert_eq!(rig.stdout(request), "\0\0\0\0two\n", "output lies at its own offset");
}

#[test]
fn a_copy_that_writes_the_same_receipts_costs_a_session() {
    let mut rig = Rig::new();
    rig.welcome();
    rig.until(|rig| rig.to("beat").exists().then_some(()));
    std::fs::write(rig.to("beat"), b"another agent's").unwrap();
    let hello = rig.hello();
    assert_ne!(Some(hello.claims.nonce), rig.session);
    assert_eq!(hello.claims.token, Some(SessionToken::new([1; 32])), "it presents what its welcome gave");
}

#[test]
fn a_manager_that_ends_the_session_is_asked_again_and_one_that_refuses_when_it_greets_anew() {
    let mut rig = Rig::new();
    rig.welcome();
    std::fs::remove_dir_all(rig.from("")).unwrap();
    let hello = rig.hello();
    rig.session = Some(hello.claims.nonce);
    std::fs::create_dir(rig.from("")).unwrap();
    rig.say("answer", &FromHost::HostBye(Reason::NOT_APPROVED));
    rig.until(|rig| matches!(rig.share.phase, Phase::Away { answered: Some(_) }).then_some(()));
    (0..5).for_each(|_| rig.turn());
    assert!(matches!(rig.share.phase, Phase::Away { .. }), "the same greeting is answered once");
    rig.greet();
    assert_ne!(Some(rig.hello().claims.nonce), rig.session);
}

#[test]
fn a_request_that_is_in_hand_by_the_other_way_is_not_started_again() {
    let mut rig = Rig::new();
    rig.welcome();
    let gate = rig.path("gate");
    nix::unistd::mkfifo(&gate, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let one = offer(1, sh(&format!("echo ran; read go <{}", gate.display())));
    let request = rig.submit(one.clone());
    rig.until(|rig| (rig.stdout(request) == "ran\n").then_some(()));

    let (mut link, mut manager) = pair(script([one.clone()]));
    let ended = rig.until_ended(&mut link, &mut manager);
    assert!(matches!(ended, Ended::Elsewhere(which) if which == request), "{ended}");
    rig.agent.detached(Way::Channel);

    // A share without a session keeps nobody else from going on with it.
    std::fs::remove_dir_all(rig.path("out")).unwrap();
    rig.agent.detached(Way::Share);
    rig.share.phase = Phase::Away { answered: None };
    let (mut link, mut manager) = pair(script([one]));
    std::fs::write(gate, "go\n").unwrap();
    while manager.seen.outcomes.is_empty() {
        rig.turn();
        link.turn(now(), &mut rig.agent).unwrap();
        manager.pump(now());
    }
    assert_eq!(manager.seen.outcomes[0].outcome, Outcome::Succeeded);
    assert_eq!(manager.seen.stdout, b"ran\n", "it was started once, and all it printed is told");
}
