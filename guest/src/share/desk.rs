//! The manager's half of a session, played from the files of a share.
//!
//! Driven by [`super`]. What the agent says becomes files in the receipts; what the manager says is found by
//! [`super::look`]. The hello was judged by the manager before there was a desk, so here it is welcome. Trusts the agent in
//! the same process only as far as the session checks it.

use super::bulk::Flow;
use super::files::{SessionFiles, place, write_at};
use super::{Ended, Fault};
use crate::pull::Agent;
use doorbell_wire::error::Reason;
use doorbell_wire::frame::Deframer;
use doorbell_wire::ids::{RequestId, Tick};
use doorbell_wire::limits::{OUTPUT_LEN_MAX, SHARE_CALM_MS};
use doorbell_wire::message::action::Payload;
use doorbell_wire::message::outcome::Acknowledgement;
use doorbell_wire::message::{Attach, Attached, FromGuest, FromHost, Offer, Progress, Welcome};
use doorbell_wire::session::host::{Host, Owed};
use doorbell_wire::share::{ATTACH, BEAT, Of, ack_file, one_frame, prompt, receipt_transcript};
use nix::poll::{PollFd, PollFlags};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use tracing::warn;

/// The manager's half and what it knows of the share.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) files: SessionFiles,
    pub(super) hands: BTreeMap<RequestId, Held>,
    /// Prompts that wait for the agent's pull.
    pub(super) waiting: BTreeSet<(u64, RequestId)>,
    /// Prompts that do not hold what their names say.
    pub(super) bad: BTreeSet<(u64, RequestId)>,
    /// Requests that are over; their prompts may still be seen.
    pub(super) settled: BTreeSet<RequestId>,
    /// What the agent wrote as its beat, and when.
    pub(super) beat: Option<(Vec<u8>, u64, Tick)>,
    /// When something moved last.
    pub(super) moved: Tick,
    welcome: Welcome,
    attaches: Option<Vec<Attach>>,
    stream: UnixStream,
    host: Option<Host>,
    deframer: Deframer,
    pub(super) out: Vec<u8>,
    wake: Tick,
}

/// A request in the agent's hands.
#[derive(Debug, Default)]
pub(super) struct Held {
    pub(super) payload: Option<Payload>,
    pub(super) program: Option<File>,
    pub(super) progress: u64,
    pub(super) stdout: Flow,
    pub(super) stderr: Flow,
    pub(super) cancelled: bool,
}

impl Desk {
    pub(super) fn new(files: SessionFiles, stream: UnixStream, host: Host, welcome: Welcome) -> Self {
        Self {
            files,
            hands: BTreeMap::new(),
            waiting: BTreeSet::new(),
            bad: BTreeSet::new(),
            settled: BTreeSet::new(),
            beat: None,
            moved: Tick(0),
            welcome,
            attaches: Some(Vec::new()),
            stream,
            host: Some(host),
            deframer: Deframer::new(),
            out: Vec::new(),
            wake: Tick(0),
        }
    }

