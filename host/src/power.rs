//! Whether each guest's machine runs, by the word of its hypervisor.
//!
//! Written by one task for each guest with a QMP socket; read by sessions, which write nothing to a guest that
//! stands still and end with a machine that is gone, and by the API, which shows such a guest's requests
//! as held. Trusts the operator who named the socket. Whoever answers there speaks for that one guest only.

mod follow;
mod line;
mod qmp;
#[cfg(test)]
mod tests;

use crate::manager::Manager;
use crate::store::{GuestRow, RequestFilter, StoreError};
use crate::time::unix_ms;
use doorbell_api::guest::{self as api, PowerState};
use doorbell_wire::ids::{GuestId, GuestName};
use follow::Follower;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tracing::{info, warn};

/// What is known of one machine.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Power {
    /// Whether it runs.
    pub state: PowerState,
    /// In QEMU's own word, or why nothing is known.
    pub status: &'static str,
    /// Since when it is in this state.
    pub since_ms: u64,
    /// How often it was stopped: who looks seldom sees that it stood still in between.
    pub stops: u64,
    /// How often what ran in it was lost, by a reset or its end.
    pub downs: u64,
}

impl Power {
    fn unknown() -> Self {
        Self {
            state: PowerState::Unknown,
            status: "its QMP monitor has not answered yet",
            since_ms: unix_ms(),
            stops: 0,
            downs: 0,
        }
    }

    /// Whether the guest's requests are held.
    #[must_use]
    pub const fn holds(&self) -> bool {
        matches!(self.state, PowerState::Paused | PowerState::Off)
    }

    /// As the API shows it.
    #[must_use]
    pub fn to_api(&self) -> api::Power {
        api::Power { state: self.state, status: self.status.to_owned(), since_ms: self.since_ms }
    }

    fn after(mut self, said: Report, connected: bool, now_ms: u64) -> Self {
        let (state, status) = match said {
            Report::State(state, status) => (state, status),
            // An agent that is connected runs somewhere, whatever became of the socket.
            Report::Absent(status) if connected => (PowerState::Unknown, status),
            Report::Absent(status) => (PowerState::Off, status),
            Report::Lost(status) => (PowerState::Unknown, status),
            Report::Met if self.state == PowerState::Off => {
                (PowerState::Unknown, "its agent is here, and no QEMU at its QMP socket")
            }
            Report::Met => return self,
            Report::Reset => {
                self.downs = self.downs.saturating_add(1);
                return self;
            }
        };
        if state != self.state {
            self.since_ms = now_ms;
            self.stops = self.stops.saturating_add(u64::from(state == PowerState::Paused));
            self.downs = self.downs.saturating_add(u64::from(state == PowerState::Off));
        }
        Self { state, status, ..self }
    }
}

