//! Faults on purpose, to see that the test of a guarantee fails when it does not hold.
//!
//! Asked where the fault would be. Only a build with the feature `planted` has any, and only for the guarantee that
//! `DOORBELL_PLANTED` names.

/// Whether the fault against this guarantee is planted.
#[cfg(feature = "planted")]
pub(crate) fn is(guarantee: &str) -> bool {
    std::env::var("DOORBELL_PLANTED").is_ok_and(|planted| planted == guarantee)
}

/// Whether the fault against this guarantee is planted: never, in what is shipped.
#[cfg(not(feature = "planted"))]
pub(crate) const fn is(_guarantee: &str) -> bool {
    false
}

/// Ends the task that meets the fault against this guarantee, where it is met.
#[cfg(feature = "planted")]
#[expect(clippy::panic, reason = "the fault that is planted")]
pub(crate) fn panic_by(guarantee: &str, is_met: bool) {
    if is_met && is(guarantee) {
        panic!("planted against {guarantee}");
    }
}

/// Ends the task that meets the fault against this guarantee, where it is met: never, in what is shipped.
#[cfg(not(feature = "planted"))]
pub(crate) const fn panic_by(_guarantee: &str, _is_met: bool) {}
