//! The host as the checks see it: files below a root, what this user may do with them, and the time.

use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::unistd::{AccessFlags, Uid, faccessat};
use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// What the checks look at.
#[derive(Debug)]
pub(super) struct Surroundings {
    root: PathBuf,
    /// Whether this user may read and write a path; asked of the kernel without opening it.
    pub(super) usable: fn(&Path) -> bool,
    pub(super) uid: u32,
    pub(super) now_ms: u64,
}

impl Surroundings {
    pub(super) fn at(root: PathBuf) -> Self {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let now_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        Self { root, usable, uid: Uid::effective().as_raw(), now_ms }
    }

    /// Where an absolute path of the host is.
    pub(super) fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    pub(super) fn stat(&self, path: impl AsRef<Path>) -> std::io::Result<Metadata> {
        std::fs::metadata(self.path(path))
    }

    pub(super) fn exists(&self, path: &str) -> bool {
        self.stat(path).is_ok()
    }

    /// The text of a small file, without the line's end; none where it cannot be read.
    pub(super) fn read(&self, path: &str) -> Option<String> {
        std::fs::read_to_string(self.path(path)).ok().map(|text| text.trim().to_owned())
    }

    pub(super) fn may_use(&self, path: impl AsRef<Path>) -> bool {
        (self.usable)(&self.path(path))
    }

    /// Whether a part of the kernel is there, loaded or built in.
    pub(super) fn has_module(&self, name: &str) -> bool {
        let loaded = |list: String| list.lines().any(|line| line.split_whitespace().next() == Some(name));
        self.read("/proc/modules").is_some_and(loaded) || self.exists(&format!("/sys/module/{name}"))
    }

    /// Whether this kernel can load modules at all.
    pub(super) fn has_loadable_modules(&self) -> bool {
        self.exists("/proc/modules")
    }
}

fn usable(path: &Path) -> bool {
    faccessat(AT_FDCWD, path, AccessFlags::R_OK | AccessFlags::W_OK, AtFlags::AT_EACCESS).is_ok()
}
