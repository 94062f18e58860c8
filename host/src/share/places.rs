//! The two directories of one guest's share, `out` and `in` below the one that the operator named.
//!
//! Used by the attendant and its stand-in, on threads that may block. What is read has a bounded length and a name that
//! the manager knows beforehand: what else a guest puts there is never looked at, only weighed.

use super::beneath::{Dir, Owner, Weight};
use doorbell_wire::error::Malformed;
use doorbell_wire::ids::{Digest, Nonce, RequestId};
use doorbell_wire::limits::{HEADER_LEN, PAYLOAD_LEN_MAX};
use doorbell_wire::message::{Greeting, Stream};
use doorbell_wire::share::{
    ANSWER, ATTACH, BEAT, HELLO, MANAGER, Of, PROGRAMS, SESSIONS, manager_file, session,
};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// Where they are.
#[derive(Clone, Debug)]
pub(super) struct Places(PathBuf);

/// What a look is for.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// The requests in hand, and the bytes of their progress that are known.
    pub(super) hands: Vec<(RequestId, u64)>,
    /// Those that are noted.
    pub(super) noted: Vec<RequestId>,
}

/// What one look found.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) hello: Option<Vec<u8>>,
    pub(super) beat: Option<Vec<u8>>,
    pub(super) attach: Option<Vec<u8>>,
    pub(super) hands: Vec<(RequestId, SeenOf)>,
    /// Requests whose receipt the guest has removed.
    pub(super) gone: Vec<RequestId>,
    /// What was refused, in words.
    pub(super) refused: Vec<String>,
}

/// What one look found of a request.
#[derive(Debug, Default)]
pub(super) struct SeenOf {
    pub(super) progress: Vec<u8>,
    pub(super) stdout: u64,
    pub(super) stderr: u64,
    pub(super) ack: Option<Vec<u8>>,
}

impl Places {
    pub(super) fn new(dir: &Path) -> Self {
        Self(dir.to_owned())
    }

    /// Makes what is missing, and begins anew: no session and no program of an earlier manager stays.
    pub(super) fn begin(&self) -> io::Result<()> {
        let (root, owner) = self.root()?;
        root.make_room("in", owner)?;
        let out = root.make_room("out", owner)?;
        out.clear(SESSIONS)?;
        out.clear(PROGRAMS)?;
        out.make(SESSIONS, owner)?;
        out.make(PROGRAMS, owner).map(drop)
    }

    /// Puts the greeting there that the next hello has to answer.
    pub(super) fn greet(&self, greeting: Greeting) -> io::Result<()> {
        let bytes = manager_file(greeting).map_err(io::Error::other)?;
        let (out, owner) = self.out()?;
        out.place(MANAGER, &bytes, owner)
    }

    /// Begins a session's directory with the answer to its hello. Every other one goes first, but the one to keep:
    /// a guest that is not welcome ends nobody's session.
    pub(super) fn answer(&self, nonce: &Nonce, bytes: &[u8], keep: Option<&Nonce>) -> io::Result<()> {
        let (out, owner) = self.out()?;
        let sessions = out.make(SESSIONS, owner)?;
        let keep = keep.map(Nonce::to_string);
        for name in sessions.names()?.iter().filter(|name| Some(*name) != keep.as_ref()) {
            sessions.clear(name)?;
        }
        sessions.make(&nonce.to_string(), owner)?.place(ANSWER, bytes, owner)
    }

    /// Ends a session: its directory goes.
    pub(super) fn end(&self, nonce: &Nonce) -> io::Result<()> {
        match self.out()?.0.dir(SESSIONS)? {
            Some(sessions) => sessions.clear(&nonce.to_string()),
            None => Ok(()),
        }
    }

    /// Puts a file into a session's directory.
    pub(super) fn say(&self, nonce: &Nonce, name: &str, bytes: &[u8]) -> io::Result<()> {
        let (out, owner) = self.out()?;
        let dir = out.dir(&session(nonce))?.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        dir.place(name, bytes, owner)
    }

    /// Removes a file from a session's directory.
    pub(super) fn unsay(&self, nonce: &Nonce, name: &str) -> io::Result<()> {
        self.out()?.0.dir(&session(nonce))?.map_or(Ok(()), |dir| dir.remove(name))
    }

    /// Whether a program is there with this length.
    pub(super) fn has_program(&self, digest: &Digest, len: u64) -> io::Result<bool> {
        let Some(programs) = self.out()?.0.dir(PROGRAMS)? else { return Ok(false) };
        let Some(file) = programs.file(&digest.to_string())? else { return Ok(false) };
        Ok(file.metadata()?.len() == len)
    }

    /// A program on its way into the share.
    pub(super) fn stage(&self, request: RequestId) -> io::Result<File> {
        let (out, owner) = self.out()?;
        out.make(PROGRAMS, owner)?.create(&staged(request), owner)
    }

    /// Gives a staged program its name, or removes it.
    pub(super) fn settle(&self, request: RequestId, digest: Option<&Digest>) -> io::Result<()> {
        let Some(programs) = self.out()?.0.dir(PROGRAMS)? else { return Ok(()) };
        match digest {
            Some(digest) => programs.rename(&staged(request), &digest.to_string()),
            None => programs.remove(&staged(request)),
        }
    }

