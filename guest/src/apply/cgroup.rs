//! A cgroup of its own for each program, so that its end is the end of all it started.
//!
//! Called by `apply::program` and at start for what an earlier run of the agent left. Needs cgroup v2 with
//! `cgroup.kill` (Linux 5.14); without it the agent says so in its capabilities and kills by process group.

use doorbell_wire::ids::{RequestId, Tick};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use tracing::warn;

/// The place under which programs get their cgroups.
#[derive(Clone, Debug)]
pub struct Cgroups {
    base: PathBuf,
}

impl Cgroups {
    /// The agent's own cgroup, if a cgroup can be made and killed in it.
    #[must_use]
    pub fn find() -> Option<Self> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
        let own = std::fs::read_to_string("/proc/self/cgroup").ok()?;
        Self::usable(own_directory(&mounts, &own)?)
    }

    /// A cgroup for a program.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn create(&self, request: RequestId) -> io::Result<Cgroup> {
        let path = self.path(request);
        match std::fs::create_dir(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            Ok(()) | Err(_) => {}
        }
        Cgroup::open(path)
    }

    /// The cgroup that an earlier run of the agent made for a request, if it is still there.
    #[must_use]
    pub fn left_over(&self, request: RequestId) -> Option<Cgroup> {
        Cgroup::open(self.path(request)).ok()
    }

    /// Removes the cgroups of earlier requests that have become empty.
    pub fn sweep(&self) {
        for entry in std::fs::read_dir(&self.base).into_iter().flatten().flatten() {
            if entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX)) {
                // One that is not empty holds a daemon that outlives its request; it stays.
                let _ = std::fs::remove_dir(entry.path());
            }
        }
    }

    fn path(&self, request: RequestId) -> PathBuf {
        self.base.join(format!("{PREFIX}{request}"))
    }

    fn usable(base: PathBuf) -> Option<Self> {
        let probe = base.join(format!("{PREFIX}probe"));
        let made = std::fs::create_dir(&probe);
        let can_kill = probe.join(KILL).exists();
        let _ = std::fs::remove_dir(&probe);
        (made.is_ok() && can_kill).then_some(Self { base })
    }
}

/// One program's cgroup. Removed on drop where it is empty.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
    events: File,
}

impl Cgroup {
    /// The file a new process writes `0` into to become a member.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn entrance(&self) -> io::Result<File> {
        OpenOptions::new().write(true).open(self.path.join("cgroup.procs"))
    }

    /// Readable with priority whenever [`Cgroup::is_empty`] may have another answer.
    #[must_use]
    pub const fn events(&self) -> &File {
        &self.events
    }

    /// Whether no process is left. A cgroup that cannot be read counts as empty, for it is gone.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let mut bytes = [0; 256];
        let count = self.events.read_at(&mut bytes, 0).unwrap_or(0);
        !bytes.get(..count).is_some_and(|text| text.split(|&b| b == b'\n').any(|line| line == b"populated 1"))
    }

    /// Kills every process in it, concurrent forks included.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn kill(&self) -> io::Result<()> {
        std::fs::write(self.path.join(KILL), b"1")
    }

    /// Kills what is left and waits until it is gone, or until `deadline`.
    pub fn end(&self, deadline: Tick) {
        if self.is_empty() {
            return;
        }
        if let Err(error) = self.kill() {
            warn!(cgroup = %self.path.display(), %error, "left-over processes cannot be killed");
            return;
        }
        while !self.is_empty() {
            if crate::wait::until_priority(&self.events, deadline).is_err() || crate::clock::now() >= deadline
            {
                warn!(cgroup = %self.path.display(), "left-over processes were killed and are still there");
                return;
            }
        }
    }

    pub(super) fn open(path: PathBuf) -> io::Result<Self> {
        let events = File::open(path.join("cgroup.events"))?;
        Ok(Self { path, events })
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // A program may leave a daemon behind that let go of its output; its cgroup stays with it.
        let _ = std::fs::remove_dir(&self.path);
    }
}

/// Where this process' cgroup of version 2 is seen in the file system.
fn own_directory(mountinfo: &str, own: &str) -> Option<PathBuf> {
    let own = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    mountinfo.lines().find_map(|line| {
        let (front, back) = line.split_once(" - ")?;
        if back.split(' ').next() != Some("cgroup2") {
            return None;
        }
        let mut fields = front.split(' ').skip(3);
        let (root, mount) = (fields.next()?, fields.next()?);
        let below = Path::new(own).strip_prefix(root).ok()?;
        Some(Path::new(mount).join(below))
    })
}

const PREFIX: &str = "doorbell-";
const KILL: &str = "cgroup.kill";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_directory_is_found_in_every_arrangement() {
        let unified = "29 22 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n";
        let service = "0::/system.slice/doorbell-agent.service\n";
        let expected = Path::new("/sys/fs/cgroup/system.slice/doorbell-agent.service");
        assert_eq!(own_directory(unified, service).as_deref(), Some(expected));
        assert_eq!(own_directory(unified, "0::/\n").as_deref(), Some(Path::new("/sys/fs/cgroup")));
        let hybrid = "30 23 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                      31 23 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let own = "4:cpu:/\n0::/a\n";
        assert_eq!(own_directory(hybrid, own).as_deref(), Some(Path::new("/sys/fs/cgroup/unified/a")));
        let inner = "29 22 0:26 /box /cg rw - cgroup2 cgroup2 rw\n";
        assert_eq!(own_directory(inner, "0::/box/a\n").as_deref(), Some(Path::new("/cg/a")));
        assert_eq!(own_directory(inner, "0::/elsewhere\n"), None);
        assert_eq!(own_directory("30 23 0:27 / /c rw - cgroup cgroup rw\n", "4:cpu:/\n"), None);
    }

    #[test]
    fn a_cgroup_is_named_after_its_request() {
        let cgroups = Cgroups { base: "/x".into() };
        let path = cgroups.path(RequestId::new([0xab; 16]));
        assert_eq!(path, Path::new("/x/doorbell-abababababababababababababababab"));
    }
}
