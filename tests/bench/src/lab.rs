//! What is measured: a manager and one guest, started for one run.
//!
//! Called by `main`. On the machine itself the guest is on a hybrid socket; AF_VSOCK is used only inside an L1 guest.

use crate::api::Api;
use crate::children::{Running, output, read};
use crate::floor::Floor;
use anyhow::{Context as _, Result};
use serde_json::json;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Which guest.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub(crate) enum Place {
    /// A kernel and a busybox.
    Initramfs,
    /// A distribution with systemd.
    Debian13,
    /// The first, under KVM and the kernel's vhost-vsock, inside an emulated host.
    Nested,
}

/// The manager and the guest. Dropping it ends both.
#[derive(Debug)]
pub(crate) struct Lab {
    pub(crate) api: Api,
    pub(crate) directory: PathBuf,
    pub(crate) accel: String,
    pub(crate) bin: PathBuf,
    guest: Running,
    _manager: Running,
}

impl Lab {
    /// Starts both, and the floor program in the guest.
    pub(crate) fn start(place: Place, image: &Path, bin: &Path, directory: &Path) -> Result<(Self, Floor)> {
        let socket = directory.join("d.sock");
        let guest_directory = directory.join("g");
        fs::create_dir_all(&guest_directory)?;
        let arguments = ["--state-dir".into(), directory.join("state"), "--socket".into(), socket.clone()];
        let mut manager =
            Running::start(&bin.join("doorbelld"), &arguments, &directory.join("doorbelld.log"))?;
        let api = Api::at(&socket)?;
        manager.until("the manager answers", || api.get("info").ok())?;
        let base = guest_directory.join("vm.vsock");
        let floor = if place == Place::Nested {
            api.post("guests", &json!({ "name": GUEST, "cid": CID }))?;
            Floor::on_vsock()?
        } else {
            api.post("guests", &json!({ "name": GUEST, "hybrid_socket": base }))?;
            Floor::on_hybrid(&base)?
        };
        let guest = Running::start(
            Path::new("qemu-scripts/run-guest"),
            &guest_arguments(place, image, &guest_directory),
            &directory.join("guest.log"),
        )?;
        let mut lab = Self {
            api,
            directory: directory.to_owned(),
            accel: String::new(),
            bin: bin.to_owned(),
            guest,
            _manager: manager,
        };
        lab.approve()?;
        let ready = lab.guest.said();
        lab.accel = word(&ready, "accel=").unwrap_or_else(|| "unknown".into());
        let floor = lab.start_floor(floor)?;
        Ok((lab, floor))
    }

    fn approve(&mut self) -> Result<()> {
        let api = &self.api;
        let waits = || api.get("pending").ok()?.as_array()?.first()?.get("fingerprint").cloned();
        let fingerprint = self.guest.until("the guest's key waits", waits)?;
        api.post(&format!("guests/{GUEST}/approve"), &json!({ "fingerprint": fingerprint }))?;
        let connected =
            || (api.get(&format!("guests/{GUEST}")).ok()?["presence"] == "connected").then_some(());
        self.guest.until("the guest is connected", connected)
    }

    fn start_floor(&mut self, mut floor: Floor) -> Result<Floor> {
        let program = self.api.upload("doorbell-floor", fs::read(self.bin.join("doorbell-floor"))?)?;
        let args = [floor.port().to_string(), STATE_IN_GUEST.into(), "/bin/true".into()];
        let run = json!({ "action": { "type": "run", "program": program, "args": args } });
        let id = self.api.submit(GUEST, &run)?;
        self.guest.until("the floor program calls", || floor.accept().ok())?;
        self.api.finished(&id)?;
        Ok(floor)
    }

    /// What the guest's console has said.
    pub(crate) fn console(&self) -> String {
        read(&self.directory.join("g/console.log"))
    }

    /// A file of the guest's run.
    pub(crate) fn guest_file(&self, name: &str) -> PathBuf {
        self.directory.join("g").join(name)
    }
}

fn guest_arguments(place: Place, image: &Path, directory: &Path) -> Vec<PathBuf> {
    let mut arguments = vec!["--image".into(), image.to_owned(), "--dir".into(), directory.to_owned()];
    let more: &[&str] = match place {
        Place::Nested => &["--cid", "3", "--nic", "none", "--accel", "kvm", "--transport", "vhost-vsock"],
        Place::Initramfs | Place::Debian13 => &["--nic", "none", "--transport", "vhost-user", "--qga", "on"],
    };
    arguments.extend(more.iter().map(PathBuf::from));
    // A lab guest's log goes to an emulated serial port, where each line costs milliseconds that no real guest pays.
    arguments.extend(["--append", "doorbell.agent_args=--log,warn"].map(PathBuf::from));
    arguments
}

fn word(text: &str, prefix: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with("ready "))?;
    line.split_whitespace().find_map(|word| word.strip_prefix(prefix)).map(str::to_owned)
}

/// Builds what is measured, as it is shipped; gives the directory with all programs.
pub(crate) fn build() -> Result<PathBuf> {
    output(Command::new("qemu-scripts/build").arg("--release"))?;
    let mut floor = Command::new("cargo");
    floor.env("RUSTFLAGS", "-C target-feature=+crt-static");
    floor.args([
        "build",
        "--locked",
        "--profile",
        "agent",
        "--target",
        TARGET,
        "--target-dir",
        "target/agent",
    ]);
    output(floor.args(["-p", "doorbell-floor"]))?;
    let bin = PathBuf::from("target/bench/bin");
    fs::create_dir_all(&bin)?;
    let agents = PathBuf::from(format!("target/agent/{TARGET}/agent"));
    for (from, name) in [
        (Path::new("target/release"), "doorbelld"),
        (Path::new("target/release"), "doorbell"),
        (&agents, "doorbell-agent"),
        (&agents, "doorbell-floor"),
    ] {
        let to = bin.join(name);
        let _ = fs::remove_file(&to);
        fs::copy(from.join(name), &to).with_context(|| format!("{}/{name}", from.display()))?;
    }
    Ok(bin)
}

/// Builds the guest's image.
pub(crate) fn image(place: Place, bin: &Path, directory: &Path) -> Result<PathBuf> {
    let image = directory.join("image");
    let mut command = Command::new(match place {
        Place::Debian13 => "qemu-scripts/build-debian",
        Place::Initramfs | Place::Nested => "qemu-scripts/build-image",
    });
    command.arg("--agent").arg(bin.join("doorbell-agent")).arg("--output").arg(&image);
    if place == Place::Initramfs {
        let overlay = directory.join("overlay");
        fs::create_dir_all(&overlay)?;
        if let Err(why) = crate::qga::into_overlay(&overlay) {
            eprintln!("no qemu-ga for this guest: {why:#}");
        }
        command.arg("--overlay").arg(overlay);
    }
    output(&mut command)?;
    Ok(image)
}

/// A directory with a short path, for Unix sockets in it have little room.
pub(crate) fn directory(parent: &Path) -> Result<PathBuf> {
    let directory = parent.join(format!("doorbell-bench.{}", std::process::id()));
    fs::create_dir_all(&directory)?;
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o700))?;
    Ok(directory)
}

pub(crate) const GUEST: &str = "bench";
pub(crate) const STATE_IN_GUEST: &str = "/var/lib/doorbell-agent";
pub(crate) const TARGET: &str = "x86_64-unknown-linux-gnu";
const CID: u32 = 3;
