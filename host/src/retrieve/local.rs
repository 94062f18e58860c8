//! A program in a directory of this host that the configuration names.
//!
//! The path comes from a caller; the kernel resolves it beneath the directory, without any link. What is no
//! regular file is not opened: a FIFO would wait for ever, and opening a device can already do something.

use super::fault::Fault;
use super::location::Location;
use percent_encoding::percent_decode;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, open, openat2};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// Opens the file of a location, and says how long it is; for a thread that may block.
pub(super) fn open_below(root: &Path, location: &Location) -> Result<(File, u64), Fault> {
    let path = beneath(root, location)?;
    let directory = open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| Fault::last(format!("fetch.file-root {}: {errno}", root.display())))?;
    // Looked at first, through a descriptor that opens nothing.
    let seen = resolve(&directory, &path, OFlags::PATH)?;
    regular(&seen)?;
    let file = resolve(&directory, &path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
    let len = regular(&file)?;
    Ok((File::from(file), len))
}

/// The path below the directory; the text alone does not decide, it only has to begin so.
fn beneath(root: &Path, location: &Location) -> Result<PathBuf, Fault> {
    let whole: Vec<u8> = percent_decode(location.url().path().as_bytes()).collect();
    let whole = Path::new(OsStr::from_bytes(&whole));
    whole
        .strip_prefix(root)
        .map(Path::to_path_buf)
        .map_err(|_| Fault::last(format!("refused: it is not below fetch.file-root {}", root.display())))
}

fn resolve(directory: &OwnedFd, path: &Path, how: OFlags) -> Result<OwnedFd, Fault> {
    let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    openat2(directory, path, how | OFlags::CLOEXEC, Mode::empty(), within).map_err(|errno| {
        Fault::last(match errno {
            Errno::LOOP => "refused: a part of its path is a link".to_owned(),
            Errno::XDEV => "refused: its path leads out of fetch.file-root".to_owned(),
            other => format!("it cannot be opened: {other}"),
        })
    })
}

fn regular(file: &OwnedFd) -> Result<u64, Fault> {
    let stat = fstat(file).map_err(|errno| Fault::last(format!("it cannot be looked at: {errno}")))?;
    let found = FileType::from_raw_mode(stat.st_mode);
    if found == FileType::RegularFile {
        return Ok(u64::try_from(stat.st_size).unwrap_or_default());
    }
    Err(Fault::last(format!("refused: it is no regular file but a {}", kind(found))))
}

const fn kind(kind: FileType) -> &'static str {
    match kind {
        FileType::RegularFile => "file",
        FileType::Directory => "directory",
        FileType::Symlink => "link",
        FileType::Fifo => "FIFO",
        FileType::Socket => "socket",
        FileType::CharacterDevice | FileType::BlockDevice => "device",
        FileType::Unknown => "thing that the kernel has no word for",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::stat::Mode as NixMode;
    use nix::unistd::mkfifo;
    use std::io::Read as _;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    fn at(path: &Path) -> Location {
        Location::parse(&format!("file://{}", path.display())).unwrap()
    }

    #[test]
    fn a_file_below_the_root_is_read_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("programs");
        std::fs::create_dir_all(root.join("deep")).unwrap();
        std::fs::write(root.join("deep/fix it.sh"), b"hello").unwrap();
        std::fs::write(dir.path().join("secret"), b"secret").unwrap();
        symlink(dir.path().join("secret"), root.join("out")).unwrap();
        symlink("deep", root.join("in")).unwrap();
        mkfifo(&root.join("fifo"), NixMode::from_bits_truncate(0o600)).unwrap();
        let _listening = UnixListener::bind(root.join("socket")).unwrap();

        let location = Location::parse(&format!("file://{}/deep/fix%20it.sh", root.display())).unwrap();
        let (mut file, len) = open_below(&root, &location).unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!((text.as_str(), len), ("hello", 5));

        for (path, part) in [
            (dir.path().join("secret"), "not below"),
            (dir.path().join("programs-not/x"), "not below"),
            (root.join("out"), "is a link"),
            (root.join("in/fix%20it.sh"), "is a link"),
            (root.join("fifo"), "a FIFO"),
            (root.join("socket"), "a socket"),
            (root.join("deep"), "a directory"),
            (root.clone(), "cannot be opened"),
            (root.join("none"), "No such file"),
            (root.join("../secret"), "not below"),
        ] {
            let error = open_below(&root, &at(&path)).expect_err(&path.display().to_string());
            assert!(
                matches!(&error, Fault::Final(text) if text.contains(part)),
                "{}: {error}",
                path.display()
            );
        }
        let device = open_below(Path::new("/dev"), &at(Path::new("/dev/null"))).unwrap_err();
        assert!(device.to_string().contains("a device"), "{device}");
    }
}