    /// Removes a program.
    pub(super) fn drop_program(&self, digest: &Digest) -> io::Result<()> {
        self.out()?.0.dir(PROGRAMS)?.map_or(Ok(()), |programs| programs.remove(&digest.to_string()))
    }

    /// Looks at what the guest says: its hello, and in a session its beat, what it presents until it has, and of
    /// each request what is new behind these bytes of progress; of those that are noted, whether the guest knows.
    pub(super) fn look(&self, open: Option<&Nonce>, wanted: &Wanted) -> io::Result<Seen> {
        let mut seen = Seen::default();
        let inbox = self.inbox()?;
        seen.hello = seen.whole(&inbox, HELLO);
        let Some(nonce) = open else { return Ok(seen) };
        let Some(dir) = seen.checked(SESSIONS, inbox.dir(&session(nonce))) else { return Ok(seen) };
        seen.beat = seen.whole(&dir, BEAT);
        seen.attach = seen.whole(&dir, ATTACH);
        for request in &wanted.noted {
            if matches!(dir.file(&Of::Ack.name(*request)), Ok(None)) {
                seen.gone.push(*request);
            }
        }
        for (request, progress) in &wanted.hands {
            let mut of = SeenOf { ack: seen.whole(&dir, &Of::Ack.name(*request)), ..SeenOf::default() };
            for (stream, len) in [(Of::Stdout, &mut of.stdout), (Of::Stderr, &mut of.stderr)] {
                let name = stream.name(*request);
                let file = seen.checked(&name, dir.file(&name));
                *len = file.and_then(|file| file.metadata().ok()).map_or(0, |file| file.len());
            }
            let name = Of::Progress.name(*request);
            if let Some(file) = seen.checked(&name, dir.file(&name)) {
                of.progress =
                    seen.checked(&name, read(&file, *progress, FILE_LEN_MAX).map(Some)).unwrap_or_default();
            }
            seen.hands.push((*request, of));
        }
        Ok(seen)
    }

    /// At most `max` bytes of a stream from `offset` on.
    pub(super) fn output(
        &self,
        nonce: &Nonce,
        request: RequestId,
        stream: Stream,
        offset: u64,
        max: usize,
    ) -> io::Result<Vec<u8>> {
        let Some(dir) = self.inbox()?.dir(&session(nonce))? else { return Ok(Vec::new()) };
        let Some(file) = dir.file(&of(stream).name(request))? else { return Ok(Vec::new()) };
        read(&file, offset, max)
    }

    /// Gives back the disk of what is stored of a stream.
    pub(super) fn give_back(
        &self,
        nonce: &Nonce,
        request: RequestId,
        stream: Stream,
        end: u64,
    ) -> io::Result<()> {
        let Some(dir) = self.inbox()?.dir(&session(nonce))? else { return Ok(()) };
        dir.give_back(&of(stream).name(request), end)
    }

    /// How much the guest keeps there.
    pub(super) fn weigh(&self) -> io::Result<Weight> {
        self.inbox()?.weigh(DEPTH_MAX)
    }

    fn root(&self) -> io::Result<(Dir, Owner)> {
        let root = Dir::open(&self.0)?;
        let owner = root.owner()?;
        Ok((root, owner))
    }

    fn out(&self) -> io::Result<(Dir, Owner)> {
        let (root, owner) = self.root()?;
        let out = root.room("out")?.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        Ok((out, owner))
    }

    fn inbox(&self) -> io::Result<Dir> {
        self.root()?.0.room("in")?.ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Seen {
    /// A whole file of at most two frames; what cannot be read is refused, and counts as not there.
    fn whole(&mut self, dir: &Dir, name: &str) -> Option<Vec<u8>> {
        let file = self.checked(name, dir.file(name))?;
        self.checked(name, read(&file, 0, FILE_LEN_MAX).map(Some))
    }

    fn checked<T>(&mut self, name: &str, result: io::Result<Option<T>>) -> Option<T> {
        result.unwrap_or_else(|error| {
            self.refused.push(format!("{name}: {error}"));
            None
        })
    }
}

/// Bytes of a message as they stand in a file.
pub(super) fn frame_bytes(
    frame: Result<doorbell_wire::frame::Frame, Malformed>,
) -> Result<Vec<u8>, Malformed> {
    let mut bytes = Vec::new();
    frame?.write(&mut bytes)?;
    Ok(bytes)
}

const fn of(stream: Stream) -> Of {
    match stream {
        Stream::Stdout => Of::Stdout,
        Stream::Stderr => Of::Stderr,
    }
}

/// Read piece by piece: the guest may shorten it meanwhile.
fn read(file: &File, offset: u64, max: usize) -> io::Result<Vec<u8>> {
    let len = file.metadata()?.len().saturating_sub(offset);
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(max).min(max)];
    let mut got = 0;
    while let Some(rest) = bytes.get_mut(got..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset.saturating_add(got as u64))? {
            0 => break,
            count => got = got.saturating_add(count),
        }
    }
    bytes.truncate(got);
    Ok(bytes)
}

fn staged(request: RequestId) -> String {
    format!("{request}.new")
}

/// Bytes of the largest file that is read as a whole.
const FILE_LEN_MAX: usize = 2 * (HEADER_LEN + PAYLOAD_LEN_MAX);
/// Directories below the receipts that are weighed: a session's is the second.
const DEPTH_MAX: u8 = 4;
