//! The end of a run, which everybody who waits hears at once.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The signal that the run ends. It is given once.
#[derive(Debug, Default)]
pub struct EndSignal {
    given: Mutex<bool>,
    comes: Condvar,
}

impl EndSignal {
    /// Ends the run.
    pub fn give(&self) {
        *self.given.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.comes.notify_all();
    }

    /// Whether the run has ended.
    pub fn is_given(&self) -> bool {
        *self.given.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets time pass, and returns early, and true, if the run ends meanwhile.
    pub fn comes_within(&self, time: Duration) -> bool {
        let end = Instant::now() + time;
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        while !*given {
            let rest = end.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                return false;
            }
            let woken = self.comes.wait_timeout(given, rest);
            given = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}
