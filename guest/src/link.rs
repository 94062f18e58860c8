//! One connection to the manager: bytes in, frames to the session, what it owes done, bytes out.
//!
//! Called by the event loop. Trusts nothing that comes in: every wait has a deadline, what is held for a peer
//! is bounded, and after the first wrong byte the connection is over. Works on any byte stream; the real one
//! is a vsock socket.

use crate::ended::Ended;
use crate::hand::Word;
use crate::lanes::Lanes;
use crate::pull::{Agent, Way};
use doorbell_wire::error::Reason;
use doorbell_wire::frame::Deframer;
use doorbell_wire::ids::Tick;
use doorbell_wire::limits::FRAME_MS_MAX;
use doorbell_wire::message::{FromGuest, FromHost, Kind};
use doorbell_wire::session::guest::{Guest, Owed};
use nix::poll::{PollFd, PollFlags};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use tracing::info;

/// A connection and its session.
#[derive(Debug)]
pub struct Link<S> {
    stream: S,
    way: Way,
    session: Option<Guest>,
    deframer: Deframer,
    lanes: Lanes,
    frame_since: Option<Tick>,
    wake: Tick,
    welcomed: bool,
    rung: bool,
}

impl<S: AsFd + Read + Write> Link<S> {
    /// A session on a non-blocking stream that has just been connected.
    #[must_use]
    pub fn new(stream: S, now: Tick) -> Self {
        Self::of(Way::Channel, stream, now)
    }

    /// The same, for requests of this way.
    #[must_use]
    pub fn of(way: Way, stream: S, now: Tick) -> Self {
        Self {
            stream,
            way,
            session: Some(Guest::connected(now)),
            deframer: Deframer::new(),
            lanes: Lanes::default(),
            frame_since: None,
            wake: now,
            welcomed: false,
            rung: false,
        }
    }

    /// Whether the manager has accepted this guest on this connection.
    #[must_use]
    pub const fn welcomed(&self) -> bool {
        self.welcomed
    }

    /// Whether the manager has rung since this was asked last; a welcome counts as a ring.
    pub const fn take_ring(&mut self) -> bool {
        std::mem::replace(&mut self.rung, false)
    }

