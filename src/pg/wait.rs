//! The worker's only wait: its latch, the publisher's socket, the death of the postmaster.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use pgrx::pg_sys;

/// One WaitEventSet for the worker's life; building one per wait costs an epoll set each time
/// (latch.c: `WaitLatchOrSocket`).
pub struct WaitSet {
    set: *mut pg_sys::WaitEventSet,
}

impl WaitSet {
    /// Waits will also end when `readable` can be read from.
    pub fn new(readable: BorrowedFd<'_>) -> WaitSet {
        // SAFETY: main thread; the set and the latch live as long as the process. WL_EXIT_ON_PM_DEATH
        // leaves the process from inside the wait.
        unsafe {
            #[cfg(any(feature = "pg15", feature = "pg16"))]
            let set = pg_sys::CreateWaitEventSet(pg_sys::TopMemoryContext, 3);
            #[cfg(any(feature = "pg17", feature = "pg18"))]
            let set = pg_sys::CreateWaitEventSet(std::ptr::null_mut(), 3);
            for (events, socket, latch) in [
                (pg_sys::WL_LATCH_SET, -1, pg_sys::MyLatch),
                (pg_sys::WL_EXIT_ON_PM_DEATH, -1, std::ptr::null_mut()),
                (pg_sys::WL_SOCKET_READABLE, readable.as_raw_fd(), std::ptr::null_mut()),
            ] {
                pg_sys::AddWaitEventToSet(set, events, socket, latch, std::ptr::null_mut());
            }
            WaitSet { set }
        }
    }

    /// Waits for the latch or the socket, at most `timeout`. Then serves PostgreSQL's own requests
    /// to this process: without that, DROP DATABASE in another session would wait for ever
    /// (procsignal.c: `WaitForProcSignalBarrier`). Whether the socket can be read from; if something
    /// else ended the wait, the next one tells.
    pub fn wait(&self, timeout: Duration) -> bool {
        // SAFETY: main thread.
        let is_readable = unsafe {
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
            count > 0 && event.events & pg_sys::WL_SOCKET_READABLE != 0
        };
        serve_interrupts();
        is_readable
    }
}

/// Serves PostgreSQL's requests to this process (procsignal barriers, log_memory_contexts).
pub fn serve_interrupts() {
    pgrx::check_for_interrupts!();
}
