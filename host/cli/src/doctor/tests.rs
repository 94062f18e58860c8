//! One test for each finding, against a tree of our own in the place of /proc, /sys and /dev.

use super::*;
use doorbell_client::ClientError;
use doorbell_client::api::guest::{Guest, Presence, Trigger};
use doorbell_client::api::info::Info;
use std::io;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;

struct Host {
    dir: tempfile::TempDir,
    here: Surroundings,
    manager: Manager,
}

/// A host where all is well.
fn host() -> Host {
    let dir = tempfile::tempdir().expect("a directory");
    let mut here = Surroundings::at(dir.path().to_path_buf());
    here.usable = |_| true;
    here.now_ms = 1_800_000_000_000;
    let info = Info {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: 7,
        protocol_min: 0,
        protocol_max: 0,
        vsock: "listening on port 707".to_owned(),
        state_dir: "/var/lib/doorbell".to_owned(),
        key: String::new(),
        guests: 0,
        connected: 0,
        started_at_ms: 1_799_999_999_000,
        disk: None,
    };
    let manager =
        Manager { socket: "/run/doorbell/doorbelld.sock".into(), info: Ok(info), guests: Vec::new() };
    let host = Host { dir, here, manager };
    host.modules("vhost_vsock 1 0 - Live 0x0\nkvm_intel 1 0 - Live 0x0\nvsock 1 1 vhost_vsock, Live 0x0\n");
    for device in ["kvm", "vhost-vsock"] {
        // A link to a device that every host has: making a device node would need root.
        std::fs::create_dir_all(host.path("/dev")).expect("dev");
        symlink("/dev/null", host.path(&format!("/dev/{device}"))).expect("a device");
    }
    std::fs::create_dir_all(host.path("/var/lib/doorbell")).expect("a state directory");
    host.mode("/var/lib/doorbell", 0o700);
    host
}

impl Host {
    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path.trim_start_matches('/'))
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        std::fs::write(path, text).expect("a file");
    }

    fn modules(&self, list: &str) {
        self.write("/proc/modules", list);
    }

    fn mode(&self, path: &str, mode: u32) {
        std::fs::set_permissions(self.path(path), std::fs::Permissions::from_mode(mode)).expect("a mode");
    }

    fn guest(&mut self, change: impl FnOnce(&mut Guest)) {
        let mut guest = Guest {
            name: "web-3".to_owned(),
            id: "00".to_owned(),
            cid: None,
            hybrid_socket: None,
            qmp: None,
            tenant: None,
            presence: Presence::Never,
            power: None,
            fingerprint: None,
            rejected: Vec::new(),
            trust_first_key: false,
            enrolment_until_ms: None,
            added_at_ms: 0,
            last_seen_ms: None,
            agent: None,
            concurrency: 1,
            open_requests: 0,
            share: None,
            trigger: Trigger::Ring,
            set_clock: false,
            copy: None,
            spool: None,
        };
        change(&mut guest);
        self.manager.guests.push(guest);
    }

    fn info(&mut self) -> &mut Info {
        self.manager.info.as_mut().expect("the manager answers")
    }

    fn report(&self) -> Report {
        examine(&self.here, &self.manager)
    }

    /// The only finding that is not well.
    fn trouble(&self) -> Finding {
        let report = self.report();
        let mut bad: Vec<_> =
            report.findings.into_iter().filter(|finding| finding.verdict != Verdict::Ok).collect();
        assert_eq!(bad.len(), 1, "expected one finding: {bad:#?}");
        bad.remove(0)
    }
}

fn assert_finding(finding: &Finding, verdict: Verdict, what: &str, found: &str) {
    assert_eq!((finding.verdict, finding.what.as_str()), (verdict, what), "{finding:?}");
    assert!(finding.found.contains(found), "{finding:?}");
    assert!(finding.advice.as_ref().is_some_and(|advice| !advice.is_empty()), "nothing to do: {finding:?}");
}

#[test]
fn a_host_where_all_is_well_has_no_finding() {
    let report = host().report();
    assert_eq!((report.problems, report.warnings), (0, 0), "{report:#?}");
    assert!(text(&report).ends_with("\nnothing is in the way\n"));
}

#[test]
fn a_module_that_is_built_in_counts() {
    let host = host();
    host.modules("");
    for module in ["vhost_vsock", "kvm"] {
        std::fs::create_dir_all(host.path(&format!("/sys/module/{module}"))).expect("a module");
    }
    assert_eq!(host.report().problems + host.report().warnings, 0);
}

#[test]
fn no_kvm_module() {
    let host = host();
    host.modules("vhost_vsock 1 0 - Live 0x0\n");
    assert_finding(&host.trouble(), Verdict::Warning, "kvm", "no kvm module");
}

