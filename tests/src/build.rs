//! What is tested: the manager and the command line as built for development, the agent as it is shipped.
//!
//! Built once per test process, so that no suite runs against an old binary. `DOORBELL_TESTS_BIN` names a
//! directory with the three programs to test instead.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The checkout.
#[must_use]
pub fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// A script of the lab.
#[must_use]
pub fn script(name: &str) -> PathBuf {
    root().join("qemu-scripts").join(name)
}

/// One of `doorbelld`, `doorbell` and `doorbell-agent`.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    if let Some(given) = std::env::var_os("DOORBELL_TESTS_BIN") {
        return Path::new(&given).join(name);
    }
    BUILT.get_or_init(build);
    match name {
        "doorbell-agent" => root().join("target/agent/x86_64-unknown-linux-gnu/agent/doorbell-agent"),
        _ => root().join("target/debug").join(name),
    }
}

/// `doorbelld` or `doorbell-agent` as it speaks the protocol version before. `DOORBELL_TESTS_PREVIOUS` names a
/// directory with older programs to test with instead.
#[must_use]
pub fn previous(name: &str) -> PathBuf {
    if let Some(given) = std::env::var_os("DOORBELL_TESTS_PREVIOUS") {
        return Path::new(&given).join(name);
    }
    PREVIOUS.get_or_init(|| run(Command::new(script("build")).arg("--previous").env_remove("RUSTFLAGS")));
    root().join("target/previous").join(name)
}

/// Runs a script to its end.
pub(crate) fn run(command: &mut Command) {
    let output = command.output().expect("a program that starts");
    assert!(
        output.status.success(),
        "{command:?} ended with {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
}

fn build() {
    // The harness's own settings are not for the programs under test.
    run(Command::new(script("build")).env_remove("RUSTFLAGS"));
}

static BUILT: OnceLock<()> = OnceLock::new();
static PREVIOUS: OnceLock<()> = OnceLock::new();
