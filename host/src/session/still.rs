//! A guest that stands still, and one whose machine is gone: what the hypervisor says, as it concerns a session.
//!
//! Called by the session's loop. To a guest that stands still nothing is written, not even a goodbye: who carries the bytes
//! may not survive it. What it had said before is read, and so are the last words of a machine that is gone.

use super::{End, READ_LEN, Session};
use crate::power::Power;
use doorbell_api::guest::PowerState;
use doorbell_wire::ids::Tick;
use doorbell_wire::session::host::Host;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::sync::watch;
use tracing::info;

/// What a session knows of its guest's machine.
#[derive(Debug, Default)]
pub(super) struct Standing {
    power: Option<watch::Receiver<Power>>,
    seen: Option<Power>,
    since: Option<Tick>,
}

impl Standing {
    /// Whether the guest stands still.
    pub(super) const fn is_still(&self) -> bool {
        self.since.is_some()
    }

    /// Waits until there is something new; for ever where nobody says anything.
    pub(super) async fn changed(&mut self) {
        let lost = match &mut self.power {
            Some(power) => power.changed().await.is_err(),
            None => std::future::pending().await,
        };
        if lost {
            // Its monitor was let go of; what is known of it last stays to be taken.
            self.power = None;
            self.seen = None;
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Session<S> {
    /// Begins to follow the guest's machine, if somebody says something of it.
    pub(super) fn stand(&mut self, session: Host) -> Host {
        if self.standing.power.is_some() {
            return session;
        }
        let Some(mut power) = self.manager.powers.watch(self.guest.id) else { return session };
        let now = *power.borrow_and_update();
        self.standing.power = Some(power);
        self.standing.seen = Some(now);
        if now.state == PowerState::Paused { self.suspend(session) } else { session }
    }

    /// Takes what was said of the guest's machine.
    pub(super) async fn power_changed(&mut self, session: Host) -> Result<Host, End> {
        let now = self.standing.power.as_mut().map(|power| *power.borrow_and_update());
        let before = std::mem::replace(&mut self.standing.seen, now);
        let (Some(before), Some(now)) = (before, now) else { return self.resume(session) };
        if now.downs != before.downs {
            let text = if now.state == PowerState::Off { now.status } else { "its machine was reset" };
            self.last_words(session).await?;
            return Err(End::Down(text));
        }
        match (now.state == PowerState::Paused, self.standing.is_still()) {
            (true, false) => Ok(self.suspend(session)),
            (false, true) => self.resume(session),
            // It stood still and goes on, all since the last look.
            (false, false) if now.stops != before.stops => {
                let session = self.suspend(session);
                self.resume(session)
            }
            (true, true) | (false, false) => Ok(session),
        }
    }

    fn suspend(&mut self, session: Host) -> Host {
        let now = self.now();
        info!("the guest stands still: nothing is written to it");
        self.standing.since = Some(now);
        self.write_since = None;
        session.suspend(now)
    }

    fn resume(&mut self, session: Host) -> Result<Host, End> {
        let Some(since) = self.standing.since.take() else { return Ok(session) };
        let now = self.now();
        info!(stood_ms = since.until(now), "the guest goes on");
        self.frame_since = self.frame_since.map(|frame| frame.after(since.until(now)));
        self.heard = now;
        // What was rung for meanwhile is on the desk.
        self.bell.wake();
        Ok(session.resume(now))
    }

    /// What the guest said before its machine was gone, as far as it comes by itself.
    async fn last_words(&mut self, mut session: Host) -> Result<(), End> {
        let mut buffer = vec![0; READ_LEN];
        let all = async {
            while let Ok(Ok(count)) = tokio::time::timeout(QUIET, self.reader.read(&mut buffer)).await {
                if count == 0 {
                    return Ok(());
                }
                session = self.receive(session, buffer.get(..count).unwrap_or_default()).await?;
            }
            Ok(())
        };
        tokio::time::timeout(LAST_WORDS_MAX, all).await.unwrap_or(Ok(()))
    }
}

/// Bytes that are here already are read at once; those of a back end that passes them on, soon after.
const QUIET: Duration = Duration::from_millis(50);
const LAST_WORDS_MAX: Duration = Duration::from_secs(1);
