//! A shell in the guest at the end of a virtio serial port: it works whatever the agent, the channel and the
//! agent's disk are up to.
//!
//! Used by `scene` to break things and by `verdict` to look. Trusts the guest's own tools; a script may be run
//! more than once, because a guest that goes down meanwhile gives no answer.

use crate::wait::{comes_within, within};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The host end.
#[derive(Debug)]
pub struct Port {
    path: PathBuf,
    stream: Option<UnixStream>,
    heard: Vec<u8>,
    asked: u64,
}

impl Port {
    /// The port with this socket.
    #[must_use]
    pub fn at(path: &Path) -> Self {
        Self { path: path.to_owned(), stream: None, heard: Vec::new(), asked: 0 }
    }

    /// Runs a script in the guest, as often as it takes to get an answer; gives what it printed.
    pub fn run(&mut self, script: &str) -> String {
        within(PATIENCE, &format!("the guest's answer to {script:?}"), || self.try_run(script))
    }

    /// Runs it once; `None` when the guest does not answer soon.
    pub fn try_run(&mut self, script: &str) -> Option<String> {
        self.asked += 1;
        let (begin, end) = (format!("<{}<", self.asked), format!(">{}>", self.asked));
        // A shell that was left in the middle of a line by an earlier connection ends that line first.
        let line = format!("\necho '{begin}'; {{ {script}\n}} 2>&1; echo '{end}'\n");
        if self.stream().and_then(|mut stream| stream.write_all(line.as_bytes()).ok()).is_none() {
            self.hang_up();
            return None;
        }
        let (mut answer, mut is_there) = (None, true);
        comes_within(ANSWER_IN, || {
            is_there = self.hear();
            answer = between(&String::from_utf8_lossy(&self.heard), &begin, &end);
            answer.is_some() || !is_there
        });
        if answer.is_none() {
            self.hang_up();
        }
        self.heard.clear();
        answer
    }

    /// Takes what there is to hear; whether the line is still there.
    fn hear(&mut self) -> bool {
        let mut bytes = [0; 64 * 1024];
        match self.stream().map(|mut stream| stream.read(&mut bytes)) {
            Some(Ok(count @ 1..)) => self.heard.extend(&bytes[..count]),
            Some(Err(error)) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Some(Ok(_) | Err(_)) | None => return false,
        }
        true
    }

    fn stream(&mut self) -> Option<&UnixStream> {
        if self.stream.is_none() {
            let stream = UnixStream::connect(&self.path).ok()?;
            stream.set_read_timeout(Some(READ_IN)).ok()?;
            self.stream = Some(stream);
        }
        self.stream.as_ref()
    }

    fn hang_up(&mut self) {
        self.stream = None;
    }
}

/// The text between two marks, once both are there.
fn between(text: &str, begin: &str, end: &str) -> Option<String> {
    let (_, rest) = text.split_once(&format!("{begin}\n"))?;
    let (answer, _) = rest.split_once(&format!("{end}\n"))?;
    Some(answer.to_owned())
}

const PATIENCE: Duration = Duration::from_secs(180);
const ANSWER_IN: Duration = Duration::from_secs(10);
const READ_IN: Duration = Duration::from_millis(5);
