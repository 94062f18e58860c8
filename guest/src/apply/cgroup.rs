//! A cgroup of its own for each program, so that its end is the end of all it started.
//!
//! Called by supervisors, and at start for what an earlier run of the agent left. Needs cgroup v2 with
//! `cgroup.kill` (Linux 5.14); without it the agent says so in its capabilities and kills by process group.
//! Limits need controllers, and those can only be had where no process sits beside the programs' cgroups: in the
//! root, or below a cgroup that was delegated and has the agent in one of its own.

use doorbell_wire::ids::{RequestId, Tick};
use doorbell_wire::message::action::Limits;
use doorbell_wire::message::outcome::Usage;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use tracing::warn;

/// The place under which programs get their cgroups.
#[derive(Clone, Debug)]
pub struct Cgroups {
    base: PathBuf,
    limits: bool,
}

impl Cgroups {
    /// The agent's own place, if a cgroup can be made and killed in it.
    #[must_use]
    pub fn find() -> Option<Self> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
        let own = std::fs::read_to_string("/proc/self/cgroup").ok()?;
        Self::at(own_directory(&mounts, &own)?)
    }

    /// Whether memory, processes and processor time can be limited.
    #[must_use]
    pub const fn has_limits(&self) -> bool {
        self.limits
    }

    /// A cgroup for a program.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn create(&self, request: RequestId, limits: &Limits) -> io::Result<Cgroup> {
        let path = self.path(request);
        match std::fs::create_dir(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let cgroup = Cgroup::open(path)?;
        cgroup.limit(limits)?;
        Ok(cgroup)
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

    fn at(own: PathBuf) -> Option<Self> {
        let delegated =
            own.parent().filter(|_| own.ends_with(SUBGROUP)).filter(|parent| has_no_process(parent));
        if let Some(delegated) = delegated.map(Path::to_owned)
            && let Some(found) = Self::usable(delegated)
        {
            return Some(found);
        }
        Self::usable(own)
    }

    fn usable(base: PathBuf) -> Option<Self> {
        let limits = enable(&base);
        let probe = base.join(format!("{PREFIX}probe"));
        let made = std::fs::create_dir(&probe);
        let can_kill = probe.join(KILL).exists();
        let _ = std::fs::remove_dir(&probe);
        (made.is_ok() && can_kill).then_some(Self { base, limits })
    }
}

/// Gives the cgroups below `base` their controllers, all three or none; a cgroup with processes of its own that
/// is not the root refuses.
fn enable(base: &Path) -> bool {
    let file = base.join("cgroup.subtree_control");
    let has = |file: &Path, name: &str| {
        std::fs::read_to_string(file).is_ok_and(|text| text.split_whitespace().any(|word| word == name))
    };
    let available = base.join("cgroup.controllers");
    if !CONTROLLERS.iter().all(|name| has(&available, name)) {
        return false;
    }
    for name in CONTROLLERS {
        if !has(&file, name) && std::fs::write(&file, format!("+{name}")).is_err() {
            return false;
        }
    }
    true
}

fn has_no_process(cgroup: &Path) -> bool {
    std::fs::read_to_string(cgroup.join(PROCESSES)).is_ok_and(|text| text.is_empty())
}

/// One program's cgroup. Removed on drop where it is empty.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
    events: File,
}

