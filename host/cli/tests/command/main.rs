//! The command as a process, against an HTTP server on a Unix socket that is part of the test. What the manager
//! itself does is tested with the manager.

#[cfg(test)]
mod attended;
#[cfg(test)]
mod basics;
#[cfg(test)]
mod manager;
#[cfg(test)]
mod program;
#[cfg(test)]
mod terminal;
