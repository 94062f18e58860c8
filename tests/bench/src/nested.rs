//! The same run inside an emulated host with a KVM and a vhost-vsock of its own: this program starts itself there.
//!
//! Called by `main`, in both halves. The inner half hands its figures out over the console.

use crate::lab::Place;
use crate::report::Report;
use anyhow::{Context as _, Result};
use std::path::Path;
use std::process::Command;

/// On the machine: boots L1 with everything in it, and reads its console.
pub(crate) fn outside(image: &Path, bin: &Path, quick: bool) -> Result<Report> {
    let own = std::env::current_exe()?;
    let mut command = Command::new("qemu-scripts/nested");
    command.args(["--timeout", if quick { "400" } else { "900" }, "--image"]).arg(image);
    let disk = image.join("data.ext4");
    command.arg("--disk").arg(disk);
    for name in ["doorbelld", "doorbell", "doorbell-agent", "doorbell-floor"] {
        command.arg("--bin").arg(bin.join(name));
    }
    command.arg("--bin").arg(own).args(["--", "doorbell-bench", "--guest", "nested"]);
    if quick {
        command.arg("--quick");
    }
    let console = crate::children::output(command.args(["inside", "image"]))?;
    let line = console.lines().find_map(|line| line.trim_end().strip_prefix(MARK));
    serde_json::from_str(line.with_context(|| format!("no figures on L1's console: {console}"))?)
        .context("figures")
}

/// In L1: the real AF_VSOCK, with the CID given by the kernel.
pub(crate) fn inside(image: &Path, quick: bool) -> Result<()> {
    let directory = crate::lab::directory(Path::new("/data"))?;
    let report = crate::measured(Place::Nested, image, Path::new("/usr/local/bin"), &directory, quick)?;
    println!("{MARK}{}", serde_json::to_string(&report)?);
    Ok(())
}

const MARK: &str = "doorbell-bench-figures ";
