//! Agents that die, and what the next one finds.

use super::*;
use crate::state::StateDir;
use crate::supervise::{find as find_one, find_all};
use nix::sys::signal::{SigHandler, Signal, kill, signal};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork};

/// Starts `order` from an agent of its own, which is killed when `with` is done. The agent was started by somebody
/// who ignores the ends of children, as some do.
fn by_another_agent(rig: &Rig, order: Order, with: impl FnOnce(&Path)) {
    // SAFETY: the child makes a supervisor and waits; the C library keeps its own locks usable over a fork.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            // SAFETY: no code of ours runs at the signal.
            let _ = unsafe { signal(Signal::SIGCHLD, SigHandler::SigIgn) };
            let supervised = start_with(&rig.run(), order, rig.cgroups.as_ref(), rig.margins);
            let _kept = supervised.is_ok();
            loop {
                std::thread::park();
            }
        }
        ForkResult::Parent { child } => {
            let agent = Agent(child);
            with(&rig.run());
            drop(agent);
        }
    }
}

/// An agent that is killed, also when its test fails.
struct Agent(Pid);

impl Drop for Agent {
    fn drop(&mut self) {
        let killed = kill(self.0, Signal::SIGKILL).and_then(|()| waitpid(self.0, None));
        assert!(killed.is_ok() || std::thread::panicking(), "{killed:?}");
    }
}

/// The supervisor that another agent has started, once its program runs.
fn find(rig: &Rig) -> Supervised {
    let deadline = now().after(PATIENCE_MS);
    // Two agents at once are never there; what the first one is about to make must not be taken for a ruin.
    let whole = rig.run().join(REQUEST.to_string()).join("events");
    loop {
        if whole.exists()
            && let Some(mut found) = find_all(&rig.run()).pop()
            && let Sight::Running { .. } | Sight::Over(_) = found.look()
        {
            return found;
        }
        assert!(now() < deadline, "no program came");
        until(&mut [], now().after(10)).unwrap();
    }
}

#[test]
fn the_next_agent_has_the_whole_output_and_the_true_status() {
    let rig = Rig::new();
    let mut parts = parts("/bin/sh", &["-c", "echo before; read x; echo $x; exit 42"]);
    parts.input = Input::Stream;
    by_another_agent(&rig, order(parts), |_| printed(&mut find(&rig), "before\n"));
    let mut found = find(&rig);
    assert_eq!(found.request(), REQUEST);
    assert_eq!(text(&found), "before\n");
    found.add_input(0, b"after\n").unwrap();
    assert_eq!(end(&mut found).outcome, Outcome::Failed(42.try_into().unwrap()));
    assert_eq!(text(&found), "before\nafter\n");
    found.taken();
    found.remove();
    assert!(find_all(&rig.run()).is_empty());
}

#[test]
fn an_outcome_of_the_time_without_an_agent_is_found() {
    let rig = Rig::new();
    let gate = rig.path().join("gate");
    nix::unistd::mkfifo(&gate, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let script = format!("echo ready; read x < {}; head -c 500000 /dev/zero; exit 8", gate.display());
    by_another_agent(&rig, order(parts("/bin/sh", &["-c", &script])), |_| {
        printed(&mut find(&rig), "ready\n")
    });
    std::fs::write(&gate, "go\n").unwrap();
    let mut found = find(&rig);
    assert_eq!(end(&mut found).outcome, Outcome::Failed(8.try_into().unwrap()));
    assert_eq!(found.kept().stdout, 500_006);
    // The supervisor does not wait for ever to be told that its outcome was taken.
    wait_for(&mut found, |found, _| found.watched().is_none().then_some(()));
    drop(found);
    let mut again = find_all(&rig.run()).pop().unwrap();
    assert!(matches!(again.look(), Sight::Over(_)) && again.watched().is_none());
}

#[test]
fn the_next_agent_can_end_what_runs() {
    let rig = Rig::new();
    by_another_agent(&rig, order(parts("/bin/sleep", &["1000"])), |_| drop(find(&rig)));
    let mut found = find(&rig);
    found.stop();
    assert_eq!(end(&mut found).outcome, Outcome::Cancelled);
}

#[test]
fn a_supervisor_that_is_killed_is_lost_and_its_program_goes_with_it() {
    let rig = Rig::new();
    let mut supervised = rig.shell("echo $$; echo $PPID; exec sleep 1000");
    printed(&mut supervised, "\n");
    let numbers: Vec<i32> = wait_for(&mut supervised, |supervised, _| {
        let numbers: Vec<i32> = text(supervised).lines().flat_map(str::parse).collect();
        (numbers.len() == 2).then_some(numbers)
    });
    let program = pidfd(numbers[0]);
    kill(Pid::from_raw(numbers[1]), Signal::SIGKILL).unwrap();
    wait_for(&mut supervised, |_, sight| (*sight == Sight::Lost).then_some(()));
    assert!(supervised.watched().is_none());
    assert!(is_gone(&program));
    let mut found = find_all(&rig.run()).pop().unwrap();
    assert_eq!(found.look(), Sight::Lost);
}

#[test]
fn nothing_of_the_agent_is_held_by_a_supervisor_or_its_program() {
    let rig = Rig::new();
    let root = rig.path().join("state");
    let state = StateDir::open(&root).unwrap();
    // One that somebody left open without the mark that a start closes it.
    let careless = File::open("/etc/passwd").unwrap();
    nix::fcntl::fcntl(&careless, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty())).unwrap();
    let script = "echo $PPID; ls /proc/$$/fd; ls -l /proc/$PPID/fd; cat /proc/$PPID/comm; read x < /dev/zero";
    let mut supervised = start_with(
        &state.run(),
        order(parts("/bin/sh", &["-c", &format!("{script} & wait")])),
        None,
        rig.margins,
    )
    .unwrap();
    printed(&mut supervised, "doorbell-run\n");
    drop(state);
    let again = StateDir::open(&root).expect("the lock is free while a supervisor runs");
    drop((again, careless));
    let text = text(&supervised);
    assert!(!text.contains("passwd"), "{text}");
    let run = root.join("run").to_str().unwrap().to_owned();
    for line in text.lines().filter(|line| line.contains(" -> ")) {
        let target = line.split(" -> ").nth(1).unwrap();
        let own = ["/dev/null", "pipe:", "anon_inode:", run.as_str()];
        assert!(
            own.iter().any(|known| target.starts_with(known)),
            "{target} is open in the supervisor:\n{text}"
        );
    }
    supervised.stop();
    end(&mut supervised);
}

