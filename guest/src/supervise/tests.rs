//! Supervisors with real programs, as root on the machine the tests run on.

mod ends;
mod input;
mod outlives;
mod output;
mod results;
mod users;

use super::order::Margins;
use super::start::start_with;
use super::{Job, Order, Over, OwnJob, Sight, Supervised};
use crate::apply::cgroup::Cgroups;
use crate::apply::program::Prepared;
use crate::clock::now;
use crate::spool::Space;
use crate::wait::until;
use doorbell_wire::ids::{Digest, RequestId, Tick};
use doorbell_wire::message::Offsets;
use doorbell_wire::message::action::{Executable, Input, Limits, Run, RunParts};
use doorbell_wire::message::outcome::{NotStarted, Outcome, StartFault};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Where supervisors are started, with what they are given.
struct Rig {
    dir: TempDir,
    margins: Margins,
    cgroups: Option<Cgroups>,
}

/// Short enough for a test, long enough for a busy machine.
const QUICK: Margins = Margins {
    grace_ms: 300,
    drain_ms: 300,
    absent_ms: 300,
    taken_ms: 1_000,
    space: Space { len: 64 * MIB as u64, behind: 32 * MIB as u64 },
};
const REQUEST: RequestId = RequestId::new([7; 16]);
const MIB: usize = 1024 * 1024;
const PATIENCE_MS: u64 = 60_000;

impl Rig {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("run")).unwrap();
        Self { dir, margins: QUICK, cgroups: None }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn run(&self) -> PathBuf {
        self.dir.path().join("run")
    }

    /// A shell script's start.
    fn shell(&self, script: &str) -> Supervised {
        self.start(order(parts("/bin/sh", &["-c", script])))
    }

    fn start(&self, order: Order) -> Supervised {
        start_with(&self.run(), order, self.cgroups.as_ref(), self.margins).unwrap()
    }

    fn own(&self, job: OwnJob) -> Supervised {
        let (limits, input) = (Limits::default(), Input::None);
        self.start(Order { request: REQUEST, job: Job::Own(job), limits, input, timeout_ms: None })
    }

    /// A file with these bytes and this mode.
    fn file(&self, name: &str, bytes: &[u8], mode: u32) -> PathBuf {
        let path = self.path().join(name);
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(&path).unwrap();
        file.write_all(bytes).unwrap();
        file.set_permissions(std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }
}

fn parts(command: &str, args: &[&str]) -> RunParts {
    RunParts {
        executable: Executable::InGuest(command.to_owned().try_into().unwrap()),
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        env: Vec::new(),
        cwd: None,
        user: None,
        input: Input::None,
        limits: Limits::default(),
        new_privileges: false,
    }
}

fn order(parts: RunParts) -> Order {
    let (input, limits) = (parts.input, parts.limits);
    let prepared = Prepared::new(&Run::try_from(parts).unwrap(), None).unwrap();
    Order { request: REQUEST, job: Job::Program(prepared), limits, input, timeout_ms: None }
}

/// Looks until `found` finds something; a supervisor that says nothing new is waited for.
fn wait_for<T>(
    supervised: &mut Supervised,
    mut found: impl FnMut(&mut Supervised, &Sight) -> Option<T>,
) -> T {
    let deadline = now().after(PATIENCE_MS);
    loop {
        let sight = supervised.look();
        if let Some(found) = found(supervised, &sight) {
            return found;
        }
        assert!(now() < deadline, "nothing came; the last look: {sight:?}, kept {:?}", supervised.kept());
        let mut fds: Vec<_> = supervised.watched().into_iter().collect();
        until(&mut fds, now().after(100).min(deadline)).unwrap();
    }
}

fn end(supervised: &mut Supervised) -> Over {
    wait_for(supervised, |_, sight| match sight {
        Sight::Over(over) => Some((**over).clone()),
        Sight::Lost => panic!("the supervisor is lost"),
        Sight::Starting | Sight::Running { .. } => None,
    })
}

fn started(supervised: &mut Supervised) -> u64 {
    wait_for(supervised, |_, sight| match sight {
        Sight::Running { started_us } => Some(*started_us),
        Sight::Over(_) | Sight::Lost => panic!("{sight:?}"),
        Sight::Starting => None,
    })
}

/// Waits until standard output holds `text`.
fn printed(supervised: &mut Supervised, text: &str) {
    wait_for(supervised, |supervised, _| {
        let (stdout, _) = output(supervised);
        String::from_utf8_lossy(&stdout).contains(text).then_some(())
    });
}

/// Both streams as they are now.
fn output(supervised: &Supervised) -> (Vec<u8>, Vec<u8>) {
    let mut sent = Offsets::default();
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    while let Some(piece) = supervised.read_output(&sent, 100_000) {
        let end = piece.offset + piece.bytes.len() as u64;
        sent = sent.moved(piece.stream, end);
        match piece.stream {
            doorbell_wire::message::Stream::Stdout => stdout.extend(piece.bytes),
            doorbell_wire::message::Stream::Stderr => stderr.extend(piece.bytes),
        }
    }
    (stdout, stderr)
}

fn text(supervised: &Supervised) -> String {
    String::from_utf8(output(supervised).0).unwrap()
}

fn digest(bytes: &[u8]) -> Option<Digest> {
    Some(Digest::new(Sha256::digest(bytes).into()))
}

fn not_started(fault: StartFault, errno: i32) -> Outcome {
    Outcome::NotStarted(NotStarted { fault, errno })
}

/// A descriptor of a process that is to go; readable when it has.
fn pidfd(pid: i32) -> std::os::fd::OwnedFd {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap()
}

fn is_gone(process: &impl AsFd) -> bool {
    poll(&mut [PollFd::new(process.as_fd(), PollFlags::POLLIN)], PollTimeout::from(30_000_u16)).unwrap() > 0
}

fn lives(process: &impl AsFd) -> bool {
    poll(&mut [PollFd::new(process.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO).unwrap() == 0
}

fn elapsed_ms(since: Tick) -> u64 {
    since.until(now())
}
