//! A file, a tree or a link into a stream.
//!
//! Called by the agent for what is pulled and by the command line for what is pushed. The tree may change while
//! it is walked, and others may change it on purpose: each name is opened in its opened directory, without
//! following links, and looked at again once it is open. What cannot be read is told, and the rest goes on.
//!
//! - `contents` of a file: as long as its header said, whatever becomes of it meanwhile

mod contents;

use crate::error::{Fault, PackError};
use crate::header::{BLOCK, Fields, flag};
use crate::names::Names;
use crate::{DEPTH_MAX, FAULTS_MAX, Kind, PIECE, Watch, write};
use rustix::fs::{self, AtFlags, Dir, FileType, Mode, OFlags, Stat};
use std::ffi::CStr;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What was packed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Packed {
    /// What the top is.
    pub kind: Kind,
    /// Permission bits of the top.
    pub mode: u32,
    /// Owner of the top.
    pub uid: u32,
    /// Group of the top.
    pub gid: u32,
    /// Bytes of all files.
    pub len: u64,
    /// Files, directories and links.
    pub entries: u64,
    /// What is not in the archive as it should be: 0 is a success.
    pub faults: u64,
}

/// Packs what `path` names, under the name `top`, and ends the archive. A link at the end of `path` is packed
/// as a link, unless a `/` stands behind it.
///
/// # Errors
/// [`PackError`] when the top cannot be read, or the archive not be written.
pub fn pack(
    path: &Path,
    top: &[u8],
    out: &mut dyn Write,
    watch: &mut dyn Watch,
) -> Result<Packed, PackError> {
    let packed = Packed { kind: Kind::File, mode: 0, uid: 0, gid: 0, len: 0, entries: 0, faults: 0 };
    let mut packer = Packer { out, watch, names: Names::read(), piece: vec![0; PIECE], packed, told: 0 };
    let shown = path.as_os_str().as_bytes();
    let top = packer.top(path, shown, top);
    top.map_err(|trouble| match trouble {
        Trouble::Fault(fault) => PackError::Top(Fault { path: shown.to_vec(), ..fault }),
        Trouble::Write(error) => PackError::Write(error),
    })?;
    let end = packer.out.write_all(&[0; 2 * BLOCK]).and_then(|()| packer.out.flush());
    end.map_err(PackError::Write)?;
    Ok(packer.packed)
}

struct Packer<'a> {
    out: &'a mut dyn Write,
    watch: &'a mut dyn Watch,
    names: Names,
    piece: Vec<u8>,
    packed: Packed,
    told: u64,
}

/// Why an entry is not in the archive.
enum Trouble {
    /// It is this entry's own, and the others go on.
    Fault(Fault),
    /// Nothing more can be written.
    Write(io::Error),
}

/// Something that is being packed: where it is, and its name in the archive.
#[derive(Clone, Copy)]
struct Place<'a> {
    directory: BorrowedFd<'a>,
    name: &'a CStr,
    path: &'a [u8],
    depth: usize,
}

