//! The crate is a value and not a task: no source file of it touches a socket, a clock, a thread or a file.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a broken assumption of a test must end it")]

use std::path::{Path, PathBuf};
use std::process::Command;

#[test]
fn no_source_file_touches_a_socket_a_clock_a_thread_or_a_file() {
    let files = sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    assert!(files.len() > 10, "found {files:?} only");
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        for word in ["net", "io", "os", "time", "thread", "fs", "process", "env"] {
            assert!(!text.contains(&format!("std::{word}")), "{} uses std::{word}", file.display());
        }
        assert!(!text.contains("async fn") && !text.contains(".await"), "{} is async", file.display());
        assert!(text.starts_with("//! "), "{} does not say what it is", file.display());
    }
}

#[test]
fn no_dependency_brings_a_socket_or_a_runtime() {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "-p", "doorbell-wire", "-e", "normal", "--prefix", "none"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let tree = String::from_utf8(tree.stdout).unwrap();
    assert!(tree.starts_with("doorbell-wire "), "{tree}");
    let banned =
        ["tokio", "mio", "nix", "libc", "rustix", "socket2", "vsock", "async-std", "smol", "getrandom"];
    for package in tree.lines().filter_map(|line| line.split(' ').next()) {
        assert!(!banned.contains(&package), "doorbell-wire depends on {package}:\n{tree}");
    }
}

fn sources(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else {
            files.push(path);
        }
    }
    files
}
