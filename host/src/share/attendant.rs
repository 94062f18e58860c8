//! The task of one guest's share: greets, takes hellos, looks on a timer, and keeps one session's stand-in.
//!
//! Started by [`super`] for each guest with a share. A hello opens a session as a connection does, at a door that
//! counts who comes too often. What is wrong with a share is told once and hurts no other guest.

use super::places::{Places, Seen, frame_bytes};
use super::stand_in::{Moved, Over, StandIn};
use crate::disk::blocking;
use crate::judge::is_proved;
use crate::manager::Manager;
use crate::session::{self, Met};
use crate::store::GuestRow;
use doorbell_api::guest::Trigger;
use doorbell_wire::error::Reason;
use doorbell_wire::ids::{GuestName, Nonce};
use doorbell_wire::message::{FromGuest, FromHost, Greeting, Hello};
use doorbell_wire::share::{HELLO, one_frame};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tracing::{debug, info, warn};

/// Attends to a share until the manager stops, or the task is given up.
pub(super) async fn attend(
    manager: Arc<Manager>,
    guest: GuestName,
    dir: PathBuf,
    mut stopped: watch::Receiver<bool>,
) {
    let mut attendant = Attendant::new(manager, guest, &dir);
    let mut buffer = vec![0; BUFFER_LEN];
    let mut next = Instant::now();
    loop {
        let what = tokio::select! {
            () = tokio::time::sleep_until(next.into()) => None,
            moved = moved(&mut attendant.open, &mut buffer) => Some(moved),
            _ = stopped.changed() => break,
        };
        match what {
            Some(Ok(moved)) => attendant.work(moved, &buffer).await,
            Some(Err(over)) => attendant.end(&over).await,
            None => {
                attendant.look().await;
                let is_busy = attendant.open.as_ref().is_some_and(StandIn::is_busy);
                next = Instant::now().checked_add(if is_busy { BUSY } else { IDLE }).unwrap_or(next);
            }
        }
    }
}

/// Without a session there is nothing that could move.
async fn moved(open: &mut Option<StandIn>, buffer: &mut [u8]) -> Result<Moved, Over> {
    match open {
        Some(open) => open.moved(buffer).await,
        None => std::future::pending().await,
    }
}

struct Attendant {
    manager: Arc<Manager>,
    guest: GuestName,
    met_at: String,
    places: Places,
    open: Option<StandIn>,
    /// What the next hello has to answer; none where it could not be put there.
    greeting: Option<Greeting>,
    /// The hello that was taken last.
    taken: Option<Nonce>,
    weighed: Instant,
    too_heavy: bool,
    told: Vec<String>,
}

impl Attendant {
    fn new(manager: Arc<Manager>, guest: GuestName, dir: &Path) -> Self {
        Self {
            manager,
            guest,
            met_at: format!("share {}", dir.display()),
            places: Places::new(dir),
            open: None,
            greeting: None,
            taken: None,
            weighed: Instant::now(),
            too_heavy: false,
            told: Vec::new(),
        }
    }

    async fn work(&mut self, moved: Moved, buffer: &[u8]) {
        let Some(open) = &mut self.open else { return };
        let worked = open.work(moved, buffer).await;
        self.after(worked).await;
    }

    /// One look. The first of a share that can be used begins it anew.
    async fn look(&mut self) {
        if self.greeting.is_none() {
            let begun = self.on_disk(Places::begin).await;
            let begun = if begun.is_ok() { self.greet().await } else { begun };
            if let Err(error) = begun {
                return self.tell("the share cannot be used", &error.to_string());
            }
            info!(guest = %self.guest, met_at = self.met_at, "waiting for the guest's agent");
        }
        let (nonce, wanted) = self.open.as_ref().map(|open| (open.nonce, open.wanted())).unzip();
        let wanted = wanted.unwrap_or_default();
        let seen = self.on_disk(move |places| places.look(nonce.as_ref(), &wanted)).await;
        let mut seen = match seen {
            Ok(seen) => seen,
            Err(error) => return self.lost(&error).await,
        };
        for refused in std::mem::take(&mut seen.refused) {
            self.tell("a file of the receipts was not taken", &refused);
        }
        if !self.is_light().await {
            return;
        }
        if let Some(hello) = seen.hello.take().and_then(|bytes| self.fresh(&bytes)) {
            return self.begin(hello).await;
        }
        self.pass(seen).await;
    }

