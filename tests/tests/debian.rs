//! A whole distribution: Debian 13 with systemd, the agent as the service that its unit makes of it.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use doorbell_api::guest::Presence;
use doorbell_api::request::State;
use doorbell_tests::command::Doorbell;
use doorbell_tests::daemon::Daemon;
use doorbell_tests::guest::Machine;
use doorbell_tests::image::Image;
use doorbell_tests::place::Place;
use doorbell_tests::wait::until;

#[test]
fn the_agent_is_a_service_of_debian_13_and_programs_run_in_groups_of_their_own() {
    let place = Place::new();
    let daemon = Daemon::start(&place);
    let machine = Machine { image: Image::Debian13, ..Machine::default() };
    let guest = daemon.boot(&place, "web-3", &machine);
    let doorbell = Doorbell::new(&place, daemon.socket());

    let _ = doorbell.run(&["run", "web-3", "--", "/bin/true"]).expect(0);
    let _ = doorbell.run(&["run", "web-3", "--", "sh", "-c", "exit 7"]).expect(7);
    let release = doorbell.run(&["run", "web-3", "--", "cat", "/etc/os-release"]).expect(0).stdout;
    assert!(release.contains("VERSION_ID=\"13\""), "{release}");

    let show =
        "systemctl show doorbell-agent -p Type,ActiveState,KillMode,Delegate,DelegateSubgroup,ControlGroup";
    let (_, unit) = daemon.run_sh("web-3", show);
    for line in
        ["Type=notify", "ActiveState=active", "KillMode=process", "Delegate=yes", "DelegateSubgroup=agent"]
    {
        assert!(unit.lines().any(|it| it == line), "no {line} in {unit}");
    }
    // The group that systemd delegated, the agent in its own below it, and the program beside the agent.
    let group = unit.lines().find_map(|line| line.strip_prefix("ControlGroup=")).unwrap();
    let main = "cat /proc/$(systemctl show doorbell-agent -p MainPID --value)/cgroup; cat /proc/self/cgroup";
    let (_, groups) = daemon.run_sh("web-3", main);
    let groups: Vec<&str> = groups.lines().filter_map(|line| line.strip_prefix("0::")).collect();
    assert_eq!(groups.first(), Some(&format!("{group}/agent").as_str()), "{groups:?}");
    assert!(groups.len() == 2 && groups[1].starts_with(group) && groups[1] != groups[0], "{groups:?}");

    // Frames of more than 32 KiB: this kernel spreads such a packet over several descriptors of its device.
    let (_, output) = daemon.run_sh("web-3", "head -c 1048576 /dev/zero | tr '\\0' x");
    assert!(output.len() == 1 << 20 && output.bytes().all(|byte| byte == b'x'), "{} bytes", output.len());

    a_reset_keeps_the_disk(&daemon, &guest);
}

fn a_reset_keeps_the_disk(daemon: &Daemon, guest: &doorbell_tests::guest::Guest) {
    let (kept, _) = daemon.run_sh("web-3", "echo kept >/root/kept && sync");
    assert_eq!(kept.state, State::Succeeded);
    guest.reset();
    guest.await_boot(2);
    until("the guest to be back", || (daemon.presence("web-3") == Some(Presence::Connected)).then_some(()));
    let (_, text) = daemon.run_sh("web-3", "cat /root/kept");
    assert_eq!(text, "kept\n");
}
