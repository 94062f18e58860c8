//! The bell of one guest's session: one bit that wakes the task, and beside it what the task then finds.
//!
//! Rung by the API and by the registry; answered by the session's task. What can grow is bounded: cancels
//! are a set of the guest's own open requests, touched inputs and queries have a limit.

use doorbell_api::error::ErrorCode;
use doorbell_wire::error::Reason;
use doorbell_wire::ids::RequestId;
use doorbell_wire::message::action::Action;
use doorbell_wire::message::outcome::Acknowledgement;
use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use tokio::sync::{Notify, oneshot};

/// A bell and its desk.
#[derive(Debug, Default)]
pub struct Bell {
    // One permit at most is stored, however often it is rung.
    bit: Notify,
    desk: Mutex<Desk>,
    end: Notify,
    // When the guest was last heard of, and whether that is too long ago.
    heard_ms: AtomicU64,
    silent: AtomicBool,
}

#[derive(Debug, Default)]
struct Desk {
    waiting: bool,
    close: Option<Reason>,
    cancels: BTreeSet<RequestId>,
    inputs: Touched,
    queries: VecDeque<Query>,
    ended: bool,
}

/// Requests whose input, or the size of whose terminal, has changed.
#[derive(Debug, Default)]
pub struct Touched {
    ids: BTreeSet<RequestId>,
    all: bool,
}

impl Touched {
    /// Whether this one is to be looked at.
    #[must_use]
    pub fn has(&self, request: RequestId) -> bool {
        self.all || self.ids.contains(&request)
    }

    fn add(&mut self, request: RequestId) {
        // Beyond the bound every one in hand is looked at, of which there are few.
        if self.ids.len() < TOUCHED_MAX {
            self.ids.insert(request);
        } else {
            self.all = true;
        }
    }
}

/// A query that waits for its guest.
#[derive(Debug)]
pub struct Query {
    /// What is to be read.
    pub action: Action,
    /// Where the answer goes; closed when nobody waits for it any longer.
    pub answer: oneshot::Sender<Acknowledgement>,
}

/// What the task finds when the bit was set.
#[derive(Debug, Default)]
pub struct Found {
    /// End the session with this reason.
    pub close: Option<Reason>,
    /// Tell the guest to end these requests.
    pub cancels: BTreeSet<RequestId>,
    /// There is input for these.
    pub inputs: Touched,
    /// A request or a query waits: ring the guest.
    pub waiting: bool,
}

impl Bell {
    /// A request is on disk.
    pub fn ring(&self) {
        self.with(|desk| desk.waiting = true);
    }

    /// A request that may be in the guest's hand is to end.
    pub fn cancel(&self, request: RequestId) {
        self.with(|desk| {
            desk.cancels.insert(request);
        });
    }

    /// There is more input for a request, or its end, or its terminal has another size.
    pub fn touch(&self, request: RequestId) {
        self.with(|desk| desk.inputs.add(request));
    }

    /// The session is to end.
    pub fn close(&self, reason: Reason) {
        self.with(|desk| desk.close = Some(reason));
    }

    /// A query waits.
    ///
    /// # Errors
    /// [`ErrorCode::Conflict`] when too many wait already, [`ErrorCode::NotConnected`] when the session has ended.
    pub fn query(&self, query: Query) -> Result<(), ErrorCode> {
        self.with(|desk| {
            if desk.ended {
                return Err(ErrorCode::NotConnected);
            }
            desk.queries.retain(|query| !query.answer.is_closed());
            if desk.queries.len() >= QUERIES_MAX {
                return Err(ErrorCode::Conflict);
            }
            desk.queries.push_back(query);
            desk.waiting = true;
            Ok(())
        })
    }

    /// The session has done its last step: whoever waits for an answer or for its end is told.
    pub fn end(&self) {
        let waiting = {
            let mut desk = self.desk.lock().unwrap_or_else(PoisonError::into_inner);
            desk.ended = true;
            std::mem::take(&mut desk.queries)
        };
        drop(waiting);
        self.end.notify_waiters();
    }

    /// Waits until the session has done its last step.
    pub async fn ended(&self) {
        let told = self.end.notified();
        let mut told = std::pin::pin!(told);
        told.as_mut().enable();
        let has_ended = self.desk.lock().unwrap_or_else(PoisonError::into_inner).ended;
        if !has_ended {
            told.await;
        }
    }

    /// The guest was heard of.
    pub fn hear(&self, now_ms: u64) {
        self.heard_ms.fetch_max(now_ms, Ordering::Relaxed);
    }

    /// When the guest was last heard of, milliseconds since the Unix epoch.
    pub fn heard_ms(&self) -> u64 {
        self.heard_ms.load(Ordering::Relaxed)
    }

    /// Notes whether the guest is silent; gives what was noted before.
    pub fn set_silent(&self, silent: bool) -> bool {
        self.silent.swap(silent, Ordering::Relaxed)
    }

