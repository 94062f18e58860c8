//! Modules of the kernel, and among them the channel's: the virtio transport of vsock, loaded or waited for.
//!
//! Called before each dial until the transport is there. A socket made earlier would have the kernel load
//! the loopback transport alone, and a dial to the host would then reach the guest itself.

use crate::clock::now;
use doorbell_wire::ids::Tick;
use std::path::Path;
use std::process::{Command, Stdio};
use tracing::{info, warn};

/// Whether the transport is there, and what has been done about it.
#[derive(Debug)]
pub struct Modules {
    load: bool,
    seen: bool,
    next_load: Tick,
    told: bool,
}

impl Modules {
    /// `load` is whether modprobe may be run.
    #[must_use]
    pub const fn new(load: bool) -> Self {
        Self { load, seen: false, next_load: Tick(0), told: false }
    }

    /// Whether the transport is there. Tries to load it from time to time, and says once that it is missing.
    pub fn ready(&mut self) -> bool {
        if self.seen {
            return true;
        }
        if !is_there() && self.load && now() >= self.next_load {
            self.load_transport();
        }
        self.seen = is_there();
        if !self.seen && !self.told {
            self.told = true;
            warn!(module = TRANSPORT, "the vsock transport is not there yet; waiting for it");
        }
        if self.seen && self.told {
            info!(module = TRANSPORT, "the vsock transport is there");
        }
        self.seen
    }

    /// A dial found no transport: look again before the next one.
    pub const fn lost(&mut self) {
        self.seen = false;
    }

    fn load_transport(&mut self) {
        self.next_load = now().after(LOAD_MS);
        match modprobe(TRANSPORT) {
            Ok(()) => info!(module = TRANSPORT, "loaded"),
            Err(why) => self.failed(&why),
        }
    }

    fn failed(&self, why: &str) {
        if !self.told {
            warn!(module = TRANSPORT, why, "the vsock transport could not be loaded; trying again");
        }
    }
}

/// Has a module loaded, with what it depends on.
///
/// # Errors
/// Why it is not.
pub(crate) fn modprobe(module: &str) -> Result<(), String> {
    let program = MODPROBE.iter().find(|path| Path::new(path).exists());
    let mut command = Command::new(program.ok_or("no modprobe in /sbin or /usr/sbin")?);
    command.arg("-q").arg(module).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(status.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

/// A driver is registered with the bus whether it is a module or built in.
fn is_there() -> bool {
    Path::new("/sys/bus/virtio/drivers").join(TRANSPORT).exists()
}

const TRANSPORT: &str = "vmw_vsock_virtio_transport";
const MODPROBE: [&str; 2] = ["/sbin/modprobe", "/usr/sbin/modprobe"];
/// Milliseconds between tries to load the transport; modules can come late with a file system.
const LOAD_MS: u64 = 5_000;
