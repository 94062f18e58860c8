//! Why a program did not start: the kernel's number, and what the file says about it.
//!
//! Called by `spawn` after a failure, as root. The kernel says `ENOENT` for a missing program and for a missing
//! interpreter, and `EACCES` for a mode and for a mount; people need to know which.

use doorbell_wire::message::outcome::{NotStarted, StartFault};
use nix::errno::Errno;
use nix::sys::statvfs::{FsFlags, statvfs};
use std::fs::File;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;

/// Which step failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Step {
    /// One of the agent's own.
    Setting,
    /// Becoming the user.
    User,
    /// Entering the directory.
    Directory,
    /// Becoming the program.
    Program,
}

/// A refusal of the kernel in itself.
pub(super) const fn kernel(errno: Errno) -> NotStarted {
    NotStarted { fault: StartFault::Kernel, errno: errno as i32 }
}

/// The fault of a step; `file` is the program as root sees it.
pub(super) fn fault(step: Step, errno: Errno, file: &Path) -> NotStarted {
    let fault = match step {
        Step::Setting | Step::User => StartFault::Kernel,
        Step::Directory => StartFault::NoDirectory,
        Step::Program => of_program(errno, file),
    };
    NotStarted { fault, errno: errno as i32 }
}

#[allow(
    clippy::wildcard_enum_match_arm,
    reason = "the kernel has many more numbers, and they speak for themselves"
)]
fn of_program(errno: Errno, file: &Path) -> StartFault {
    match errno {
        Errno::ENOENT | Errno::ENOTDIR if file.metadata().is_ok() => StartFault::BadInterpreter,
        Errno::ENOENT | Errno::ENOTDIR => StartFault::NotFound,
        Errno::EACCES => of_access(file),
        Errno::ELIBBAD | Errno::ELIBACC => StartFault::BadInterpreter,
        Errno::ENOEXEC if is_foreign(file) => StartFault::WrongArchitecture,
        Errno::ENOEXEC => StartFault::NotAProgram,
        Errno::EINVAL if is_foreign(file) => StartFault::WrongArchitecture,
        _ => StartFault::Kernel,
    }
}

fn of_access(file: &Path) -> StartFault {
    let Ok(found) = file.metadata() else { return StartFault::NotExecutable };
    if !found.is_file() || found.permissions().mode() & 0o111 == 0 {
        return StartFault::NotExecutable;
    }
    if statvfs(file).is_ok_and(|fs| fs.flags().contains(FsFlags::ST_NOEXEC)) {
        return StartFault::NoExecMount;
    }
    let interpreter = interpreter(file);
    let cannot =
        |path: &str| std::fs::metadata(path).is_ok_and(|found| found.permissions().mode() & 0o111 == 0);
    if interpreter.is_some_and(|path| cannot(&path)) {
        StartFault::BadInterpreter
    } else {
        StartFault::NotExecutable
    }
}

/// What the first line of a script names.
fn interpreter(file: &Path) -> Option<String> {
    let head = head(file);
    let line = head.strip_prefix(b"#!")?.split(|&byte| byte == b'\n').next()?;
    String::from_utf8_lossy(line).split_whitespace().next().map(str::to_owned)
}

/// Whether it is an ELF file for another machine than this one.
fn is_foreign(file: &Path) -> bool {
    let head = head(file);
    let machine = head.get(18..20).and_then(|bytes| <[u8; 2]>::try_from(bytes).ok());
    let (Some(machine), Some(&class), Some(&order)) = (machine, head.get(4), head.get(5)) else {
        return false;
    };
    head.starts_with(b"\x7fELF")
        && (class, order, u16::from_le_bytes(machine)) != (CLASS_64, LITTLE, OWN_MACHINE)
}

/// Whether it begins as a script does.
pub(super) fn is_script(file: &File) -> bool {
    let mut head = [0; 2];
    file.read_exact_at(&mut head, 0).is_ok() && head == *b"#!"
}

fn head(file: &Path) -> Vec<u8> {
    let mut bytes = vec![0; HEAD_LEN];
    let count = File::open(file).and_then(|file| file.read_at(&mut bytes, 0)).unwrap_or(0);
    bytes.truncate(count);
    bytes
}

/// What the kernel itself looks at.
const HEAD_LEN: usize = 256;
const CLASS_64: u8 = 2;
const LITTLE: u8 = 1;
#[cfg(target_arch = "x86_64")]
const OWN_MACHINE: u16 = 62;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_tells_what_the_number_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        assert_eq!(of_program(Errno::ENOENT, &path), StartFault::NotFound);
        std::fs::write(&path, "#!/nonexistent\n").unwrap();
        assert_eq!(of_program(Errno::ENOENT, &path), StartFault::BadInterpreter);
        assert_eq!(of_program(Errno::ENOEXEC, &path), StartFault::NotAProgram);
        assert_eq!(of_program(Errno::EACCES, &path), StartFault::NotExecutable);
        assert_eq!(of_program(Errno::EACCES, dir.path()), StartFault::NotExecutable);
        assert_eq!(of_program(Errno::E2BIG, &path), StartFault::Kernel);
        let mut elf = [0; 64];
        elf.iter_mut().zip(b"\x7fELF\x02\x01").for_each(|(place, byte)| *place = *byte);
        elf[18] = 62;
        std::fs::write(&path, elf).unwrap();
        assert_eq!(of_program(Errno::ENOEXEC, &path), StartFault::NotAProgram);
        elf[18] = 183;
        std::fs::write(&path, elf).unwrap();
        assert_eq!(of_program(Errno::ENOEXEC, &path), StartFault::WrongArchitecture);
        assert_eq!(of_program(Errno::EINVAL, &path), StartFault::WrongArchitecture);
    }
}
