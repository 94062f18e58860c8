//! How a session opens: who this guest is, and whether the manager is the one that it pins.
//!
//! Called by `pull` for the channel and by `share` for the shared directory. Where a key is pinned, nothing that comes before its proof is
//! kept or acted on.

use super::{Agent, Way};
use crate::clock;
use crate::ended::Ended;
use crate::identity::pin::Pin;
use crate::identity::{About, ProofError};
use doorbell_wire::error::SessionError;
use doorbell_wire::handshake::choose_version;
use doorbell_wire::ids::ShortText;
use doorbell_wire::message::{Claims, Greeting, Hello, Welcome};
use doorbell_wire::session::guest::Guest;

impl Agent {
    /// From now on only the manager with this key is served; any that answers where there is none.
    pub fn pin(&mut self, pin: Option<Pin>) {
        self.pin = pin;
    }

    pub(super) fn introduce(&mut self, way: Way, session: Guest, greeting: Greeting) -> Result<Guest, Ended> {
        let hello = self.hello(way, &greeting)?;
        if way == Way::Channel {
            self.opening = Some((greeting, hello.claims.clone()));
        }
        Ok(session.introduce(hello)?)
    }

    pub(crate) fn hello(&self, way: Way, greeting: &Greeting) -> Result<Hello, Ended> {
        let version = choose_version(greeting).map_err(SessionError::from)?;
        let agent = ShortText::try_from(env!("CARGO_PKG_VERSION").to_owned());
        let about = About {
            version,
            capabilities: self.capabilities().of_version(version),
            agent: agent.map_err(ProofError::Version)?,
            sequence_max: self.journal.history().sequence_max(),
            clock_us: clock::now_us(),
        };
        Ok(self.identity.hello(way, greeting, about)?)
    }

    /// What is said over the socket pair of a share was checked when its welcome was found there.
    pub(super) fn check_manager(&mut self, way: Way, welcome: &Welcome) -> Result<(), Ended> {
        let opening = self.opening.take().filter(|_| way == Way::Channel);
        let Some((greeting, claims)) = opening else { return Ok(()) };
        self.check_proof(&greeting, &claims, welcome)
    }

    /// Whether a welcome is of the manager that is pinned.
    pub(crate) fn check_proof(
        &self,
        greeting: &Greeting,
        claims: &Claims,
        welcome: &Welcome,
    ) -> Result<(), Ended> {
        let checked = self.pin.as_ref().map_or(Ok(()), |pin| pin.check(greeting, claims, welcome));
        checked.map_err(Ended::NotTheManager)
    }
}
