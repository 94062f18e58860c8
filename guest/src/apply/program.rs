//! Starting a program: from a checked request to a process.
//!
//! Called by `apply`. What came over the channel is started only as a [`VerifiedProgram`]. There is no shell
//! in between: a file that the kernel does not take as an executable is not started.

use super::running::Running;
use super::{Place, spool};
use crate::verify::VerifiedProgram;
use doorbell_wire::ids::{RequestId, Tick};
use doorbell_wire::message::action::{Executable, Run};
use nix::errno::Errno;
use nix::sys::signal::{SigHandler, SigSet, Signal, signal};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{AccessFlags, access, execve, setsid, write};
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A program that can be started.
#[derive(Debug)]
pub struct Prepared {
    file: PathBuf,
    args: Vec<CString>,
    env: Vec<(String, String)>,
    cwd: PathBuf,
    program: Option<VerifiedProgram>,
}

impl Prepared {
    /// Finds the file to start: the verified program, or one of the guest's own.
    ///
    /// # Errors
    /// The error number that a start would have given.
    pub fn new(run: &Run, program: Option<VerifiedProgram>) -> Result<Self, i32> {
        let parts = run.parts();
        let mut env = vec![("PATH".to_owned(), DEFAULT_PATH.to_owned())];
        env.extend(parts.env.iter().cloned());
        let path = env.iter().rev().find(|(name, _)| name == "PATH").map_or("", |(_, value)| value.as_str());
        let (file, name) = match (&parts.executable, &program) {
            (Executable::Program(_), Some(program)) => (program.path().to_owned(), program.name().as_str()),
            (Executable::Program(_), None) => return Err(Errno::ENOENT as i32),
            (Executable::InGuest(command), _) => (find(command.as_str(), path)?, command.as_str()),
        };
        let texts = std::iter::once(name).chain(parts.args.iter().map(String::as_str));
        let args = texts.map(|text| CString::new(text).map_err(|_| Errno::EINVAL as i32));
        let args = args.collect::<Result<_, _>>()?;
        let cwd = parts.cwd.as_ref().map_or("/", |cwd| cwd.as_str()).into();
        Ok(Self { file, args, env, cwd, program })
    }

    /// Starts it.
    ///
    /// # Errors
    /// The kernel's error number; no process is left.
    pub fn start(self, now: Tick, place: &Place<'_>) -> Result<Running, i32> {
        let number = |error: io::Error| crate::journal::file::errno_of(&error) as i32;
        let cgroup =
            place.cgroups.map(|cgroups| cgroups.create(place.request)).transpose().map_err(number)?;
        let entrance = cgroup.as_ref().map(super::cgroup::Cgroup::entrance).transpose().map_err(number)?;
        let spool = spool(place).map_err(number)?;
        match self.spawn(place.request, entrance) {
            Ok(child) => Ok(Running::new(child, spool, cgroup, self.program, now, place.timeout_ms)),
            Err(error) => {
                spool.remove();
                Err(number(error))
            }
        }
    }

    fn spawn(&self, request: RequestId, entrance: Option<File>) -> io::Result<Child> {
        let file = CString::new(self.file.as_os_str().as_encoded_bytes())?;
        let args = self.args.clone();
        let env = self.environment(request)?;
        let mut command = Command::new(&self.file);
        command.current_dir(&self.cwd).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let become_program = move || {
            close_the_rest();
            setsid()?;
            default_signals()?;
            umask(Mode::from_bits_truncate(0o022));
            if let Some(entrance) = &entrance {
                write(entrance, b"0")?;
            }
            // The standard library would hand a file of an unknown format to a shell.
            execve(&file, &args, &env).map(|never| match never {}).map_err(io::Error::from)
        };
        // SAFETY: the closure runs between fork and exec. The agent has one thread, so no lock can be held
        // by a thread that the child lacks; it touches only what it owns and plain system calls.
        unsafe { command.pre_exec(become_program) };
        command.spawn()
    }