    /// What the event loop has to watch.
    #[must_use]
    pub fn watched(&self) -> PollFd<'_> {
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::POLLIN, !self.lanes.is_clogged());
        flags.set(PollFlags::POLLOUT, !self.lanes.is_empty());
        PollFd::new(self.stream.as_fd(), flags)
    }

    /// When [`Link::turn`] has something to do even if nothing comes.
    #[must_use]
    pub fn due(&self) -> Tick {
        let frame = self.frame_since.map(|since| since.after(FRAME_MS_MAX));
        [frame, self.lanes.deadline()].into_iter().flatten().fold(self.wake, Tick::min)
    }

    /// One turn: what came in is worked off, what can go out goes out, deadlines are checked.
    ///
    /// # Errors
    /// [`Ended`]: close it.
    pub fn turn(&mut self, now: Tick, agent: &mut Agent) -> Result<(), Ended> {
        if agent.comes_back(self.way) {
            return Err(Ended::ComesBack);
        }
        let session = self.session.take().ok_or(Ended::Closed)?;
        let session = session.expire(now)?;
        let session = self.drain(session, now, agent)?;
        let session = self.read(session, now, agent)?;
        let session = self.write(session, now, agent)?;
        self.session = Some(session);
        self.check_deadlines(now)
    }

    /// Says goodbye as far as the socket takes it without waiting, and closes.
    pub fn close(mut self, now: Tick, reason: Option<Reason>) {
        let Some(reason) = reason else { return };
        if self.lanes.push(&FromGuest::GuestBye(reason)).is_ok() {
            // The peer may be gone or full; a goodbye is a courtesy.
            let _ = self.lanes.flush(&mut self.stream, now);
        }
    }

    /// A limit on what is read per turn leaves time for the program and the deadlines.
    fn read(&mut self, mut session: Guest, now: Tick, agent: &mut Agent) -> Result<Guest, Ended> {
        if self.lanes.is_clogged() {
            return Ok(session);
        }
        let mut buffer = [0; READ_LEN];
        let count = match self.stream.read(&mut buffer) {
            Ok(0) => return Err(Ended::Closed),
            Ok(count) => count,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                return Ok(session);
            }
            Err(source) => return Err(Ended::Io { verb: "read from", source }),
        };
        let mut bytes = buffer.get(..count).unwrap_or_default();
        while let Some(frame) = self.deframer.next(&mut bytes)? {
            self.frame_since = None;
            self.rung |= frame.kind == Kind::Ring;
            session = session.receive(now, FromHost::from_frame(&frame)?)?;
            session = self.drain(session, now, agent)?;
        }
        self.frame_since = self.deframer.is_mid_frame().then(|| self.frame_since.unwrap_or(now));
        Ok(session)
    }

    /// Writes until the socket takes no more or there is nothing more to say.
    fn write(&mut self, mut session: Guest, now: Tick, agent: &mut Agent) -> Result<Guest, Ended> {
        loop {
            session = self.send_work(session, now, agent)?;
            if self.lanes.is_empty() {
                return Ok(session);
            }
            self.lanes
                .flush(&mut self.stream, now)
                .map_err(|source| Ended::Io { verb: "write to", source })?;
            if !self.lanes.is_empty() {
                return Ok(session);
            }
        }
    }

    /// What the requests in hand have to say: stations, output while there is credit, acknowledgements.
    fn send_work(&mut self, mut session: Guest, now: Tick, agent: &mut Agent) -> Result<Guest, Ended> {
        while let Some(word) =
            agent.next_word(self.way, &session, self.lanes.has_bulk_room(), self.lanes.bulk_is_empty())
        {
            session = match word {
                Word::Started(progress) => session.progress(progress)?,
                Word::Output(output) => session.output(output)?,
                Word::InputTaken(request, bytes) => session.input_taken(request, bytes)?,
                Word::Acknowledge(acknowledgement) => session.acknowledge(*acknowledgement)?,
            };
            session = self.drain(session, now, agent)?;
        }
        Ok(session)
    }

    fn drain(&mut self, mut session: Guest, now: Tick, agent: &mut Agent) -> Result<Guest, Ended> {
        loop {
            session = match session.poll() {
                Owed::Wait(tick) => {
                    self.wake = tick;
                    return Ok(session);
                }
                Owed::Send(message) => {
                    self.lanes.push(&message)?;
                    session
                }
                owed @ (Owed::Introduce(_)
                | Owed::Welcomed(_)
                | Owed::Attached(..)
                | Owed::Offered(_)
                | Owed::Pushed(_)
                | Owed::Clock(_)
                | Owed::Stage(_)
                | Owed::Input(_)
                | Owed::InputEnd(_)
                | Owed::Resize(_)
                | Owed::Spooled(_)
                | Owed::Cancel(_)
                | Owed::Forget(_)) => {
                    let opens = matches!(owed, Owed::Welcomed(_));
                    let session = agent.owed(self.way, session, now, owed)?;
                    if opens {
                        info!(way = ?self.way, "connected");
                        self.welcomed = true;
                        // Whoever rang before there was a connection was not heard.
                        self.rung = true;
                    }
                    session
                }
            }
        }
    }

    fn check_deadlines(&self, now: Tick) -> Result<(), Ended> {
        if self.frame_since.is_some_and(|since| now >= since.after(FRAME_MS_MAX)) {
            return Err(Ended::HalfFrame);
        }
        if self.lanes.deadline().is_some_and(|deadline| now >= deadline) {
            return Err(Ended::Stuck);
        }
        Ok(())
    }
}

impl<S> Link<S> {
    /// Whether nothing waits on either side and nothing is in hand.
    pub(crate) fn is_idle(&self) -> bool {
        self.lanes.is_empty() && self.session.as_ref().is_some_and(Guest::is_idle)
    }
}

#[cfg(test)]
impl<S> Link<S> {
    pub(crate) fn is_working(&self) -> bool {
        self.session.as_ref().is_some_and(|session| session.state() == "Working")
    }
}

const READ_LEN: usize = 64 * 1024;

#[cfg(test)]
pub(crate) mod tests;
