//! What the last welcome of one way gave, and where it is kept.
//!
//! Used by the identity. Each way has a token of its own: a hello that waits in a shared directory must not be made
//! stale by a connection that is faster.

use crate::clock::now;
use crate::hand::Way;
use crate::state::{StateError, io_at, overwrite, replace};
use doorbell_wire::ids::{SessionToken, Tick};
use std::io;
use std::path::PathBuf;
use tracing::{info, warn};

/// A token and its file.
pub(super) struct Token {
    pub(super) way: Way,
    pub(super) token: Option<SessionToken>,
    path: PathBuf,
    /// When one that the disk did not take is tried again.
    unsaved: Option<Tick>,
}

impl Token {
    /// None yet.
    pub(super) const fn none(way: Way, path: PathBuf) -> Self {
        Self { way, token: None, path, unsaved: None }
    }

    pub(super) fn read(way: Way, path: PathBuf) -> Result<Self, StateError> {
        let token = match std::fs::read(&path) {
            Ok(bytes) => {
                let token = SessionToken::try_from(bytes.as_slice()).ok();
                if token.is_none() {
                    warn!(path = %path.display(), bytes = bytes.len(), "the session token is damaged; the manager will fence this guest");
                }
                token
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => io_at("read", &path, Err(error))?,
        };
        Ok(Self { token, ..Self::none(way, path) })
    }

    /// Keeps it. Until it can be put on disk it holds for this run of the agent.
    pub(super) fn keep(&mut self, token: SessionToken) {
        self.token = Some(token);
        self.unsaved = None;
        if let Err(error) = self.save(token) {
            let path = self.path.display();
            warn!(%path, %error, "the session token is not on disk; until it is, a restart of the agent will be fenced");
            self.unsaved = Some(now().after(TRY_MS));
        }
    }

    /// Tries once in a while to save one that the disk did not take.
    pub(super) fn tend(&mut self, now: Tick) {
        let Some(token) = self.token.filter(|_| self.unsaved.is_some_and(|at| now >= at)) else { return };
        let saved = self.save(token).is_ok();
        self.unsaved = (!saved).then(|| now.after(TRY_MS));
        if saved {
            info!("the session token is on disk");
        }
    }

    /// On a full disk it takes the place of the last one: an agent that is killed there must not be fenced.
    fn save(&self, token: SessionToken) -> io::Result<()> {
        let bytes = token.as_bytes();
        replace(&self.path, bytes).or_else(|error| overwrite(&self.path, bytes).map_err(|_| error))
    }
}

/// Milliseconds between two tries to save a token.
const TRY_MS: u64 = 5_000;
