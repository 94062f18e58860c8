//! Ends by time, by cancel and by what is left behind.

use super::*;

fn pid_in(supervised: &mut Supervised) -> i32 {
    wait_for(supervised, |supervised, _| text(supervised).lines().next()?.parse().ok())
}

#[test]
fn a_time_limit_ends_a_program() {
    let rig = Rig::new();
    let mut order = order(parts("/bin/sleep", &["1000"]));
    order.timeout_ms = Some(50);
    let mut supervised = rig.start(order);
    let over = end(&mut supervised);
    let ran = over.ran.unwrap();
    assert_eq!(over.outcome, Outcome::TimedOut);
    assert!(ran.exited_us - ran.started_us >= 50_000);
}

#[test]
fn a_program_may_tidy_up_when_it_is_ended() {
    let mut supervised = Rig::new().shell("trap 'echo bye; exit 3' TERM; sleep 1000 & echo ready; wait");
    printed(&mut supervised, "ready\n");
    supervised.stop();
    supervised.stop();
    assert_eq!(end(&mut supervised).outcome, Outcome::Cancelled);
    assert_eq!(text(&supervised), "ready\nbye\n");
}

#[test]
fn a_stopped_program_is_ended_too() {
    let mut supervised = Rig::new().shell("echo $$; kill -STOP $$");
    let process = pidfd(pid_in(&mut supervised));
    supervised.stop();
    assert_eq!(end(&mut supervised).outcome, Outcome::Cancelled);
    assert!(is_gone(&process));
}

#[test]
fn a_program_that_ignores_the_polite_signal_is_killed() {
    let mut supervised = Rig::new().shell("trap '' TERM; echo $$; while :; do :; done");
    let process = pidfd(pid_in(&mut supervised));
    let since = now();
    supervised.stop();
    assert_eq!(end(&mut supervised).outcome, Outcome::Cancelled);
    assert!(is_gone(&process));
    assert!(elapsed_ms(since) >= QUICK.grace_ms);
}

#[test]
fn an_orphan_that_holds_the_output_is_ended_at_the_drain_deadline() {
    let mut supervised = Rig::new().shell("echo hi; sleep 1000 & echo $!");
    let orphan = wait_for(&mut supervised, |supervised, _| text(supervised).lines().nth(1)?.parse().ok());
    let orphan = pidfd(orphan);
    let over = end(&mut supervised);
    let ran = over.ran.unwrap();
    assert_eq!(over.outcome, Outcome::Succeeded);
    assert!(text(&supervised).starts_with("hi\n"));
    assert!(ran.ended_us - ran.exited_us >= QUICK.drain_ms * 1_000 - 1_000);
    assert!(is_gone(&orphan), "it was of the program's group");
}

#[test]
fn an_orphan_that_floods_does_not_keep_a_program_from_its_end() {
    let mut rig = Rig::new();
    rig.margins.drain_ms = 50;
    let mut supervised = rig.shell("yes & exit 4");
    assert_eq!(end(&mut supervised).outcome, Outcome::Failed(4.try_into().unwrap()));
}

#[test]
fn an_orphan_that_left_its_group_is_not_waited_for() {
    let mut supervised = Rig::new().shell("setsid sh -c 'echo $$; exec sleep 1000' & exit 6");
    let orphan = pidfd(pid_in(&mut supervised));
    let over = end(&mut supervised);
    assert_eq!(over.outcome, Outcome::Failed(6.try_into().unwrap()));
    assert!(lives(&orphan), "without a cgroup there is no hold on it");
    rustix::process::pidfd_send_signal(&orphan, rustix::process::Signal::KILL).unwrap();
}

#[test]
fn an_orphan_that_let_go_of_the_output_goes_on() {
    let mut supervised = Rig::new().shell("sleep 1000 > /dev/null 2>&1 & echo $!");
    let orphan = pidfd(pid_in(&mut supervised));
    let over = end(&mut supervised);
    let ran = over.ran.unwrap();
    assert!(ran.ended_us - ran.exited_us < QUICK.drain_ms * 1_000, "nobody was waited for");
    assert!(lives(&orphan));
    rustix::process::pidfd_send_signal(&orphan, rustix::process::Signal::KILL).unwrap();
}