/// What is said of a machine.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Report {
    /// Its monitor says how it is.
    State(PowerState, &'static str),
    /// It was reset.
    Reset,
    /// Nobody is at its monitor's socket.
    Absent(&'static str),
    /// Its monitor cannot be followed.
    Lost(&'static str),
    /// Its agent has proved its key.
    Met,
}

/// What is known of all machines that have a monitor.
#[derive(Debug, Default)]
pub struct Powers {
    guests: Mutex<HashMap<GuestId, Followed>>,
}

#[derive(Debug)]
struct Followed {
    path: PathBuf,
    power: watch::Sender<Power>,
    task: AbortHandle,
}

impl Powers {
    /// What is known of a guest; `None` where it has no monitor.
    #[must_use]
    pub fn of(&self, guest: GuestId) -> Option<Power> {
        self.lock().get(&guest).map(|followed| *followed.power.borrow())
    }

    /// Follows what becomes known of a guest; `None` where it has no monitor.
    #[must_use]
    pub fn watch(&self, guest: GuestId) -> Option<watch::Receiver<Power>> {
        self.lock().get(&guest).map(|followed| followed.power.subscribe())
    }

    /// Why the requests of a guest are held, if they are.
    #[must_use]
    pub fn held(&self, guest: GuestId) -> Option<Power> {
        self.of(guest).filter(Power::holds)
    }

    /// Whether a guest could not have come back within a time: its machine stands still, or runs for no longer
    /// than that.
    #[must_use]
    pub fn excuses(&self, guest: GuestId, ms: u64) -> bool {
        self.of(guest).is_some_and(|power| match power.state {
            PowerState::Paused => true,
            PowerState::Running => unix_ms() < power.since_ms.saturating_add(ms),
            PowerState::Off | PowerState::Unknown => false,
        })
    }

    /// Stops following everybody.
    pub fn end(&self) {
        self.lock().drain().for_each(|(_, followed)| followed.task.abort());
    }

    #[cfg(test)]
    pub(crate) fn pretend(&self, guest: GuestId, state: PowerState) {
        self.lock().entry(guest).or_insert_with(|| Followed {
            path: PathBuf::new(),
            power: watch::channel(Power::unknown()).0,
            task: tokio::spawn(std::future::ready(())).abort_handle(),
        });
        self.change(guest, Report::State(state, word(state)), false);
    }

    #[cfg(test)]
    pub(crate) fn pretend_reset(&self, guest: GuestId) {
        self.change(guest, Report::Reset, false);
    }

    fn change(&self, guest: GuestId, said: Report, connected: bool) -> Option<(Power, Power)> {
        let guests = self.lock();
        let power = &guests.get(&guest)?.power;
        let before = *power.borrow();
        let after = before.after(said, connected, unix_ms());
        (before != after).then(|| {
            power.send_replace(after);
            (before, after)
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<GuestId, Followed>> {
        self.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The word for a state, as the API has it.
#[must_use]
pub const fn word(state: PowerState) -> &'static str {
    match state {
        PowerState::Unknown => "unknown",
        PowerState::Running => "running",
        PowerState::Paused => "paused",
        PowerState::Off => "off",
    }
}

/// Follows the monitors of all guests that have one.
///
/// # Errors
/// When the guests cannot be read.
pub async fn take_up(manager: &Arc<Manager>) -> Result<(), StoreError> {
    for guest in manager.store.guests().await? {
        follow(manager, &guest).await;
    }
    Ok(())
}

/// Follows the monitor that a guest has now; one that it had before is let go.
pub async fn follow(manager: &Arc<Manager>, guest: &GuestRow) {
    if let Some(before) = exchange(manager, guest) {
        told(tell(manager, &guest.name, before, Power::unknown()).await, &guest.name);
    }
}

/// Gives what was known by the monitor that was let go.
fn exchange(manager: &Arc<Manager>, guest: &GuestRow) -> Option<Power> {
    let mut guests = manager.powers.lock();
    if guests.get(&guest.id).map(|followed| &followed.path) == guest.qmp.as_ref() {
        return None;
    }
    let before = guests.remove(&guest.id);
    let known = before.as_ref().map(|before| {
        before.task.abort();
        let known = *before.power.borrow();
        before.power.send_replace(Power { stops: known.stops, downs: known.downs, ..Power::unknown() });
        known
    });
    let Some(path) = guest.qmp.clone() else { return known };
    let follower = Follower {
        manager: Arc::clone(manager),
        guest: guest.id,
        name: guest.name.clone(),
        path: path.clone(),
    };
    // Whoever watches the guest goes on with the same sender.
    let power = before.map_or_else(|| watch::channel(Power::unknown()).0, |before| before.power);
    let task = tokio::spawn(follower.run()).abort_handle();
    guests.insert(guest.id, Followed { path, power, task });
    known
}

/// Lets go of the monitor of a guest that was removed.
pub fn forget(manager: &Manager, guest: GuestId) {
    if let Some(followed) = manager.powers.lock().remove(&guest) {
        followed.task.abort();
    }
}

/// An agent has proved its key: its machine is not off, whatever is known.
pub async fn met(manager: &Manager, guest: GuestId, name: &GuestName) {
    report(manager, guest, name, Report::Met).await;
}

/// Takes what is said of a guest's machine, and tells whoever watches what that changes. Says whether it did.
async fn report(manager: &Manager, guest: GuestId, name: &GuestName, said: Report) -> bool {
    let connected = manager.registry.bell(guest).is_some();
    let Some((before, after)) = manager.powers.change(guest, said, connected) else { return false };
    info!(guest = %name, power = ?after.state, status = after.status, reset = (said == Report::Reset), "power");
    told(tell(manager, name, before, after).await, name);
    true
}

fn told(result: Result<(), StoreError>, name: &GuestName) {
    if let Err(error) = result {
        warn!(guest = %name, error = error.whole(), "what its power changes could not be told");
    }
}

async fn tell(manager: &Manager, name: &GuestName, before: Power, after: Power) -> Result<(), StoreError> {
    if before.state == after.state {
        return Ok(());
    }
    let guest = manager.store.guest(name).await?;
    let was = manager.presence_with(&guest, Some(before.state));
    let is = manager.presence_with(&guest, Some(after.state));
    if was != is {
        manager.events.presence(name, is, Some(after.status.to_owned()));
    }
    if before.holds() != after.holds() {
        let open = RequestFilter { guest: Some(name.clone()), open: true, limit: TOLD_MAX };
        for row in manager.store.requests(open).await?.0.iter().rev() {
            manager.events.request(row, manager.shown_state(row));
        }
    }
    Ok(())
}

/// Open requests of a guest that are told of when they are held, and when they are not any longer.
const TOLD_MAX: u32 = 1000;
