//! What can go wrong with an archive: what ends it, and what only keeps one entry out of it.
//!
//! Used by every module here. Names in texts come from a peer: they are escaped, so that they can be printed.

use doorbell_wire::text::is_harmful;
use std::io;

/// Why an archive could not be packed.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// What was asked for cannot be read at all.
    #[error("{0}")]
    Top(Fault),
    /// The archive could not be written where it goes.
    #[error("the archive cannot be written: {}", kernel(.0))]
    Write(#[source] io::Error),
}

/// Why unpacking ended before the archive did.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// It ends in the middle.
    #[error("the archive ends early")]
    Truncated,
    /// It is not what a tar archive is.
    #[error("the archive has {0}")]
    Malformed(&'static str),
    /// It has no single top that everything else lies beneath.
    #[error("the archive has more than one top: {} lies beside {}", escaped(other), escaped(top))]
    SeveralTops {
        /// The first entry.
        top: Vec<u8>,
        /// The one that is not beneath it.
        other: Vec<u8>,
    },
    /// Its first entry cannot be made, so nothing can.
    #[error("{0}")]
    Top(Fault),
    /// Its files have more bytes than they may have.
    #[error("the archive has more than {max} bytes")]
    TooLarge {
        /// The limit.
        max: u64,
    },
    /// It has more entries than it may have.
    #[error("the archive has more than {max} entries")]
    TooMany {
        /// The limit.
        max: u64,
    },
    /// It could not be read from where it comes.
    #[error("the archive cannot be read: {}", kernel(.0))]
    Read(#[source] io::Error),
    /// The disk does not take it, or the kernel refuses everything.
    #[error("{}: {}", escaped(path), kernel(source))]
    Write {
        /// What was being made.
        path: Vec<u8>,
        /// Why it was not.
        #[source]
        source: io::Error,
    },
}

/// Something that is not in the result as it is in the source.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Fault {
    /// Which entry.
    pub path: Vec<u8>,
    /// What became of it.
    pub why: String,
    /// Whether the result is therefore no success. What can never be in an archive is only told.
    pub fails: bool,
}

impl Fault {
    pub(crate) fn new(path: &[u8], why: impl Into<String>) -> Self {
        Self { path: path.to_vec(), why: why.into(), fails: true }
    }

    pub(crate) fn kernel(path: &[u8], source: &io::Error) -> Self {
        Self::new(path, kernel(source))
    }

    pub(crate) fn note(path: &[u8], why: impl Into<String>) -> Self {
        Self { fails: false, ..Self::new(path, why) }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", escaped(&self.path), self.why)
    }
}

/// A name for people: control characters, and what is no UTF-8, stand escaped.
#[must_use]
pub fn escaped(name: &[u8]) -> String {
    let mut text = String::with_capacity(name.len());
    for piece in name.utf8_chunks() {
        for sign in piece.valid().chars() {
            if is_harmful(sign) {
                text.extend(sign.escape_default());
            } else {
                text.push(sign);
            }
        }
        piece.invalid().iter().for_each(|byte| text.push_str(&format!("\\x{byte:02x}")));
    }
    text
}

/// What the kernel says, in its words and small letters: `no such file or directory`.
#[must_use]
pub fn kernel(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    match text.split_once(' ') {
        // "I/O error" stays as it is.
        Some((first, rest)) if first.chars().skip(1).all(char::is_lowercase) => {
            format!("{} {rest}", first.to_lowercase())
        }
        Some(_) | None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_write_to_a_terminal() {
        assert_eq!(escaped("a b ä".as_bytes()), "a b ä");
        assert_eq!(escaped(b"\x1b[2Jx\n\xff\r"), "\\u{1b}[2Jx\\n\\xff\\r");
        assert_eq!(escaped("txt\u{202e}exe".as_bytes()), "txt\\u{202e}exe");
    }

    #[test]
    fn the_kernel_is_quoted_without_numbers() {
        let text = |number| kernel(&io::Error::from_raw_os_error(number));
        assert_eq!(text(2), "no such file or directory");
        assert_eq!(text(28), "no space left on device");
        assert_eq!(text(5), "Input/output error");
    }
}