impl Packer<'_> {
    fn top(&mut self, path: &Path, shown: &[u8], top: &[u8]) -> Result<(), Trouble> {
        let kernel = |error: io::Error| Trouble::Fault(Fault::kernel(shown, &error));
        let within = path.parent().filter(|_| !shown.ends_with(b"/") && path.file_name().is_some());
        let (within, name) = match within {
            Some(parent) => (parent, path.file_name().unwrap_or_default().as_bytes()),
            None => (path, b".".as_slice()),
        };
        let within = if within.as_os_str().is_empty() { Path::new(".") } else { within };
        let directory = fs::open(within, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        let directory = directory.map_err(|errno| kernel(errno.into()))?;
        let name = std::ffi::CString::new(name).map_err(|error| kernel(error.into()))?;
        self.entry(Place { directory: directory.as_fd(), name: &name, path: top, depth: 0 })
    }

    fn entry(&mut self, place: Place<'_>) -> Result<(), Trouble> {
        let stat = fs::statat(place.directory, place.name, AtFlags::SYMLINK_NOFOLLOW);
        let stat = stat.map_err(|errno| place.kernel(&errno.into()))?;
        let special = |what| Err(Trouble::Fault(Fault::note(place.path, format!("{what}: left out"))));
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => self.file(place),
            FileType::Directory => self.directory(place, &stat),
            FileType::Symlink => self.link(place, &stat),
            FileType::Socket => special("a socket"),
            FileType::Fifo => special("a named pipe"),
            FileType::CharacterDevice | FileType::BlockDevice => special("a device"),
            FileType::Unknown => special("of an unknown kind"),
        }
    }

    fn directory(&mut self, place: Place<'_>, seen: &Stat) -> Result<(), Trouble> {
        if place.depth >= DEPTH_MAX {
            return Err(place.fault(format!("deeper than {DEPTH_MAX} directories")));
        }
        let opened = place.open(OFlags::DIRECTORY).map_err(|error| place.kernel(&error))?;
        let stat = fs::fstat(&opened).map_err(|errno| place.kernel(&errno.into()))?;
        if place.depth > 0 && is_of_the_kernel(&opened) && !same_device(place.directory, &stat) {
            return Err(Trouble::Fault(Fault::note(
                place.path,
                "a file system of the kernel's own: left out",
            )));
        }
        debug_assert_eq!(FileType::from_raw_mode(seen.st_mode), FileType::Directory);
        self.begin(place, &stat, Kind::Tree);
        self.head(place.path, flag::DIRECTORY, &stat, 0, b"")?;
        let mut list = Dir::new(opened).map_err(|errno| place.kernel(&errno.into()))?;
        while let Some(entry) = list.read() {
            let entry = match entry {
                Ok(entry) => entry,
                Err(errno) => {
                    self.tell(&Fault::kernel(place.path, &errno.into()));
                    break;
                }
            };
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let path = [place.path, b"/", name.to_bytes()].concat();
            let directory = list.fd().map_err(|errno| place.kernel(&errno.into()))?;
            let depth = place.depth.saturating_add(1);
            match self.entry(Place { directory, name, path: &path, depth }) {
                Err(Trouble::Fault(fault)) => self.tell(&fault),
                other => other?,
            }
        }
        Ok(())
    }

    fn link(&mut self, place: Place<'_>, stat: &Stat) -> Result<(), Trouble> {
        let target = fs::readlinkat(place.directory, place.name, Vec::new());
        let target = target.map_err(|errno| place.kernel(&errno.into()))?;
        self.begin(place, stat, Kind::Link);
        self.head(place.path, flag::LINK, stat, 0, target.to_bytes())
    }

    fn head(&mut self, path: &[u8], flag: u8, stat: &Stat, size: u64, link: &[u8]) -> Result<(), Trouble> {
        let mut name = path.to_vec();
        if flag == flag::DIRECTORY {
            name.push(b'/');
        }
        let fields = Fields {
            name,
            link: link.to_vec(),
            flag,
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            size,
            mtime: u64::try_from(stat.st_mtime).unwrap_or_default(),
            user: self.names.user(stat.st_uid),
            group: self.names.group(stat.st_gid),
        };
        write::head(self.out, fields).map_err(Trouble::Write)
    }

    fn begin(&mut self, place: Place<'_>, stat: &Stat, kind: Kind) {
        self.packed.entries = self.packed.entries.saturating_add(1);
        if place.depth == 0 {
            let (mode, uid, gid) = (stat.st_mode & 0o7777, stat.st_uid, stat.st_gid);
            self.packed = Packed { kind, mode, uid, gid, ..self.packed };
        }
    }

    fn tell(&mut self, fault: &Fault) {
        self.packed.faults = self.packed.faults.saturating_add(u64::from(fault.fails));
        self.told = self.told.saturating_add(1);
        if self.told <= FAULTS_MAX {
            self.watch.fault(fault);
        }
    }
}

impl Place<'_> {
    fn open(self, flags: OFlags) -> io::Result<OwnedFd> {
        let flags = flags | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(fs::openat(self.directory, self.name, flags, Mode::empty())?)
    }

    fn kernel(self, error: &io::Error) -> Trouble {
        Trouble::Fault(Fault::kernel(self.path, error))
    }

    fn fault(self, why: impl Into<String>) -> Trouble {
        Trouble::Fault(Fault::new(self.path, why))
    }
}

fn same_device(directory: BorrowedFd<'_>, stat: &Stat) -> bool {
    fs::fstat(directory).is_ok_and(|above| above.st_dev == stat.st_dev)
}

/// File systems whose files are made up when they are read: `/proc`, `/sys` and what is mounted in them.
fn is_of_the_kernel(directory: &OwnedFd) -> bool {
    fs::fstatfs(directory).is_ok_and(|found| OF_THE_KERNEL.contains(&found.f_type.cast_unsigned()))
}

const OF_THE_KERNEL: [u64; 9] = [
    0x9fa0,      // proc
    0x6265_6572, // sysfs
    0x0027_e0eb, // cgroup
    0x6367_7270, // cgroup2
    0x6462_6720, // debugfs
    0x7472_6163, // tracefs
    0x7363_6673, // securityfs
    0xcafe_4a11, // bpf
    0x1cd1,      // devpts
];