    /// What the event loop has to watch.
    pub(super) fn watched(&self) -> PollFd<'_> {
        let mut flags = PollFlags::POLLIN;
        flags.set(PollFlags::POLLOUT, !self.out.is_empty());
        PollFd::new(self.stream.as_fd(), flags)
    }

    /// When [`Desk::turn`] has something to do even if nothing comes.
    pub(super) const fn due(&self) -> Tick {
        self.wake
    }

    /// Whether something is on its way, so that it is worth while to look again soon.
    pub(super) fn is_busy(&self, now: Tick) -> bool {
        let calm = self.moved.until(now) >= SHARE_CALM_MS;
        !self.waiting.is_empty() || (!self.hands.is_empty() && !calm)
    }

    /// One turn: what the agent says is worked off, what it may have goes to it.
    pub(super) fn turn(&mut self, now: Tick, agent: &Agent) -> Result<(), Fault> {
        self.with(|desk, host| {
            let host = desk.drain(host.expire(now)?, agent)?;
            let host = desk.read(host, now, agent)?;
            let host = desk.serve(host)?;
            desk.credit(host)
        })?;
        self.flush()
    }

    /// Does something with the session. After an error there is none.
    pub(super) fn with(
        &mut self,
        act: impl FnOnce(&mut Self, Host) -> Result<Host, Fault>,
    ) -> Result<(), Fault> {
        let host = self.host.take().ok_or(Ended::Closed)?;
        let host = act(self, host)?;
        self.host = Some(self.send(host)?);
        Ok(())
    }

    /// Says that the agent goes; the manager finds out by itself where this cannot be written.
    pub(super) fn goodbye(&self) {
        let mut bytes = Vec::new();
        let frame = FromGuest::GuestBye(Reason::GOODBYE).to_frame();
        if frame.and_then(|frame| frame.write(&mut bytes)).is_ok() {
            let _ = place(&self.files.to.join(BEAT), &bytes);
        }
    }

    fn read(&mut self, mut host: Host, now: Tick, agent: &Agent) -> Result<Host, Fault> {
        let mut buffer = [0; READ_LEN];
        let count = match self.stream.read(&mut buffer) {
            Ok(0) => return Err(Ended::Closed.into()),
            Ok(count) => count,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                return Ok(host);
            }
            Err(source) => return Err(Ended::Io { verb: "read from", source }.into()),
        };
        let mut bytes = buffer.get(..count).unwrap_or_default();
        while let Some(frame) = self.deframer.next(&mut bytes)? {
            let message = FromGuest::from_frame(&frame)?;
            if !matches!(message, FromGuest::Pong(_)) {
                self.moved = now;
            }
            host = self.drain(host.receive(now, message)?, agent)?;
        }
        Ok(host)
    }

    /// Writes what the session sends; what it owes beside that is for [`Desk::drain`], behind which none is left.
    pub(super) fn send(&mut self, mut host: Host) -> Result<Host, Fault> {
        loop {
            match host.poll() {
                Owed::Wait(tick) => {
                    self.wake = tick;
                    return Ok(host);
                }
                Owed::Send(message) => message.to_frame()?.write(&mut self.out)?,
                // Only what comes in causes these, and that is drained where it is read.
                Owed::Judge(_)
                | Owed::Polls(_)
                | Owed::Pulled
                | Owed::Attach(_)
                | Owed::Serve(_)
                | Owed::Progress(_)
                | Owed::Spool(_)
                | Owed::InputTaken(_)
                | Owed::Store(_) => {}
            }
        }
    }

    fn drain(&mut self, mut host: Host, agent: &Agent) -> Result<Host, Fault> {
        loop {
            host = match host.poll() {
                Owed::Wait(tick) => {
                    self.wake = tick;
                    return Ok(host);
                }
                Owed::Send(message) => {
                    message.to_frame()?.write(&mut self.out)?;
                    host
                }
                Owed::Judge(_) => host.welcome(self.welcome.clone())?,
                Owed::Attach(attach) => {
                    self.hands.insert(attach.request, Held::default());
                    self.attaches.get_or_insert_default().push(attach);
                    host
                }
                Owed::Pulled => self.pulled(host)?,
                Owed::Progress(progress) => {
                    self.progress(progress)?;
                    host
                }
                Owed::Spool(output) => self.spool(host, &output)?,
                Owed::Store(acknowledgement) => {
                    self.store(&acknowledgement, agent)?;
                    host
                }
                // It looks on a timer of its own.
                Owed::Polls(_) | Owed::Serve(_) | Owed::InputTaken(_) => host,
            }
        }
    }

    /// The first pull of a session says that all is presented.
    fn pulled(&mut self, host: Host) -> Result<Host, Fault> {
        if let Some(attaches) = self.attaches.take() {
            let mut bytes = Vec::new();
            for attach in attaches {
                FromGuest::Attach(attach).to_frame()?.write(&mut bytes)?;
            }
            place(&self.files.to.join(ATTACH), &bytes)?;
        }
        while let Some((sequence, request)) = self.waiting.pop_first() {
            let Some(offer) = self.offer(sequence, request)? else { continue };
            let payload = offer.action.payload();
            self.hands.insert(request, Held { payload, ..Held::default() });
            let host = host.offer(*offer)?;
            return if self.waiting.is_empty() { Ok(host) } else { Ok(self.send(host)?.ring()?) };
        }
        Ok(host.nothing()?)
    }

    /// Reads a prompt; one that is gone, or that is another request's, is none.
    fn offer(&mut self, sequence: u64, request: RequestId) -> Result<Option<Box<Offer>>, Fault> {
        let name = prompt(sequence, request);
        let Some(bytes) = super::read(&self.files.from.join(&name))? else { return Ok(None) };
        let message = FromHost::from_frame(&one_frame("a prompt", &bytes)?)?;
        if let FromHost::Offer(offer) = message
            && offer.request == request
        {
            return Ok(Some(offer));
        }
        warn!(name, "a prompt does not hold what its name says");
        self.bad.insert((sequence, request));
        Ok(None)
    }

    fn progress(&mut self, progress: Progress) -> Result<(), Fault> {
        let Some(held) = self.hands.get_mut(&progress.request) else { return Ok(()) };
        let mut bytes = Vec::new();
        FromGuest::Progress(progress).to_frame()?.write(&mut bytes)?;
        write_at(&self.files.to.join(Of::Progress.name(progress.request)), held.progress, &bytes)?;
        held.progress = held.progress.saturating_add(bytes.len() as u64);
        Ok(())
    }

    fn store(&mut self, acknowledgement: &Acknowledgement, agent: &Agent) -> Result<(), Fault> {
        let bytes =
            ack_file(acknowledgement, |frame| agent.sign(&receipt_transcript(&self.files.nonce, frame)))?;
        place(&self.files.to.join(Of::Ack.name(acknowledgement.request)), &bytes)
    }

    /// Where the output of a request that was presented goes on.
    pub(super) fn attached(&mut self, host: Host, attached: Attached) -> Result<Host, Fault> {
        let Some(held) = self.hands.get_mut(&attached.request) else { return Ok(host) };
        let from = attached.from.unwrap_or_default();
        held.stdout = Flow::from(from.stdout);
        held.stderr = Flow::from(from.stderr);
        Ok(host.attached(attached.request, attached.from, OUTPUT_LEN_MAX)?)
    }

    fn flush(&mut self) -> Result<(), Fault> {
        while !self.out.is_empty() {
            match self.stream.write(&self.out) {
                Ok(count) => drop(self.out.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(Ended::Io { verb: "write to", source }.into()),
            }
        }
        Ok(())
    }
}

const READ_LEN: usize = 64 * 1024;
