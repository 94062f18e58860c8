//! Trees of files as tar streams, both ways, where the other side may be hostile.
//!
//! Used by the agent in a guest and by the command line on a host: what one packs, the other unpacks, and each
//! takes the other for an enemy. The manager writes and reads its backups with it. Everything streams; memory does
//! not grow with what is packed, and with what is unpacked only by the names of directories and links, up to a limit.
//!
//! The format is ustar with pax records, which every tar reads; GNU's long names are read too. The reader and
//! the unpacker are our own, because a general one has to accept what this one refuses: unpackers that followed
//! links, and readers that two archives could be hidden from in one stream, are what this must not be.
//!
//! - [`pack()`] a file, a tree or a link into a stream
//! - [`unpack()`] a stream into a fresh name of a directory: no name and no link leads out of it
//! - [`Writer`] what its maker names, into a stream
//! - [`sparse`] runs of zeros become holes · [`remove_tree`] takes away what was made
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod error;
mod header;
mod names;
mod pack;
mod pax;
mod place;
mod read;
pub mod sparse;
mod unpack;
mod write;

pub use error::{Fault, PackError, UnpackError, escaped, kernel};
pub use pack::{Packed, pack};
pub use place::remove_tree;
pub use unpack::{Options, Owner, Unpacked, unpack};
pub use write::Writer;

/// What a path names.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// A file.
    File,
    /// A directory with all in it.
    Tree,
    /// A symbolic link.
    Link,
}

/// Who is told while a stream goes by.
pub trait Watch {
    /// Something is not in the result as it is in the source. Told of the first hundred; all are counted.
    fn fault(&mut self, fault: &Fault);

    /// Bytes of the content, where the top is a file.
    fn content(&mut self, _bytes: &[u8]) {}
}

/// Directories inside each other, at most: each takes a descriptor while a tree is walked.
pub const DEPTH_MAX: usize = 256;

/// Faults that are told one by one.
const FAULTS_MAX: u64 = 100;
/// Bytes that are read and written at once.
const PIECE: usize = 64 * 1024;
