//! An agent on a state directory of its own, linked to a scripted manager.
//!
//! Used by the tests of the link. Both ends run in the test's thread; waits are for conditions.

use super::manager::{Manager, Script};
use crate::apply::cgroup::Cgroups;
use crate::clock::now;
use crate::ended::Ended;
use crate::identity::Identity;
use crate::journal::Journal;
use crate::link::Link;
use crate::pull::{Agent, Way};
use crate::state::StateDir;
use doorbell_wire::ids::{Digest, RequestId};
use doorbell_wire::message::Offer;
use doorbell_wire::message::action::{Action, Executable, Input, Limits, Program, Run, RunParts};
use doorbell_wire::message::outcome::{Acknowledgement, Outcome};
use nix::poll::{PollFd, PollFlags};
use sha2::{Digest as _, Sha256};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

pub(crate) struct Rig {
    pub(crate) agent: Agent,
    pub(crate) link: Link<UnixStream>,
    pub(crate) manager: Manager,
    dir: tempfile::TempDir,
    alone: MutexGuard<'static, ()>,
}

impl Rig {
    pub(crate) fn new(script: Script) -> Self {
        Self::with_cgroups(script, Cgroups::find())
    }

    pub(crate) fn with_cgroups(script: Script, cgroups: Option<Cgroups>) -> Self {
        let alone = alone();
        let dir = tempfile::tempdir().unwrap();
        let agent = agent(dir.path(), cgroups);
        let (link, manager) = pair(script);
        Self { agent, link, manager, dir, alone }
    }

    /// The connection is lost and there is another one; the manager begins anew with this script.
    pub(crate) fn reconnect(&mut self, script: Script) {
        self.agent.detached(Way::Channel);
        (self.link, self.manager) = pair(script);
    }

    /// The agent is gone without a word, and starts again on the same state.
    pub(crate) fn crash(self, script: Script) -> Self {
        let Self { agent: crashed, dir, alone, .. } = self;
        drop(crashed);
        let agent = agent(dir.path(), Cgroups::find());
        let (link, manager) = pair(script);
        Self { agent, link, manager, dir, alone }
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// The request that is offered first.
    pub(crate) fn first(&self) -> RequestId {
        self.manager.script.offers[0].0.request
    }

    /// Runs both ends until `done`.
    pub(crate) fn until(&mut self, done: impl Fn(&Self) -> bool) {
        self.try_until(done).unwrap();
    }

    pub(crate) fn try_until(&mut self, done: impl Fn(&Self) -> bool) -> Result<(), Ended> {
        let end = now().after(20_000);
        loop {
            let now = now();
            self.agent.step();
            self.link.turn(now, &mut self.agent)?;
            self.manager.pump(now);
            if done(self) {
                return Ok(());
            }
            assert!(now < end, "what was waited for did not come");
            let mut fds = vec![self.link.watched()];
            fds.push(PollFd::new(self.manager.stream.as_fd(), PollFlags::POLLIN));
            fds.extend(self.agent.watched());
            let waited = crate::wait::until(&mut fds, self.link.due().min(end));
            assert_eq!(waited, Ok(()));
        }
    }

    /// Runs until there are so many outcomes.
    pub(crate) fn outcomes(&mut self, count: usize) -> Vec<Outcome> {
        self.until(|rig| rig.manager.seen.outcomes.len() >= count);
        self.manager.seen.outcomes.iter().map(|stored| stored.outcome.clone()).collect()
    }

    pub(crate) fn last(&self) -> &Acknowledgement {
        self.manager.seen.outcomes.last().unwrap()
    }

    pub(crate) fn stdout(&self) -> String {
        String::from_utf8(self.manager.seen.stdout.clone()).unwrap()
    }
}

fn agent(dir: &Path, cgroups: Option<Cgroups>) -> Agent {
    let state = StateDir::open(&dir.join("state")).unwrap();
    let identity = Identity::open(&state).unwrap();
    let journal = Journal::open(&state).unwrap();
    Agent::resume(state, identity, journal, cgroups)
}

pub(crate) fn pair(script: Script) -> (Link<UnixStream>, Manager) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    (Link::new(ours, now()), Manager::new(theirs, now(), script))
}

/// While this is held, no other test starts a program.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Random, so that a process of one test is never taken for another's.
fn request() -> RequestId {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).unwrap();
    RequestId::new(bytes)
}

pub(crate) fn offer(number: u8, action: Action) -> (Offer, Vec<u8>) {
    let sequence = Some(u64::from(number).try_into().unwrap());
    let offer = Offer {
        request: request(),
        sequence,
        floor: 1,
        action,
        timeout_ms: None,
        idempotent: false,
        signed: None,
    };
    (offer, Vec::new())
}

pub(crate) fn command(argv: &[&str]) -> Action {
    let (name, args) = argv.split_first().unwrap();
    run(Executable::InGuest((*name).to_owned().try_into().unwrap()), args)
}

pub(crate) fn sh(script: &str) -> Action {
    command(&["/bin/sh", "-c", script])
}

pub(crate) fn program(number: u8, bytes: &[u8], args: &[&str]) -> (Offer, Vec<u8>) {
    let digest = Digest::new(Sha256::digest(bytes).into());
    let program = Program::new(digest, bytes.len() as u64, "tool".parse().unwrap()).unwrap();
    (offer(number, run(Executable::Program(program), args)).0, bytes.to_vec())
}

fn run(executable: Executable, args: &[&str]) -> Action {
    let args = args.iter().map(|&arg| arg.to_owned()).collect();
    let parts = RunParts {
        executable,
        args,
        env: Vec::new(),
        cwd: None,
        user: None,
        input: Input::None,
        limits: Limits::default(),
        new_privileges: false,
    };
    Action::Run(Run::try_from(parts).unwrap())
}

/// The same program, changed.
pub(crate) fn changed(
    (offer, bytes): (Offer, Vec<u8>),
    change: impl FnOnce(&mut RunParts),
) -> (Offer, Vec<u8>) {
    let Action::Run(run) = &offer.action else { panic!("no program to change") };
    let mut parts = run.parts().clone();
    change(&mut parts);
    (Offer { action: Action::Run(Run::try_from(parts).unwrap()), ..offer }, bytes)
}

pub(crate) fn script(offers: impl IntoIterator<Item = (Offer, Vec<u8>)>) -> Script {
    Script { offers: offers.into_iter().collect(), ..Script::default() }
}

/// Processes that were started for a request.
pub(crate) fn processes(request: RequestId) -> Vec<String> {
    let mark = format!("DOORBELL_REQUEST={request}");
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().into_string().ok());
    pids.filter(|pid| {
        let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environ.split(|&byte| byte == 0).any(|variable| variable == mark.as_bytes())
    })
    .collect()
}

/// Waits until nothing that was started for a request is left. Without a cgroup nobody else does, and what was
/// killed takes its time to go.
pub(crate) fn await_gone(request: RequestId) {
    for pid in processes(request) {
        let pid = rustix::process::Pid::from_raw(pid.parse().unwrap()).unwrap();
        // One that is gone by now is what is waited for.
        let Ok(pidfd) = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) else {
            continue;
        };
        let mut gone = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
        crate::wait::until(&mut gone, now().after(10_000)).unwrap();
        assert!(gone[0].any().unwrap(), "{pid:?} of request {request} is still there");
    }
}

/// A program may not be written by one thread while another forks: the child would hold the file open.
static ALONE: Mutex<()> = Mutex::new(());
