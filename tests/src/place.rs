//! A directory of its own for each test, with a short path, for Unix sockets in it have little room.
//!
//! Made by each test first. It goes with the test; a test that fails leaves it behind and says where.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// The directory.
#[derive(Debug)]
pub struct Place(PathBuf);

impl Place {
    /// A fresh one.
    #[must_use]
    #[allow(clippy::new_without_default, reason = "making a directory is no default")]
    pub fn new() -> Self {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = PathBuf::from(format!("/tmp/db{}-{number}", std::process::id()));
        DirBuilder::new().mode(0o700).create(&path).expect("a directory for the test");
        Self(path)
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A path in it.
    #[must_use]
    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A file in it with this content.
    #[must_use]
    pub fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.join(name);
        std::fs::write(&path, content).expect("a file in the test's directory");
        path
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if std::thread::panicking() {
            crate::skip::tell(&format!("the failed test's files are in {}", self.0.display()));
        } else {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

/// The SHA-256 of a file, 64 hexadecimal digits, by another program than ours.
#[must_use]
pub fn sha256_of(file: &Path) -> String {
    let output = std::process::Command::new("sha256sum").arg(file).output().expect("sha256sum");
    String::from_utf8(output.stdout).expect("a digest").split(' ').next().expect("a digest").to_owned()
}

/// Every file below a directory that is no directory itself.
#[must_use]
pub fn files_below(directory: &Path) -> Vec<PathBuf> {
    let entries =
        std::fs::read_dir(directory).expect("a directory to look into").flatten().map(|entry| entry.path());
    let mut files: Vec<PathBuf> =
        entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect();
    files.sort();
    files
}

static COUNT: AtomicU32 = AtomicU32::new(0);
