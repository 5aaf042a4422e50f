//! Waiting with a deadline. Nothing in a test waits without one, and who misses it says what was
//! waited for and where.

use std::thread;
use std::time::{Duration, Instant};

/// How long tests wait for what should happen soon. Generous, because it only costs time when a
/// test fails, and machines that run tests are slow at times.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// The time between two attempts.
const POLL: Duration = Duration::from_millis(10);

/// Calls `attempt` until it gives something, and returns that.
///
/// # Panics
/// If it gives nothing until the deadline; the panic names the caller's place and `what`.
#[track_caller]
pub fn wait_until<T>(what: &str, deadline: Duration, attempt: impl FnMut() -> Option<T>) -> T {
    match poll(deadline, attempt) {
        Some(found) => found,
        None => panic!("waited {deadline:?} in vain until {what}"),
    }
}

/// Calls `attempt` until it gives something or the deadline has passed.
pub fn poll<T>(deadline: Duration, mut attempt: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + deadline;
    loop {
        if let Some(found) = attempt() {
            return Some(found);
        }
        if Instant::now() >= end {
            return None;
        }
        // A park between two looks, not a fixed rest: it may end early, which does no harm, and
        // nobody is tempted to make a test pass by a longer one. What can be waited for directly
        // (a message, a channel) never comes here.
        thread::park_timeout(POLL);
    }
}
