//! The one task that owns a guest's session.
//!
//! Started by a listener with a connection and the guest that is met there. It drives
//! [`doorbell_wire::session::host::Host`] by its drain contract: wait for bytes, a deadline or the bell; make
//! one call; drain. Everybody else talks to it through the bell.

mod bulk;
mod deadlines;
mod hand;
mod heard;
mod outbox;
mod receipt;
mod serve;
mod stalled;
mod still;

use crate::doors::Entry;
use crate::judge::nonce;
use crate::manager::Manager;
use crate::ring::Bell;
use crate::store::{Door, GuestRow, RequestRow, StoreError};
use crate::time::{unix_ms, unix_us};
use crate::trace::Clock;
use doorbell_api::event::Change;
use doorbell_api::guest::{Presence, Trigger};
use doorbell_wire::error::{Malformed, Reason, SessionError};
use doorbell_wire::frame::Deframer;
use doorbell_wire::ids::{BootId, SessionToken, Tick};
use doorbell_wire::limits::{HANDS_MAX, VERSION_CURRENT, VERSION_MIN};
use doorbell_wire::message::{FromGuest, Greeting};
use doorbell_wire::session::host::{Host, Owed};
use hand::{Hand, Hands};
use outbox::Outbox;
use receipt::Unstored;
use stalled::Stalled;
use std::sync::Arc;
use std::time::{Duration, Instant};
use still::Standing;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::task::{JoinError, JoinSet};
use tracing::{Instrument as _, debug, info, info_span, warn};

/// Where a guest is met.
#[derive(Debug)]
pub struct Met {
    /// In words.
    pub at: String,
    /// The greeting that lay in its share; none on a connection, which is greeted when it is made.
    pub greeting: Option<Greeting>,
}

/// Serves one connection to its end.
pub async fn serve<S>(manager: Arc<Manager>, stream: S, guest: GuestRow, met_at: String, entry: Entry)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    serve_met(manager, stream, guest, Met { at: met_at, greeting: None }, entry).await;
}

/// Serves one session to its end, wherever its guest is met.
pub async fn serve_met<S>(manager: Arc<Manager>, stream: S, guest: GuestRow, met: Met, entry: Entry)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let span = info_span!("session", guest = %guest.name);
    let task = async {
        match Session::new(manager, stream, guest, met, entry) {
            Ok(session) => session.run().await,
            Err(error) => warn!(error = error.whole(), "no session could be begun"),
        }
    };
    task.instrument(span).await;
}

struct Session<S> {
    manager: Arc<Manager>,
    guest: GuestRow,
    met_at: String,
    door: Door,
    greeting: Greeting,
    bell: Arc<Bell>,
    // Held until the guest has proved its key.
    entry: Option<Entry>,
    entered: bool,
    token: Option<SessionToken>,
    hands: Hands,
    // Whether its requests are pushed.
    pushes: bool,
    // Whether another request could be offered beside the last one.
    more: bool,
    // Every sequence of the guest below this one is settled.
    floor: u64,
    rung_us: Option<u64>,
    greeted: Option<Greeted>,
    clock: Option<Clock>,
    // The run of the guest's kernel that was here before.
    boot_before: Option<BootId>,
    storing: JoinSet<Stored>,
    // What the disk would not take.
    stalled: Stalled,
    reader: ReadHalf<S>,
    writer: WriteHalf<S>,
    deframer: Deframer,
    outbox: Outbox,
    started: tokio::time::Instant,
    heard: Tick,
    // When the store was last told.
    seen: Tick,
    standing: Standing,
    frame_since: Option<Tick>,
    write_since: Option<Tick>,
}

/// When the greeting was about to leave, by both of the host's clocks.
#[derive(Clone, Copy, Debug)]
struct Greeted {
    at_us: u64,
    at: Instant,
}

/// A receipt that was stored, or could not be; no row for a request that is not this guest's.
type Stored = (Box<Unstored>, Result<Option<RequestRow>, StoreError>);

