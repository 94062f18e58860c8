//! Faults on purpose, to see that the test of a guarantee fails when it does not hold.
//!
//! Asked where the fault would be. Only a build with the feature `planted` has any, and only for the guarantee that
//! the kernel command line names (`doorbell.planted=G2`).

/// Whether the fault against this guarantee is planted.
#[cfg(feature = "planted")]
#[must_use]
pub fn is(guarantee: &str) -> bool {
    let line = std::fs::read_to_string("/proc/cmdline").unwrap_or_default();
    line.split_whitespace().any(|word| word.strip_prefix("doorbell.planted=") == Some(guarantee))
}

/// Whether the fault against this guarantee is planted: never, in what is shipped.
#[cfg(not(feature = "planted"))]
#[must_use]
pub const fn is(_guarantee: &str) -> bool {
    false
}

/// Whether the guest has no interface but its own loop.
#[must_use]
pub fn has_no_nic() -> bool {
    std::fs::read_dir("/sys/class/net")
        .map_or(true, |links| links.flatten().all(|link| link.file_name() == "lo"))
}