    /// Whether nothing was heard for too long.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.silent.load(Ordering::Relaxed)
    }

    /// Has the task look once more.
    pub fn wake(&self) {
        self.bit.notify_one();
    }

    /// Waits for the bit, takes it back and says what is on the desk. A task whose guest stands still takes no
    /// more than the word to end; the rest stays until it is woken.
    pub async fn rung(&self, still: bool) -> Found {
        self.bit.notified().await;
        let mut desk = self.desk.lock().unwrap_or_else(PoisonError::into_inner);
        if still {
            return Found { close: desk.close.take(), ..Found::default() };
        }
        Found {
            close: desk.close.take(),
            cancels: std::mem::take(&mut desk.cancels),
            inputs: std::mem::take(&mut desk.inputs),
            waiting: std::mem::take(&mut desk.waiting),
        }
    }

    /// The oldest query that somebody still waits for.
    pub fn take_query(&self) -> Option<Query> {
        let mut desk = self.desk.lock().unwrap_or_else(PoisonError::into_inner);
        std::iter::from_fn(|| desk.queries.pop_front()).find(|query| !query.answer.is_closed())
    }

    /// Whether somebody waits for the answer to a query that was not offered yet.
    #[must_use]
    pub fn has_query(&self) -> bool {
        let desk = self.desk.lock().unwrap_or_else(PoisonError::into_inner);
        desk.queries.iter().any(|query| !query.answer.is_closed())
    }

    fn with<T>(&self, change: impl FnOnce(&mut Desk) -> T) -> T {
        let result = change(&mut self.desk.lock().unwrap_or_else(PoisonError::into_inner));
        self.bit.notify_one();
        result
    }
}

/// Requests of one guest that are remembered by name when their input has changed.
const TOUCHED_MAX: usize = 64;
/// Queries of one guest that may wait at once.
const QUERIES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn ten_thousand_rings_wake_the_task_once() {
        let bell = Bell::default();
        (0..10_000).for_each(|_| bell.ring());
        assert!(bell.rung(false).await.waiting);
        let again = tokio::time::timeout(std::time::Duration::from_millis(20), bell.rung(false)).await;
        assert!(again.is_err(), "the bit was set a second time");
    }

    #[tokio::test]
    async fn a_task_whose_guest_stands_still_finds_the_rest_when_it_goes_on() {
        let bell = Bell::default();
        bell.ring();
        bell.cancel(RequestId::new([1; 16]));
        bell.close(Reason::GOODBYE);
        let found = bell.rung(true).await;
        assert_eq!((found.close, found.waiting, found.cancels.len()), (Some(Reason::GOODBYE), false, 0));
        bell.wake();
        let found = bell.rung(false).await;
        assert_eq!((found.close, found.waiting, found.cancels.len()), (None, true, 1));
    }

    #[tokio::test]
    async fn a_query_nobody_waits_for_is_never_offered() {
        let bell = Bell::default();
        let (answer, gone) = oneshot::channel();
        bell.query(Query { action: Action::LinkList, answer }).unwrap();
        drop(gone);
        assert!(bell.take_query().is_none());
    }

    #[tokio::test]
    async fn touched_requests_are_remembered_within_bounds_and_none_is_missed() {
        let bell = Bell::default();
        let id = |number: usize| RequestId::new([u8::try_from(number).unwrap(); 16]);
        bell.touch(id(1));
        let found = bell.rung(false).await.inputs;
        assert!(found.has(id(1)) && !found.has(id(2)));
        (0..200).for_each(|number| bell.touch(id(number)));
        let found = bell.rung(false).await.inputs;
        assert_eq!(found.ids.len(), TOUCHED_MAX);
        assert!((0..200).all(|number| found.has(id(number))));
    }

    #[tokio::test]
    async fn a_session_that_ends_tells_whoever_waits_for_it() {
        let bell = Bell::default();
        let (answer, waiter) = oneshot::channel();
        bell.query(Query { action: Action::LinkList, answer }).unwrap();
        let (ended, ()) = tokio::join!(bell.ended(), async { bell.end() });
        assert_eq!(ended, ());
        assert!(waiter.await.is_err(), "a query outlives the session that was to answer it");
        let (answer, _waiter) = oneshot::channel();
        assert_eq!(bell.query(Query { action: Action::LinkList, answer }), Err(ErrorCode::NotConnected));
        bell.ended().await;
    }

    #[tokio::test]
    async fn queries_of_one_guest_are_bounded() {
        let bell = Bell::default();
        let mut waiters = Vec::new();
        for _ in 0..QUERIES_MAX {
            let (answer, waiter) = oneshot::channel();
            bell.query(Query { action: Action::LinkList, answer }).unwrap();
            waiters.push(waiter);
        }
        let (answer, _waiter) = oneshot::channel();
        assert_eq!(bell.query(Query { action: Action::LinkList, answer }), Err(ErrorCode::Conflict));
    }
}
