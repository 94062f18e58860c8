//! The directory of one request: what lies in it, and who holds which end.
//!
//! Made by `start`, found again by [`Directory::all`]. Both processes share the files; of the two pipes each has
//! one end. Whether a supervisor lives shows by its end of `commands`.

use doorbell_wire::ids::RequestId;
use doorbell_wire::message::action::Input;
use nix::libc;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt as _, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A request's directory.
#[derive(Clone, Debug)]
pub(super) struct Directory {
    path: PathBuf,
}

/// The files that both processes use.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) status: File,
    pub(super) stdin: Option<File>,
    pub(super) stdout: File,
    pub(super) stderr: File,
}

/// One process' ends of the two pipes.
#[derive(Debug)]
pub(super) struct Ends {
    /// What the agent wants.
    pub(super) commands: File,
    /// One byte for each "look again" of the supervisor; its end is the supervisor's.
    pub(super) events: File,
}

/// Bytes of the disk that the output of a request takes; what was given back as a hole does not count.
#[must_use]
pub fn output_on_disk(run: &Path, request: RequestId) -> u64 {
    let path = Directory::of(run, request).path;
    let blocks = |name| path.join(name).metadata().map_or(0, |found| found.blocks());
    blocks(STDOUT).saturating_add(blocks(STDERR)).saturating_mul(512)
}

impl Directory {
    /// The directory of a request.
    pub(super) fn of(run: &Path, request: RequestId) -> Self {
        Self { path: run.join(request.to_string()) }
    }

    /// Every request that has one.
    pub(super) fn all(run: &Path) -> Vec<(RequestId, Self)> {
        let entries = std::fs::read_dir(run).into_iter().flatten().flatten();
        let named =
            entries.filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())));
        named.map(|(request, path)| (request, Self { path })).collect()
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Where a program that came over the channel lies.
    pub(super) fn program(&self) -> PathBuf {
        self.path.join("program")
    }

    /// Makes it, in the place of what an earlier start may have left.
    pub(super) fn create(&self, input: Input) -> io::Result<Files> {
        match DirBuilder::new().mode(0o700).create(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                std::fs::remove_dir_all(&self.path)?;
                DirBuilder::new().mode(0o700).create(&self.path)?;
            }
            made => made?,
        }
        let file = |name: &str| {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create_new(true).mode(0o600).open(self.path.join(name))
        };
        let files = Files {
            status: file(STATUS)?,
            stdin: if input == Input::None { None } else { Some(file(STDIN)?) },
            stdout: file(STDOUT)?,
            stderr: file(STDERR)?,
        };
        for name in [COMMANDS, EVENTS] {
            mkfifo(&self.path.join(name), Mode::S_IRUSR | Mode::S_IWUSR)?;
        }
        Ok(files)
    }

    /// Both processes' ends of the pipes: first the agent's, then the supervisor's. The supervisor's `commands` is
    /// open both ways, so that it has no end when the agent goes.
    pub(super) fn ends(&self) -> io::Result<(Ends, Ends)> {
        let commands = self.pipe(COMMANDS, OpenOptions::new().read(true).write(true))?;
        let agent = self.agent_ends()?;
        let events = self.pipe(EVENTS, OpenOptions::new().write(true))?;
        Ok((agent, Ends { commands, events }))
    }

    /// The agent's ends; an error when there is no supervisor at the others.
    pub(super) fn agent_ends(&self) -> io::Result<Ends> {
        // In this order: a supervisor that goes after this is seen to go.
        let events = self.pipe(EVENTS, OpenOptions::new().read(true))?;
        let commands = self.pipe(COMMANDS, OpenOptions::new().write(true))?;
        Ok(Ends { commands, events })
    }

    /// The files of a request that was started before.
    pub(super) fn files(&self) -> io::Result<Files> {
        let file = |name: &str| OpenOptions::new().read(true).write(true).open(self.path.join(name));
        Ok(Files {
            status: file(STATUS)?,
            stdin: file(STDIN).ok(),
            stdout: file(STDOUT)?,
            stderr: file(STDERR)?,
        })
    }

    pub(super) fn remove(&self) -> io::Result<()> {
        std::fs::remove_dir_all(&self.path)
    }

    fn pipe(&self, name: &str, options: &mut OpenOptions) -> io::Result<File> {
        options.custom_flags(libc::O_NONBLOCK).open(self.path.join(name))
    }
}

const STATUS: &str = "status";
const STDIN: &str = "stdin";
const STDOUT: &str = "stdout";
const STDERR: &str = "stderr";
const COMMANDS: &str = "commands";
const EVENTS: &str = "events";