impl Cgroup {
    /// The directory, for a process that is to begin in it.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn directory(&self) -> io::Result<File> {
        File::open(&self.path)
    }

    /// The file a new process writes `0` into to become a member.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn entrance(&self) -> io::Result<File> {
        OpenOptions::new().write(true).open(self.path.join(PROCESSES))
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
        if crate::planted::is("G7") {
            return Err(io::ErrorKind::Unsupported.into());
        }
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

    /// What its processes took, over what the kernel told of the program itself.
    #[must_use]
    pub fn usage(&self, own: Usage) -> Usage {
        let cpu = self.read("cpu.stat");
        let events = self.read("memory.events");
        let peak = self.read("memory.peak");
        Usage {
            cpu_user_us: value(&cpu, "user_usec").unwrap_or(own.cpu_user_us),
            cpu_system_us: value(&cpu, "system_usec").unwrap_or(own.cpu_system_us),
            memory_peak: peak.trim().parse().ok().or(own.memory_peak),
            oom_killed: value(&events, "oom_kill").is_some_and(|count| count > 0),
        }
    }

    pub(crate) fn open(path: PathBuf) -> io::Result<Self> {
        let events = File::open(path.join("cgroup.events"))?;
        Ok(Self { path, events })
    }

    fn limit(&self, limits: &Limits) -> io::Result<()> {
        let Limits { memory_max, processes_max, cpu_percent_max, output_len_max: _ } = limits;
        if let Some(bytes) = memory_max {
            self.write("memory.max", &bytes.to_string())?;
            // Not there where the kernel cannot swap.
            match self.write("memory.swap.max", "0") {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        if let Some(count) = processes_max {
            self.write("pids.max", &count.to_string())?;
        }
        if let Some(percent) = cpu_percent_max {
            let quota_us = u64::from(*percent).saturating_mul(PERIOD_US.saturating_div(100));
            self.write("cpu.max", &format!("{quota_us} {PERIOD_US}"))?;
        }
        Ok(())
    }

    fn write(&self, name: &str, value: &str) -> io::Result<()> {
        // Only what is there: a regular file must not come into being beside the kernel's.
        OpenOptions::new().write(true).open(self.path.join(name))?.write_all_at(value.as_bytes(), 0)
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path.join(name)).unwrap_or_default()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // A program may leave a daemon behind that let go of its output; its cgroup stays with it.
        let _ = std::fs::remove_dir(&self.path);
    }
}

/// The number behind a name in one of the kernel's tables.
fn value(table: &str, name: &str) -> Option<u64> {
    table.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
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
/// The name that the unit's `DelegateSubgroup=` has.
const SUBGROUP: &str = "agent";
const KILL: &str = "cgroup.kill";
const PROCESSES: &str = "cgroup.procs";
const CONTROLLERS: [&str; 3] = ["memory", "pids", "cpu"];
/// Microseconds over which processor time is limited, as the kernel has it of itself.
const PERIOD_US: u64 = 100_000;

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
    fn what_a_cgroup_took_is_read_from_its_tables() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("one");
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("cgroup.events"), "populated 0\n").unwrap();
        let own = Usage { cpu_user_us: 1, cpu_system_us: 2, memory_peak: Some(3), oom_killed: false };
        let cgroup = Cgroup::open(path.clone()).unwrap();
        assert_eq!(cgroup.usage(own), own, "without tables");
        std::fs::write(path.join("cpu.stat"), "usage_usec 70\nuser_usec 50\nsystem_usec 20\n").unwrap();
        std::fs::write(path.join("memory.events"), "oom 3\noom_kill 2\n").unwrap();
        std::fs::write(path.join("memory.peak"), "4096\n").unwrap();
        let took = Usage { cpu_user_us: 50, cpu_system_us: 20, memory_peak: Some(4096), oom_killed: true };
        assert_eq!(cgroup.usage(own), took);
    }

    #[test]
    fn a_limit_that_the_kernel_does_not_have_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("cgroup.events"), "populated 0\n").unwrap();
        std::fs::write(dir.path().join("cpu.max"), "max 100000\n").unwrap();
        let cgroup = Cgroup::open(dir.path().to_owned()).unwrap();
        let none = Limits::default();
        cgroup.limit(&none).unwrap();
        cgroup.limit(&Limits { cpu_percent_max: Some(150), ..none }).unwrap();
        let written = std::fs::read_to_string(dir.path().join("cpu.max")).unwrap();
        assert!(written.starts_with("150000 100000"), "{written}");
        let refused = cgroup.limit(&Limits { memory_max: Some(1 << 20), ..none }).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_cgroup_is_named_after_its_request() {
        let cgroups = Cgroups { base: "/x".into(), limits: false };
        let path = cgroups.path(RequestId::new([0xab; 16]));
        assert_eq!(path, Path::new("/x/doorbell-abababababababababababababababab"));
    }
}
