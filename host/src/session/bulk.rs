//! Bytes through a session: programs and input to the guest, output from it.
//!
//! Called by the session's drain, and before it waits. Everything is read from the disk and written to it in
//! pieces of at most one frame, so that its length costs no memory.

use super::stalled::Pending;
use super::{End, Hand, Session};
use doorbell_wire::ids::RequestId;
use doorbell_wire::message::action::Payload;
use doorbell_wire::message::{Output, Resize};
use doorbell_wire::session::host::Host;
use tokio::io::{AsyncRead, AsyncWrite};

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Session<S> {
    pub(super) fn begin_serving(&mut self, session: Host, request: RequestId) -> Result<Host, End> {
        match self.payload(request) {
            Some(_) => Ok(session),
            None => Err(End::Fault(format!("request {request} is served without a program"))),
        }
    }

    /// Makes one more chunk when the last one is on its way and the guest has given credit.
    pub(super) async fn fill(&mut self, session: Host) -> Result<Host, End> {
        let Some((request, offset, room)) = session.chunk_room().filter(|_| self.outbox.wants_bulk()) else {
            return Ok(session);
        };
        let Some(Payload { digest, len, .. }) = self.payload(request) else { return Ok(session) };
        let bytes = self.manager.programs.read(digest, offset, room).await;
        match bytes {
            Ok(bytes) if !bytes.is_empty() => {
                let session = session.chunk(request, bytes)?;
                Ok(self.drain(session).await?.0)
            }
            Ok(_) => Err(End::Fault(format!(
                "program {digest} of request {request} ends at {offset} where it has {len} bytes; upload it again"
            ))),
            Err(error) => {
                // Where it stays, the same offer would fail for ever; without it the request is not retrieved.
                self.manager.programs.set_aside(digest).await;
                Err(End::Fault(format!(
                    "program {digest} cannot be read and is set aside, upload it again: {error}"
                )))
            }
        }
    }

    pub(super) async fn spool(&mut self, session: Host, output: Output) -> Result<Host, End> {
        let Some(Hand::Request(held)) = self.hands.get(&output.request) else {
            // Nobody wants it: the credit goes back, and nothing is said to be stored.
            let Output { request, stream, offset, bytes } = output;
            let count = u32::try_from(bytes.len()).map_err(|_| End::Fault("a chunk is too long".into()))?;
            return Ok(session.spooled(request, stream, offset, count)?);
        };
        let (max, base) = (held.output_max, held.base.of(output.stream));
        self.keep_output(session, Pending { output, max, base }).await
    }

    /// Sends what there is of a request's input and what its program may get now, and the size of its terminal.
    pub(super) async fn feed(&mut self, mut session: Host, request: RequestId) -> Result<Host, End> {
        let Some(Hand::Request(held)) = self.hands.get_mut(&request).filter(|hand| reads(hand)) else {
            return Ok(session);
        };
        let window = self.manager.inputs.window(request).filter(|window| held.window != Some(*window));
        if let Some(window) = window.filter(|_| session.state_of(request) == Some("Applying")) {
            held.window = Some(window);
            session = session.resize(Resize { request, window })?;
        }
        while let Some((offset, room)) = session.input_room(request) {
            let bytes = self.manager.inputs.read(request, offset, room).await?;
            if bytes.is_empty() {
                let state = self.manager.inputs.state(request).await?;
                if state.ended && state.len == offset {
                    return Ok(session.input_end(request)?);
                }
                if state.len <= offset {
                    return Ok(session);
                }
            } else {
                session = session.input(request, bytes)?;
            }
        }
        Ok(session)
    }

    fn payload(&self, request: RequestId) -> Option<Payload> {
        match self.hands.get(&request) {
            Some(Hand::Request(held)) => held.payload,
            Some(Hand::Stranger | Hand::Query(_)) | None => None,
        }
    }
}

const fn reads(hand: &Hand) -> bool {
    matches!(hand, Hand::Request(held) if held.reads)
}
