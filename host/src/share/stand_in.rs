//! The agent's half of a session, played from the files of a share.
//!
//! Driven by [`super::attendant`], over a stream in memory, against the same session that a connection has: whether
//! the guest is welcome, what is offered, what is stored and noted is decided there. Trusts nothing in the receipts: a
//! file that breaks a rule ends the session, and an outcome counts when the guest's key has signed it.

use super::places::{Places, Seen, SeenOf, Wanted, frame_bytes};
use crate::disk::blocking;
use doorbell_wire::error::{Malformed, Reason, SessionError};
use doorbell_wire::frame::Deframer;
use doorbell_wire::ids::{Digest, Nonce, RequestId, Tick};
use doorbell_wire::message::action::Payload;
use doorbell_wire::message::outcome::Acknowledgement;
use doorbell_wire::message::{FromGuest, FromHost, Hello, Offer, Offsets};
use doorbell_wire::session::guest::{Guest, Owed};
use doorbell_wire::share::{Of, ShareError};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::time::Instant;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, ReadHalf, WriteHalf};

/// One session through a share.
#[derive(Debug)]
pub(super) struct StandIn {
    pub(super) places: Places,
    pub(super) nonce: Nonce,
    hello: Box<Hello>,
    session: Option<Guest>,
    reader: ReadHalf<DuplexStream>,
    writer: WriteHalf<DuplexStream>,
    deframer: Deframer,
    out: Vec<u8>,
    pub(super) hands: BTreeMap<RequestId, Held>,
    /// Requests of whose output something was stored that the guest was not told.
    pub(super) stored: BTreeSet<RequestId>,
    /// Requests that are noted; the guest has not shown yet that it knows.
    pub(super) noted: BTreeSet<RequestId>,
    welcomed: bool,
    presented: bool,
    /// Whether a prompt was put into the share since this was asked last.
    prompted: bool,
    beat: (u64, Instant),
    started: Instant,
    wake: Tick,
}

/// A request in the guest's hands.
#[derive(Debug, Default)]
pub(super) struct Held {
    pub(super) payload: Option<Payload>,
    /// Until its prompt is in the share.
    pub(super) offer: Option<Box<Offer>>,
    pub(super) staging: Option<File>,
    pub(super) prompt: Option<String>,
    pub(super) applies: bool,
    /// Bytes of its progress that were worked off.
    pub(super) progress: u64,
    /// How much of its output was read, how much there is, how much is stored and given back.
    pub(super) read: Offsets,
    pub(super) there: Offsets,
    pub(super) stored: Offsets,
    pub(super) given_back: Offsets,
    pub(super) output_max: u64,
    pub(super) ack: Option<Box<Acknowledgement>>,
    /// Whether its outcome was passed on. What lies there of it stays until it is noted, and is the same.
    pub(super) is_told: bool,
}

/// Why a session through a share is over.
#[derive(Debug, thiserror::Error)]
pub(super) enum Over {
    #[error("its receipts broke a rule: {0}")]
    Receipts(#[from] ShareError),
    #[error("the share cannot be used: {0}")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Session(#[from] SessionError),
    #[error("the manager's half has ended")]
    Closed,
    #[error("its agent said goodbye")]
    Goodbye,
    #[error("no beat of its agent came for {0} ms")]
    Silent(u64),
}

impl From<Malformed> for Over {
    fn from(malformed: Malformed) -> Self {
        Self::Receipts(malformed.into())
    }
}

/// What happened on the stream.
#[derive(Debug)]
pub(super) enum Moved {
    Read(usize),
    Wrote(usize),
}

impl StandIn {
    pub(super) fn new(places: Places, hello: Box<Hello>, stream: DuplexStream) -> Self {
        let (reader, writer) = tokio::io::split(stream);
        let now = Instant::now();
        Self {
            places,
            nonce: hello.claims.nonce,
            hello,
            session: Some(Guest::connected(Tick(0))),
            reader,
            writer,
            deframer: Deframer::new(),
            out: Vec::new(),
            hands: BTreeMap::new(),
            stored: BTreeSet::new(),
            noted: BTreeSet::new(),
            welcomed: false,
            presented: false,
            prompted: false,
            beat: (0, now),
            started: now,
            wake: Tick(0),
        }
    }

