//! What the manager's disk would not take, kept until it does: a guest is not sent away for it.
//!
//! Filled by the session's steps, emptied before it waits, in the order in which things hang on each other. Bounded
//! by what the guest may say without an answer: output by its credit, all else by its hands. A session that ends
//! takes it along, and its guest, which has had no answer, says it all again.

use super::receipt::Unstored;
use super::{End, Session};
use crate::trouble::OUTPUT;
use doorbell_wire::ids::{RequestId, Tick};
use doorbell_wire::message::{Attach, Output, Stage, Stream};
use doorbell_wire::session::host::Host;
use std::collections::BTreeMap;
use tokio::io::{AsyncRead, AsyncWrite};

/// All of it.
#[derive(Debug, Default)]
pub(super) struct Stalled {
    attaches: Vec<Attach>,
    marks: Vec<Mark>,
    output: BTreeMap<(RequestId, u8), Pending>,
    receipts: Vec<Unstored>,
    pull: bool,
    try_at: Option<Tick>,
    delay_ms: u64,
}

/// A station that is not in the store yet.
#[derive(Debug)]
pub(super) struct Mark {
    pub(super) request: RequestId,
    pub(super) stage: Stage,
    pub(super) stamps: Vec<crate::trace::Stamp>,
    /// Whether what an earlier start printed goes with it.
    pub(super) anew: bool,
}

/// The bytes of a stream that came and are not on the disk, in one piece.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) output: Output,
    pub(super) max: u64,
    /// Bytes of the steps before this one, which it stands behind.
    pub(super) base: u64,
}

impl Stalled {
    /// When it is tried again.
    pub(super) const fn due(&self) -> Option<Tick> {
        self.try_at
    }

    /// Whether something of a request waits that everything later of it has to wait behind.
    pub(super) fn holds(&self, request: RequestId) -> bool {
        self.holds_mark(request) || self.output.keys().any(|(of, _)| *of == request)
    }

    /// The same for a station: on one connection none comes behind output, which waits for it.
    fn holds_mark(&self, request: RequestId) -> bool {
        self.marks.iter().any(|mark| mark.request == request)
    }

    pub(super) fn add_attach(&mut self, attach: Attach) {
        self.attaches.push(attach);
    }

    pub(super) fn add_mark(&mut self, mark: Mark) {
        self.marks.push(mark);
    }

    pub(super) fn add_receipt(&mut self, unstored: Unstored) {
        self.receipts.push(unstored);
    }

    pub(super) const fn add_pull(&mut self) {
        self.pull = true;
    }

    /// Output of one stream comes without gaps, so one piece of each waits, however many frames it came in.
    pub(super) fn add_output(&mut self, pending: Pending) {
        let Pending { output, .. } = &pending;
        let key = (output.request, u8::from(output.stream == Stream::Stderr));
        match self.output.get_mut(&key) {
            Some(before) => before.output.bytes.extend_from_slice(&output.bytes),
            None => drop(self.output.insert(key, pending)),
        }
    }

    fn refused(&mut self, now: Tick) {
        self.delay_ms = self.delay_ms.saturating_mul(2).clamp(DELAY_MS_MIN, DELAY_MS_MAX);
        self.try_at = Some(now.after(self.delay_ms));
    }

    fn is_empty(&self) -> bool {
        let small = self.attaches.is_empty() && self.marks.is_empty() && !self.pull;
        small && self.output.is_empty() && self.receipts.is_empty()
    }
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Session<S> {
    /// A step that the disk alone refused gives `None`: it is to be added to what is stalled.
    pub(super) fn or_later<T>(&mut self, step: Result<T, End>) -> Result<Option<T>, End> {
        match step {
            Err(End::Store(error)) if error.is_of_disk() => {
                tracing::debug!(error = error.whole(), "the disk would not; it is tried again");
                self.stalled.refused(self.now());
                Ok(None)
            }
            step => step.map(Some),
        }
    }

    /// Tries again what is due.
    pub(super) async fn retry(&mut self, mut session: Host) -> Result<Host, End> {
        if self.stalled.try_at.is_none_or(|at| self.now() < at) {
            return Ok(session);
        }
        self.stalled.try_at = None;
        for attach in std::mem::take(&mut self.stalled.attaches) {
            session = self.attach(session, attach).await?;
        }
        for mark in std::mem::take(&mut self.stalled.marks) {
            self.keep_mark(mark).await?;
        }
        for pending in std::mem::take(&mut self.stalled.output).into_values() {
            session = self.keep_output(session, pending).await?;
        }
        for unstored in std::mem::take(&mut self.stalled.receipts) {
            self.store_when_due(unstored);
        }
        if std::mem::take(&mut self.stalled.pull) {
            session = self.ring(session)?;
        }
        if self.stalled.is_empty() {
            self.stalled = Stalled::default();
        } else if self.stalled.try_at.is_none() {
            self.stalled.refused(self.now());
        }
        Ok(session)
    }

    /// Writes a station, unless an earlier one of its request waits.
    pub(super) async fn keep_mark(&mut self, mark: Mark) -> Result<(), End> {
        if self.stalled.holds_mark(mark.request) {
            self.stalled.add_mark(mark);
            return Ok(());
        }
        let kept = self.write_mark(&mark).await;
        if self.or_later(kept)?.is_none() {
            self.stalled.add_mark(mark);
        }
        Ok(())
    }

    async fn write_mark(&mut self, mark: &Mark) -> Result<(), End> {
        if mark.anew {
            self.manager.outputs.forget(mark.request).await?;
        }
        self.mark(mark.request, mark.stage, mark.stamps.clone()).await
    }

    /// Puts output where it belongs, unless something of its request waits. Its credit goes back when it is there:
    /// until then its program waits as on any pipe.
    pub(super) async fn keep_output(&mut self, session: Host, pending: Pending) -> Result<Host, End> {
        let Output { request, stream, offset, .. } = pending.output;
        if self.stalled.holds(request) {
            self.stalled.add_output(pending);
            return Ok(session);
        }
        let bytes = pending.output.bytes.clone();
        let count = u32::try_from(bytes.len()).map_err(|_| End::Fault("output is too long".into()))?;
        let at = offset.saturating_add(pending.base);
        let appended = self.manager.outputs.append(request, stream, at, bytes, pending.max).await;
        if let Err(error) = &appended
            && error.is_of_disk()
        {
            self.manager.store.trouble().met(OUTPUT, &error.to_string());
        }
        if self.or_later(appended.map_err(End::from))?.is_none() {
            self.stalled.add_output(pending);
            return Ok(session);
        }
        self.manager.store.trouble().over(OUTPUT);
        self.manager.events.output(request);
        Ok(session.spooled(request, stream, offset.saturating_add(u64::from(count)), count)?)
    }
}

/// Milliseconds to the first try, and between two at most.
const DELAY_MS_MIN: u64 = 200;
const DELAY_MS_MAX: u64 = 5_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_waits_behind_a_station_and_no_station_behind_output() {
        let request = RequestId::new([5; 16]);
        let mut stalled = Stalled::default();
        let output = Output { request, stream: Stream::Stdout, offset: 0, bytes: b"x".to_vec() };
        stalled.add_output(Pending { output, max: 1, base: 0 });
        assert_eq!((stalled.holds_mark(request), stalled.holds(request)), (false, true));
        stalled.add_mark(Mark { request, stage: Stage::Started, stamps: Vec::new(), anew: true });
        assert_eq!((stalled.holds_mark(request), stalled.holds(request)), (true, true));
    }
}
