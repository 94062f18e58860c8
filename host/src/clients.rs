//! Which requests have a client, for those that are not to outlive it.
//!
//! Told by the API while a client reads a request's output as an attached one, asked by the daemon's timer.
//! Only requests with `on_disconnect: kill` are watched. In memory: after a restart every client gets the
//! time to come back.

use doorbell_wire::ids::RequestId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The watched requests.
#[derive(Clone, Debug, Default)]
pub struct Clients {
    watched: Arc<Mutex<HashMap<RequestId, Watched>>>,
}

#[derive(Clone, Copy, Debug)]
struct Watched {
    attached: u32,
    /// When it is cancelled, unless a client comes.
    until: Option<Instant>,
}

/// A client that is there; it is gone when this is dropped.
#[derive(Debug)]
pub struct Attached {
    clients: Clients,
    request: RequestId,
}

impl Clients {
    /// Watches a request whose first client has some time to come.
    pub fn watch(&self, request: RequestId, now: Instant) {
        let until = now.checked_add(FIRST_WITHIN);
        self.lock().entry(request).or_insert(Watched { attached: 0, until });
    }

    /// A client of a watched request has come; `None` when the request is not watched.
    #[must_use]
    pub fn attach(&self, request: RequestId) -> Option<Attached> {
        let mut watched = self.lock();
        let entry = watched.get_mut(&request)?;
        *entry = Watched { attached: entry.attached.saturating_add(1), until: None };
        drop(watched);
        Some(Attached { clients: self.clone(), request })
    }

    /// The request is over.
    pub fn forget(&self, request: RequestId) {
        self.lock().remove(&request);
    }

    /// The requests whose last client has been gone for too long. Each is given once.
    #[must_use]
    pub fn deserted(&self, now: Instant) -> Vec<RequestId> {
        let mut watched = self.lock();
        let gone = |entry: &Watched| entry.until.is_some_and(|until| until <= now);
        let found: Vec<_> = watched.iter().filter(|(_, entry)| gone(entry)).map(|(id, _)| *id).collect();
        watched.retain(|_, entry| !gone(entry));
        found
    }

    fn left(&self, request: RequestId, now: Instant) {
        if let Some(entry) = self.lock().get_mut(&request) {
            entry.attached = entry.attached.saturating_sub(1);
            entry.until = now.checked_add(BACK_WITHIN).filter(|_| entry.attached == 0);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RequestId, Watched>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.clients.left(self.request, Instant::now());
    }
}

/// How long a client may be gone: a connection that broke is made anew in this time.
const BACK_WITHIN: Duration = Duration::from_secs(5);
/// How long the first one may take, after the request was accepted or the manager started.
const FIRST_WITHIN: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: RequestId = RequestId::new([5; 16]);

    #[test]
    fn a_request_is_deserted_when_its_last_client_is_gone_for_long_enough() {
        let clients = Clients::default();
        let begin = Instant::now();
        clients.watch(REQUEST, begin);
        let (one, other) = (clients.attach(REQUEST).unwrap(), clients.attach(REQUEST).unwrap());
        drop(one);
        assert!(clients.deserted(begin + Duration::from_secs(3600)).is_empty(), "one is still there");
        drop(other);
        let gone = Instant::now();
        assert!(clients.deserted(gone + BACK_WITHIN - Duration::from_secs(1)).is_empty());
        let back = clients.attach(REQUEST).unwrap();
        assert!(clients.deserted(gone + Duration::from_secs(3600)).is_empty(), "it came back");
        drop(back);
        assert_eq!(clients.deserted(Instant::now() + BACK_WITHIN), [REQUEST]);
        assert!(clients.deserted(Instant::now() + Duration::from_secs(3600)).is_empty(), "it was told");
    }

    #[test]
    fn a_first_client_has_more_time_and_what_is_over_or_not_watched_has_none() {
        let clients = Clients::default();
        let begin = Instant::now();
        assert!(clients.attach(REQUEST).is_none());
        clients.watch(REQUEST, begin);
        assert!(clients.deserted(begin + FIRST_WITHIN - Duration::from_secs(1)).is_empty());
        let client = clients.attach(REQUEST).unwrap();
        clients.forget(REQUEST);
        drop(client);
        assert!(clients.deserted(begin + Duration::from_secs(3600)).is_empty());
        clients.watch(REQUEST, begin);
        assert_eq!(clients.deserted(begin + FIRST_WITHIN), [REQUEST]);
    }
}