    async fn pass(&mut self, seen: Seen) {
        let Some(open) = &mut self.open else { return };
        let found = open.found(seen).await;
        self.after(found).await;
    }

    async fn after(&mut self, worked: Result<(), Over>) {
        let Some(open) = &mut self.open else { return };
        if open.take_prompted() {
            self.ring().await;
        }
        if let Err(over) = worked {
            self.end(&over).await;
        }
    }

    /// A prompt is in the share: a guest that can be rung looks at once.
    async fn ring(&self) {
        match self.manager.store.guest(&self.guest).await {
            Ok(row) if row.trigger == Trigger::RingStore => self.manager.registry.ring_channel(row.id),
            Ok(_) => {}
            Err(error) => warn!(guest = %self.guest, error = error.whole(), "the guest could not be rung"),
        }
    }

    /// The hello of these bytes, if it answers the greeting and was not taken yet.
    fn fresh(&mut self, bytes: &[u8]) -> Option<Box<Hello>> {
        let read = one_frame(HELLO, bytes).and_then(|frame| Ok(FromGuest::from_frame(&frame)?));
        let hello = match read {
            Ok(FromGuest::Hello(hello)) => hello,
            Ok(_) => {
                self.tell("a file of the receipts was not taken", "hello: it holds another frame");
                return None;
            }
            Err(error) => {
                self.tell("a file of the receipts was not taken", &error.to_string());
                return None;
            }
        };
        if self.taken == Some(hello.claims.nonce) {
            return None;
        }
        // One that waited for a manager before this one answers that one's greeting; its agent asks again.
        if self.greeting.is_some_and(|greeting| is_proved(&greeting, &hello)) {
            return Some(hello);
        }
        self.taken = Some(hello.claims.nonce);
        debug!(guest = %self.guest, "a hello does not answer the greeting, and was not taken");
        None
    }

    /// Opens a session for a hello, as for a connection; one that is open already ends by that when the guest has
    /// proved its key.
    async fn begin(&mut self, hello: Box<Hello>) {
        let Some(greeting) = self.greeting else { return };
        self.taken = Some(hello.claims.nonce);
        let entry = match self.manager.doors.enter(&self.met_at) {
            Ok(entry) => entry,
            Err(crowded) => {
                if crowded.is_new {
                    info!(met_at = self.met_at, why = crowded.why, "hellos refused");
                }
                // Taken again when the place has quietened.
                self.taken = None;
                return;
            }
        };
        let row = match self.manager.store.guest(&self.guest).await {
            Ok(row) => row,
            Err(error) => return self.tell("its guest cannot be read", &error.whole()),
        };
        let (ours, theirs) = tokio::io::duplex(STREAM_LEN);
        let met = Met { at: self.met_at.clone(), greeting: Some(greeting) };
        tokio::spawn(session::serve_met(Arc::clone(&self.manager), theirs, row, met, entry));
        let mut next = StandIn::new(self.places.clone(), hello, ours);
        let judged = judged(&mut next).await;
        // What was said to one greeting is not said to another: the answer first, then the next greeting.
        match judged {
            Ok(()) => {
                self.told.clear();
                self.open = Some(next);
            }
            Err(over) => self.refuse(&next, &over).await,
        }
        if let Err(error) = self.greet().await {
            self.tell("the share cannot be used", &error.to_string());
        }
    }

    async fn refuse(&mut self, refused: &StandIn, over: &Over) {
        let reason = StandIn::goodbye(over).unwrap_or(Reason::INTERNAL);
        debug!(guest = %self.guest, %over, "hello refused");
        let (nonce, bytes) = (refused.nonce, frame_bytes(FromHost::HostBye(reason).to_frame()));
        let keep = self.open.as_ref().map(|open| open.nonce);
        let answered = match bytes {
            Ok(bytes) => self.on_disk(move |places| places.answer(&nonce, &bytes, keep.as_ref())).await,
            Err(error) => Err(io::Error::other(error)),
        };
        if let Err(error) = answered {
            self.tell("the share cannot be used", &error.to_string());
        }
    }

