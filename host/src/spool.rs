//! The spool: what is put into a guest's inbox, a directory of this host, becomes a request by its mere presence, and
//! its receipt appears in the outbox beside it.
//!
//! Run by the daemon beside the API; both lead to the same acceptance. Whoever may write into an inbox may ask for
//! anything in that guest, and in no other. Trusts no file there, no name, and not that the kernel tells of all: what
//! inotify says is only a reason to look, and a slow timer looks at everything.
//!
//! - `place` the directories · `names` what a name means · `watch` inotify · `entry` one file, looked at
//! - `intake` a pass over an inbox · `ask` from bytes to a request · `desk` moves out of an inbox
//! - `outbox` what is put there · `deliver` receipts

mod ask;
mod deliver;
mod desk;
mod entry;
mod intake;
mod names;
mod outbox;
mod place;
#[cfg(test)]
mod tests;
mod watch;

pub use place::Spool;

use crate::events::Owned;
use crate::manager::Manager;
use crate::store::{GuestRow, StoreError};
use doorbell_api::event::{Change, Event};
use doorbell_wire::ids::{GuestId, GuestName};
use intake::{Inbox, Owner, Trouble};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch::Receiver;
use tokio::time::{Instant, sleep_until};
use tracing::warn;
use watch::{Heard, Watch};

impl Spool {
    /// Makes the directories of a guest.
    ///
    /// # Errors
    /// When they cannot be made, or others than root and the manager's user may write where they are.
    pub async fn make(manager: &Manager, guest: &GuestRow) -> io::Result<()> {
        let Some(spool) = manager.spool.clone() else { return Ok(()) };
        let (name, id) = (guest.name.clone(), guest.id);
        crate::disk::blocking(move || spool.rooms(&name, id).map(drop)).await
    }
}

/// Takes what is put into inboxes, until the manager stops.
pub async fn serve(manager: Arc<Manager>, mut stopped: Receiver<bool>) {
    let watch = manager.spool.is_some().then(Watch::new);
    let (Some(spool), Some(watch)) = (manager.spool.clone(), watch) else {
        let _ = stopped.changed().await;
        return;
    };
    let watch = watch.inspect_err(
        |error| warn!(%error, "the spool is looked at by a timer only: the kernel gives no inotify"),
    );
    let mut changes = manager.events.subscribe();
    let mut task = Task {
        manager,
        spool,
        watch: watch.ok(),
        guests: BTreeMap::new(),
        due: BTreeSet::new(),
        unsettled: BTreeSet::new(),
        all_at: Instant::now(),
        look_at: Instant::now(),
    };
    loop {
        tokio::select! {
            _ = stopped.changed() => return,
            woken = task.woken(&mut changes) => task.note(woken),
        }
        task.turn().await;
    }
}

struct Task {
    manager: Arc<Manager>,
    spool: Spool,
    watch: Option<Watch>,
    guests: BTreeMap<GuestId, Served>,
    /// Whose inbox and outbox are to be looked at.
    due: BTreeSet<GuestId>,
    /// Who has files that are to lie a little longer.
    unsettled: BTreeSet<GuestId>,
    all_at: Instant,
    look_at: Instant,
}

/// A guest whose spool is served.
struct Served {
    name: GuestName,
    inbox: Inbox,
    /// What is wrong; told of once.
    told: Option<Trouble>,
}

/// Why the task goes on.
enum Woken {
    Heard(Vec<Heard>),
    Change(Event),
    /// Something was missed, or it is time.
    All,
    Unsettled,
    Due,
}

impl Task {
    async fn woken(&mut self, changes: &mut broadcast::Receiver<Owned>) -> Woken {
        let heard = async {
            match &mut self.watch {
                Some(watch) => watch.heard().await,
                None => std::future::pending().await,
            }
        };
        let settles = async {
            if self.unsettled.is_empty() {
                std::future::pending().await
            } else {
                sleep_until(self.look_at).await
            }
        };
        let due = async {
            if self.due.is_empty() { std::future::pending().await } else { tokio::task::yield_now().await }
        };
        tokio::select! {
            heard = heard => heard.map_or_else(|error| {
                warn!(%error, "inotify cannot be read; the spool is looked at by a timer");
                Woken::All
            }, Woken::Heard),
            change = changes.recv() => match change {
                Ok(Owned { event, .. }) => Woken::Change(event),
                Err(RecvError::Lagged(_) | RecvError::Closed) => Woken::All,
            },
            () = sleep_until(self.all_at) => Woken::All,
            () = settles => Woken::Unsettled,
            () = due => Woken::Due,
        }
    }

    fn note(&mut self, woken: Woken) {
        match woken {
            Woken::Heard(heard) => heard.into_iter().for_each(|heard| self.hear(heard)),
            Woken::Change(Event { guest, change, .. }) => match change {
                Change::Request { state, .. } if state.is_final() => {
                    self.due.extend(
                        self.guests
                            .iter()
                            .filter(|(_, served)| served.name.as_str() == guest)
                            .map(|(id, _)| *id),
                    );
                }
                Change::Added | Change::Removed => self.all_at = Instant::now(),
                Change::Presence { .. }
                | Change::Rung
                | Change::Pulled
                | Change::Request { .. }
                | Change::Missed { .. } => {}
            },
            Woken::All => self.all_at = Instant::now(),
            Woken::Unsettled => self.due.append(&mut self.unsettled),
            Woken::Due => {}
        }
    }

