//! A real guest: QEMU with a real AF_VSOCK device, started by `qemu-scripts/run-guest`.
//!
//! Booted by tests. Its host end is a Unix socket; the guest's own socket is the kernel's AF_VSOCK.

use crate::build::{run, script};
use crate::frames;
use crate::image::Image;
use crate::place::Place;
use crate::process::{Process, read};
use crate::wait::until;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

/// How a guest is to be.
#[derive(Clone, Debug)]
pub struct Machine {
    /// What it boots.
    pub image: Image,
    /// Whether it has a NIC.
    pub nic: bool,
    /// The directory above the share and its receipts, if it has one.
    pub share: Option<PathBuf>,
    /// Whether it has a vsock device.
    pub vsock: bool,
    /// More words for the kernel command line.
    pub append: String,
    /// MiB of the disk with the agent's state, where the usual one has another size than is wanted.
    pub disk_mib: Option<u64>,
    /// A disk with the agent's state that is there already.
    pub state: Option<PathBuf>,
    /// MiB of a second disk, if it has one.
    pub second_disk_mib: Option<u64>,
    /// A file with the key that it is launched with.
    pub key: Option<PathBuf>,
    /// A file with the one-time token that it is launched with.
    pub enrol: Option<PathBuf>,
    /// A file with the key of the manager that it is launched with.
    pub manager: Option<PathBuf>,
    /// Whether it has a virtio serial port, whose host end is a Unix socket.
    pub port: bool,
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            image: Image::Plain,
            nic: true,
            share: None,
            vsock: true,
            append: String::new(),
            disk_mib: None,
            state: None,
            second_disk_mib: None,
            key: None,
            enrol: None,
            manager: None,
            port: false,
        }
    }
}

/// A running guest.
#[derive(Debug)]
pub struct Guest {
    name: String,
    directory: PathBuf,
    mac: [u8; 6],
    log: PathBuf,
    arguments: Vec<PathBuf>,
    // None only while its machine is off.
    process: Option<Process>,
}

impl Guest {
    /// Starts a guest and waits until its kernel is up; the agent starts right after.
    #[must_use]
    pub fn boot(place: &Place, name: &str, machine: &Machine) -> Self {
        let directory = Self::directory_of(place, name);
        let mut arguments: Vec<PathBuf> = vec!["--image".into(), machine.image.directory().into()];
        arguments.extend(["--dir".into(), directory.clone(), "--name".into(), name.into()]);
        arguments.extend(["--nic".into(), if machine.nic { "user" } else { "none" }.into()]);
        if let Some(share) = &machine.share {
            arguments.extend(["--share".into(), share.clone()]);
        }
        if !machine.vsock {
            arguments.extend(["--transport".into(), "none".into()]);
        }
        let own = machine.disk_mib.map(|mib| disk(&directory.join(OWN_DISK), mib));
        if let Some(state) = own.or_else(|| machine.state.clone()) {
            arguments.extend(["--state".into(), state]);
        }
        if let Some(mib) = machine.second_disk_mib {
            arguments.extend(["--disk".into(), disk(&directory.join("second.ext4"), mib)]);
        }
        let given = [("--key", &machine.key), ("--enrol", &machine.enrol), ("--manager", &machine.manager)];
        for (option, file) in given {
            arguments.extend(file.iter().flat_map(|file| [PathBuf::from(option), file.clone()]));
        }
        if machine.port {
            arguments.extend(["--qga".into(), "on".into()]);
        }
        // Which fault is planted in the build under test, if any is.
        let planted = std::env::var("DOORBELL_PLANTED").map(|which| format!("doorbell.planted={which}"));
        let append = [machine.append.clone(), planted.unwrap_or_default()].join(" ");
        if !append.trim().is_empty() {
            arguments.extend(["--append".into(), append.trim().into()]);
        }
        let log = place.join(&format!("{name}.log"));
        let mut guest = Self { name: name.into(), directory, mac: [0; 6], log, arguments, process: None };
        guest.power_on();
        guest.await_boot(1);
        guest
    }

    /// Starts its machine, again with the disks it was given, and waits until QEMU answers.
    pub fn power_on(&mut self) {
        assert!(self.process.is_none(), "the guest's machine is on already");
        let before = read(&self.log).len();
        let console = self.directory.join("console.log");
        self.process = Some(Process::start(
            &format!("guest {}", self.name),
            &script("run-guest"),
            &self.arguments,
            &self.log,
            vec![self.log.clone(), console],
            &["Kernel panic", "doorbell-guest: failed:"],
        ));
        let ready = until("the guest's QEMU", || {
            let log = read(&self.log);
            log.get(before..)?.lines().find(|line| line.starts_with("ready ")).map(str::to_owned)
        });
        self.mac = mac_of(&ready);
    }

    /// Takes the power away: its QEMU is killed. Its console begins anew with the next start.
    pub fn power_off(&mut self) {
        // QEMU and the back end die with whoever started them.
        self.process.take().expect("a machine that is on").kill();
    }

