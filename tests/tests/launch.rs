//! A guest that is launched with its key is let in by it, with nobody there to approve it, and stays who it is.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use doorbell_api::guest::Presence;
use doorbell_api::request::State;
use doorbell_tests::command::Doorbell;
use doorbell_tests::daemon::Daemon;
use doorbell_tests::guest::{Guest, Machine};
use doorbell_tests::lab::GUEST;
use doorbell_tests::place::Place;
use doorbell_tests::process::read;
use doorbell_tests::wait::on;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

#[test]
fn a_guest_that_is_launched_with_its_key_is_served_without_an_approval() {
    let place = Place::new();
    let daemon = Daemon::start(&place);
    let doorbell = Doorbell::new(&place, daemon.socket());
    let key = place.join("web-3.key");
    let add = |name: &'static str, socket: &str| {
        let words = ["guest", "add", name, "--hybrid-socket", socket, "--make-key", key.to_str().unwrap()];
        doorbell.run(&words)
    };
    let socket = Guest::socket_of(&place, GUEST).display().to_string();
    let told = add(GUEST, &socket).expect(0).stdout;
    let option = format!("-fw_cfg name=opt/org.doorbell.key,file={}", key.display());
    assert!(told.contains(&option), "{told}");
    let secret = std::fs::read(&key).unwrap();
    assert_eq!((secret.len(), key.metadata().unwrap().permissions().mode() & 0o777), (32, 0o600));
    // One that is there is never written over, and none is left for a guest that was not added.
    add("web-4", &place.join("web-4").display().to_string()).refused(2, &["web-3.key"]);
    assert_eq!(std::fs::read(&key).unwrap(), secret);
    let other = place.join("other.key");
    let words = ["guest", "add", GUEST, "--cid", "9", "--make-key", other.to_str().unwrap()];
    doorbell.run(&words).refused(2, &[GUEST]);
    assert!(!other.exists());

    let machine = Machine { key: Some(key.clone()), disk_mib: Some(16), ..Machine::default() };
    let mut guest = Guest::boot(&place, GUEST, &machine);
    daemon.await_presence(GUEST, Presence::Connected);
    assert!(on("the pending keys", daemon.client().pending()).unwrap().is_empty());
    let shown = on("the guest", daemon.client().guest(GUEST).show()).unwrap();
    assert_eq!(shown.fingerprint.as_ref(), Some(&guest.fingerprint()));
    let (run, _) = daemon.run_sh(GUEST, "test $(stat -c %a /var/lib/doorbell-agent/key) = 600");
    assert_eq!(run.state, State::Succeeded);
    let (_, path) =
        daemon.run_sh(GUEST, "stat -c '%a %u' /sys/firmware/qemu_fw_cfg/by_name/opt/org.doorbell.key/raw");
    assert_eq!(path.trim(), "400 0", "only root of the guest reads what it was launched with");
    told_nowhere(&daemon, &guest, &secret);

    // The key is the guest's own from its first start on: the next one needs no launch with it.
    guest.power_off();
    std::fs::write(&key, [7; 32]).unwrap();
    guest.power_on();
    daemon.await_presence(GUEST, Presence::Connected);
    let (run, _) = daemon.run_sh(GUEST, "true");
    assert_eq!(run.state, State::Succeeded);
    daemon.assert_audit_intact();
}

/// The secret half stands in no argument, no log and no audit record.
fn told_nowhere(daemon: &Daemon, guest: &Guest, secret: &[u8]) {
    let text = hex::encode(secret);
    for process in std::fs::read_dir("/proc").unwrap().flatten() {
        let line = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        assert!(!line.windows(secret.len()).any(|part| part == secret), "{:?}", process.path());
        assert!(!String::from_utf8_lossy(&line).contains(&text), "{:?}", process.path());
    }
    let trail = on("the audit trail", daemon.client().audit(0, 1000)).unwrap();
    for said in [daemon.log(), guest.console(), format!("{trail:?}"), read(Path::new("/proc/cmdline"))] {
        assert!(!said.contains(&text), "{said}");
    }
}
