//! Programs from the share to the agent, output from the agent to the receipts.
//!
//! Called by the desk. A program is read in pieces of one chunk, as the session gives credit. Output lies in the receipts
//! at its own offsets; credit for it goes back as long as not too much lies ahead of what the manager has stored.

use super::Fault;
use super::desk::{Desk, Held};
use super::files::{at, open, write_at};
use doorbell_wire::ids::RequestId;
use doorbell_wire::limits::{CHUNK_LEN_MAX, SHARE_AHEAD};
use doorbell_wire::message::{Output, Spooled, Stream};
use doorbell_wire::session::host::Host;
use doorbell_wire::share::{Of, PROGRAMS};
use std::io;
use std::os::unix::fs::FileExt;
use tracing::warn;

/// How far one stream has come.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Flow {
    written: u64,
    stored: u64,
    /// Credit that was not given back.
    due: u32,
}

impl Flow {
    pub(super) const fn from(offset: u64) -> Self {
        Self { written: offset, stored: offset, due: 0 }
    }
}

impl Held {
    fn flow(&mut self, stream: Stream) -> &mut Flow {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }
}

impl Desk {
    /// Sends program bytes while there is credit and room.
    pub(super) fn serve(&mut self, mut host: Host) -> Result<Host, Fault> {
        while self.out.len() < CHUNK_LEN_MAX {
            let Some((request, offset, room)) = host.chunk_room() else { break };
            let Some(bytes) = self.program_bytes(request, offset, room)? else { break };
            host = self.send(host.chunk(request, bytes)?)?;
        }
        Ok(host)
    }

    /// The next bytes of a program; `None` when it is not in the share. A file that ends too early is filled up:
    /// its digest is another one then, which is what is wrong with it.
    fn program_bytes(
        &mut self,
        request: RequestId,
        offset: u64,
        room: usize,
    ) -> Result<Option<Vec<u8>>, Fault> {
        let Some(held) = self.hands.get_mut(&request) else { return Ok(None) };
        let Some(payload) = held.payload else { return Ok(None) };
        let path = self.files.files.share.join(PROGRAMS).join(payload.digest.to_string());
        if held.program.is_none() {
            held.program = open(&path)?;
        }
        let Some(file) = &held.program else { return Ok(None) };
        let mut bytes = vec![0; room];
        match file.read_exact_at(&mut bytes, offset) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                warn!(%request, path = %path.display(), len = payload.len, "a program in the share is too short");
                Ok(Some(vec![0; room]))
            }
            read => at("read", &path, read).map(|()| Some(bytes)),
        }
    }

    /// Output goes to the receipts at once; its credit when the manager is not too far behind.
    pub(super) fn spool(&mut self, host: Host, output: &Output) -> Result<Host, Fault> {
        let Output { request, stream, offset, bytes } = output;
        let of = match stream {
            Stream::Stdout => Of::Stdout,
            Stream::Stderr => Of::Stderr,
        };
        write_at(&self.files.to.join(of.name(*request)), *offset, bytes)?;
        if let Some(held) = self.hands.get_mut(request) {
            let flow = held.flow(*stream);
            flow.written = offset.saturating_add(bytes.len() as u64);
            flow.due = flow.due.saturating_add(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        }
        Ok(host)
    }

    /// Gives back what credit is due, with what the manager has told as stored.
    pub(super) fn credit(&mut self, mut host: Host) -> Result<Host, Fault> {
        let requests: Vec<RequestId> = self.hands.keys().copied().collect();
        for request in requests {
            for stream in [Stream::Stdout, Stream::Stderr] {
                let Some(held) = self.hands.get_mut(&request) else { continue };
                let flow = held.flow(stream);
                let is_ahead = flow.written.saturating_sub(flow.stored) > SHARE_AHEAD;
                if flow.due > 0 && !is_ahead {
                    let (end, due) = (flow.stored.min(flow.written), std::mem::take(&mut flow.due));
                    host = self.send(host.spooled(request, stream, end, due)?)?;
                }
            }
        }
        Ok(host)
    }

    /// The manager has this much of a stream.
    pub(super) fn stored(&mut self, Spooled { request, stream, end, .. }: Spooled) {
        if let Some(held) = self.hands.get_mut(&request) {
            let flow = held.flow(stream);
            flow.stored = flow.stored.max(end).min(flow.written);
        }
    }
}
