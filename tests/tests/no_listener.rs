//! Nothing of ours listens in the guest, not over TCP, UDP, raw, Unix or vsock sockets; and the channel works
//! in a guest without a NIC, and in one whose rule set drops every packet.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use doorbell_api::request::State;
use doorbell_tests::daemon::Daemon;
use doorbell_tests::guest::Machine;
use doorbell_tests::image::Image;
use doorbell_tests::place::Place;

#[test]
fn nothing_listens_in_the_guest() {
    let place = Place::new();
    let daemon = Daemon::start(&place);
    let _guest = daemon.boot(&place, "quiet", &Machine { image: Image::Sockets, ..Machine::default() });
    // The agent is connected and a program of it runs: if anything of ours ever listened, it would here.
    for table in ["tcp", "tcp6", "udp", "udp6", "udplite", "raw", "raw6"] {
        let (run, lines) = daemon.run_sh("quiet", &format!("tail -n +2 /proc/net/{table} 2>/dev/null"));
        assert!(matches!(run.state, State::Succeeded | State::Failed), "{table}: {:?}", run.state);
        // The guest's own ping sends through a raw socket now and then; it listens for answers to itself only.
        let listening: Vec<&str> = lines.lines().filter(|line| table != "raw" || !is_ping(line)).collect();
        assert!(listening.is_empty(), "{table}: {listening:?}");
    }
    // The kernel's flag of a Unix socket that accepts: __SO_ACCEPTCON.
    let (_, unix) = daemon.run_sh("quiet", "awk 'NR > 1 && $4 == \"00010000\"' /proc/net/unix");
    assert_eq!(unix, "");

    let (run, vsock) = daemon.run_sh("quiet", "ss --vsock --all --no-header --numeric");
    assert_eq!(run.state, State::Succeeded);
    let connections: Vec<&str> = vsock.lines().collect();
    assert_eq!(connections.len(), 1, "one connection is all there is: {vsock}");
    assert!(connections[0].contains("ESTAB") && connections[0].contains("2:707"), "{vsock}");
    let (_, listening) = daemon.run_sh("quiet", "ss --vsock --listening --no-header");
    assert_eq!(listening, "");

    // The look itself is looked at: what does listen is seen.
    let (_, seen) = daemon.run_sh(
        "quiet",
        "nc -l -p 4242 >/dev/null & until cat /proc/net/tcp* | grep :1092; do usleep 10000; done; kill $!",
    );
    assert!(seen.contains(":1092"), "a listener on port 4242 is not seen: {seen}");
}

fn is_ping(line: &str) -> bool {
    // Protocol 1, ICMP, stands where a port would.
    line.split_whitespace().nth(1).is_some_and(|local| local.ends_with(":0001"))
}

#[test]
fn a_guest_without_a_nic_is_served() {
    let place = Place::new();
    let daemon = Daemon::start(&place);
    let _guest = daemon.boot(&place, "bare", &Machine { nic: false, ..Machine::default() });
    let (run, links) = daemon.run_sh("bare", "ls /sys/class/net");
    assert_eq!((run.state, links.trim()), (State::Succeeded, "lo"));
}

#[test]
fn a_guest_that_drops_every_packet_is_served() {
    let place = Place::new();
    let daemon = Daemon::start(&place);
    let _guest =
        daemon.boot(&place, "walled", &Machine { image: Image::DropsEverything, ..Machine::default() });
    let (run, rules) =
        daemon.run_sh("walled", "nft list ruleset; ping -c 1 -W 1 127.0.0.1 >/dev/null || echo walled");
    assert_eq!(run.state, State::Succeeded);
    assert_eq!(rules.matches("policy drop").count(), 3, "{rules}");
    assert!(rules.ends_with("walled\n"), "{rules}");
}
