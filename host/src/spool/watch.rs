//! What happens in inboxes and outboxes, from the kernel's inotify.
//!
//! Read by the spool's task. A word from here is only a reason to look: events are lost when the queue is full, and
//! that is told, too.

use super::place::{INBOX, OUTBOX};
use doorbell_wire::ids::GuestId;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use std::collections::HashMap;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use tokio::io::unix::AsyncFd;

/// All watches, of one inotify instance.
#[derive(Debug)]
pub(super) struct Watch {
    events: AsyncFd<OwnedFd>,
    places: HashMap<i32, GuestId>,
}

/// What was heard.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Heard {
    /// Something of this guest's has changed.
    Stirred(GuestId),
    /// A file was moved into the guest's inbox under this name: it is whole.
    MovedIn(GuestId, Vec<u8>),
    /// Some events were lost: anything may have changed.
    Missed,
}

impl Watch {
    /// Watches nothing yet.
    pub(super) fn new() -> io::Result<Self> {
        let events = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        #[allow(
            deprecated,
            reason = "unsound only where a descriptor is closed while it is registered, which an owned one is not"
        )]
        let events = AsyncFd::new(events)?;
        Ok(Self { events, places: HashMap::new() })
    }

    /// Watches the directories of a guest; again for those that are watched.
    pub(super) fn add(&mut self, home: &Path, guest: GuestId) -> io::Result<()> {
        for (room, what) in [(INBOX, WRITTEN), (OUTBOX, REMOVED)] {
            // Only the manager's user can put another directory at this path.
            let flags = what | WatchFlags::ONLYDIR | WatchFlags::DONT_FOLLOW;
            let watch = inotify::add_watch(self.events.get_ref(), home.join(room), flags)?;
            self.places.insert(watch, guest);
        }
        Ok(())
    }

    /// Waits until something was heard; gives all of it.
    pub(super) async fn heard(&mut self) -> io::Result<Vec<Heard>> {
        let mut ready = self.events.readable().await?;
        let (mut heard, mut over, mut all) = (Vec::new(), Vec::new(), false);
        let mut buffer = [MaybeUninit::uninit(); BUFFER_LEN];
        let mut reader = Reader::new(ready.get_inner(), &mut buffer);
        loop {
            match reader.next() {
                Ok(event) => {
                    let name = event.file_name().map(|name| name.to_bytes().to_vec());
                    heard.extend(told(&self.places, event.wd(), event.events(), name));
                    if event.events().contains(ReadFlags::IGNORED) {
                        over.push(event.wd());
                    }
                }
                Err(rustix::io::Errno::AGAIN) => {
                    all = true;
                    break;
                }
                Err(errno) => return Err(errno.into()),
            }
            if heard.len() >= HEARD_MAX && reader.is_buffer_empty() {
                break;
            }
        }
        if all {
            ready.clear_ready();
        }
        self.places.retain(|watch, _| !over.contains(watch));
        Ok(heard)
    }
}

fn told(
    places: &HashMap<i32, GuestId>,
    watch: i32,
    events: ReadFlags,
    name: Option<Vec<u8>>,
) -> Option<Heard> {
    if events.contains(ReadFlags::QUEUE_OVERFLOW) {
        return Some(Heard::Missed);
    }
    let guest = *places.get(&watch)?;
    match name {
        Some(name) if events.contains(ReadFlags::MOVED_TO) => Some(Heard::MovedIn(guest, name)),
        _ => Some(Heard::Stirred(guest)),
    }
}

/// Of an inbox: what may be whole, and what has a name but never is.
const WRITTEN: WatchFlags = WatchFlags::CLOSE_WRITE.union(WatchFlags::MOVED_TO).union(WatchFlags::CREATE);
/// Of an outbox: there may be room again.
const REMOVED: WatchFlags = WatchFlags::DELETE.union(WatchFlags::MOVED_FROM);
const BUFFER_LEN: usize = 16 * 1024;
/// Events that are taken at once: bounds the memory.
const HEARD_MAX: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    const GUEST: GuestId = GuestId::new([1; 16]);

    fn home() -> tempfile::TempDir {
        let home = tempfile::tempdir().unwrap();
        [INBOX, OUTBOX].iter().for_each(|room| std::fs::create_dir(home.path().join(room)).unwrap());
        home
    }

    #[tokio::test]
    async fn what_is_moved_in_is_told_by_its_name() {
        let home = home();
        let mut watch = Watch::new().unwrap();
        watch.add(home.path(), GUEST).unwrap();
        watch.add(home.path(), GUEST).unwrap();
        assert_eq!(watch.places.len(), 2);
        std::fs::write(home.path().join("x"), "x").unwrap();
        std::fs::rename(home.path().join("x"), home.path().join("inbox/x")).unwrap();
        assert_eq!(watch.heard().await.unwrap(), [Heard::MovedIn(GUEST, b"x".to_vec())]);
        std::fs::remove_file(home.path().join("inbox/x")).unwrap();
        std::fs::write(home.path().join("outbox/y"), "y").unwrap();
        std::fs::remove_file(home.path().join("outbox/y")).unwrap();
        assert_eq!(watch.heard().await.unwrap(), [Heard::Stirred(GUEST)]);
    }

    #[tokio::test]
    async fn a_queue_that_overflowed_says_so() {
        let home = home();
        let mut watch = Watch::new().unwrap();
        watch.add(home.path(), GUEST).unwrap();
        let queue = std::fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
        let queue: usize = queue.trim().parse().unwrap();
        // Two names in turn: events that are equal to the one before become one.
        for number in 0..=queue {
            drop(File::create(home.path().join(format!("inbox/{}", number % 2))).unwrap());
        }
        let mut missed = false;
        while !missed {
            missed = watch.heard().await.unwrap().contains(&Heard::Missed);
        }
    }
}
