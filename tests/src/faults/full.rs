//! A disk of the manager's that can be full: a tmpfs over its state directory, whose limit is moved.
//!
//! Made by `scene` before the manager starts. It goes with the test; what a killed test left is taken away by the next.

use crate::place::Place;
use crate::process::read;
use crate::wait::until;
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::statvfs::statvfs;
use std::path::{Path, PathBuf};

/// The disk.
#[derive(Debug)]
pub struct Disk(PathBuf);

impl Disk {
    /// Makes one at a directory of the place.
    ///
    /// # Errors
    /// The kernel's refusal, where this user may mount nothing.
    pub fn make(place: &Place, name: &str) -> Result<Self, Errno> {
        forget_ended();
        let path = place.join(name);
        std::fs::create_dir(&path)
            .map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))?;
        let (kind, options) = (Some("tmpfs"), format!("mode=0700,{}", size(ROOM)));
        mount(kind, &path, kind, MsFlags::empty(), Some(options.as_str()))?;
        Ok(Self(path))
    }

    /// Takes all free space away. What is freed by others from here on can be used again.
    pub fn fill(&self) {
        // Somebody may take more while this looks.
        until("a full disk", || {
            let found = statvfs(&self.0).expect("the disk's numbers");
            self.limit((found.blocks() - found.blocks_free()) * found.fragment_size()).ok()
        });
    }

    /// Gives it back.
    pub fn free(&self) {
        self.limit(ROOM).expect("a disk with room");
    }

    fn limit(&self, bytes: u64) -> Result<(), Errno> {
        mount(None::<&str>, &self.0, None::<&str>, MsFlags::MS_REMOUNT, Some(size(bytes).as_str()))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        take_away(&self.0);
    }
}

fn size(bytes: u64) -> String {
    format!("size={bytes}")
}

/// Whoever still has a file open keeps it; the name is free at once.
fn take_away(path: &Path) {
    let _ = umount2(path, MntFlags::MNT_DETACH);
}

/// Disks of test processes that are gone.
fn forget_ended() {
    let mounts = read(Path::new("/proc/self/mounts"));
    for path in mounts.lines().filter_map(|line| line.split(' ').nth(1)) {
        let owner = path.strip_prefix("/tmp/db").and_then(|rest| rest.split('-').next());
        if owner.is_some_and(|pid| !pid.is_empty() && !Path::new("/proc").join(pid).exists()) {
            take_away(Path::new(path));
        }
    }
}

/// More than a manager keeps over all seeds; only what is used takes memory.
const ROOM: u64 = 4 << 30;