    /// Whether the manager has accepted the guest.
    pub(super) const fn is_welcome(&self) -> bool {
        self.welcomed
    }

    /// Whether something is on its way.
    pub(super) fn is_busy(&self) -> bool {
        !self.presented || !self.hands.is_empty() || !self.noted.is_empty()
    }

    /// Whether a prompt was put into the share since this was asked last.
    pub(super) const fn take_prompted(&mut self) -> bool {
        std::mem::replace(&mut self.prompted, false)
    }

    /// What the manager's half last said, where that was a goodbye.
    pub(super) const fn goodbye(over: &Over) -> Option<Reason> {
        if let Over::Session(SessionError::Ended(reason)) = over { Some(*reason) } else { None }
    }

    /// Waits until bytes have moved. Nothing is lost when this is given up.
    pub(super) async fn moved(&mut self, buffer: &mut [u8]) -> Result<Moved, Over> {
        tokio::select! {
            read = self.reader.read(buffer) => Ok(Moved::Read(read?)),
            wrote = self.writer.write(&self.out), if !self.out.is_empty() => Ok(Moved::Wrote(wrote?)),
        }
    }

    /// Works off what has moved.
    pub(super) async fn work(&mut self, moved: Moved, buffer: &[u8]) -> Result<(), Over> {
        match moved {
            Moved::Read(0) | Moved::Wrote(0) => return Err(Over::Closed),
            Moved::Wrote(count) => drop(self.out.drain(..count)),
            Moved::Read(count) => {
                let mut bytes = buffer.get(..count).unwrap_or_default();
                while let Some(frame) = self.deframer.next(&mut bytes)? {
                    let session = self.take()?.receive(self.now(), FromHost::from_frame(&frame)?)?;
                    self.drain(session).await?;
                }
            }
        }
        self.pass_output().await
    }

    /// Works off what a look has found.
    pub(super) async fn found(&mut self, seen: Seen) -> Result<(), Over> {
        self.check_beat(seen.beat.as_deref())?;
        let session = self.take()?.expire(self.now())?;
        self.drain(session).await?;
        if !self.welcomed {
            return Ok(());
        }
        if !self.presented
            && let Some(attach) = &seen.attach
        {
            self.present(attach).await?;
        }
        for request in seen.gone {
            self.known(request).await?;
        }
        for (request, of) in seen.hands {
            self.found_of(request, of).await?;
        }
        self.pass_output().await?;
        self.tell_stored().await
    }

    /// What the next look is for. Files of a request that is noted are those of its step before.
    pub(super) fn wanted(&self) -> Wanted {
        let fresh = self.hands.iter().filter(|(request, _)| !self.noted.contains(request));
        let hands = fresh.map(|(request, held)| (*request, held.progress)).collect();
        Wanted { hands, noted: self.noted.iter().copied().collect() }
    }

    /// A beat that does not grow is that of an agent that is gone, or was rewound.
    fn check_beat(&mut self, beat: Option<&[u8]>) -> Result<(), Over> {
        let (last, at) = self.beat;
        if let Some(bytes) = beat {
            let message = FromGuest::from_frame(&doorbell_wire::share::one_frame("beat", bytes)?)?;
            if let FromGuest::GuestBye(_) = message {
                return Err(Over::Goodbye);
            }
            if let FromGuest::Pong(number) = message
                && number > last
            {
                self.beat = (number, Instant::now());
            }
        }
        let silent = u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX);
        let max = doorbell_wire::limits::SHARE_SILENCE_MS;
        if silent > max { Err(Over::Silent(max)) } else { Ok(()) }
    }

