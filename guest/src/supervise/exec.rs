//! What is handed to the kernel for a program: its file, its texts, whom it runs as.
//!
//! Called by `spawn`, in the supervisor: here the disk is looked at. A name without a slash is looked up along the
//! program's own `PATH`; there is no shell.

use super::directory::Directory;
use super::fault::{is_script, kernel};
use super::users::{self, User};
use crate::apply::program::{Found, Prepared};
use crate::journal::file::errno_of;
use doorbell_wire::ids::RequestId;
use doorbell_wire::message::outcome::{NotStarted, StartFault};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use std::ffi::{CString, c_char};
use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::ptr::null;

/// A program, ready for the kernel.
#[derive(Debug)]
pub(super) struct Exec {
    /// Where it is for this process.
    pub(super) path: PathBuf,
    pub(super) file: CString,
    /// It is started by this descriptor: its user cannot reach it by its path.
    pub(super) opened: Option<File>,
    pub(super) args: Texts,
    pub(super) env: Texts,
    pub(super) cwd: CString,
    pub(super) user: Option<User>,
    /// Whether it may become more than that user.
    pub(super) new_privileges: bool,
}

/// A list of texts as the kernel reads it.
#[derive(Debug)]
pub(super) struct Texts {
    /// What the pointers lead to.
    _texts: Vec<CString>,
    pointers: Vec<*const c_char>,
}

impl Texts {
    fn new(texts: impl Iterator<Item = String>) -> Result<Self, NotStarted> {
        let texts = texts.map(c_string).collect::<Result<Vec<_>, _>>()?;
        let pointers = texts.iter().map(|text| text.as_ptr()).chain(std::iter::once(null())).collect();
        Ok(Self { _texts: texts, pointers })
    }

    pub(super) const fn as_ptr(&self) -> *const *const c_char {
        self.pointers.as_ptr()
    }
}

impl Exec {
    pub(super) fn new(
        prepared: &Prepared,
        request: RequestId,
        directory: &Directory,
        terminal: bool,
    ) -> Result<Self, NotStarted> {
        let user = prepared.user.as_deref().map(user).transpose()?;
        let file = match &prepared.file {
            Found::InGuest(command) => find(command, prepared.search_path())?,
            Found::Verified(_) => directory.program(),
        };
        let opened = match (&prepared.file, &user) {
            (Found::Verified(_), Some(user)) if user.uid != 0 => Some(open_to_all(&file)?),
            (Found::Verified(_) | Found::InGuest(_), _) => None,
        };
        let env = prepared.environment(request, &defaults(user.as_ref(), terminal));
        Ok(Self {
            path: Path::new(&prepared.cwd).join(&file),
            file: c_string(file.into_os_string().into_encoded_bytes())?,
            opened,
            args: Texts::new(prepared.args.iter().cloned())?,
            env: Texts::new(env.into_iter())?,
            cwd: c_string(prepared.cwd.as_str())?,
            user,
            new_privileges: prepared.new_privileges,
        })
    }
}

/// What a user's programs expect to be told; a request may say otherwise.
fn defaults(user: Option<&User>, terminal: bool) -> Vec<(&str, &str)> {
    let mut env = Vec::new();
    if terminal {
        env.push(("TERM", "xterm"));
    }
    if let Some(user) = user {
        env.extend([("HOME", user.home.as_str()), ("SHELL", user.shell.as_str())]);
        if let Some(name) = &user.name {
            env.extend([("USER", name.as_str()), ("LOGNAME", name.as_str())]);
        }
    }
    env
}

fn user(text: &str) -> Result<User, NotStarted> {
    users::user(text).ok_or(NotStarted { fault: StartFault::NoUser, errno: Errno::ENOENT as i32 })
}

/// The directory of a request is closed to all but root, so nobody finds the file by its path; who has it open may
/// start it. A script's interpreter opens it once more, through the descriptor, which has to stay open for that.
fn open_to_all(path: &Path) -> Result<File, NotStarted> {
    let number = |error: std::io::Error| kernel(errno_of(&error));
    let file = File::open(path).map_err(number)?;
    file.set_permissions(Permissions::from_mode(0o755)).map_err(number)?;
    if is_script(&file) {
        fcntl(&file, FcntlArg::F_SETFD(FdFlag::empty())).map_err(kernel)?;
    }
    Ok(file)
}

/// The file a command means: a name with a slash as it stands, another along `path`.
fn find(command: &str, path: &str) -> Result<PathBuf, NotStarted> {
    if command.contains('/') {
        return Ok(command.into());
    }
    let mut refused = NotStarted { fault: StartFault::NotFound, errno: Errno::ENOENT as i32 };
    for dir in path.split(':').filter(|dir| dir.starts_with('/')) {
        let file = Path::new(dir).join(command);
        let Ok(found) = file.metadata() else { continue };
        if found.is_file() && found.permissions().mode() & 0o111 != 0 {
            return Ok(file);
        }
        if found.is_file() {
            refused = NotStarted { fault: StartFault::NotExecutable, errno: Errno::EACCES as i32 };
        }
    }
    Err(refused)
}

fn c_string(text: impl Into<Vec<u8>>) -> Result<CString, NotStarted> {
    CString::new(text).map_err(|_| kernel(Errno::EINVAL))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_looked_up_and_a_path_is_not() {
        let path = "/usr/bin:/bin";
        let sh = find("sh", path).unwrap();
        assert!(sh.is_absolute() && sh.ends_with("sh"));
        assert_eq!(find("./sh", path).unwrap(), Path::new("./sh"));
        let missing = |command, path| find(command, path).unwrap_err().fault;
        assert_eq!(missing("no-such-command", path), StartFault::NotFound);
        assert_eq!(missing("sh", "relative:/nowhere"), StartFault::NotFound);
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("tool"), "").unwrap();
        assert_eq!(missing("tool", dir.path().to_str().unwrap()), StartFault::NotExecutable);
    }
}
