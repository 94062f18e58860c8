//! Faults by a schedule that a seed draws: what is asked for, what goes wrong in between, and what must hold after.
//!
//! Used by the suite `faults`. The same seed draws the same schedule; how the parts race between its steps is the
//! machine's, so a finding may need its seed more than once.
//!
//! - [`chance`] the generator · [`schedule`] what a seed draws
//! - [`scene`] manager, guest, channel and disks, and the hand that breaks them · [`port`] the way into the guest
//!   that no agent has a part in · [`full`] a disk of the manager's that can be full
//! - [`work`] the requests and what each may come to · [`verdict`] what must hold when the faults have stopped

pub mod chance;
pub mod full;
pub mod port;
pub mod scene;
pub mod schedule;
pub mod verdict;
pub mod work;