#[test]
fn the_signals_of_an_agent_are_not_its_supervisors() {
    let rig = Rig::new();
    let mut supervised = rig.shell("echo $PPID; read -r _ _ _ _ group session _ < /proc/$PPID/stat; echo $group $session; exec sleep 1000");
    printed(&mut supervised, " ");
    let text = wait_for(&mut supervised, |supervised, _| {
        let text = text(supervised);
        (text.lines().count() == 2).then_some(text)
    });
    let pid = text.lines().next().unwrap();
    assert_eq!(text.lines().nth(1).unwrap(), format!("{pid} {pid}"), "it leads a session of its own");
    supervised.stop();
    end(&mut supervised);
}

#[test]
fn an_interrupted_start_of_the_same_request_leaves_nothing_for_the_next() {
    let rig = Rig::new();
    let mut first = rig.shell("echo first");
    end(&mut first);
    first.taken();
    drop(first);
    let mut second = rig.shell("echo second");
    end(&mut second);
    assert_eq!(text(&second), "second\n");
}

#[test]
fn no_supervisor_stays_unwaited_for() {
    let rig = Rig::new();
    let mut supervised = rig.shell("echo $PPID");
    end(&mut supervised);
    let pid: i32 = text(&supervised).trim().parse().unwrap();
    supervised.taken();
    wait_for(&mut supervised, |supervised, _| supervised.watched().is_none().then_some(()));
    supervised.remove();
    let deadline = now().after(PATIENCE_MS);
    while Path::new(&format!("/proc/{pid}")).exists() {
        assert!(now() < deadline, "it is still there");
        super::super::handle::reap_all();
        until(&mut [], now().after(5)).unwrap();
    }
}

#[test]
fn who_finds_one_tells_the_others_nothing() {
    let mut rig = Rig::new();
    rig.margins.space = Space { len: MIB as u64, behind: 0 };
    let mut full = rig.shell("head -c 1500000 /dev/zero");
    full.connected(true);
    wait_for(&mut full, |full, _| (full.kept().stdout == MIB as u64).then_some(()));
    let other = Order { request: RequestId::new([8; 16]), ..order(parts("/bin/sleep", &["1"])) };
    let _other = rig.start(other);
    let mut found = find_one(&rig.run(), RequestId::new([8; 16])).unwrap();
    assert!(find_one(&rig.run(), RequestId::new([9; 16])).is_none());
    // For longer than output waits for a manager that is away.
    assert_eq!(end(&mut found).outcome, Outcome::Succeeded);
    full.stored(doorbell_wire::message::Stream::Stdout, MIB as u64);
    let over = end(&mut full);
    assert_eq!((over.output.stdout.kept, over.output.stdout.dropped), (1_500_000, 0));
}

#[test]
fn a_directory_that_cannot_be_read_is_not_taken_for_an_unfinished_one() {
    let rig = Rig::new();
    let (cut_short, unreadable) =
        [8, 9].map(|number| rig.run().join(RequestId::new([number; 16]).to_string())).into();
    std::fs::create_dir(&cut_short).unwrap();
    std::fs::create_dir_all(unreadable.join("status")).unwrap();
    assert!(find_all(&rig.run()).is_empty());
    assert!(!cut_short.exists() && unreadable.exists());
}
