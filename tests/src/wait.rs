//! The one place that waits. A wait is for a condition, has an end, and fails at once when what it waits for
//! cannot come: each look also looks at every process this test watches.
//!
//! Called by the rig and by tests; the only place with a sleep in it.

use crate::process::check_watched;
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

/// Looks again until there is something to see; gives up after a time that is long for anything here.
pub fn until<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, what, look)
}

/// The same, for what must have come within a time.
pub fn within<T>(limit: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        check_watched(what);
        if start.elapsed() >= limit {
            crate::process::fail(&format!("waited {limit:?} for {what}"));
        }
        pause();
    }
}

/// The same, as a question: whether it came in time.
pub fn comes_within(limit: Duration, mut look: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    loop {
        if look() {
            return true;
        }
        if start.elapsed() >= limit {
            return false;
        }
        pause();
    }
}

/// Waits for a future's value, and looks at the watched processes meanwhile.
pub fn on<F: Future>(what: &str, future: F) -> F::Output {
    let start = Instant::now();
    runtime().block_on(async {
        let mut future = std::pin::pin!(future);
        let mut look = tokio::time::interval(LOOK_EVERY);
        loop {
            tokio::select! {
                value = &mut future => return value,
                _ = look.tick() => check_watched(what),
            }
            if start.elapsed() >= PATIENCE {
                crate::process::fail(&format!("waited {PATIENCE:?} for {what}"));
            }
        }
    })
}

/// Has a future go on beside the test; what it gives is waited for with [`on`].
pub fn beside<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    runtime().spawn(future)
}

fn pause() {
    std::thread::sleep(LOOK_EVERY);
}

fn runtime() -> &'static Runtime {
    RUNTIME.get_or_init(|| Runtime::new().expect("a runtime for the SDK"))
}

/// How long anything here may take on a machine that is busy with other guests.
pub const PATIENCE: Duration = Duration::from_secs(90);
const LOOK_EVERY: Duration = Duration::from_millis(10);
static RUNTIME: OnceLock<Runtime> = OnceLock::new();
