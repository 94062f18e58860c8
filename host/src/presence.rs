//! Whether a guest is there, and what that makes of its requests: what is shown, as against what is stored.
//!
//! Asked by the API and by whoever tells of a change. Three things are laid over each other, and none is inferred from another:
//! the store's word (key, fence), the session's (connected, silent), and the hypervisor's (paused, off).

use crate::manager::Manager;
use crate::store::{GuestRow, RequestRow};
use crate::time::unix_ms;
use doorbell_api::guest::{PowerState, Presence};
use doorbell_api::request::{self as api, State};
use doorbell_wire::ids::GuestId;

impl Manager {
    /// Whether a guest is there.
    #[must_use]
    pub fn presence(&self, guest: &GuestRow) -> Presence {
        self.presence_with(guest, self.powers.of(guest.id).map(|power| power.state))
    }

    /// The same, if its machine were in this state.
    pub(crate) fn presence_with(&self, guest: &GuestRow, power: Option<PowerState>) -> Presence {
        if let Some(presence) = by_power(power) {
            return presence;
        }
        if let Some(bell) = self.registry.fastest(guest.id) {
            return if bell.is_silent() { Presence::Silent } else { Presence::Connected };
        }
        match (guest.copy.is_some(), guest.pending, guest.agent.is_some()) {
            (true, _, _) => Presence::Fenced,
            (false, true, _) => Presence::Pending,
            (false, false, true) if is_awaited(guest) => Presence::Polling,
            (false, false, true) => Presence::Gone,
            (false, false, false) => Presence::Never,
        }
    }

    /// What a session has seen of its guest, unless the hypervisor knows better.
    #[must_use]
    pub fn presence_or(&self, guest: GuestId, seen: Presence) -> Presence {
        by_power(self.powers.of(guest).map(|power| power.state)).unwrap_or(seen)
    }

    /// When a guest was last heard of.
    #[must_use]
    pub fn last_seen_ms(&self, guest: &GuestRow) -> Option<u64> {
        let heard = self.registry.fastest(guest.id).map(|bell| bell.heard_ms()).filter(|heard| *heard > 0);
        heard.max(guest.last_seen_ms)
    }

    /// Where a request stands, as it is shown: one that has not ended is held while its guest's machine does not run.
    /// What is stored stays, and is shown again when it does.
    #[must_use]
    pub fn shown_state(&self, request: &RequestRow) -> State {
        let is_with_guest = !request.state.is_final() && request.state != State::Unapproved;
        if is_with_guest && self.powers.held(request.guest_id).is_some() {
            return State::Held;
        }
        request.state
    }

    /// A request as it is shown, with `held` laid over where it stands.
    pub(crate) fn overlaid(&self, request: &RequestRow, mut shown: api::Request) -> api::Request {
        shown.state = self.shown_state(request);
        shown.held = Some(request.state).filter(|stored| *stored != shown.state);
        shown
    }
}

const fn by_power(power: Option<PowerState>) -> Option<Presence> {
    match power {
        Some(PowerState::Paused) => Some(Presence::Paused),
        Some(PowerState::Off) => Some(Presence::Off),
        Some(PowerState::Running | PowerState::Unknown) | None => None,
    }
}

/// Whether a guest that polls, and so has no session now, is still to come, or the time behind that.
fn is_awaited(guest: &GuestRow) -> bool {
    let every_ms = guest.agent.as_ref().and_then(|agent| agent.polls_every_ms);
    let patience = every_ms.map(|every| u64::from(every).saturating_mul(2).saturating_add(POLL_MARGIN_MS));
    let until = patience.zip(guest.last_seen_ms).map(|(patience, at)| at.saturating_add(patience));
    until.is_some_and(|until| unix_ms() <= until)
}

/// Milliseconds a guest may take to boot its connection beyond the time of its poll.
const POLL_MARGIN_MS: u64 = 10_000;
