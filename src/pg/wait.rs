//! The worker's only wait: its latch, what others write to wake it, the death of the postmaster.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use pgrx::pg_sys;

/// One WaitEventSet for the worker's life; building one per wait costs an epoll set each time
/// (latch.c: `WaitLatchOrSocket`).
pub struct WaitSet {
    set: *mut pg_sys::WaitEventSet,
}

impl WaitSet {
    /// Waits will also end when one of these can be read from. They stay open.
    pub fn new(readable: &[BorrowedFd<'_>]) -> WaitSet {
        // SAFETY: main thread; the set and the latch live as long as the process. WL_EXIT_ON_PM_DEATH
        // leaves the process from inside the wait.
        unsafe {
            let count = readable.len() + 2;
            #[cfg(any(feature = "pg15", feature = "pg16"))]
            let set = pg_sys::CreateWaitEventSet(pg_sys::TopMemoryContext, count as i32);
            #[cfg(any(feature = "pg17", feature = "pg18"))]
            let set = pg_sys::CreateWaitEventSet(std::ptr::null_mut(), count as i32);
            let add = |events, descriptor, latch| {
                let data = std::ptr::null_mut();
                pg_sys::AddWaitEventToSet(set, events, descriptor, latch, data);
            };
            let no_latch = std::ptr::null_mut();
            // A descriptor's place among those that were given is its position in the set.
            for descriptor in readable {
                add(pg_sys::WL_SOCKET_READABLE, descriptor.as_raw_fd(), no_latch);
            }
            add(pg_sys::WL_LATCH_SET, -1, pg_sys::MyLatch);
            add(pg_sys::WL_EXIT_ON_PM_DEATH, -1, no_latch);
            WaitSet { set }
        }
    }

    /// Waits for the latch or a descriptor, at most `timeout`. Then serves PostgreSQL's own requests
    /// to this process: without that, DROP DATABASE in another session would wait for ever
    /// (procsignal.c: `WaitForProcSignalBarrier`). Which of the descriptors can be read from, one of
    /// them; if something else ended the wait, the next one tells.
    pub fn wait(&self, timeout: Duration) -> Option<usize> {
        // SAFETY: main thread.
        let readable = unsafe {
            let mut event: pg_sys::WaitEvent = std::mem::zeroed();
            let count = pg_sys::WaitEventSetWait(
                self.set,
                // Rounded up: it would not wait at all for less than one.
                timeout.as_micros().div_ceil(1000) as _,
                &mut event,
                1,
                pg_sys::PG_WAIT_EXTENSION,
            );
            pg_sys::ResetLatch(pg_sys::MyLatch);
            let is_readable = count > 0 && event.events & pg_sys::WL_SOCKET_READABLE != 0;
            is_readable.then_some(event.pos as usize)
        };
        serve_interrupts();
        readable
    }
}

/// Serves PostgreSQL's requests to this process (procsignal barriers, log_memory_contexts).
pub fn serve_interrupts() {
    pgrx::check_for_interrupts!();
}
