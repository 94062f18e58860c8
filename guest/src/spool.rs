//! What a program prints, on disk until the manager has it.
//!
//! Called by `apply` with what comes out of the pipes and by `pull` to send it on. Reading from a program
//! never waits for the channel: bytes beyond the limit, or beyond what the disk takes, are counted and dropped.

use doorbell_wire::ids::RequestId;
use doorbell_wire::limits::OUTPUT_LEN_MAX;
use doorbell_wire::message::outcome::{OutputTotals, StreamTotal};
use doorbell_wire::message::{Offsets, Output, Stream};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use tracing::warn;

/// Both streams of one request.
#[derive(Debug)]
pub struct Spool {
    request: RequestId,
    stdout: Spooled,
    stderr: Spooled,
}

#[derive(Debug)]
struct Spooled {
    path: PathBuf,
    file: Option<File>,
    total: StreamTotal,
    limit: u64,
}

impl Spool {
    /// An empty spool for a request that is about to start.
    ///
    /// # Errors
    /// The kernel's refusal to make its files.
    pub fn create(dir: &Path, request: RequestId) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true).mode(0o600);
        Self::open_with(dir, request, &options)
    }

    /// What an earlier run of the agent left of a request; streams without a file are empty.
    #[must_use]
    pub fn left_over(dir: &Path, request: RequestId) -> Self {
        let open = |stream| {
            let path = path(dir, request, stream);
            let file = File::open(&path).ok();
            let kept = file.as_ref().and_then(|file| file.metadata().ok()).map_or(0, |meta| meta.len());
            Spooled { path, file, total: StreamTotal { kept, dropped: 0 }, limit: kept }
        };
        Self { request, stdout: open(Stream::Stdout), stderr: open(Stream::Stderr) }
    }

    /// Takes bytes of a stream.
    pub fn write(&mut self, stream: Stream, bytes: &[u8]) {
        self.stream_mut(stream).write(bytes);
    }

    /// How much is kept, and how much was dropped.
    #[must_use]
    pub const fn totals(&self) -> OutputTotals {
        OutputTotals { stdout: self.stdout.total, stderr: self.stderr.total }
    }

    /// The next bytes to send, at most `room`, when `sent` has been sent; `None` when that is all there is.
    #[must_use]
    pub fn read(&self, sent: &Offsets, room: usize) -> Option<Output> {
        let next = |stream, offset| {
            let bytes = self.stream(stream).read(offset, room).filter(|bytes| !bytes.is_empty())?;
            Some(Output { request: self.request, stream, offset, bytes })
        };
        next(Stream::Stderr, sent.stderr).or_else(|| next(Stream::Stdout, sent.stdout))
    }

    /// Removes the files.
    pub fn remove(&self) {
        for spooled in [&self.stdout, &self.stderr] {
            remove(&spooled.path);
        }
    }

    fn open_with(dir: &Path, request: RequestId, options: &OpenOptions) -> io::Result<Self> {
        let open = |stream| {
            let path = path(dir, request, stream);
            let file = Some(options.open(&path)?);
            io::Result::Ok(Spooled { path, file, total: StreamTotal::default(), limit: OUTPUT_LEN_MAX })
        };
        Ok(Self { request, stdout: open(Stream::Stdout)?, stderr: open(Stream::Stderr)? })
    }

    const fn stream(&self, stream: Stream) -> &Spooled {
        match stream {
            Stream::Stdout => &self.stdout,
            Stream::Stderr => &self.stderr,
        }
    }

    const fn stream_mut(&mut self, stream: Stream) -> &mut Spooled {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }
}

impl Spooled {
    /// After the first dropped byte all others are dropped too: what is kept is the beginning, without holes.
    fn write(&mut self, bytes: &[u8]) {
        let room = if self.total.dropped > 0 { 0 } else { self.limit.saturating_sub(self.total.kept) };
        let fits = usize::try_from(room).unwrap_or(usize::MAX).min(bytes.len());
        let kept = bytes.get(..fits).map_or(0, |bytes| self.keep(bytes));
        self.total.kept = self.total.kept.saturating_add(kept as u64);
        self.total.dropped = self.total.dropped.saturating_add(bytes.len().saturating_sub(kept) as u64);
    }

