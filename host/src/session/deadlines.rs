//! How long a session waits for a frame to be whole and for its peer to read.
//!
//! Asked by the session's loop. Of a guest that stands still nothing is awaited.

use super::Session;
use doorbell_wire::error::{SessionError, Silent};
use doorbell_wire::ids::Tick;
use doorbell_wire::limits::{FRAME_MS_MAX, WRITE_MS_MAX};
use tokio::io::{AsyncRead, AsyncWrite};

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Session<S> {
    pub(super) fn frame_deadline(&self) -> Option<Tick> {
        self.frame_since.filter(|_| !self.standing.is_still()).map(|since| since.after(FRAME_MS_MAX))
    }

    pub(super) fn write_deadline(&self) -> Option<Tick> {
        self.write_since.map(|since| since.after(WRITE_MS_MAX))
    }

    pub(super) fn check_own_deadlines(&self) -> Result<(), SessionError> {
        let now = self.now();
        if self.frame_deadline().is_some_and(|deadline| now >= deadline) {
            return Err(Silent { state: "a frame is unfinished", ms: FRAME_MS_MAX }.into());
        }
        if self.write_deadline().is_some_and(|deadline| now >= deadline) {
            return Err(Silent { state: "it does not read", ms: WRITE_MS_MAX }.into());
        }
        Ok(())
    }
}
