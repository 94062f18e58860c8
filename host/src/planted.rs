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