    fn keep(&self, mut bytes: &[u8]) -> usize {
        let Some(file) = &self.file else { return 0 };
        let mut kept = 0_usize;
        while !bytes.is_empty() {
            match file.write_at(bytes, self.total.kept.saturating_add(kept as u64)) {
                Ok(count @ 1..) => {
                    kept = kept.saturating_add(count);
                    bytes = bytes.get(count..).unwrap_or_default();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(0) => break,
                Err(error) => {
                    warn!(path = %self.path.display(), %error, "output does not fit the disk; the rest is dropped");
                    break;
                }
            }
        }
        kept
    }

    /// Bytes from `offset` on; `None` when there are none, or they cannot be read.
    fn read(&self, offset: u64, room: usize) -> Option<Vec<u8>> {
        let left = usize::try_from(self.total.kept.checked_sub(offset)?).unwrap_or(usize::MAX);
        let mut bytes = vec![0; left.min(room)];
        match self.file.as_ref()?.read_exact_at(&mut bytes, offset) {
            Ok(()) => Some(bytes),
            Err(error) => {
                warn!(path = %self.path.display(), offset, %error, "spooled output cannot be read back");
                None
            }
        }
    }
}

/// Removes what belongs to no request that is still open.
pub fn sweep(dir: &Path, keep: &[RequestId]) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.split('.').next()).and_then(|id| id.parse().ok());
        if owner.is_none_or(|owner| !keep.contains(&owner)) {
            remove(&entry.path());
        }
    }
}

/// Removes a file that may be gone already.
pub(crate) fn remove(path: &Path) {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            warn!(path = %path.display(), %error, "a file that is done with cannot be removed");
        }
        Ok(()) | Err(_) => {}
    }
}

fn path(dir: &Path, request: RequestId, stream: Stream) -> PathBuf {
    let name = match stream {
        Stream::Stdout => "stdout",
        Stream::Stderr => "stderr",
    };
    dir.join(format!("{request}.{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: RequestId = RequestId::new([1; 16]);

    #[test]
    fn what_is_written_is_read_by_offset() {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = Spool::create(dir.path(), REQUEST).unwrap();
        spool.write(Stream::Stdout, b"hello ");
        spool.write(Stream::Stdout, b"world");
        spool.write(Stream::Stderr, b"oh");
        let first = spool.read(&Offsets::default(), 4).unwrap();
        assert_eq!((first.stream, first.bytes.as_slice()), (Stream::Stderr, b"oh".as_slice()));
        let second = spool.read(&Offsets { stdout: 6, stderr: 2 }, 100).unwrap();
        assert_eq!((second.offset, second.bytes.as_slice()), (6, b"world".as_slice()));
        assert_eq!(spool.read(&Offsets { stdout: 11, stderr: 2 }, 100), None);
        assert_eq!(spool.read(&Offsets { stdout: 99, stderr: 99 }, 100), None);
    }

    #[test]
    fn beyond_the_limit_is_counted_and_dropped_for_good() {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = Spool::create(dir.path(), REQUEST).unwrap();
        spool.stdout.limit = 4;
        spool.write(Stream::Stdout, b"abc");
        spool.write(Stream::Stdout, b"def");
        spool.stdout.limit = 100;
        spool.write(Stream::Stdout, b"g");
        assert_eq!(spool.totals().stdout, StreamTotal { kept: 4, dropped: 3 });
        assert_eq!(spool.read(&Offsets::default(), 100).unwrap().bytes, b"abcd");
    }

    #[test]
    fn a_full_disk_drops_and_goes_on() {
        let full = OpenOptions::new().read(true).write(true).open("/dev/full").unwrap();
        let total = StreamTotal::default();
        let mut spooled = Spooled { path: "/dev/full".into(), file: Some(full), total, limit: 100 };
        spooled.write(b"lost");
        assert_eq!(spooled.total, StreamTotal { kept: 0, dropped: 4 });
    }

    #[test]
    fn left_over_output_can_be_sent_and_swept() {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = Spool::create(dir.path(), REQUEST).unwrap();
        spool.write(Stream::Stdout, b"before the crash");
        drop(spool);
        let spool = Spool::left_over(dir.path(), REQUEST);
        assert_eq!(spool.totals().stdout, StreamTotal { kept: 16, dropped: 0 });
        assert_eq!(spool.read(&Offsets::default(), 6).unwrap().bytes, b"before");
        sweep(dir.path(), &[REQUEST]);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
        sweep(dir.path(), &[]);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