#[test]
fn a_cancel_after_the_end_keeps_the_status_and_shortens_the_wait() {
    let mut rig = Rig::new();
    rig.margins.drain_ms = PATIENCE_MS;
    let mut supervised = rig.shell("echo $$; sleep 1000 & exit 9");
    let process = pidfd(pid_in(&mut supervised));
    assert!(is_gone(&process));
    supervised.stop();
    assert_eq!(end(&mut supervised).outcome, Outcome::Failed(9.try_into().unwrap()));
}

#[test]
fn a_job_of_the_agent_runs_as_a_program_does() {
    let rig = Rig::new();
    let mut supervised = rig.own(OwnJob::new(|place| {
        let open = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
        let said = std::fs::write("/dev/stdout", format!("{} {open}", place.dir().display()));
        if said.is_ok() { 3 } else { 4 }
    }));
    assert_eq!(end(&mut supervised).outcome, Outcome::Failed(3.try_into().unwrap()));
    // Three, and the one by which they are counted.
    assert_eq!(text(&supervised), format!("{} 4", rig.run().join(REQUEST.to_string()).display()));
}

#[test]
fn a_job_of_the_agent_says_more_than_a_status() {
    use doorbell_wire::message::outcome::{Evidence, FileEvidence, FileKind};
    let evidence = FileEvidence {
        path: "/etc/motd".to_owned().try_into().unwrap(),
        kind: FileKind::File,
        len: 3,
        digest: None,
        mode: 0o644.try_into().unwrap(),
        uid: 0,
        gid: 0,
        entries: 1,
    };
    let said = evidence.clone();
    let rig = Rig::new();
    let mut supervised = rig.own(OwnJob::new(move |place| {
        let word = place.outcome(&not_started(StartFault::NotFound, 2));
        place.evidence(&said).and(word).is_err().into()
    }));
    let over = end(&mut supervised);
    assert_eq!(over.outcome, not_started(StartFault::NotFound, 2));
    assert_eq!(over.evidence, Evidence::File(evidence));
    assert!(over.ran.is_some());
}

#[test]
fn a_cancelled_job_of_the_agent_is_cancelled() {
    let mut supervised = Rig::new().own(OwnJob::new(|place| {
        let _ = place.outcome(&Outcome::Succeeded);
        loop {
            std::thread::park();
        }
    }));
    started(&mut supervised);
    supervised.stop();
    assert_eq!(end(&mut supervised).outcome, Outcome::Cancelled);
}

/// Where this machine has a cgroup of version 2 that can be killed, with or without controllers.
fn with_cgroups() -> Option<Rig> {
    let cgroups = Cgroups::find()?;
    Some(Rig { cgroups: Some(cgroups), ..Rig::new() })
}

#[test]
fn a_cgroup_ends_what_left_its_group() {
    let Some(rig) = with_cgroups() else {
        println!("skipped: no cgroup of version 2 here");
        return;
    };
    let mut order = order(parts(
        "/bin/sh",
        &["-c", "setsid sh -c 'trap \"\" TERM; echo $$; while :; do sleep 1000; done' & wait"],
    ));
    order.request = RequestId::new([0xc0; 16]);
    let mut supervised = rig.start(order);
    let process = pidfd(pid_in(&mut supervised));
    supervised.stop();
    let over = end(&mut supervised);
    assert_eq!(over.outcome, Outcome::Cancelled);
    assert!(is_gone(&process));
    supervised.taken();
    wait_for(&mut supervised, |supervised, _| supervised.watched().is_none().then_some(()));
    assert!(rig.cgroups.unwrap().left_over(RequestId::new([0xc0; 16])).is_none(), "the cgroup is gone");
}
