//! Supervisors: one process for each program, which outlives the agent.
//!
//! Called by `pull`. [`start()`] forks a supervisor from the agent; it starts the program, keeps its output, feeds
//! its input, ends it in time, and leaves a record of the outcome. Both talk by a directory of the request, so
//! that an agent that starts again finds what runs ([`find_all`]). Nothing here makes the agent wait.
//!
//! The agent's side: [`Supervised`], with what it wants in `wanted` and what it reads in `status`. The
//! supervisor's side: `process` becomes one, `spawn` starts the program, `watch` sees it to its end.

mod child;
mod clone;
mod directory;
mod ending;
mod exec;
mod fault;
mod feed;
mod handle;
mod job;
mod order;
mod outcome;
mod process;
mod source;
mod spawn;
mod start;
mod status;
mod terminal;
pub mod users;
mod wanted;
mod watch;

pub use directory::output_on_disk;
pub use handle::{Sight, Supervised, find, find_all};
pub use order::{Job, Order, OwnJob, OwnPlace};
pub use outcome::Over;
pub use start::start;

#[cfg(test)]
mod tests;