#[test]
fn no_vhost_vsock_module() {
    let host = host();
    host.modules("kvm_amd 1 0 - Live 0x0\n");
    let finding = host.trouble();
    assert_finding(&finding, Verdict::Warning, "vhost_vsock", "only guests with hybrid sockets");
    assert!(finding.advice.unwrap_or_default().contains("modprobe vhost_vsock"));
}

#[test]
fn no_vhost_vsock_module_and_a_guest_that_needs_it() {
    let mut host = host();
    host.modules("kvm_amd 1 0 - Live 0x0\n");
    host.guest(|guest| guest.cid = Some(7));
    assert_finding(&host.trouble(), Verdict::Problem, "vhost_vsock", "web-3");
}

#[test]
fn a_kernel_without_modules_is_not_told_to_load_one() {
    let host = host();
    std::fs::remove_file(host.path("/proc/modules")).expect("removed");
    std::fs::create_dir_all(host.path("/sys/module/kvm")).expect("a module");
    let finding = host.trouble();
    assert!(!finding.advice.unwrap_or_default().contains("modprobe"));
}

#[test]
fn vmci_keeps_vhost_vsock_out() {
    let host = host();
    host.modules(
        "vmw_vsock_vmci_transport 1 0 - Live 0x0\nvmw_vmci 1 0 - Live 0x0\nkvm_intel 1 0 - Live 0x0\n",
    );
    let report = host.report();
    let finding = report.findings.iter().find(|finding| finding.what == "vmci").expect("looked at");
    assert_finding(finding, Verdict::Problem, "vmci", "keeps vhost_vsock out");
}

#[test]
fn vmci_beside_vhost_vsock() {
    let host = host();
    host.modules("vhost_vsock 1 0\nkvm_intel 1 0\nvmw_vsock_vmci_transport 1 0\n");
    assert_finding(&host.trouble(), Verdict::Warning, "vmci", "beside vhost_vsock");
}

#[test]
fn a_local_vsock_namespace() {
    let host = host();
    host.write("/proc/sys/net/vsock/ns_mode", "local\n");
    assert_finding(&host.trouble(), Verdict::Problem, "vsock namespace", "local");
    host.write("/proc/sys/net/vsock/ns_mode", "global\n");
    assert_eq!(host.report().problems, 0);
}

#[test]
fn a_fallback_to_the_hypervisor_above() {
    let host = host();
    host.write("/proc/sys/net/vsock/g2h_fallback", "1\n");
    assert_eq!(host.report().warnings, 0, "there is no hypervisor above");
    std::fs::create_dir_all(host.path("/sys/module/vmw_vsock_virtio_transport")).expect("a module");
    assert_finding(&host.trouble(), Verdict::Warning, "vsock g2h_fallback", "leaves this host");
    host.write("/proc/sys/net/vsock/g2h_fallback", "0\n");
    assert_eq!(host.report().warnings, 0);
}

#[test]
fn a_device_that_is_not_there() {
    for device in ["/dev/kvm", "/dev/vhost-vsock"] {
        let host = host();
        std::fs::remove_file(host.path(device)).expect("removed");
        assert_finding(&host.trouble(), Verdict::Warning, device, "not there");
    }
}

#[test]
fn a_device_that_is_a_file() {
    let host = host();
    std::fs::remove_file(host.path("/dev/kvm")).expect("removed");
    host.write("/dev/kvm", "");
    assert_finding(&host.trouble(), Verdict::Problem, "/dev/kvm", "no device");
}

#[test]
fn a_device_that_is_closed_to_this_user() {
    let mut host = host();
    host.here.usable = |path| !path.ends_with("dev/vhost-vsock");
    assert_finding(&host.trouble(), Verdict::Warning, "/dev/vhost-vsock", "closed to uid");
}

#[test]
fn a_daemon_that_does_not_run() {
    let mut host = host();
    let source = io::Error::from(io::ErrorKind::NotFound);
    host.manager.info = Err(ClientError::Unreachable { socket: "/run/x".into(), source });
    let finding = host.trouble();
    assert_finding(&finding, Verdict::Problem, "doorbelld", "does not answer");
    assert!(finding.advice.unwrap_or_default().contains("start it with"));
}

#[test]
fn a_daemon_of_another_version() {
    let mut host = host();
    host.info().version = "9.9.9".to_owned();
    assert_finding(&host.trouble(), Verdict::Warning, "version", "doorbelld 9.9.9");
}

#[test]
fn a_daemon_that_does_not_listen_on_the_vsock_there_is() {
    let mut host = host();
    host.info().vsock = "off by configuration".to_owned();
    assert_finding(&host.trouble(), Verdict::Warning, "vsock", "off by configuration");
}

#[test]
fn a_state_directory_that_others_can_look_into() {
    let host = host();
    host.mode("/var/lib/doorbell", 0o750);
    assert_finding(&host.trouble(), Verdict::Problem, "state directory", "0750");
}

