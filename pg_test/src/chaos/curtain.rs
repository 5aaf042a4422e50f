//! The end of a run, which everybody who waits hears at once.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Falls once.
#[derive(Debug, Default)]
pub(super) struct Curtain {
    fallen: Mutex<bool>,
    falls: Condvar,
}

impl Curtain {
    /// Ends the run.
    pub fn fall(&self) {
        *self.fallen.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.falls.notify_all();
    }

    /// Whether the run has ended.
    pub fn has_fallen(&self) -> bool {
        *self.fallen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets time pass, and returns early, and true, if the run ends meanwhile.
    pub fn falls_within(&self, time: Duration) -> bool {
        let end = Instant::now() + time;
        let mut fallen = self.fallen.lock().unwrap_or_else(PoisonError::into_inner);
        while !*fallen {
            let rest = end.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                return false;
            }
            let woken = self.falls.wait_timeout(fallen, rest);
            fallen = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}