    /// Whether its machine is on.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.process.is_some()
    }

    /// Where the guest's files are to be; the hybrid socket's path is known before the guest runs.
    #[must_use]
    pub fn directory_of(place: &Place, name: &str) -> PathBuf {
        let directory = place.join(&format!("g-{name}"));
        std::fs::create_dir_all(&directory).expect("a directory for the guest");
        directory
    }

    /// The base path of the hybrid socket of a guest that is to be.
    #[must_use]
    pub fn socket_of(place: &Place, name: &str) -> PathBuf {
        Self::directory_of(place, name).join("vm.vsock")
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The process of `run-guest`.
    #[must_use]
    pub fn process(&self) -> &Process {
        self.process.as_ref().expect("a machine that is on")
    }

    /// The host end of its virtio serial port.
    #[must_use]
    pub fn port(&self) -> PathBuf {
        self.directory.join("qga.sock")
    }

    /// The disk with the agent's state that was made for it, where [`Machine::disk_mib`] has one made.
    #[must_use]
    pub fn own_disk(&self) -> PathBuf {
        self.directory.join(OWN_DISK)
    }

    /// The base path of its hybrid socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.directory.join("vm.vsock")
    }

    /// All its console has said.
    #[must_use]
    pub fn console(&self) -> String {
        read(&self.directory.join("console.log"))
    }

    /// Waits until its kernel has come up so many times.
    pub fn await_boot(&self, times: usize) {
        until(&format!("boot {times} of guest {}", self.name), || (self.boots() >= times).then_some(()));
    }

    /// How often its kernel has come up.
    #[must_use]
    pub fn boots(&self) -> usize {
        self.console().matches("doorbell-guest: booted").count()
    }

    /// The fingerprint of the agent's key, as its console shows it to the operator.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        until("the agent's fingerprint on the console", || {
            let console = self.console();
            // Its own is in quotes; other keys that it speaks of are not.
            let start = console.rfind("\"SHA256:")? + 1;
            let digits = |c: char| c.is_ascii_alphanumeric() || "+/:".contains(c);
            let text: String = console[start..].chars().take_while(|&c| digits(c)).collect();
            // 32 bytes in base64 without padding; less is a line on its way.
            (text.len() == "SHA256:".len() + 43).then_some(text)
        })
    }

    /// Pulls the reset line; what was not on its disk is gone.
    pub fn reset(&self) {
        self.monitor("\"system_reset\"");
    }

    /// Stops its processors; nothing in it goes on.
    pub fn pause(&self) {
        self.monitor("\"stop\"");
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.monitor("\"cont\"");
    }

    /// The monitor that is the manager's: QEMU serves one client of each.
    #[must_use]
    pub fn qmp(&self) -> PathBuf {
        self.directory.join("qmp.sock")
    }

    /// Plugs the NIC's cable in or out: what a program in the guest can wait for without the channel.
    pub fn plug(&self, carrier: bool) {
        self.monitor(&format!("\"set_link\",\"arguments\":{{\"name\":\"nic0\",\"up\":{carrier}}}"));
    }

    /// Frames its NIC has sent, by its network back end.
    #[must_use]
    pub fn frames_sent(&self) -> usize {
        frames::sent_by(&self.directory.join("frames.pcap"), self.mac)
    }

    fn monitor(&self, command: &str) {
        execute(&self.directory.join("lab-qmp.sock"), command);
    }
}

/// A fresh disk as the image's template is, of another size.
fn disk(path: &Path, mib: u64) -> PathBuf {
    std::fs::File::create(path).and_then(|file| file.set_len(mib << 20)).expect("a file for the disk");
    run(Command::new("mke2fs").args(["-q", "-F", "-t", "ext4", "-m", "0", "-L", "doorbell-state"]).arg(path));
    path.to_owned()
}

/// Has the QEMU with this monitor execute a command: its name in quotes, and its arguments behind it.
pub fn execute(monitor: &Path, command: &str) {
    let mut stream = UnixStream::connect(monitor).expect("QEMU's monitor");
    let mut answers = BufReader::new(stream.try_clone().expect("QEMU's monitor")).lines();
    let mut answer = |what: &str| {
        answers
            .find(|line| line.as_ref().is_ok_and(|line| line.contains(what)))
            .expect("an answer of the monitor")
    };
    let _ = answer("\"QMP\"");
    for command in ["\"qmp_capabilities\"", command] {
        writeln!(stream, "{{\"execute\":{command}}}").expect("QEMU's monitor");
        let _ = answer("\"return\"");
    }
}

/// A line of shell that waits until the cable is out, or plugged in.
#[must_use]
pub fn await_cable(carrier: bool) -> String {
    format!("until [ \"$(cat /sys/class/net/eth0/carrier)\" = {} ]; do usleep 10000; done", u8::from(carrier))
}

/// Where the manager's end of a hybrid socket with this base listens.
#[must_use]
pub fn door(base: &Path) -> PathBuf {
    let mut path = base.as_os_str().to_owned();
    path.push(format!("_{}", doorbell_wire::limits::MANAGER_PORT));
    path.into()
}

fn mac_of(ready: &str) -> [u8; 6] {
    let text = ready.split_whitespace().find_map(|word| word.strip_prefix("mac=")).expect("a MAC address");
    let bytes: Vec<u8> = text.split(':').map(|pair| u8::from_str_radix(pair, 16).expect("hex")).collect();
    bytes.try_into().expect("six bytes")
}

const OWN_DISK: &str = "own.ext4";
