//! One look into the directory of a session: what is new there is told to the desk.
//!
//! Called on the timer, and at once when the manager rang. The answer to the hello lies there as long as the session
//! lasts; the beat is what the agent wrote last, or somebody else writes these receipts too.

use super::Fault;
use super::desk::Desk;
use super::files::{names, place, read, remove};
use doorbell_wire::ids::{RequestId, Tick};
use doorbell_wire::limits::BEAT_MS;
use doorbell_wire::message::{FromGuest, FromHost};
use doorbell_wire::session::host::Host;
use doorbell_wire::share::{BEAT, Of, one_frame, read_prompt, whole_frames};

impl Desk {
    /// Looks.
    pub(super) fn look(&mut self, now: Tick) -> Result<(), Fault> {
        let answer = self.files.files.answer(&self.files.nonce)?;
        let Some((FromHost::Welcome(_), names)) = answer.zip(names(&self.files.from)?) else {
            return Err(Fault::Over);
        };
        self.beat(now)?;
        self.with(|desk, mut host| {
            for name in &names {
                host = desk.found(host, name, now)?;
                host = desk.send(host)?;
            }
            if desk.waiting.is_empty() || !host.is_open() { Ok(host) } else { Ok(host.ring()?) }
        })?;
        // Once the manager has taken its last word back, it may offer the request again: its next step.
        self.settled.retain(|settled| names.contains(&Of::Noted.name(*settled)));
        Ok(())
    }

    fn found(&mut self, host: Host, name: &str, now: Tick) -> Result<Host, Fault> {
        if let Some((sequence, request)) = read_prompt(name) {
            let is_known = host.state_of(request).is_some()
                || self.settled.contains(&request)
                || self.bad.contains(&(sequence, request));
            if !is_known && self.waiting.insert((sequence, request)) {
                self.moved = now;
            }
            return Ok(host);
        }
        let Some((of, request)) = Of::read(name) else { return Ok(host) };
        match (of, host.state_of(request)) {
            (Of::Attached, Some("Attaching")) => match self.message(of, request)? {
                Some(FromHost::Attached(attached)) => self.attached(host, attached),
                _ => Ok(host),
            },
            (Of::Cancel, Some(_)) => {
                let is_new = self
                    .hands
                    .get_mut(&request)
                    .is_some_and(|held| !std::mem::replace(&mut held.cancelled, true));
                if is_new { Ok(host.cancel(request)?) } else { Ok(host) }
            }
            (Of::Noted, Some("Storing")) => {
                self.hands.remove(&request);
                self.settled.insert(request);
                self.moved = now;
                for of in [Of::Progress, Of::Stdout, Of::Stderr, Of::Ack] {
                    remove(&self.files.to.join(of.name(request)))?;
                }
                Ok(host.noted(request)?)
            }
            (Of::Stored, Some(_)) => {
                self.read_stored(request)?;
                Ok(host)
            }
            _ => Ok(host),
        }
    }

    fn message(&self, of: Of, request: RequestId) -> Result<Option<FromHost>, Fault> {
        let Some(bytes) = read(&self.files.from.join(of.name(request)))? else { return Ok(None) };
        Ok(Some(FromHost::from_frame(&one_frame("an answer", &bytes)?)?))
    }

    fn read_stored(&mut self, request: RequestId) -> Result<(), Fault> {
        let Some(bytes) = read(&self.files.from.join(Of::Stored.name(request)))? else { return Ok(()) };
        for frame in whole_frames(&bytes)?.0 {
            if let FromHost::OutputCredit(spooled) = FromHost::from_frame(&frame)? {
                self.stored(spooled);
            }
        }
        Ok(())
    }

    /// Writes the beat when it is time, if what is there is what was written last.
    fn beat(&mut self, now: Tick) -> Result<(), Fault> {
        let path = self.files.to.join(BEAT);
        let number = match &self.beat {
            Some((written, number, at)) => {
                if read(&path)?.as_ref() != Some(written) {
                    return Err(Fault::Copied);
                }
                if at.until(now) < BEAT_MS {
                    return Ok(());
                }
                *number
            }
            None => 0,
        };
        // A step by chance: two copies of one guest do not write the same.
        let step = u64::from(getrandom::u32().unwrap_or(0) >> 8).saturating_add(1);
        let number = number.saturating_add(step);
        let mut bytes = Vec::new();
        FromGuest::Pong(number).to_frame()?.write(&mut bytes)?;
        place(&path, &bytes)?;
        self.beat = Some((bytes, number, now));
        Ok(())
    }
}
