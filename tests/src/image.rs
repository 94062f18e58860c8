//! The image that guests boot: built once per test process, from the agent that is shipped.
//!
//! Called by [`crate::guest`]. Every image holds the lab's base; some hold more for the tests to look with.

use crate::build::{previous, program, root, run, script};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// What is in an image beyond the agent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Image {
    /// Nothing.
    Plain,
    /// The agent of the protocol version before.
    Previous,
    /// `ss` with the kernel module that lets it list vsock sockets, and `socat`.
    Sockets,
    /// `strace`, and a hook that mounts the agent's disk read-only while the file `read-only` is on it, until the NIC's
    /// cable is out.
    Strace,
    /// An nftables rule set that drops every packet, loaded before the agent starts.
    DropsEverything,
    /// Another kernel, which has 9p, for a guest with a share.
    Share,
    /// A second disk at `/effects`, and a shell on the virtio serial port that no agent has a part in.
    Faults,
    /// No initramfs alone but Debian 13 on a disk: systemd, its agent's unit, a user `tenant`, `su`.
    Debian13,
}

impl Image {
    /// Its directory.
    #[must_use]
    pub fn directory(self) -> &'static Path {
        let (slot, make): (_, fn() -> PathBuf) = match self {
            Self::Plain => (&PLAIN, plain),
            Self::Previous => (&PREVIOUS, previous_agent),
            Self::Sockets => (&SOCKETS, sockets),
            Self::Strace => (&STRACE, strace),
            Self::DropsEverything => (&DROPS, drops_everything),
            Self::Share => (&SHARE, share),
            Self::Faults => (&FAULTS, faults),
            Self::Debian13 => (&DEBIAN13, debian13),
        };
        slot.get_or_init(make)
    }
}

fn plain() -> PathBuf {
    image("plain", &[], |_| {})
}

fn previous_agent() -> PathBuf {
    image_of(&previous("doorbell-agent"), "previous", &[], |_| {})
}

fn sockets() -> PathBuf {
    image("sockets", &[], |overlay| {
        for program in ["/usr/bin/ss", "/usr/bin/socat"] {
            copy_program(overlay, program);
        }
        let release = fs::read_dir(root().join("target/lab/kernel/lib/modules"))
            .expect("the lab's kernel")
            .next()
            .expect("the modules of the lab's kernel")
            .expect("a directory")
            .path();
        // vsock_diag is loaded by name: the base's list of modules does not have it.
        copy_into(overlay, &release.join("kernel/net/vmw_vsock/vsock_diag.ko"), Path::new("/vsock_diag.ko"));
        hook(overlay, "insmod /vsock_diag.ko");
    })
}

fn strace() -> PathBuf {
    image("strace", &[], |overlay| {
        copy_program(overlay, "/usr/bin/strace");
        hook(overlay, READ_ONLY);
    })
}

fn drops_everything() -> PathBuf {
    image("drops", &["--with-nft"], |overlay| {
        hook(overlay, &format!("/usr/sbin/nft -f - <<'END'\n{DROP_EVERYTHING}END"));
    })
}

fn share() -> PathBuf {
    image("share", &["--with-9p"], |_| {})
}

fn faults() -> PathBuf {
    image("faults", &[], |overlay| hook(overlay, FAULTS_HOOK))
}

fn debian13() -> PathBuf {
    let directory = directory_of("debian13");
    run(Command::new(script("build-debian"))
        .arg("--agent")
        .arg(program("doorbell-agent"))
        .arg("--output")
        .arg(&directory));
    directory
}

fn image(name: &str, options: &[&str], fill: impl FnOnce(&Path)) -> PathBuf {
    image_of(&program("doorbell-agent"), name, options, fill)
}

fn image_of(agent: &Path, name: &str, options: &[&str], fill: impl FnOnce(&Path)) -> PathBuf {
    let directory = directory_of(name);
    let overlay = directory.join("overlay");
    fs::create_dir_all(&overlay).expect("a directory for the image");
    fill(&overlay);
    let mut command = Command::new(script("build-image"));
    command.arg("--agent").arg(agent).arg("--output").arg(&directory);
    run(command.arg("--overlay").arg(&overlay).args(options));
    directory
}

fn directory_of(name: &str) -> PathBuf {
    let all = root().join("target/tests");
    forget_ended(&all);
    all.join(format!("{}-{name}", std::process::id()))
}

/// Images of test processes that are gone: a process cannot clean up what its last thread still uses.
fn forget_ended(all: &Path) {
    for entry in fs::read_dir(all).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name.split('-').next().unwrap_or_default();
        if !Path::new("/proc").join(pid).exists() {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// With all that it is linked to.
fn copy_program(overlay: &Path, program: &str) {
    for file in std::iter::once(PathBuf::from(program)).chain(libraries(program)) {
        copy_into(overlay, &file, &file);
    }
}

fn libraries(program: &str) -> Vec<PathBuf> {
    let output = Command::new("ldd").arg(program).output().expect("ldd");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect()
}

fn copy_into(overlay: &Path, from: &Path, to: &Path) {
    let target = overlay.join(to.strip_prefix("/").expect("an absolute path"));
    fs::create_dir_all(target.parent().expect("a parent")).expect("a directory in the overlay");
    fs::copy(from, &target).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
}

fn hook(overlay: &Path, line: &str) {
    let hooks = overlay.join("etc/doorbell/hooks");
    fs::create_dir_all(&hooks).expect("a directory for hooks");
    let path = hooks.join("10-test.sh");
    fs::write(&path, format!("#!/bin/sh\n{line}\n")).expect("a hook");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a hook that runs");
}

const READ_ONLY: &str = "\
disk=/var/lib/doorbell-agent
[ -e $disk/read-only ] || exit 0
rm $disk/read-only && sync && mount -o remount,ro $disk
(until [ \"$(cat /sys/class/net/eth0/carrier)\" = 0 ]; do usleep 10000; done
mount -o remount,rw $disk && echo 'the disk takes writes' >/dev/console) </dev/null >/dev/null 2>&1 &
";
const DROP_EVERYTHING: &str = "\
table inet walled {
  chain in { type filter hook input priority -300; policy drop; }
  chain out { type filter hook output priority -300; policy drop; }
  chain through { type filter hook forward priority -300; policy drop; }
}
";
/// The port reads as ended while nobody is at its host end, so the shell is started again and again.
const FAULTS_HOOK: &str = "\
. /etc/doorbell/functions
mount_disk /dev/vdb /effects
{ while :; do
  for port in /dev/vport*p1; do sh 0<>\"$port\" 1>&0 2>/dev/null; done
  usleep 50000
done; } &";
static FAULTS: OnceLock<PathBuf> = OnceLock::new();
static PLAIN: OnceLock<PathBuf> = OnceLock::new();
static PREVIOUS: OnceLock<PathBuf> = OnceLock::new();
static SOCKETS: OnceLock<PathBuf> = OnceLock::new();
static STRACE: OnceLock<PathBuf> = OnceLock::new();
static DEBIAN13: OnceLock<PathBuf> = OnceLock::new();
static DROPS: OnceLock<PathBuf> = OnceLock::new();
static SHARE: OnceLock<PathBuf> = OnceLock::new();