#[test]
fn a_hybrid_socket_that_is_not_there() {
    let mut host = host();
    host.guest(|guest| guest.hybrid_socket = Some("/run/web-3.vsock".to_owned()));
    assert_finding(
        &host.trouble(),
        Verdict::Problem,
        "web-3 hybrid socket",
        "/run/web-3.vsock_707 is not there",
    );
    std::fs::create_dir_all(host.path("/run")).expect("a directory");
    let _listener = UnixListener::bind(host.path("/run/web-3.vsock_707")).expect("a socket");
    assert_eq!(host.report().problems, 0);
}

#[test]
fn a_hybrid_socket_in_a_directory_that_others_can_write() {
    use std::fs::{Permissions, set_permissions};
    use std::os::unix::fs::PermissionsExt as _;
    let mut host = host();
    host.guest(|guest| guest.hybrid_socket = Some("/run/web-3.vsock".to_owned()));
    std::fs::create_dir_all(host.path("/run")).expect("a directory");
    let _listener = UnixListener::bind(host.path("/run/web-3.vsock_707")).expect("a socket");
    for mode in [0o777, 0o1777, 0o775] {
        set_permissions(host.path("/run"), Permissions::from_mode(mode)).expect("a mode");
        let finding = host.trouble();
        assert_finding(
            &finding,
            Verdict::Problem,
            "web-3 hybrid socket",
            &format!("/run has mode {mode:04o}"),
        );
        assert!(finding.advice.unwrap_or_default().contains("chmod go-w /run"));
    }
    set_permissions(host.path("/run"), Permissions::from_mode(0o755)).expect("a mode");
    assert_eq!(host.report().problems, 0);
}

#[test]
fn a_hybrid_socket_that_is_a_file() {
    let mut host = host();
    host.guest(|guest| guest.hybrid_socket = Some("/run/web-3.vsock".to_owned()));
    host.write("/run/web-3.vsock_707", "");
    assert_finding(&host.trouble(), Verdict::Problem, "web-3 hybrid socket", "is no socket");
}

#[test]
fn a_qmp_socket_that_is_not_there_a_file_or_closed() {
    let mut host = host();
    host.guest(|guest| guest.qmp = Some("/run/web-3.qmp".to_owned()));
    assert_finding(&host.trouble(), Verdict::Warning, "web-3 qmp socket", "is not there");
    host.write("/run/web-3.qmp", "");
    assert_finding(&host.trouble(), Verdict::Problem, "web-3 qmp socket", "is no socket");
    std::fs::remove_file(host.path("/run/web-3.qmp")).expect("removed");
    let _listener = UnixListener::bind(host.path("/run/web-3.qmp")).expect("a socket");
    assert_eq!(host.report().warnings, 0);
    host.here.usable = |path| !path.ends_with("web-3.qmp");
    assert_finding(&host.trouble(), Verdict::Warning, "web-3 qmp socket", "closed to uid");
}

#[test]
fn a_clock_at_the_beginning_of_time() {
    let mut host = host();
    host.here.now_ms = 1_000;
    assert_finding(&host.trouble(), Verdict::Problem, "clock", "before this program was written");
}

#[test]
fn a_clock_that_was_set_back() {
    let mut host = host();
    host.info().started_at_ms = 1_800_000_100_000;
    assert_finding(&host.trouble(), Verdict::Warning, "clock", "set back");
}

#[test]
fn a_disk_that_takes_nothing_is_told() {
    let mut host = host();
    host.info().disk = Some("keeping output is refused: no space".into());
    assert_finding(&host.trouble(), Verdict::Problem, "disk", "keeping output is refused");
}

#[test]
fn what_this_user_may_do_is_asked_without_opening() {
    let here = Surroundings::at("/".into());
    assert!(here.may_use("/dev/null"));
    assert!(!here.may_use("/proc/does-not-exist"));
}

#[test]
fn a_spool_that_is_missing_or_open_to_everybody_is_told() {
    let mut host = host();
    host.guest(|guest| guest.spool = Some("/var/spool/doorbell/web-3".to_owned()));
    assert_finding(&host.trouble(), Verdict::Problem, "web-3 spool", "/web-3/inbox is not there");
    host.write("/var/spool/doorbell/web-3/inbox/fix", "x");
    host.write("/var/spool/doorbell/web-3/outbox/fix.receipt.json", "{}");
    let report = host.report();
    assert_eq!((report.problems, report.warnings), (0, 0), "{report:#?}");
    host.mode("/var/spool/doorbell/web-3/inbox", 0o1777);
    assert_finding(&host.trouble(), Verdict::Problem, "web-3 spool", "everybody may write");
    host.mode("/var/spool/doorbell/web-3/inbox", 0o770);
    host.mode("/var/spool/doorbell/web-3", 0o770);
    assert_finding(&host.trouble(), Verdict::Problem, "web-3 spool", "others may write");
}
