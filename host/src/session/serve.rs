//! What a session does with each thing it owes: the stations from ring to receipt, one short step each.
//!
//! Called by the session's drain. Every step does its durable part before the session says anything about it.

use super::{End, Hand, Session};
use crate::judge::{Judgement, judge, random};
use crate::store::RequestRow;
use doorbell_api::event::Change;
use doorbell_api::guest::Presence;
use doorbell_api::request::State;
use doorbell_wire::error::Reason;
use doorbell_wire::ids::RequestId;
use doorbell_wire::message::outcome::Acknowledgement;
use doorbell_wire::message::{Hello, Offer, Offsets, Output, Progress, Stage, Welcome};
use doorbell_wire::session::host::Host;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tracing::{debug, info, warn};

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Session<S> {
    pub(super) async fn judge(&mut self, session: Host, hello: &Hello) -> Result<Host, End> {
        let judgement = judge(&self.manager, &self.guest, &self.met_at, &self.greeting, hello).await?;
        let token = match judgement {
            Judgement::Welcome(token) => token,
            Judgement::Refuse(reason, text) => {
                self.tell_refused(reason);
                return Err(End::Refused(reason, text));
            }
        };
        self.entry = None;
        self.entered = true;
        self.token = Some(token);
        if let Some(older) = self.manager.registry.enter(self.guest.id, Arc::clone(&self.bell)) {
            // What the older one still reads and stores would be taken for this one's.
            let ended = tokio::time::timeout(OLDER_MAX, older.ended()).await;
            ended.map_err(|_| End::Fault("an older session of this guest does not end".into()))?;
        }
        self.check_place().await?;
        self.manager.events.presence(&self.guest.name, Presence::Connected, None);
        info!(agent = %hello.claims.agent, boot_id = %hello.claims.boot_id, "session open");
        let welcome = Welcome { token, host_time_ms: crate::time::unix_ms() };
        Ok(session.welcome(welcome)?)
    }

    pub(super) async fn pulled(&mut self, session: Host) -> Result<Host, End> {
        self.confirm().await?;
        self.manager.events.tell(&self.guest.name, Change::Pulled);
        if let Some(query) = self.bell.take_query() {
            let offer = Offer {
                request: RequestId::new(random()?),
                sequence: None,
                action: query.action.clone(),
                timeout_ms: None,
                idempotent: true,
            };
            self.hand = Hand::Query(query);
            return Ok(session.offer(offer)?);
        }
        let next = self.manager.store.next_offer(self.guest.id).await?;
        next.moved.iter().for_each(|row| self.manager.events.request(row));
        let Some(offer) = next.offer else {
            self.hand = Hand::Empty;
            return Ok(session.nothing()?);
        };
        self.hand =
            Hand::Request { id: offer.request, program: offer.action.program().cloned(), fresh: true };
        Ok(session.offer(offer)?)
    }

    pub(super) async fn attach(&mut self, session: Host, request: RequestId) -> Result<Host, End> {
        self.confirm().await?;
        let known = self.manager.store.attach(self.guest.id, request).await?;
        let Some(row) = known else {
            warn!(%request, "the guest has a request in hand that this manager does not know; its outcome will be dropped");
            self.hand = Hand::Stranger;
            return Ok(session.attached(None)?);
        };
        self.hand = Hand::Request { id: request, program: None, fresh: false };
        let from = self.continue_output(&row).await?;
        let mut session = session.attached(from)?;
        if row.cancel_asked {
            session = session.cancel(request)?;
        }
        Ok(session)
    }

    pub(super) fn begin_serving(&mut self, session: Host, request: RequestId) -> Result<Host, End> {
        match &self.hand {
            Hand::Request { id, program: Some(_), .. } if *id == request => Ok(session),
            Hand::Request { .. } | Hand::Empty | Hand::Stranger | Hand::Query(_) => {
                Err(End::Fault(format!("request {request} is served without a program")))
            }
        }
    }

    /// Makes one more chunk when the last one is on its way and the guest has given credit.
    pub(super) async fn fill(&mut self, session: Host) -> Result<Host, End> {
        let Some((offset, room)) = session.chunk_room().filter(|_| self.outbox.wants_bulk()) else {
            return Ok(session);
        };
        let Hand::Request { id, program: Some(program), .. } = &self.hand else { return Ok(session) };
        let bytes = self.manager.programs.read(program.digest, offset, room).await;
        match bytes {
            Ok(bytes) if !bytes.is_empty() => {
                let session = session.chunk(bytes)?;
                Ok(self.drain(session).await?.0)
            }
            Ok(_) => Err(End::Fault(format!(
                "program {} of request {id} ends at {offset} where it has {} bytes; upload it again",
                program.digest, program.len
            ))),
            Err(error) => {
                // Where it stays, the same offer would fail for ever; without it the request is not retrieved.
                let digest = program.digest;
                self.manager.programs.set_aside(digest).await;
                Err(End::Fault(format!(
                    "program {digest} cannot be read and is set aside, upload it again: {error}"
                )))
            }
        }
    }

    pub(super) async fn progress(&mut self, session: Host, progress: Progress) -> Result<Host, End> {
        if let Hand::Request { id, fresh, .. } = self.hand {
            if fresh && progress.stage == Stage::Started {
                self.manager.outputs.forget(id).await?;
            }
            self.mark(id, progress.stage, Some(progress.at_ms)).await?;
        }
        Ok(session)
    }

    pub(super) async fn spool(&mut self, session: Host, output: Output) -> Result<Host, End> {
        let count =
            u32::try_from(output.bytes.len()).map_err(|_| End::Fault("a chunk is too long".into()))?;
        if let Hand::Request { id, .. } = self.hand {
            self.manager.outputs.append(id, output.stream, output.offset, output.bytes).await?;
            self.manager.events.output(id);
        }
        Ok(session.spooled(count)?)
    }

    pub(super) async fn store(&mut self, session: Host, ack: Acknowledgement) -> Result<Host, End> {
        match std::mem::take(&mut self.hand) {
            Hand::Request { id, .. } => self.store_receipt(id, ack).await?,
            Hand::Query(query) => {
                if query.answer.send(ack).is_err() {
                    debug!("nobody waits for the answer to this query any longer");
                }
            }
            Hand::Stranger | Hand::Empty => {
                warn!(request = %ack.request, "the outcome of an unknown request was dropped");
            }
        }
        Ok(session.noted()?)
    }

    /// An operator who moves or removes a guest ends the session that is entered: one that enters behind
    /// that has to see it by itself.
    async fn check_place(&mut self) -> Result<(), End> {
        let found = self.manager.store.guest_at(&self.guest.place).await?;
        if found.is_some_and(|found| found.id == self.guest.id) {
            return Ok(());
        }
        let text = format!("its guest was removed, or moved from {}", self.guest.place);
        Err(End::Refused(Reason::UNKNOWN_GUEST, text))
    }

    /// Where the output of a request that the guest still has in hand continues; `None` when its receipt is
    /// stored, for then it has all the output it will ever have.
    async fn continue_output(&mut self, row: &RequestRow) -> Result<Option<Offsets>, End> {
        if row.state.is_final() {
            return Ok(None);
        }
        if row.state != State::Started {
            // It has started, and this manager did not hear of it: what is on its disk was printed by a start
            // before that one.
            self.manager.outputs.forget(row.id).await?;
            self.mark(row.id, Stage::Started, None).await?;
        }
        let kept = self.manager.outputs.lens(row.id).await?;
        Ok(Some(Offsets { stdout: kept.stdout, stderr: kept.stderr }))
    }

    async fn mark(&mut self, id: RequestId, stage: Stage, at_ms: Option<u64>) -> Result<(), End> {
        if let Some(row) = self.manager.store.mark(self.guest.id, id, stage, at_ms).await? {
            self.manager.events.request(&row);
        }
        Ok(())
    }

    async fn store_receipt(&mut self, id: RequestId, ack: Acknowledgement) -> Result<(), End> {
        let kept = self.manager.outputs.sync(id).await?;
        match self.manager.store.store_receipt(self.guest.id, ack, kept).await? {
            Some(row) => self.manager.events.request(&row),
            None => warn!(request = %id, "the outcome of an unknown request was dropped"),
        }
        Ok(())
    }

    /// The guest's first frame behind the welcome shows that it has the token on disk.
    async fn confirm(&mut self) -> Result<(), End> {
        if let Some(token) = self.token.take() {
            self.manager.store.confirm(self.guest.id, token).await?;
        }
        Ok(())
    }

    fn tell_refused(&self, reason: Reason) {
        let presence = match reason {
            Reason::FENCED => Presence::Fenced,
            _ => Presence::Pending,
        };
        if self.manager.registry.bell(self.guest.id).is_none() {
            self.manager.events.presence(&self.guest.name, presence, None);
        }
    }
}

/// How long an older session may take for its last step, which is one of the store.
const OLDER_MAX: Duration = Duration::from_secs(5);