    async fn end(&mut self, over: &Over) {
        let Some(ended) = self.open.take() else { return };
        info!(guest = %self.guest, reason = %over, "the session through the share is over");
        let nonce = ended.nonce;
        drop(ended);
        if let Err(error) = self.on_disk(move |places| places.end(&nonce)).await {
            self.tell("the share cannot be used", &error.to_string());
        }
    }

    /// The directories are gone or cannot be read: everything begins anew when they are back.
    async fn lost(&mut self, error: &io::Error) {
        self.tell("the share cannot be used", &error.to_string());
        self.greeting = None;
        self.end(&Over::Io(io::Error::new(error.kind(), error.to_string()))).await;
    }

    async fn greet(&mut self) -> io::Result<()> {
        let greeting = session::greeting().map_err(io::Error::other)?;
        self.on_disk(move |places| places.greet(greeting)).await?;
        self.greeting = Some(greeting);
        Ok(())
    }

    /// Whether the receipts weigh what they may. A guest that fills its directory is not served until it is emptied.
    async fn is_light(&mut self) -> bool {
        if self.weighed.elapsed() < WEIGH_EVERY {
            return !self.too_heavy;
        }
        self.weighed = Instant::now();
        let Ok(weight) = self.on_disk(Places::weigh).await else { return false };
        let was_heavy =
            std::mem::replace(&mut self.too_heavy, weight.bytes > BYTES_MAX || weight.entries > ENTRIES_MAX);
        if self.too_heavy && !was_heavy {
            let (bytes, entries) = (weight.bytes, weight.entries);
            warn!(guest = %self.guest, met_at = self.met_at, bytes, entries, "its receipts take more than {BYTES_MAX} bytes or {ENTRIES_MAX} entries; it is not served until they are removed");
            self.end(&Over::Io(io::Error::other("the receipts take too much"))).await;
        } else if was_heavy && !self.too_heavy {
            info!(guest = %self.guest, "its receipts are within their limits again");
        }
        !self.too_heavy
    }

    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Places) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let places = self.places.clone();
        blocking(move || work(&places)).await
    }

    /// The same trouble is told once.
    fn tell(&mut self, what: &'static str, why: &str) {
        if self.told.iter().any(|told| told == why) {
            return;
        }
        // A guest can make up as many troubles as it likes.
        if self.told.len() < TOLD_MAX {
            self.told.push(why.to_owned());
            warn!(guest = %self.guest, met_at = self.met_at, why, "{what}");
        }
    }
}

/// Waits for the manager's word on a hello.
async fn judged(next: &mut StandIn) -> Result<(), Over> {
    let mut buffer = vec![0; BUFFER_LEN];
    let deadline = tokio::time::sleep(JUDGE_MAX);
    let mut deadline = std::pin::pin!(deadline);
    while !next.is_welcome() {
        let moved = tokio::select! {
            moved = next.moved(&mut buffer) => moved?,
            () = &mut deadline => return Err(Over::Closed),
        };
        next.work(moved, &buffer).await?;
    }
    Ok(())
}

/// Whether the guest of a row is to have an attendant, and for which directory.
pub(super) fn wanted(row: &GuestRow) -> Option<(GuestName, PathBuf)> {
    row.share.clone().map(|dir| (row.name.clone(), dir))
}

/// Between two looks while something is on its way, and else.
const BUSY: Duration = Duration::from_millis(50);
const IDLE: Duration = Duration::from_millis(250);
const WEIGH_EVERY: Duration = Duration::from_secs(2);
const JUDGE_MAX: Duration = Duration::from_secs(5);
const BUFFER_LEN: usize = 64 * 1024;
const STREAM_LEN: usize = 256 * 1024;
const TOLD_MAX: usize = 16;
/// Bytes of receipts on the disk: what all hands may have ahead, and as much again.
const BYTES_MAX: u64 = 256 * 1024 * 1024;
const ENTRIES_MAX: u64 = 1_024;
