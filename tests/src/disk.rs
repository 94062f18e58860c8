//! Disks that are small, full, read-only or failing, and all of it for real: file systems of their own, and the kernel's
//! answers to one process' calls, changed by strace.
//!
//! Used by suites that break the manager's disk. Only root can mount and trace others; whoever cannot skips.

use crate::build::run;
use crate::wait::until;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A file system of its own below a test's directory; it goes with the test.
#[derive(Debug)]
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// One in memory with room for so many KiB, that only its owner can enter.
    #[must_use]
    pub fn in_memory(at: &Path, kib: u64) -> Self {
        std::fs::create_dir_all(at).expect("a directory to mount on");
        mount(&["-t", "tmpfs", "-o", &format!("size={kib}k,mode=0700"), "doorbell-test"], at);
        Self(at.to_owned())
    }

    /// An ext4 in a file beside it.
    #[must_use]
    pub fn in_file(at: &Path, mib: u64) -> Self {
        std::fs::create_dir_all(at).expect("a directory to mount on");
        let image = at.with_extension("img");
        File::create(&image).and_then(|file| file.set_len(mib << 20)).expect("a file for the disk");
        run(Command::new("mke2fs").args(["-q", "-F", "-t", "ext4", "-m", "0"]).arg(&image));
        mount(&["-o", "loop", &image.display().to_string()], at);
        run(Command::new("chmod").arg("0700").arg(at));
        Self(at.to_owned())
    }

    /// Gives one in memory another size.
    pub fn resize(&self, kib: u64) {
        mount(&["-o", &format!("remount,size={kib}k")], &self.0);
    }

    /// Has the kernel take nothing more on an ext4, as after an error of the disk.
    pub fn abort(&self) {
        mount(&["-o", "remount,abort"], &self.0);
    }

    /// An aborted one is checked and mounted anew.
    pub fn repair(&self) {
        run(Command::new("umount").arg(&self.0));
        let image = self.0.with_extension("img");
        // 1: errors were corrected.
        let checked = Command::new("e2fsck").arg("-fy").arg(&image).output().expect("e2fsck");
        assert!(checked.status.code().is_some_and(|code| code <= 1), "e2fsck: {checked:?}");
        mount(&["-o", "loop", &image.display().to_string()], &self.0);
    }

    /// Takes all the room there is, until what is given back is removed.
    #[must_use]
    pub fn fill(&self) -> Ballast {
        let path = self.0.join("ballast");
        let mut file = File::create(&path).expect("a file that takes the room");
        for size in [64 * 1024, 4096, 512] {
            while file.write_all(&vec![b'x'; size]).is_ok() {}
        }
        Ballast(path)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: what still uses it is ended with the test.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// A file that takes all the room.
#[derive(Debug)]
pub struct Ballast(PathBuf);

impl Ballast {
    /// Gives the room back.
    pub fn remove(self) {
        std::fs::remove_file(self.0).expect("the ballast");
    }
}

/// A process whose calls to the kernel fail, until this is lifted.
#[derive(Debug)]
pub struct Fault(Child);

impl Fault {
    /// Has these calls of a process fail with an error, each time.
    #[must_use]
    pub fn of(process: u32, calls: &str, error: &str) -> Self {
        Self::with(process, calls, &format!("{calls}:error={error}"))
    }

    /// Has calls of a process fail as strace's `inject` says.
    #[must_use]
    pub fn with(process: u32, calls: &str, inject: &str) -> Self {
        let child = Command::new("strace")
            .args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={calls}")])
            .args(["-e", &format!("inject={inject}"), "-p", &process.to_string()])
            .stdin(Stdio::null())
            .spawn()
            .expect("strace");
        let tracer = format!("TracerPid:\t{}\n", child.id());
        until("strace to hold every thread", || {
            let threads = std::fs::read_dir(format!("/proc/{process}/task")).expect("a running process");
            let held =
                |status: PathBuf| std::fs::read_to_string(status).is_ok_and(|text| text.contains(&tracer));
            threads.flatten().all(|thread| held(thread.path().join("status"))).then_some(())
        });
        Self(child)
    }

    /// The kernel answers as it is.
    pub fn lift(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let id = i32::try_from(self.0.id()).expect("a process id");
        let _ = kill(Pid::from_raw(id), Signal::SIGINT);
        let _ = self.0.wait();
    }
}

impl Drop for Fault {
    fn drop(&mut self) {
        self.end();
    }
}

/// Whether this machine lets a test mount and trace; it says so where not.
#[must_use]
pub fn can_break() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        crate::skip::skipped("only root can mount a disk and trace a process");
    }
    root
}

fn mount(words: &[&str], at: &Path) {
    run(Command::new("mount").args(words).arg(at));
}