    fn environment(&self, request: RequestId) -> io::Result<Vec<CString>> {
        let last = |name: &str| self.env.iter().rposition(|(other, _)| other == name);
        let given = self.env.iter().enumerate().filter(|(at, (name, _))| last(name) == Some(*at));
        let given = given.filter(|(_, (name, _))| name != REQUEST_VARIABLE);
        let mut env = given
            .map(|(_, (name, value))| CString::new(format!("{name}={value}")))
            .collect::<Result<Vec<_>, _>>()?;
        env.push(CString::new(format!("{REQUEST_VARIABLE}={request}"))?);
        Ok(env)
    }
}

/// The agent blocks the signals it reads from a descriptor, and whoever started it may have ignored others;
/// a program inherits neither.
fn default_signals() -> io::Result<()> {
    for each in Signal::iterator() {
        // SAFETY: the default disposition runs no code of ours. The two signals that have no other refuse.
        let _ = unsafe { signal(each, SigHandler::SigDfl) };
    }
    Ok(SigSet::empty().thread_set_mask()?)
}

/// Has every descriptor but the three of a program closed by its start, those included that somebody left
/// open for the agent. Kernels before 5.11 do not know the call; what the agent opens itself closes anyway.
fn close_the_rest() {
    let flags = i32::try_from(nix::libc::CLOSE_RANGE_CLOEXEC).unwrap_or(0);
    // SAFETY: the call marks descriptors and touches no memory.
    unsafe { nix::libc::close_range(3, nix::libc::c_uint::MAX, flags) };
}

/// The file a command means: a name with a slash as it stands, another along `path`.
fn find(command: &str, path: &str) -> Result<PathBuf, i32> {
    if command.contains('/') {
        return Ok(command.into());
    }
    let mut refused = Errno::ENOENT;
    for dir in path.split(':').filter(|dir| dir.starts_with('/')) {
        let file = Path::new(dir).join(command);
        if !file.is_file() {
            continue;
        }
        match access(&file, AccessFlags::X_OK) {
            Ok(()) => return Ok(file),
            Err(errno) => refused = errno,
        }
    }
    Err(refused as i32)
}

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const REQUEST_VARIABLE: &str = "DOORBELL_REQUEST";

#[cfg(test)]
mod tests {
    use super::*;
    use doorbell_wire::message::action::RunParts;

    fn prepared(command: &str, env: &[(&str, &str)]) -> Result<Prepared, i32> {
        Prepared::new(&run(command, env), None)
    }

    fn run(command: &str, env: &[(&str, &str)]) -> Run {
        let command = command.to_owned().try_into().unwrap();
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let parts =
            RunParts { executable: Executable::InGuest(command), args: vec!["x".into()], env, cwd: None };
        Run::try_from(parts).unwrap()
    }

    #[test]
    fn a_name_is_looked_up_and_a_path_is_not() {
        let sh = prepared("sh", &[]).unwrap();
        assert!(sh.file.is_absolute() && sh.file.ends_with("sh"));
        assert_eq!(sh.args, [c"sh".to_owned(), c"x".to_owned()]);
        assert_eq!(prepared("./sh", &[]).unwrap().file, Path::new("./sh"));
        assert_eq!(prepared("no-such-command", &[]).unwrap_err(), Errno::ENOENT as i32);
        assert_eq!(prepared("sh", &[("PATH", "relative:/nowhere")]).unwrap_err(), Errno::ENOENT as i32);
    }

    #[test]
    fn a_file_that_nobody_may_execute_is_refused_as_such() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("tool"), "").unwrap();
        let path = dir.path().to_str().unwrap();
        assert_eq!(prepared("tool", &[("PATH", path)]).unwrap_err(), Errno::EACCES as i32);
    }

    #[test]
    fn the_environment_is_given_and_nothing_else() {
        let env = [("A", "1"), ("PATH", "/bin"), ("A", "2"), ("DOORBELL_REQUEST", "forged")];
        let env = prepared("sh", &env).unwrap().environment(RequestId::new([0; 16])).unwrap();
        let request = c"DOORBELL_REQUEST=00000000000000000000000000000000".to_owned();
        assert_eq!(env, [c"PATH=/bin".to_owned(), c"A=2".to_owned(), request]);
    }
}
