//! Tests that this machine cannot run: each says so on standard error, past the capture of the test harness.
//!
//! Called by a test that then returns. `qemu-scripts/test` counts the lines for its summary.

use std::io::Write as _;

/// Says why the test that calls this cannot run here.
pub fn skipped(reason: &str) {
    let thread = std::thread::current();
    tell(&format!("skipped: {}: {reason}", thread.name().unwrap_or("a test")));
}

/// Writes a line that the harness does not capture.
pub fn tell(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