/// Why a session is over.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("its guest closed the connection")]
    Closed,
    #[error("the connection failed: {0}")]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Session(#[from] SessionError),
    #[error("{1}")]
    Refused(Reason, String),
    #[error("{0}")]
    Told(Reason),
    #[error("the manager's own state failed: {}", .0.whole())]
    Store(#[from] StoreError),
    #[error("{0}")]
    Fault(String),
    #[error("{0}")]
    Down(&'static str),
}

impl From<Malformed> for End {
    fn from(error: Malformed) -> Self {
        Self::Session(error.into())
    }
}

enum Input {
    Bytes(usize),
    Bell(crate::ring::Found),
    Wrote(usize),
    Stored(Box<Result<Stored, JoinError>>),
    Power,
    Deadline,
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Session<S> {
    fn new(
        manager: Arc<Manager>,
        stream: S,
        guest: GuestRow,
        Met { at: met_at, greeting: met }: Met,
        entry: Entry,
    ) -> Result<Self, StoreError> {
        let door = if met.is_some() { Door::Share } else { Door::Channel };
        let greeting = met.map_or_else(greeting, Ok)?;
        let (reader, writer) = tokio::io::split(stream);
        let boot_before = guest.agent.as_ref().and_then(|agent| agent.boot_id.parse().ok());
        Ok(Self {
            manager,
            guest,
            met_at,
            door,
            greeting,
            bell: Arc::default(),
            entry: Some(entry),
            entered: false,
            token: None,
            hands: Hands::default(),
            pushes: false,
            more: false,
            floor: 0,
            rung_us: None,
            greeted: None,
            clock: None,
            boot_before,
            storing: JoinSet::new(),
            stalled: Stalled::default(),
            reader,
            writer,
            deframer: Deframer::new(),
            outbox: Outbox::default(),
            started: tokio::time::Instant::now(),
            heard: Tick(0),
            seen: Tick(0),
            standing: Standing::default(),
            frame_since: None,
            write_since: None,
        })
    }

    async fn run(mut self) {
        debug!(met_at = self.met_at, "connected");
        let Err(end) = self.drive().await;
        crate::planted::panic_by("G9", matches!(end, End::Session(_)));
        // What the guest said is kept before a newer session of it may say more.
        while let Some(stored) = self.storing.join_next().await {
            if let Ok((_, Ok(Some(row)))) = stored {
                self.manager.moved(&row).await;
            }
        }
        self.bell.end();
        self.say_goodbye(&end).await;
        self.leave(&end).await;
    }

    /// The driver's loop; it ends only by an error.
    async fn drive(&mut self) -> Result<std::convert::Infallible, End> {
        let session = Host::accepted(self.now(), self.greeting);
        let mut session = self.stand(session);
        let mut buffer = vec![0; READ_LEN];
        loop {
            session = self.retry(session).await?;
            let (next, wait) = self.drain(session).await?;
            session = self.fill(next).await?;
            session = match self.wait(&mut buffer, wait).await? {
                Input::Bytes(0) => return Err(End::Closed),
                Input::Bytes(count) => {
                    self.hear().await;
                    let bytes = buffer.get(..count).unwrap_or_default();
                    self.receive(session, bytes).await?
                }
                Input::Wrote(0) => return Err(End::Closed),
                Input::Wrote(count) => {
                    self.outbox.wrote(count);
                    self.write_since = None;
                    session
                }
                Input::Stored(stored) => self.stored(session, *stored).await?,
                Input::Bell(found) => self.answer_bell(session, found).await?,
                Input::Power => self.power_changed(session).await?,
                Input::Deadline => {
                    self.check_own_deadlines()?;
                    self.check_silent();
                    session.expire(self.now())?
                }
            };
        }
    }

    async fn receive(&mut self, mut session: Host, mut bytes: &[u8]) -> Result<Host, End> {
        while let Some(frame) = self.deframer.next(&mut bytes)? {
            self.frame_since = None;
            session = session.receive(self.now(), FromGuest::from_frame(&frame)?)?;
            session = self.drain(session).await?.0;
        }
        let now = self.now();
        self.frame_since = self.deframer.is_mid_frame().then(|| self.frame_since.unwrap_or(now));
        Ok(session)
    }

    /// Does what the session owes, until it waits.
    async fn drain(&mut self, mut session: Host) -> Result<(Host, Tick), End> {
        loop {
            session = match session.poll() {
                Owed::Wait(tick) => return Ok((session, tick)),
                Owed::Send(message) => {
                    self.outbox.push(&message)?;
                    session
                }
                Owed::Judge(hello) => self.judge(session, &hello).await?,
                Owed::Polls(polls) => self.polls(session, polls).await?,
                Owed::Pulled => self.pulled(session).await?,
                Owed::Attach(attach) => self.attach(session, attach).await?,
                Owed::Serve(request) => self.begin_serving(session, request)?,
                Owed::Progress(progress) => self.progress(session, progress).await?,
                Owed::Spool(output) => self.spool(session, output).await?,
                Owed::InputTaken(request) => self.feed(session, request).await?,
                Owed::Store(acknowledgement) => self.store(session, *acknowledgement)?,
            };
        }
    }

    async fn answer_bell(&mut self, session: Host, found: crate::ring::Found) -> Result<Host, End> {
        let mut session = self.stand(session);
        if let Some(reason) = found.close {
            return Err(End::Told(reason));
        }
        for request in found.cancels {
            session = session.cancel(request)?;
        }
        let in_hand: Vec<_> = session.in_hand().filter(|request| found.inputs.has(*request)).collect();
        for request in in_hand {
            session = self.feed(session, request).await?;
        }
        if found.waiting {
            self.manager.events.tell(&self.guest.name, Change::Rung);
            session = if self.pushes { self.push(session).await? } else { self.ring(session)? };
        }
        Ok(session)
    }

    /// Rings, unless the guest's hands are full: it pulls by itself when one is free again. One that only polls is
    /// never rung.
    fn ring(&mut self, session: Host) -> Result<Host, End> {
        let is_never_rung = self.door == Door::Channel && self.guest.trigger == Trigger::Poll;
        if session.in_hand().count() >= HANDS_MAX || is_never_rung {
            return Ok(session);
        }
        self.rung_us.get_or_insert_with(unix_us);
        Ok(session.ring()?)
    }

    async fn wait(&mut self, buffer: &mut [u8], wait: Tick) -> Result<Input, End> {
        let now = self.now();
        if self.outbox.is_empty() || self.standing.is_still() {
            self.write_since = None;
        } else {
            self.write_since.get_or_insert(now);
            // Before the first write: whatever the guest does with the greeting comes later.
            self.greeted.get_or_insert_with(|| Greeted { at_us: unix_us(), at: Instant::now() });
        }
        let still = self.standing.is_still();
        let (frame, write, silent) = (self.frame_deadline(), self.write_deadline(), self.silent_deadline());
        let own = [frame, write, silent, self.stalled.due()];
        let own = own.into_iter().flatten().fold(wait, Tick::min);
        let deadline = tokio::time::sleep(Duration::from_millis(now.until(own)));
        let clogged = self.outbox.is_clogged();
        let outgoing = self.outbox.front();
        tokio::select! {
            // A guest that does not read what it is told is not listened to: its answers wait in memory.
            read = self.reader.read(buffer), if !clogged => Ok(Input::Bytes(read?)),
            written = self.writer.write(outgoing), if !still && !outgoing.is_empty() => Ok(Input::Wrote(written?)),
            Some(stored) = self.storing.join_next() => Ok(Input::Stored(Box::new(stored))),
            // Only a session that is open rings or cancels; before, the bit stays set.
            found = self.bell.rung(still), if self.entered => Ok(Input::Bell(found)),
            () = self.standing.changed() => Ok(Input::Power),
            () = deadline => Ok(Input::Deadline),
        }
    }

    /// Tells the peer why, as far as it still listens.
    async fn say_goodbye(&mut self, end: &End) {
        let reason = match end {
            End::Closed | End::Io(_) | End::Down(_) => None,
            _ if self.standing.is_still() => None,
            End::Session(error) => error.reason(),
            End::Refused(reason, _) | End::Told(reason) => Some(*reason),
            End::Store(_) | End::Fault(_) => Some(Reason::INTERNAL),
        };
        if let Some(reason) = reason {
            let outbox = std::mem::take(&mut self.outbox);
            let rest = outbox.into_goodbye(reason);
            let said = async {
                AsyncWriteExt::write_all(&mut self.writer, &rest).await?;
                AsyncWriteExt::shutdown(&mut self.writer).await
            };
            // The peer may have gone, or may not read: either way the connection is closed next.
            let _ = tokio::time::timeout(GOODBYE_MAX, said).await;
        }
    }

    async fn leave(&mut self, end: &End) {
        if !self.entered {
            info!(met_at = self.met_at, reason = %end, "connection ended before its guest was accepted");
            if let End::Session(error) = end
                && error.reason().is_some()
            {
                self.manager.session_refused(Some(&self.guest.name), &self.met_at, &error.to_string()).await;
            }
            return;
        }
        info!(reason = %end, "session ended");
        self.keep_seen().await;
        if self.manager.registry.leave(self.guest.id, self.door, &self.bell) {
            self.tell_presence(Presence::Gone, Some(end.to_string()));
        }
    }

    fn now(&self) -> Tick {
        Tick(u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX))
    }
}

/// What the next hello has to answer.
///
/// # Errors
/// [`StoreError`] when there are no random bytes.
pub(crate) fn greeting() -> Result<Greeting, StoreError> {
    let (version_min, version_max, host_time_ms) = (VERSION_MIN, VERSION_CURRENT, unix_ms());
    Ok(Greeting { version_min, version_max, nonce: nonce()?, host_time_ms })
}

/// Bytes read at once: two chunks, so that a deadline or a bell is served between.
const READ_LEN: usize = 64 * 1024;
const GOODBYE_MAX: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
