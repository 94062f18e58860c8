//! The manager's unit: in its sandbox, as a user of its own, the manager serves; and what systemd says of that sandbox is
//! what the documents say. In Debian 13 with the systemd that is there.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use doorbell_api::request::State;
use doorbell_tests::build::{program, root};
use doorbell_tests::lab::{GUEST, Lab, System};
use std::path::{Path, PathBuf};
use std::process::Command;

#[test]
fn the_manager_serves_as_a_user_of_its_own_with_one_capability() {
    let lab = Lab::boot(System::Debian13);
    install(&lab);
    // The manager of the guest, which is a host here: its door on AF_VSOCK is real, and its port is below 1024.
    lab.look(
        "install -D -m 644 /dev/stdin /etc/doorbell/doorbelld.toml <<'END'\nvsock = \"on\"\nEND\n\
         systemctl enable --quiet --now doorbelld",
    );
    let status = lab.look(
        "cat /proc/$(systemctl show doorbelld -p MainPID --value)/status; \
         grep 'CapEff' /proc/$(systemctl show doorbelld -p MainPID --value)/task/*/status",
    );
    let user = lab.look("id -u doorbell");
    for (field, expected) in [
        ("Uid", user.trim()),
        ("CapEff", NET_BIND_SERVICE),
        ("CapBnd", NET_BIND_SERVICE),
        ("NoNewPrivs", "1"),
        ("Seccomp", "2"),
    ] {
        let prefix = format!("{field}:");
        let line = status.lines().find_map(|line| line.strip_prefix(&prefix)).unwrap_or_default();
        assert_eq!(line.split_whitespace().next(), Some(expected), "{field} in {status}");
    }
    let door = lab.look("journalctl --no-pager -u doorbelld");
    assert!(door.contains("listening on port 707"), "{door}");

    a_guest_of_it_is_served(&lab);
    what_it_keeps_is_its_own(&lab);
    scores_are_documented(&lab);
    vmm_directories(&lab);
}

fn scores_are_documented(lab: &Lab) {
    let documented = std::fs::read_to_string(root().join("docs/security.md")).unwrap();
    for (unit, prepare) in [
        ("doorbell-agent.service", "true"),
        ("doorbelld.service", "true"),
        ("doorbelld.service with vmm-directories.conf", WITH_DROP_IN),
    ] {
        let name = unit.split(' ').next().unwrap();
        let said = lab.look(&format!(
            "{prepare} && systemd-analyze verify {name} 2>&1 && systemd-analyze security --no-pager {name} | tail -n 1"
        ));
        let score = said.split_whitespace().find(|word| word.parse::<f32>().is_ok()).unwrap_or_default();
        let row = format!("| `{unit}` | {score} |");
        assert!(documented.contains(&row), "{row} is not in docs/security.md; systemd says: {said}");
    }
}

/// As docs/operations.md tells an operator to.
fn install(lab: &Lab) {
    let unit = |name: &str| root().join("host/systemd").join(name);
    for (from, to) in [
        (stripped(lab, "doorbelld"), "/usr/local/bin/doorbelld"),
        (stripped(lab, "doorbell"), "/usr/local/bin/doorbell"),
        (unit("doorbelld.service"), "/etc/systemd/system/doorbelld.service"),
        (unit("doorbell.sysusers.conf"), "/usr/lib/sysusers.d/doorbell.conf"),
        (unit("vmm-directories.conf"), "/root/vmm-directories.conf"),
    ] {
        push(lab, &from, to);
    }
    lab.look("chmod 755 /usr/local/bin/doorbell /usr/local/bin/doorbelld; systemd-sysusers; systemctl daemon-reload");
}

/// What is built for development is four fifths for debuggers, and goes through an emulated machine.
fn stripped(lab: &Lab, name: &str) -> PathBuf {
    let to = lab.place.join(name);
    let stripped = Command::new("strip").arg("-o").arg(&to).arg(program(name)).status().unwrap();
    assert!(stripped.success(), "{name} cannot be stripped");
    to
}

fn push(lab: &Lab, from: &Path, to: &str) {
    let _ = lab.doorbell().run(&["push", from.to_str().unwrap(), &format!("{GUEST}:{to}")]).expect(0);
}

/// By a hybrid socket in a directory of the manager's own user, where no VMM is: what counts is that the door opens.
fn a_guest_of_it_is_served(lab: &Lab) {
    lab.look(
        "install -d -o doorbell -g doorbell -m 700 /var/lib/doorbell/vm && \
         doorbell guest add inner --hybrid-socket /var/lib/doorbell/vm/inner.vsock && \
         until [ -S /var/lib/doorbell/vm/inner.vsock_707 ]; do sleep 0.1; done",
    );
}

fn what_it_keeps_is_its_own(lab: &Lab) {
    let loose = lab.look("find /var/lib/doorbell -perm /077; find /var/lib/doorbell ! -user doorbell");
    assert_eq!(loose, "", "others can get at these, or own them");
    let (run, said) = lab.daemon.run_sh(GUEST, "su -s /bin/sh tenant -c 'doorbell guest ls' 2>&1");
    assert_eq!(run.state, State::Failed, "{said}");
}

/// A directory of another user's: out of reach at first, and with the drop-in its door is that user's.
fn vmm_directories(lab: &Lab) {
    lab.look(
        "install -d -o tenant -m 700 /srv/vm && doorbell guest add outer --hybrid-socket /srv/vm/outer.vsock",
    );
    let told = lab.look("until journalctl --no-pager -u doorbelld | grep /srv/vm; do sleep 0.2; done");
    assert!(told.contains("outer"), "{told}");
    lab.look("systemctl restart doorbelld");
    let door = lab.look(
        "until [ -S /srv/vm/outer.vsock_707 ]; do sleep 0.1; done; stat -c '%U %a' /srv/vm/outer.vsock_707",
    );
    assert_eq!(door.trim(), "tenant 600");
}

const WITH_DROP_IN: &str = "install -D -m 644 /root/vmm-directories.conf \
     /etc/systemd/system/doorbelld.service.d/vmm-directories.conf && systemctl daemon-reload";
/// The set with this one, as the kernel shows it.
const NET_BIND_SERVICE: &str = "0000000000000400";