    fn hear(&mut self, heard: Heard) {
        match heard {
            Heard::Stirred(guest) => drop(self.due.insert(guest)),
            Heard::MovedIn(guest, name) => {
                self.due.insert(guest);
                if let Some(served) = self.guests.get_mut(&guest)
                    && served.inbox.moved.len() < MOVED_MAX
                {
                    served.inbox.moved.insert(name);
                }
            }
            Heard::Missed => self.all_at = Instant::now(),
        }
    }

    /// Looks at all guests where that is due, else at one.
    async fn turn(&mut self) {
        if self.all_at <= Instant::now() {
            self.all_at = Instant::now() + ALL_EVERY;
            if let Err(error) = self.refresh().await {
                warn!(error = error.whole(), "the guests of the spool cannot be read");
            }
        }
        let Some(id) = self.due.pop_first() else { return };
        let Some(mut served) = self.guests.remove(&id) else { return };
        let done = self.look(id, &mut served).await;
        if let Err(trouble) = &done
            && served.told.as_ref() != Some(trouble)
        {
            warn!(guest = %served.name, trouble, "the spool of a guest waits");
        }
        served.told = done.err();
        self.guests.insert(id, served);
    }

    /// One turn of one guest. What is wrong with its outbox keeps nothing out of it that fits, and the other way
    /// round.
    async fn look(&mut self, id: GuestId, served: &mut Served) -> Result<(), Trouble> {
        let owner = self.open(id, &served.name).await?;
        if let Some(watch) = &mut self.watch
            && let Err(error) = watch.add(&self.spool.home(&served.name), id)
        {
            warn!(guest = %served.name, %error, "a spool is looked at by a timer only: raise fs.inotify.max_user_watches");
        }
        let delivered = deliver::pass(&self.manager, &owner).await;
        let taken = intake::pass(&self.manager, &owner, &mut served.inbox).await;
        if matches!(delivered, Ok(true)) || matches!(taken, Ok(pass) if pass.more) {
            self.due.insert(id);
        }
        if matches!(taken, Ok(pass) if pass.unsettled) {
            if self.unsettled.is_empty() {
                self.look_at = Instant::now() + LOOK_AGAIN;
            }
            self.unsettled.insert(id);
        }
        taken?;
        delivered.map(drop)
    }

    /// Every guest is due; those that are new are served from now on, and of those that are gone the rest is put out.
    async fn refresh(&mut self) -> Result<(), StoreError> {
        let rows = self.manager.store.guests().await?;
        self.guests.retain(|id, _| rows.iter().any(|row| row.id == *id));
        for row in rows {
            self.due.insert(row.id);
            let fresh = || Served { name: row.name, inbox: Inbox::default(), told: None };
            self.guests.entry(row.id).or_insert_with(fresh);
        }
        let spool = self.spool.clone();
        let homes = crate::disk::blocking(move || spool.homes()).await;
        for (name, id) in homes.map_err(|error| StoreError::io("read the spool directory", error))? {
            if !self.guests.contains_key(&id) {
                self.leave(id, name).await;
            }
        }
        Ok(())
    }

    /// The last receipts of a guest that was removed; then its directories are set aside.
    async fn leave(&self, id: GuestId, name: GuestName) {
        let (spool, of) = (self.spool.clone(), name.clone());
        let left = async {
            let rooms = crate::disk::blocking(move || spool.left_rooms(&of, id)).await;
            let rooms = Arc::new(rooms.map_err(|error| error.to_string())?);
            let owner = Owner { id, name: name.clone(), rooms };
            while deliver::pass(&self.manager, &owner).await? {}
            let (spool, name) = (self.spool.clone(), name.clone());
            let leave = move || spool.leave(&name, id);
            crate::disk::blocking(leave).await.map_err(|error| error.to_string())
        };
        if let Err(trouble) = left.await {
            warn!(guest = %name, trouble, "the spool of a removed guest stays where it is");
        }
    }

    async fn open(&self, id: GuestId, name: &GuestName) -> Result<Owner, Trouble> {
        let (spool, of) = (self.spool.clone(), name.clone());
        let rooms = crate::disk::blocking(move || spool.rooms(&of, id)).await;
        let rooms = rooms.map_err(|error| format!("its spool directories cannot be used: {error}"))?;
        Ok(Owner { id, name: name.clone(), rooms: Arc::new(rooms) })
    }
}

/// How often everything is looked at although nothing was heard.
const ALL_EVERY: Duration = Duration::from_secs(30);
/// How soon files that were written in place are looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// Names that are remembered as moved in: beyond that, a file waits as if it were written in place.
const MOVED_MAX: usize = 16_384;
