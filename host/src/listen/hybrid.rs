//! Hybrid doors: for each guest with a hybrid socket, a Unix socket `<path>_707` that its VMM connects to.
//!
//! Kept in step with the store by one task. A guest may be added before its VMM has made the directory, and
//! a VMM may make the directory anew: the door is opened again whenever its file is not the one that was made.

use super::socket::{inode, listen};
use super::{enter, hand_over};
use crate::manager::Manager;
use crate::store::{GuestRow, Place};
use doorbell_wire::ids::GuestId;
use doorbell_wire::limits::MANAGER_PORT;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::{info, warn};

/// Keeps the doors in step with the guests until the manager stops.
pub async fn serve(manager: Arc<Manager>, mut stopped: watch::Receiver<bool>) {
    let mut doors: BTreeMap<GuestId, Door> = BTreeMap::new();
    let mut every = tokio::time::interval(LOOK_EVERY);
    loop {
        tokio::select! {
            _ = every.tick() => {}
            () = manager.doors.refreshed() => match manager.store.guests_at_sockets().await {
                Ok(guests) => follow(&mut doors, guests),
                Err(error) => {
                    warn!(error = error.whole(), "the guests with hybrid sockets cannot be read");
                    manager.doors.refresh();
                    tokio::time::sleep(LOOK_EVERY).await;
                }
            },
            _ = stopped.changed() => break,
        }
        doors.values_mut().filter(|door| !door.is_open()).for_each(|door| door.open(&manager));
    }
    doors.into_values().for_each(Door::close);
}

/// Closes the doors of guests that have gone or moved, and adds those that are missing.
fn follow(doors: &mut BTreeMap<GuestId, Door>, guests: Vec<GuestRow>) {
    let mut wanted: BTreeMap<GuestId, Door> = BTreeMap::new();
    for guest in guests {
        if let Place::Hybrid(base) = &guest.place {
            wanted.insert(guest.id, Door::closed(door_path(base), guest));
        }
    }
    doors.retain(|id, door| {
        let stays = wanted.get(id).is_some_and(|wanted| wanted.path == door.path);
        if !stays {
            door.end();
        }
        stays
    });
    for (id, door) in wanted {
        doors.entry(id).or_insert(door);
    }
}

#[derive(Debug)]
struct Door {
    path: PathBuf,
    guest: GuestRow,
    open: Option<Open>,
    told: Option<String>,
}

#[derive(Debug)]
struct Open {
    inode: (u64, u64),
    task: JoinHandle<()>,
}

impl Door {
    fn closed(path: PathBuf, guest: GuestRow) -> Self {
        Self { path, guest, open: None, told: None }
    }

    fn is_open(&self) -> bool {
        self.open
            .as_ref()
            .is_some_and(|open| !open.task.is_finished() && inode(&self.path) == Some(open.inode))
    }

    fn open(&mut self, manager: &Arc<Manager>) {
        if let Some(open) = self.open.take() {
            open.task.abort();
        }
        match listen(&self.path) {
            Ok((listener, inode)) => {
                info!(guest = %self.guest.name, socket = %self.path.display(), "waiting for the guest's agent");
                self.told = None;
                let task = tokio::spawn(accept(
                    Arc::clone(manager),
                    listener,
                    self.guest.clone(),
                    self.path.clone(),
                ));
                self.open = Some(Open { inode, task });
            }
            Err(error) => self.tell(&error),
        }
    }

    /// The same trouble is told once, not at every look.
    fn tell(&mut self, error: &io::Error) {
        let text = error.to_string();
        if self.told.as_ref() != Some(&text) {
            warn!(guest = %self.guest.name, socket = %self.path.display(), %error, "its agent cannot be waited for yet");
            self.told = Some(text);
        }
    }

    fn end(&mut self) {
        if let Some(open) = self.open.take() {
            open.task.abort();
            if inode(&self.path) == Some(open.inode) {
                let _ = fs::remove_file(&self.path);
            }
        }
    }

    fn close(mut self) {
        self.end();
    }
}

async fn accept(manager: Arc<Manager>, listener: UnixListener, guest: GuestRow, path: PathBuf) {
    let met_at = path.display().to_string();
    let mut told = false;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                told = false;
                let Some((stream, entry)) = enter(&manager, stream, &met_at) else {
                    // Only that guest comes by this door: who crowds it waits, and costs the others nothing.
                    tokio::time::sleep(CROWDED_PAUSE).await;
                    continue;
                };
                match manager.store.guest_at(&guest.place).await {
                    Ok(Some(current)) if current.id == guest.id => {
                        hand_over(&manager, stream, current, met_at.clone(), entry);
                    }
                    // Removed or moved a moment ago; whoever is met here is somebody else.
                    Ok(_) => return,
                    Err(error) => {
                        warn!(guest = %guest.name, error = error.whole(), "connection refused: the store cannot say who this is");
                    }
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut told, true) {
                    warn!(guest = %guest.name, %error, "a connection could not be accepted");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn door_path(base: &Path) -> PathBuf {
    let mut path = base.as_os_str().to_owned();
    path.push(format!("_{MANAGER_PORT}"));
    path.into()
}

const LOOK_EVERY: Duration = Duration::from_millis(500);
const CROWDED_PAUSE: Duration = Duration::from_millis(1);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