    async fn drain(&mut self, mut session: Guest) -> Result<(), Over> {
        loop {
            session = match session.poll() {
                Owed::Wait(tick) => {
                    self.wake = tick;
                    self.session = Some(session);
                    return Ok(());
                }
                Owed::Send(message) => {
                    message.to_frame()?.write(&mut self.out)?;
                    session
                }
                Owed::Introduce(_) => session.introduce((*self.hello).clone())?,
                Owed::Welcomed(welcome) => {
                    self.welcomed = true;
                    let (nonce, answer) = (self.nonce, frame_bytes(FromHost::Welcome(welcome).to_frame())?);
                    self.on_disk(move |places| places.answer(&nonce, &answer, None)).await?;
                    session
                }
                Owed::Attached(request, from) => {
                    self.attached(request, from).await?;
                    session
                }
                Owed::Offered(offer) => self.offered(session, offer).await?,
                Owed::Stage(chunk) => self.stage(session, chunk).await?,
                Owed::Spooled(spooled) => {
                    if let Some(held) = self.hands.get_mut(&spooled.request) {
                        held.stored = held.stored.moved(spooled.stream, spooled.end);
                        self.stored.insert(spooled.request);
                    }
                    session
                }
                Owed::Cancel(request) => self.cancel(session, request).await?,
                Owed::Forget(request) => {
                    self.forget(request).await?;
                    session
                }
                // Nothing is pushed through a share, and what reads input was refused.
                Owed::Pushed(_) | Owed::Clock(_) | Owed::Input(_) | Owed::InputEnd(_) | Owed::Resize(_) => {
                    session
                }
            };
        }
    }

    /// Does something with the session, and what it owes then.
    pub(super) async fn with(
        &mut self,
        act: impl FnOnce(Guest) -> Result<Guest, SessionError>,
    ) -> Result<(), Over> {
        let session = act(self.take()?)?;
        self.drain(session).await
    }

    pub(super) fn peek(&self) -> Option<&Guest> {
        self.session.as_ref()
    }

    /// So much waits for the manager's half that no more output is read.
    pub(super) const fn is_clogged(&self) -> bool {
        self.out.len() > CLOGGED_LEN
    }

    pub(super) const fn was_prompted(&mut self) {
        self.prompted = true;
    }

    pub(super) const fn was_presented(&mut self) {
        self.presented = true;
    }

    /// Does something with the share on a thread that may block.
    pub(super) async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Places) -> io::Result<T> + Send + 'static,
    ) -> Result<T, Over> {
        let places = self.places.clone();
        Ok(blocking(move || work(&places)).await?)
    }

    pub(super) fn say(
        &self,
        of: Of,
        request: RequestId,
        bytes: Vec<u8>,
    ) -> impl Future<Output = Result<(), Over>> {
        let (nonce, name) = (self.nonce, of.name(request));
        self.on_disk(move |places| places.say(&nonce, &name, &bytes))
    }

    /// The key that the hello proved.
    pub(super) const fn hello(&self) -> &Hello {
        &self.hello
    }

    /// Whether another request in hand needs a program.
    pub(super) fn needs(&self, digest: &Digest) -> bool {
        self.hands.values().any(|held| held.payload.is_some_and(|payload| payload.digest == *digest))
    }

    pub(super) fn now(&self) -> Tick {
        Tick(u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    fn take(&mut self) -> Result<Guest, Over> {
        self.session.take().ok_or(Over::Closed)
    }

    async fn found_of(&mut self, request: RequestId, of: SeenOf) -> Result<(), Over> {
        self.progressed(request, &of.progress).await?;
        let Some(held) = self.hands.get_mut(&request) else { return Ok(()) };
        held.there =
            Offsets { stdout: of.stdout.min(held.output_max), stderr: of.stderr.min(held.output_max) };
        match of.ack {
            Some(bytes) if held.ack.is_none() && !held.is_told => self.acknowledged(request, &bytes),
            Some(_) | None => Ok(()),
        }
    }
}

/// Bytes that may wait for the manager's half before no more output is read.
const CLOGGED_LEN: usize = 256 * 1024;
