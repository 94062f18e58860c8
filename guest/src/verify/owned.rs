//! Files that say who may do what: read only where nobody but root can have written them.
//!
//! Called for the allowed signers and for the policy. Looks at the owner and the mode of the file and of its directory.

use nix::unistd::geteuid;
use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Why such a file was not read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum NotRead {
    /// It is not there.
    Absent(String),
    /// What is wrong with it, in a few words.
    Unusable(String),
}

impl NotRead {
    /// The words.
    #[must_use]
    pub fn into_text(self) -> String {
        match self {
            Self::Absent(why) | Self::Unusable(why) => why,
        }
    }
}

/// Reads a file of at most `len_max` bytes that nobody but root can have written.
///
/// # Errors
/// [`NotRead`].
pub fn read(path: &Path, len_max: u64) -> Result<Vec<u8>, NotRead> {
    let unusable =
        |error: std::io::Error| NotRead::Unusable(format!("{} cannot be read: {error}", path.display()));
    let file = File::open(path).map_err(|error| {
        let why = format!("{} cannot be opened: {error}", path.display());
        if error.kind() == ErrorKind::NotFound { NotRead::Absent(why) } else { NotRead::Unusable(why) }
    })?;
    let found = file.metadata().map_err(unusable)?;
    let parent = path.parent().and_then(|parent| parent.metadata().ok());
    for (what, found) in [("it", Some(&found)), ("its directory", parent.as_ref())] {
        let Some(found) = found else {
            return Err(NotRead::Unusable(format!("the directory of {} is not seen", path.display())));
        };
        if found.uid() != 0 && found.uid() != geteuid().as_raw() {
            let (path, uid) = (path.display(), found.uid());
            return Err(NotRead::Unusable(format!("{path}: {what} belongs to uid {uid} and not to root")));
        }
        if found.mode() & 0o022 != 0 {
            let (path, mode) = (path.display(), found.mode() & 0o7777);
            return Err(NotRead::Unusable(format!("{path}: {what} has mode {mode:o}; chmod go-w")));
        }
    }
    let mut bytes = Vec::new();
    let read = file.take(len_max.saturating_add(1)).read_to_end(&mut bytes).map_err(unusable)?;
    if !found.is_file() || read as u64 > len_max {
        let (path, kib) = (path.display(), len_max >> 10);
        return Err(NotRead::Unusable(format!("{path} is no file of at most {kib} KiB")));
    }
    Ok(bytes)
}
